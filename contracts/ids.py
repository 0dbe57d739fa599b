"""Deterministic ids: the same however often they are computed. All are UUIDs of version 5 in one namespace."""

import hashlib
import uuid
from collections.abc import Iterable, Sequence

import msgspec

NAMESPACE = uuid.UUID("a06f0ca3-e230-4067-9938-b01c7eb393a8")

_SEED = hashlib.sha1(NAMESPACE.bytes, usedforsecurity=False)
_encode = msgspec.json.Encoder().encode
# The first digit of the fourth group carries the variant in its two upper bits.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class ResultIds:
    """The result ids of one lane, of the records that were read.

    An id is the UUID of ``lane\\ntopic\\npartition\\noffset\\ntimestamp_ms``. The hash of what the records of a
    partition share is kept (one entry for each partition ever read), which is what makes it cheap.
    """

    def __init__(self, lane: str) -> None:
        self._lane = lane
        self._prefixes: dict[tuple[str, int], hashlib._Hash] = {}

    def of(self, topic: str, partition: int, offset: int, timestamp_ms: int) -> str:
        """The result id of a record. ``timestamp_ms`` is -1 where the record could not be parsed."""
        state = self._prefix((topic, partition)).copy()
        state.update(b"%d\n%d" % (offset, timestamp_ms))
        return _formatted(state.hexdigest())

    def many(self, places: Iterable[tuple[str, int]], numbers: Sequence[tuple[int, int]]) -> list[str]:
        """:meth:`of` of each (topic, partition) and (offset, timestamp_ms), at once: half the time."""
        hashed: list[bytes] = []
        last: object = None
        for place, rest in zip(places, _lines(numbers), strict=True):
            if place is not last:  # records of one partition mostly come together
                copy, last = self._prefix(place).copy, place
            state = copy()
            state.update(rest)
            hashed.append(state.digest())
        return _uuids_of(hashed).decode().split()

    def _prefix(self, place: tuple[str, int]) -> "hashlib._Hash":
        prefix = self._prefixes.get(place)
        if prefix is None:
            topic, partition = place
            prefix = self._prefixes[topic, partition] = _begun(f"{self._lane}\n{topic}\n{partition}\n")
        return prefix


def result_id(lane: str, topic: str, partition: int, offset: int, timestamp_ms: int) -> str:
    """The id of the result of one record in one lane."""
    return _uuid(f"{lane}\n{topic}\n{partition}\n{offset}\n{timestamp_ms}")


def batch_id(lane: str, starts: Iterable[tuple[str, int, int]]) -> str:
    """The id of a batch: the lane, and the first offset of each (topic, partition) in it.

    The lines ``topic/partition/first offset`` are sorted as text.
    """
    lines = sorted(f"{topic}/{partition}/{offset}" for topic, partition, offset in starts)
    return _uuid("\n".join(["batch", lane, *lines]))


def execution_id(result: str) -> str:
    """The id of a workflow execution, from the result id of its event."""
    return _continued(_EXECUTION, result)


def stamp_id(result: str) -> str:
    """The id of a stamp, from the result id of its event."""
    return _continued(_STAMP, result)


def thread_id(event_source: str, event_id: str) -> str:
    """The id of the stamp thread of an event: the same in each lane and for each replay."""
    return _uuid(f"thread\n{event_source}\n{event_id}")


def executions_stamps_and_threads(
    events: Sequence[tuple[str, str, str]],
) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """:func:`execution_id`, :func:`stamp_id` and :func:`thread_id` of each (result id, event source, event id), in
    ASCII."""
    results = [result.encode() for result, _, _ in events]
    threads = [f"{source}\n{event_id}".encode() for _, source, event_id in events]
    return _all_continued(_EXECUTION, results), _all_continued(_STAMP, results), _all_continued(_THREAD, threads)


def notification_id(account: str, notification_key: int, target: str, action: str, time: str) -> str:
    """The event id of a happening that was read from the platform and published."""
    return _uuid(f"notification\n{account}\n{notification_key}\n{target}\n{action}\n{time}")


def hashed_key(key: bytes) -> bytes:
    """The record key of a result where the lane publishes hashed keys: SHA-256 in lower-case hexadecimal."""
    return hashlib.sha256(key).hexdigest().encode()


def _begun(beginning: str) -> "hashlib._Hash":
    state = _SEED.copy()
    state.update(beginning.encode())
    return state


_EXECUTION = _begun("execution\n")
_STAMP = _begun("stamp\n")
_THREAD = _begun("thread\n")


def _uuid(name: str) -> str:
    """What ``str(uuid.uuid5(NAMESPACE, name))`` gives, in a third of the time: executions need three each."""
    return _continued(_SEED, name)


def _continued(begun: "hashlib._Hash", rest: str) -> str:
    """The id of a name whose beginning is hashed already."""
    state = begun.copy()
    state.update(rest.encode())
    return _formatted(state.hexdigest())


def _all_continued(begun: "hashlib._Hash", rests: Sequence[bytes]) -> list[bytes]:
    """:func:`_continued` of many names with one beginning, in ASCII."""
    # ``update`` gives None: as a condition it needs no loop of statements, which would take a tenth longer.
    return _uuids_of(
        [state.digest() for rest in rests for state in [begun.copy()] if state.update(rest) is None]  # type: ignore[func-returns-value]
    ).split()


def _formatted(text: str) -> str:
    """The UUID of version 5 of a hash in hexadecimal."""
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:32]}"


_SHA1_BYTES = 20
_BLANK = b"-" * 36 + b" "
# Where each digit of a UUID stands in its text: behind the dashes that come before it.
_PLACES = [place for place, char in enumerate("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") if char == "x"]
_VERSION_BITS = bytes(byte & 0x0F | 0x50 for byte in range(256))
_VARIANT_BITS = bytes(byte & 0x3F | 0x80 for byte in range(256))


def _uuids_of(hashed: Sequence[bytes]) -> bytes:
    """The UUIDs of version 5 of many hashes, a blank behind each: the same digit of all at a time, which is ten times
    as quick as one after the other."""
    raw = bytearray(b"".join(hashed))
    raw[6::_SHA1_BYTES] = raw[6::_SHA1_BYTES].translate(_VERSION_BITS)
    raw[8::_SHA1_BYTES] = raw[8::_SHA1_BYTES].translate(_VARIANT_BITS)
    digits = raw.hex().encode()
    text = bytearray(_BLANK * len(hashed))
    for digit, place in enumerate(_PLACES):
        text[place :: len(_BLANK)] = digits[digit :: 2 * _SHA1_BYTES]
    return bytes(text)


def _lines(numbers: Sequence[tuple[int, int]]) -> list[bytes]:
    """``a\\nb`` of each pair. JSON is the quickest to write a number."""
    if not numbers:
        return []
    return _encode(numbers)[2:-2].replace(b",", b"\n").split(b"]\n[")
