"""PURE: how far a lane has settled, as its journal says it: written with each commit, and held against what the group
tells.

Why twice: a group coordinator that has just become leader can serve offsets before it has read all of its log, and go
on from there (seen with Kafka 4.3.1, ``docs/kafka.md``). What stands in the journal was committed in one transaction
with the offset, its results and its dead letters, and lies in a log that no coordinator stands in front of.
"""

from collections.abc import Collection, Mapping

import msgspec
from aiokafka.structs import TopicPartition

from contracts.journal import Settled, SettledKey, encode_entry, encode_key
from service.errors import TransactorLostError
from service.journal.reading import SettledOffsets
from service.kafka.offsets import CommittedOffset, ToldOffsets
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
    """``offsets``: where to go on. ``behind``: partitions of which the group told less than is settled, or nothing
    certain, and what it told (None: nothing). ``untold``: partitions that are settled, and of which it told nothing.
    ``undecided``: partitions of which neither tells anything certain."""

    offsets: dict[TopicPartition, CommittedOffset]
    behind: dict[TopicPartition, CommittedOffset | None]
    untold: frozenset[TopicPartition]
    undecided: frozenset[TopicPartition] = frozenset()


def trusted(told: ToldOffsets, settled: SettledOffsets, partitions: Collection[TopicPartition]) -> Trusted:
    """The group's offsets, but for those that the journal knows better. The journal is to be read behind the offsets.

    An offset beyond the journal's is the group's own: somebody else moved it. One that is missing stays missing. Of a
    commit that the group calls undecided the journal tells the end, for its record there was acknowledged before the
    offset was sent: whoever has read the journal to its high watermark knows it.
    """
    offsets = dict(told.offsets)
    behind: dict[TopicPartition, CommittedOffset | None] = {}
    untold: set[TopicPartition] = set()
    undecided: set[TopicPartition] = set()
    for tp in partitions:
        group, known = told.offsets.get(tp), settled.get((tp.topic, tp.partition))
        if known is None:
            if tp in told.pending:
                undecided.add(tp)
            continue
        if group is None and tp not in told.pending:
            untold.add(tp)
            continue
        right = CommittedOffset(known.offset, known.metadata)
        if group is not None and group.offset > known.offset:
            right = group
        offsets[tp] = right
        if group != right or tp in told.pending:
            behind[tp] = group
    return Trusted(offsets, behind, frozenset(untold), frozenset(undecided))


def refuse_undecided(found: Trusted) -> None:
    """Raises TransactorLostError if there is a partition of which nothing is certain."""
    if found.undecided:
        tp = min(found.undecided)
        raise TransactorLostError(
            f"the group's coordinator calls a commit of {tp.topic}-{tp.partition} undecided, and the journal has none"
        )
