"""What finished beyond a committed offset, written into the commit's metadata.

Kafka keeps with each committed offset a string, by default of at most 4,096 bytes. Ours says which ranges of
offsets *above* the committed one are finished already, so that they are not delivered again after a restart::

    fl1 <form> <base64 of crc32, payload>

The form is the smaller of two: ``r``, runs as varints (distance from the end of the run before, length), or
``b``, a bitmap of the window (bit n is offset base + n). A capital letter says that the payload is deflated.
Where keys are deferred (``deferred.py``) it begins with ``fl2``: the payload has them in front, and its ranges are
those above the offset *before* the committed one, for the committed record itself may be finished then.

The checksum includes the committed offset: metadata that was copied to another offset by some tool is damaged
metadata. Whatever cannot be read means "nothing is known to be finished": records are delivered again, never
lost.
"""

import zlib
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from .deferred import Deferred, pack, unpack

MAX_BYTES = 4096
PREFIX = "fl1"
PREFIX_DEFERRED = "fl2"

_FORMS = ("r", "b", "R", "B")
_CRC_BYTES = 4
# What the payload may hold, so that prefix, form letter, checksum and base64 stay within MAX_BYTES.
MAX_PAYLOAD_BYTES = (MAX_BYTES - len(PREFIX) - 1) // 4 * 3 - _CRC_BYTES
# A window of this many offsets fits always, as a plain bitmap: whatever finishes in it, in whatever order.
MAX_BITMAP_OFFSETS = MAX_PAYLOAD_BYTES * 8

_DEFLATE_FROM_BYTES = 512  # below, shorter metadata is not worth the time
_MAX_INFLATED_BYTES = 32 * 1024  # bounds what foreign metadata can make us allocate
_MAX_OFFSET = 2**63 - 1

Ranges = list[tuple[int, int]]


class MetadataFault(StrEnum):
    """Why metadata could not be used; all of it is then ignored."""

    FOREIGN = "foreign"  # not written by us
    UNKNOWN_VERSION = "unknown_version"  # written by a newer version
    DAMAGED = "damaged"  # cut, altered, or copied from another offset


def encode(base: int, ranges: Sequence[tuple[int, int]], deferred: Deferred | None = None) -> str:
    """The metadata for a commit of ``base``. ``ranges`` are half-open, ascending, apart, all above ``base``; with
    ``deferred`` keys the first may begin at it.

    No range and no key gives the empty string. The text is ASCII and can be longer than :data:`MAX_BYTES`: see
    :func:`fits`.
    """
    if not deferred and not ranges:
        return ""
    prefix, head = PREFIX, b""
    if deferred:
        prefix, head = PREFIX_DEFERRED, pack(base, deferred)
        base -= 1
    form, payload = _pack(base, ranges) if ranges else ("r", b"")
    payload = head + payload
    if _DEFLATE_FROM_BYTES < len(payload) <= _MAX_INFLATED_BYTES:
        deflated = zlib.compress(payload, 1)
        if len(deflated) < len(payload):
            form, payload = form.upper(), deflated
    body = _checksum(base, form, payload) + payload
    return f"{prefix}{form}{b2a_base64(body, newline=False).decode('ascii')}"


def _pack(base: int, ranges: Sequence[tuple[int, int]]) -> tuple[str, bytes]:
    """The smaller of the two forms."""
    bitmap_bytes = (ranges[-1][1] - base + 7) // 8
    # Each run takes two bytes at the least, so the bitmap may be known to be smaller without writing the
    # runs.
    if bitmap_bytes > 2 * len(ranges):
        form, payload = "r", _pack_runs(base, ranges)
        if bitmap_bytes < len(payload) and bitmap_bytes <= _MAX_INFLATED_BYTES:
            form, payload = "b", _pack_bitmap(base, ranges)
    else:
        form, payload = "b", _pack_bitmap(base, ranges)
    return form, payload


def fits(text: str) -> bool:
    """Whether Kafka takes the metadata (it is ASCII: characters are bytes)."""
    return len(text) <= MAX_BYTES


def decode(base: int, text: str) -> tuple[Ranges, MetadataFault | None]:
    """The ranges above ``base``, ascending and apart, in which all is finished, whatever its key; or none, and why
    the text could not be used. Where keys are deferred that is nothing from the first of their records on: who knows
    a record's key asks :func:`decode_all`.

    Never raises, whatever the text.
    """
    ranges, deferred, fault = decode_all(base, text)
    if deferred:
        first = min(deferred.values())
        ranges = [(start, min(end, first)) for start, end in ranges if start < first]
    return ranges, fault


def decode_all(base: int, text: str) -> tuple[Ranges, dict[bytes, int], MetadataFault | None]:
    """The ranges in which all is finished but the records of deferred keys, and from which offset on those are not."""
    if not text:
        return [], {}, None
    if not text.startswith("fl"):
        return [], {}, MetadataFault.FOREIGN
    if not text.startswith((PREFIX, PREFIX_DEFERRED)):
        return [], {}, MetadataFault.UNKNOWN_VERSION if text[2:3].isdigit() else MetadataFault.FOREIGN
    found = None
    if len(text) <= MAX_BYTES:
        found = _decode_body(base, text[3:4], text[4:], deferring=text.startswith(PREFIX_DEFERRED))
    return ([], {}, MetadataFault.DAMAGED) if found is None else (*found, None)


def _decode_body(base: int, form: str, body: str, *, deferring: bool) -> tuple[Ranges, dict[bytes, int]] | None:
    if form not in _FORMS:
        return None
    try:
        encoded = body.encode("ascii")
        raw = a2b_base64(encoded)
    except (Base64Error, UnicodeEncodeError):
        return None
    if b2a_base64(raw, newline=False) != encoded:
        return None  # other characters among them, or bits behind the last byte, which no checksum covers
    committed, base = base, base - deferring
    payload = raw[_CRC_BYTES:]
    if raw[:_CRC_BYTES] != _checksum(base, form, payload):
        return None
    if form.isupper():
        inflated = _inflate(payload)
        if inflated is None:
            return None
        payload = inflated
    deferred: dict[bytes, int] = {}
    if deferring:
        found = unpack(committed, payload)
        if found is None:
            return None
        deferred, payload = found
        if not payload:
            return ([], deferred) if deferred else None
    ranges: Ranges | None = None
    match form.lower():
        case "r":
            ranges = _unpack_runs(base, payload)
        case "b":
            ranges = _unpack_bitmap(base, payload)
    return None if ranges is None else (ranges, deferred)


def _checksum(base: int, form: str, payload: bytes) -> bytes:
    return zlib.crc32(payload, zlib.crc32(f"{form}{base}".encode())).to_bytes(_CRC_BYTES, "big")


def _inflate(payload: bytes) -> bytes | None:
    inflater = zlib.decompressobj()
    try:
        inflated = inflater.decompress(payload, _MAX_INFLATED_BYTES)
    except zlib.error:
        return None
    return inflated if inflater.eof and not inflater.unused_data else None


def _pack_runs(base: int, ranges: Sequence[tuple[int, int]]) -> bytes:
    packed = bytearray()
    append = packed.append
    before = base
    for start, end in ranges:
        for value in (start - before, end - start):
            while value > 0x7F:
                append(value & 0x7F | 0x80)
                value >>= 7
            append(value)
        before = end
    return bytes(packed)


def runs_bytes(base: int, ranges: Sequence[tuple[int, int]]) -> int:
    """How long the ranges are as runs, not deflated."""
    return len(_pack_runs(base, ranges))


def _unpack_runs(base: int, payload: bytes) -> Ranges | None:
    numbers: list[int] = []
    value = shift = 0
    for byte in payload:
        value |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
            if shift > 63:
                return None
        else:
            numbers.append(value)
            value = shift = 0
    if shift or not numbers or len(numbers) % 2 or 0 in numbers:
        return None
    ranges: Ranges = []
    end = base
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        start = end + gap
        end = start + length
        ranges.append((start, end))
    return ranges if end <= _MAX_OFFSET else None


def _pack_bitmap(base: int, ranges: Sequence[tuple[int, int]]) -> bytes:
    edges = np.asarray(ranges, dtype=np.int64) - base
    steps = np.zeros(int(edges[-1, 1]) + 1, dtype=np.int8)
    steps[edges[:, 0]] = 1
    steps[edges[:, 1]] = -1
    return np.packbits(np.cumsum(steps[:-1], dtype=np.int8).astype(np.uint8), bitorder="little").tobytes()


def _unpack_bitmap(base: int, payload: bytes) -> Ranges | None:
    bits = np.unpackbits(np.frombuffer(payload, dtype=np.uint8), bitorder="little").astype(np.int8)
    if bits.size and bits[0]:
        return None  # the committed offset itself is never finished
    steps = np.diff(bits, prepend=0, append=0)
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    if not starts.size or base + int(ends[-1]) > _MAX_OFFSET:
        return None
    return list(zip((starts + base).tolist(), (ends + base).tolist(), strict=True))
