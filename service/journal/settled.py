"""How far a lane has settled, as its journal says it: written with each commit, and held against what the group tells.

Why twice: a group coordinator that has just become leader can serve offsets before it has read all of its log, and go
on from there (seen with Kafka 4.3.1, ``docs/kafka.md``). What stands in the journal was committed in one transaction
with the offset, its results and its dead letters, and lies in a log that no coordinator stands in front of.
"""

from collections.abc import Collection, Mapping

import msgspec
from aiokafka.structs import TopicPartition

from contracts.journal import Settled, SettledKey, encode_entry, encode_key
from service.journal.reading import SettledOffsets
from service.kafka.offsets import CommittedOffset
from service.settling.batches import PartitionWrite, Record
from service.settling.transactor import Committed


def settled_writes(journal: str, offsets: Mapping[TopicPartition, Committed], now_ms: int) -> list[PartitionWrite]:
    """What goes into the journal in the transaction that commits ``offsets``."""
    by_partition: dict[int, list[Record]] = {}
    for tp, committed in offsets.items():
        value = encode_entry(Settled(committed.offset, committed.metadata))
        record: Record = (now_ms, encode_key(SettledKey(tp.topic)), value, [])
        by_partition.setdefault(tp.partition, []).append(record)
    return [PartitionWrite(journal, partition, records) for partition, records in by_partition.items()]


class Trusted(msgspec.Struct, frozen=True):
    """``offsets``: where to go on. ``behind``: what the group told of partitions that are settled further than that;
    ``untold``: partitions that are settled, and of which it told nothing."""

    offsets: dict[TopicPartition, CommittedOffset]
    behind: dict[TopicPartition, CommittedOffset]
    untold: frozenset[TopicPartition]


def trusted(
    committed: Mapping[TopicPartition, CommittedOffset],
    settled: SettledOffsets,
    partitions: Collection[TopicPartition],
) -> Trusted:
    """The group's offsets, but for those that the journal knows better.

    An offset beyond the journal's is the group's own: somebody else moved it. One that is missing stays missing.
    """
    result = Trusted(dict(committed), {}, frozenset(_untold(committed, settled, partitions)))
    for tp, told in committed.items():
        known = settled.get((tp.topic, tp.partition))
        if known is None or told.offset > known.offset:
            continue
        right = CommittedOffset(known.offset, known.metadata)
        if told != right:
            result.offsets[tp] = right
            result.behind[tp] = told
    return result


def _untold(
    committed: Mapping[TopicPartition, CommittedOffset],
    settled: SettledOffsets,
    partitions: Collection[TopicPartition],
) -> list[TopicPartition]:
    return [tp for tp in partitions if tp not in committed and (tp.topic, tp.partition) in settled]
