"""PURE: an import whose partitions are several members' by now, because ``slots`` or a lane's topics were changed while
it was open. Each member polls it and settles the records of its own partitions; its file is one member's to send: of
the owner of its lowest partition, who reads the others' records without owning them.

The assignor deals whole slots, so that nothing else tears an import apart, whoever comes and goes
(``tests/model/test_slots_model.py``).
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

import msgspec
from aiokafka.structs import TopicPartition

from contracts.journal import Delivery, DeliveryState
from handlers.imports.rows import Row
from service.intake.item import Item

# From and to before which offset, of one partition; those of one import are ascending and apart.
Offsets = tuple[int, int]

_ORDER = (DeliveryState.INTENDED, DeliveryState.CREATED, DeliveryState.UPLOADED)


class Share(msgspec.Struct, frozen=True):
    """What of an import is ours. ``others``: its records that are not read here, by where they lie. ``lowest``: its
    lowest partition, whose owner sends the file. ``leads``: it is ours. ``sends``: whether the file is ours to send:
    not where records of our own partitions have left the import, which must not be sent with it once more."""

    others: Mapping[TopicPartition, Sequence[Offsets]] = {}
    lowest: int = 0
    leads: bool = True
    sends: bool = True

    @property
    def others_count(self) -> int:
        """How many records are not read here."""
        return sum(end - first for ranges in self.others.values() for first, end in ranges)


WHOLE = Share()


def share_of(record: Delivery, tps: Collection[TopicPartition], entries: Collection[int]) -> Share:
    """The share of who was assigned ``tps`` and has found ``entries`` of it in these partitions of the journal."""
    found: dict[TopicPartition, list[Offsets]] = {}
    for topic, ranges in record.ranges.items():
        for partition, first, end in ranges:
            found.setdefault(TopicPartition(topic, partition), []).append((first, end))
    if not found:
        return WHOLE
    for offsets in found.values():
        offsets.sort()
    lowest = min(found, key=lambda tp: (tp.partition, tp.topic))
    others = {tp: offsets for tp, offsets in found.items() if tp not in tps or tp.partition not in entries}
    sends = lowest not in others and not any(tp in tps for tp in others)
    return Share(others, lowest.partition, lowest in tps, sends)


def furthest(one: Delivery, other: Delivery) -> Delivery:
    """Of the entries of an import the one that has come further: members that each had a part of it rewrite theirs
    when they see it."""
    return max(one, other, key=lambda record: _ORDER.index(record.state) if record.state in _ORDER else -1)


def budget_share(budget: int, own: int, share: Share) -> int:
    """Of the imports that a failed file may be divided into, those of who has so many of its records."""
    total = own + share.others_count
    return budget * own // total if total else budget


def apart(items: Sequence[Item], others: Iterable[Item]) -> tuple[list[Item], list[Item]]:
    """Our events that share no row with the others', and those that do, also through a third one: these are no one
    member's to send again."""
    tied: set[Hashable] = {row.key for item in others for row in item.rows if row.key is not None}
    left, shared = list(items), list[Item]()
    grows = bool(tied)
    while grows:
        found = [item for item in left if not tied.isdisjoint(_keys(item.rows))]
        shared += found
        tied |= {key for item in found for key in _keys(item.rows)}
        chosen = set(map(id, found))
        left = [item for item in left if id(item) not in chosen]
        # Only what has several rows can tie others.
        grows = any(len(item.rows) > 1 for item in found)
    return left, shared


def _keys(rows: Sequence[Row]) -> set[Hashable]:
    return {row.key for row in rows if row.key is not None}
