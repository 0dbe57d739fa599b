"""Record batches of a settling transaction, split at the broker's limit, with their sequence numbers in order."""

from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

# (timestamp in ms, key, value, headers)
Record = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]

# Results are much alike: a tenth of their size remains, for less than 1 µs a result. aiokafka's lz4 is slower and keeps
# twice as much, snappy costs half and keeps twice as much too. Brokers know zstd since 2.1; we ask for 2.5.
ZSTD = 4
# A batch with one record larger than this goes alone; the topic's max.message.bytes decides about it.
BATCH_BYTES = 512 * 1024
SEQUENCE_MASK = 0x7FFFFFFF


class PartitionWrite(msgspec.Struct, gc=False):
    """Records for one partition, in order."""

    topic: str
    partition: int
    records: list[Record]


class Batch(msgspec.Struct, gc=False):
    """One encoded record batch: ``count`` records from sequence number ``base_sequence`` on."""

    data: bytes
    base_sequence: int
    count: int


class PackedBatch(msgspec.Struct, gc=False):
    """A record batch that has no producer yet: its encoded records; how these are compressed; timestamps in ms."""

    body: bytes
    attributes: int
    count: int
    first_ms: int
    latest_ms: int


class PackedWrite(msgspec.Struct, gc=False):
    """Records for one partition, in order, that are encoded already."""

    topic: str
    partition: int
    batches: list[PackedBatch]


Write = PartitionWrite | PackedWrite


def build(
    records: Sequence[Record],
    *,
    producer_id: int,
    producer_epoch: int,
    base_sequence: int,
    transactional: bool,
    compression: int = ZSTD,
    max_bytes: int = BATCH_BYTES,
) -> list[Batch]:
    """Encode ``records`` into as few batches as ``max_bytes`` (uncompressed) allows.

    A ``base_sequence`` of -1, without a producer, is that of every batch.
    """
    batches: list[Batch] = []
    position, total = 0, len(records)
    while position < total:
        builder = DefaultRecordBatchBuilder(
            2, compression, int(transactional), producer_id, producer_epoch, base_sequence, max_bytes
        )
        append = builder.append
        count = 0
        for timestamp, key, value, headers in islice(records, position, None):
            if append(count, timestamp, key, value, headers) is None:
                break
            count += 1
        batches.append(Batch(bytes(builder.build()), base_sequence, count))
        if base_sequence >= 0:
            base_sequence = (base_sequence + count) & SEQUENCE_MASK
        position += count
    return batches


def merged(*groups: Iterable[PartitionWrite]) -> list[PartitionWrite]:
    """Writes with one for each partition: a partition's records of one transaction are produced together."""
    by_place: dict[TopicPartition, PartitionWrite] = {}
    for group in groups:
        for write in group:
            place = TopicPartition(write.topic, write.partition)
            known = by_place.get(place)
            if known is None:
                by_place[place] = PartitionWrite(write.topic, write.partition, list(write.records))
            else:
                known.records.extend(write.records)
    return list(by_place.values())


def united(*groups: Iterable[Write]) -> list[Write]:
    """:func:`merged`, behind those that are packed: their batches are as they are."""
    writes = [write for group in groups for write in group]
    packed = [write for write in writes if isinstance(write, PackedWrite)]
    return [*packed, *merged([write for write in writes if isinstance(write, PartitionWrite)])]
