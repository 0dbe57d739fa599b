"""Finds a record that the Kafka client cannot parse (a header key that is not UTF-8), so that it can be passed by.

aiokafka raises UnicodeDecodeError for such a record each time it is fetched, and does not say where it lies. The
batch is fetched again here and only its framing is read: offsets, nothing of what the records hold.
"""

import struct
from collections.abc import Iterable, Iterator

from aiokafka import codec
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

# Kafka's record batch, version 2: base offset, length, leader epoch, magic, crc, attributes, last offset delta, two
# timestamps, producer id, epoch, sequence, count.
_HEADER = struct.Struct(">qiibIhiqqqhii")
_LOG_OVERHEAD = 12
_CODEC_MASK = 0x07
_TRANSACTIONAL_MASK = 0x10
_CONTROL_MASK = 0x20
_DECODERS = {1: codec.gzip_decode, 2: codec.snappy_decode, 3: codec.lz4_decode, 4: codec.zstd_decode}
_MAX_BYTES = 64 * 1024 * 1024


async def find_unparsable(client: AIOKafkaClient, tp: TopicPartition, position: int) -> int | None:
    """The offset of the first record at or after ``position`` whose header keys are not UTF-8; None if not seen.

    Raises KafkaError.
    """
    leader = client.cluster.leader_for_partition(tp)
    if leader is None or leader == -1:
        await client.force_metadata_update()
        return None
    request = FetchRequest(500, 1, _MAX_BYTES, 1, [(tp.topic, [(tp.partition, position, _MAX_BYTES)])])
    response = await client.send(leader, request)
    for _, parts in response.topics:
        for part in parts:
            code, data = part[1], part[-1]
            if code:
                raise KafkaError(f"fetch of {tp.topic}-{tp.partition}: error {code}")
            aborted = next((field for field in part if isinstance(field, list)), [])
            for offset, keys in header_keys(bytes(data), aborted):
                if offset >= position and not all(map(_is_utf8, keys)):
                    return offset
    return None


def header_keys(data: bytes, aborted: Iterable[tuple[int, int]] = ()) -> Iterator[tuple[int, list[bytes]]]:
    """Offset and header keys of each record in whole batches of version 2; a cut last batch is left out.

    ``aborted`` are (producer id, first offset) of aborted transactions: a committed reader does not see their records.
    """
    begin = 0
    ahead = sorted(aborted, key=lambda transaction: transaction[1])
    gone: set[int] = set()
    while begin + _HEADER.size <= len(data):
        base, length, _, magic, _, attributes, _, _, _, producer, _, _, count = _HEADER.unpack_from(data, begin)
        end = begin + _LOG_OVERHEAD + length
        if end > len(data):
            return
        while ahead and ahead[0][1] <= base:
            gone.add(ahead.pop(0)[0])
        if attributes & _CONTROL_MASK:
            # A marker ends the producer's transaction, aborted or not.
            gone.discard(producer)
        elif magic == 2 and not (attributes & _TRANSACTIONAL_MASK and producer in gone):
            body = data[begin + _HEADER.size : end]
            decode = _DECODERS.get(attributes & _CODEC_MASK)
            yield from _records(decode(body) if decode else body, base, count)
        begin = end


def _records(body: bytes, base: int, count: int) -> Iterator[tuple[int, list[bytes]]]:
    place = 0
    for _ in range(count):
        length, place = _varint(body, place)
        end = place + length
        _, after = _varint(body, place + 1)  # one byte of attributes, then the timestamp's delta
        delta, after = _varint(body, after)
        for _ in range(2):  # key and value
            size, after = _varint(body, after)
            after += max(size, 0)
        headers, after = _varint(body, after)
        keys: list[bytes] = []
        for _ in range(headers):
            size, after = _varint(body, after)
            keys.append(body[after : after + size])
            after += size
            size, after = _varint(body, after)
            after += max(size, 0)
        yield base + delta, keys
        place = end


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A zigzag varint and the place behind it."""
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), place
        shift += 7


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
