"""Packs records into Kafka's record batches (magic 2) as they come, into memory that is used again and again.

aiokafka's builder is quick where batches are made one after the other. Of results twelve grow at a time, each by being
copied, into memory that the system has to clear first. A test holds what is written here against what that one writes.
"""

import asyncio
import struct
from collections.abc import Iterable, Sequence

from aiokafka.codec import zstd_encode
from aiokafka.record.util import calc_crc32c

from service.settling.batches import BATCH_BYTES, SEQUENCE_MASK, ZSTD, Batch, PackedBatch, Record
from service.turns import Turns

# Compressing takes 3 ms a megabyte of results, and up to 25 ms of what is less alike. More than this is done in a
# thread.
_ASIDE_BYTES = 512 * 1024
# Of results it makes a tenth less than level 3, and is quicker.
_LEVEL = 1
# Base offset, length, leader epoch, magic, checksum of what is behind it; the rest of a batch's head: attributes, last
# offset, first and latest timestamp, producer's id and epoch, base sequence, count of records.
_FRAME = struct.Struct(">qiibI")
_HEAD = struct.Struct(">hiqqqhii")
_HEAD_BYTES = _FRAME.size + _HEAD.size
_BEHIND_LENGTH = 12  # where the bytes begin that a batch's length counts
_TRANSACTIONAL = 0x10
_MOST_BUFFERS = 16
_buffers: list[bytearray] = []


def _varint(number: int) -> bytes:
    """A number as Kafka's records have them: its sign last, seven bits in a byte."""
    left = number << 1 if number >= 0 else (-number << 1) - 1
    written = bytearray()
    while left > 0x7F:
        written.append(left & 0x7F | 0x80)
        left >>= 7
    written.append(left)
    return bytes(written)


_MOST_KNOWN = 4096
# Here without the loop: each process makes them when it starts.
_KNOWN = [bytes((number << 1,)) for number in range(64)]
_KNOWN += [bytes((number << 1 & 0x7F | 0x80, number >> 6)) for number in range(64, _MOST_KNOWN)]
_ZERO, _NULL = _varint(0), _varint(-1)


class Packer:
    """Packs records for one partition, while they are in the processor's caches, into as few batches as ``BATCH_BYTES``
    (uncompressed) allows; these have no producer yet.

    Does not keep the event loop for long: ``turns`` are those of the caller's work.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._batches: list[PackedBatch] = []
        self._buffer = _buffers.pop() if _buffers else bytearray(BATCH_BYTES)
        self._filled = 0
        self._count = 0
        self._first_ms = self._latest_ms = 0

    async def add(self, records: Iterable[Record]) -> None:
        """These come behind the others."""
        known, most = _KNOWN, _MOST_KNOWN
        last_headers, tail = None, b""
        last_ms, since = None, _ZERO
        parts: list[bytes] = []
        count, size, latest_ms = self._count, self._filled, self._latest_ms
        for timestamp, key, value, headers in records:
            if headers is not last_headers:
                last_headers, tail = headers, _headers(headers)
            if not count:
                self._first_ms = latest_ms = timestamp
            if timestamp != last_ms:
                last_ms, since = timestamp, _varint(timestamp - self._first_ms)
            if key is None:
                key, key_length, key_bytes = b"", _NULL, 0
            else:
                key_bytes = len(key)
                key_length = known[key_bytes] if key_bytes < most else _varint(key_bytes)
            if value is None:
                value, value_length, value_bytes = b"", _NULL, 0
            else:
                value_bytes = len(value)
                value_length = known[value_bytes] if value_bytes < most else _varint(value_bytes)
            place = known[count] if count < most else _varint(count)
            fixed = 1 + len(key_length) + key_bytes + len(value_length) + value_bytes + len(tail)
            length = fixed + len(since) + len(place)
            head = known[length] if length < most else _varint(length)
            if count and _HEAD_BYTES + size + len(head) + length >= BATCH_BYTES:  # the batch is full
                self._write(parts, count, latest_ms)
                await self._close()
                parts, count, size = [], 0, 0
                self._first_ms = latest_ms = timestamp
                since = place = _ZERO
                length = fixed + 2
                head = known[length] if length < most else _varint(length)
            parts += (head, b"\0", since, place, key_length, key, value_length, value, tail)
            size += len(head) + length
            count += 1
            if timestamp > latest_ms:
                latest_ms = timestamp
        self._write(parts, count, latest_ms)

    async def packed(self) -> list[PackedBatch]:
        """All of them; nothing is added any more."""
        if self._count:
            await self._close()
        if len(_buffers) < _MOST_BUFFERS and len(self._buffer) == BATCH_BYTES:
            _buffers.append(self._buffer)
        self._buffer = bytearray()
        return self._batches

    def _write(self, parts: Sequence[bytes], count: int, latest_ms: int) -> None:
        """Put what belongs to the open batch behind what it has; it has ``count`` records then."""
        text = b"".join(parts)
        end = self._filled + len(text)
        if end > len(self._buffer):  # a record larger than a batch, which goes alone
            self._buffer = bytearray(text)
        else:
            self._buffer[self._filled : end] = text
        self._filled, self._count, self._latest_ms = end, count, latest_ms

    async def _close(self) -> None:
        await self._turns.rest()
        # Not released by hand: a thread may still read it when this is cancelled.
        records = memoryview(self._buffer)[: self._filled]
        if self._filled > _ASIDE_BYTES:
            body = await asyncio.to_thread(zstd_encode, records, _LEVEL)
        else:
            body = zstd_encode(records, _LEVEL)
        attributes = ZSTD
        if len(body) >= self._filled:
            body, attributes = bytes(records), 0
        self._batches.append(PackedBatch(body, attributes, self._count, self._first_ms, self._latest_ms))
        self._filled = self._count = 0


def signed(
    batches: Sequence[PackedBatch], *, producer_id: int, producer_epoch: int, base_sequence: int, transactional: bool
) -> list[Batch]:
    """Batches with their producer. A ``base_sequence`` of -1, without a producer, is that of every batch."""
    found: list[Batch] = []
    for batch in batches:
        covered = (
            _HEAD.pack(
                batch.attributes | (_TRANSACTIONAL if transactional else 0),
                batch.count - 1,
                batch.first_ms,
                batch.latest_ms,
                producer_id,
                producer_epoch,
                base_sequence,
                batch.count,
            )
            + batch.body
        )
        length = _FRAME.size - _BEHIND_LENGTH + len(covered)
        frame = _FRAME.pack(0, length, -1, 2, calc_crc32c(covered))
        found.append(Batch(frame + covered, base_sequence, batch.count))
        if base_sequence >= 0:
            base_sequence = (base_sequence + batch.count) & SEQUENCE_MASK
    return found


def _headers(headers: Iterable[tuple[str, bytes | None]]) -> bytes:
    """A record's headers, behind their count."""
    parts: list[bytes] = []
    count = 0
    for name, value in headers:
        text = name.encode()
        parts += (_varint(len(text)), text, _NULL if value is None else _varint(len(value)), value or b"")
        count += 1
    return _varint(count) + b"".join(parts)
