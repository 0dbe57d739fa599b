"""What a committed offset says is finished, read by code of the tests' own from the format that is written down.

``fl1 <form> <base64 of crc32, payload>``: the form is ``r`` (runs: varints, distance from the end of the run before and
length) or ``b`` (a bitmap: bit n is offset base + n), in capitals where the payload is deflated. With ``fl2`` keys are
deferred: in front of the payload stand a count and, for each, eight bytes of digest and four of distance from the
committed offset; the ranges then count from the offset before the committed one. A record of a deferred key, from its
distance on, is unfinished whatever the ranges say.
"""

import base64
import hashlib
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from operator import itemgetter
from typing import NamedTuple

_CRC_BYTES = 4
_DIGEST_BYTES = 8
_DISTANCE_BYTES = 4


class Finished(NamedTuple):
    """Half-open ranges of finished offsets, ascending, and the offset from which on a key, by digest, is unfinished."""

    ranges: list[tuple[int, int]]
    deferred: dict[bytes, int]

    def covers(self, offset: int, key: bytes | None) -> bool:
        """Whether the commit says that the record has its result."""
        at = bisect_right(self.ranges, offset, key=_first) - 1
        if at < 0 or offset >= self.ranges[at][1]:
            return False
        first = self.deferred.get(digest(key)) if key is not None else None
        return first is None or offset < first


_first = itemgetter(0)


def digest(key: bytes) -> bytes:
    """What stands for a key."""
    return hashlib.blake2b(key, digest_size=_DIGEST_BYTES).digest()


def decode(committed: int, text: str) -> Finished:
    """What metadata says. Raises ValueError: it cannot be read, or is not of this offset."""
    if not text:
        return Finished([], {})
    prefix, form = text[:3], text[3:4]
    if prefix not in ("fl1", "fl2") or form.lower() not in ("r", "b"):
        raise ValueError(f"unknown metadata: {text[:4]!r}")
    raw = base64.b64decode(text[4:], validate=True)
    payload = raw[_CRC_BYTES:]
    base = committed - (prefix == "fl2")
    if int.from_bytes(raw[:_CRC_BYTES], "big") != zlib.crc32(payload, zlib.crc32(f"{form}{base}".encode())):
        raise ValueError(f"the checksum is not that of offset {committed}")
    if form.isupper():
        payload = zlib.decompress(payload)
    deferred: dict[bytes, int] = {}
    if prefix == "fl2":
        step = _DIGEST_BYTES + _DISTANCE_BYTES
        end = 1 + payload[0] * step
        for at in range(1, end, step):
            name, distance = payload[at : at + _DIGEST_BYTES], payload[at + _DIGEST_BYTES : at + step]
            deferred[name] = committed + int.from_bytes(distance, "big")
        payload = payload[end:]
    if not payload:
        return Finished([], deferred)
    return Finished(_runs(base, payload) if form.lower() == "r" else _bits(base, payload), deferred)


def _varints(payload: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in payload:
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            yield value
            value = shift = 0


def _runs(base: int, payload: bytes) -> list[tuple[int, int]]:
    numbers, end, found = list(_varints(payload)), base, []
    for distance, length in zip(numbers[::2], numbers[1::2], strict=True):
        first = end + distance
        end = first + length
        found.append((first, end))
    return found


def _bits(base: int, payload: bytes) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number in range(len(payload) * 8):
        if payload[number // 8] >> number % 8 & 1:
            if found and found[-1][1] == base + number:
                found[-1] = (found[-1][0], base + number + 1)
            else:
                found.append((base + number, base + number + 1))
    return found
