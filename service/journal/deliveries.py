"""The deliveries of a lane that were begun: the records each of them still waits for, and what is written of them.

A delivery has an entry in each partition of the journal that it has records of. The entry goes with the last of its
partition's records to be settled, in that transaction; or all at once, when an answer shows that nothing took effect.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

import msgspec
from aiokafka.structs import TopicPartition

from contracts.journal import Delivery, DeliveryKey, DeliveryState, Range, encode_entry, encode_key
from service.intake.assignment import Assignment, PartitionState
from service.intake.item import Item
from service.settling.batches import PartitionWrite, Record, merged
from service.turns import Turns

_NAMED_AT_ONCE = 500


class OpenEntry:
    """A delivery's entry in one partition of the journal; ``left`` counts its records that are not settled.

    Entries are told apart by identity: no two deliveries have the same id, for each begins a new one.
    """

    __slots__ = ("delivery_id", "left", "partition")

    def __init__(self, delivery_id: str, partition: int, left: int = 0) -> None:
        self.delivery_id = delivery_id
        self.partition = partition
        self.left = left

    @property
    def batch_id(self) -> str:
        """The batch that was delivered: the id says it, in front of what makes it unique."""
        return self.delivery_id.partition(".")[0]


class OpenDelivery:
    """Records that go into one request, and the journal's entries of them.

    ``attempted``: a transaction that writes the entries has begun, so that they may be there.
    """

    __slots__ = ("_value", "assignment", "attempted", "entries", "id", "items", "record", "tps")

    def __init__(
        self, delivery_id: str, kind: str, items: Sequence[Item], begun_at_ms: int, named: "Named | None" = None
    ) -> None:
        self.id = delivery_id
        self.items = items
        self.attempted = False
        self.assignment: Assignment = items[0].partition.assignment
        self.entries: dict[int, OpenEntry] = {}
        named = named or named_at_once(items)
        self.tps = list(named.counts)
        for tp, count in named.counts.items():
            entry = self.entries.setdefault(tp.partition, OpenEntry(delivery_id, tp.partition))
            entry.left += count
        self.record = Delivery(kind, DeliveryState.BEGUN, named.ranges, begun_at_ms)
        self._value: bytes | None = None

    @property
    def value(self) -> bytes:
        """What is written of it."""
        if self._value is None:
            self._value = encode_entry(self.record)
        return self._value


class Named(msgspec.Struct, frozen=True):
    """The records that a delivery names: how many of each partition, and all of them as ranges."""

    counts: dict[TopicPartition, int]
    ranges: dict[str, tuple[Range, ...]]


def named_at_once(items: Sequence[Item]) -> Named:
    """What a delivery of these items names."""
    offsets: dict[PartitionState, list[int]] = {}
    _gather(offsets, items)
    return _named(offsets, {state: _runs(sorted(found)) for state, found in offsets.items()})


async def named_in_turns(items: Sequence[Item], turns: Turns) -> Named:
    """As :func:`named_at_once` of 50,000 items, which takes 30 ms where every second record is another's."""
    offsets: dict[PartitionState, list[int]] = {}
    for start in range(0, len(items), _NAMED_AT_ONCE):
        _gather(offsets, items[start : start + _NAMED_AT_ONCE])
        await turns.rest()
    runs: dict[PartitionState, list[tuple[int, int]]] = {}
    for state, found in offsets.items():
        found.sort()
        own = runs[state] = []
        for start in range(0, len(found), _NAMED_AT_ONCE):
            _join(own, _runs(found[start : start + _NAMED_AT_ONCE]))
            await turns.rest()
    return _named(offsets, runs)


class Leaving(msgspec.Struct, frozen=True):
    """What a transaction does to open entries: how many records leave each, and which of them close with it."""

    counts: dict[OpenEntry, int]
    closing: list[OpenEntry]


class OpenDeliveries:
    """Every entry of the lane's newest assignment. Changes only when a transaction has been committed."""

    def __init__(self, journal_topic: str) -> None:
        self._topic = journal_topic
        self._open: set[OpenEntry] = set()
        # Closed by a transaction of which not everything is proved to have been written: taken out once more.
        self.unproven: list[OpenEntry] = []
        # Told when something has become unproven; set by whoever takes it out.
        self.wake: Callable[[], None] = _nobody

    @property
    def count(self) -> int:
        """How many deliveries are open."""
        return len({entry.delivery_id for entry in self._open})

    def forget(self) -> None:
        """The assignment has ended: whoever follows reads what is open from the journal."""
        self._open.clear()
        self.unproven.clear()

    def found(self, entries: Iterable[OpenEntry]) -> None:
        """Entries of an earlier owner that have unfinished records."""
        self._open.update(entries)

    def leaving(self, items: Iterable[Item]) -> Leaving:
        """What settling these items, or beginning them anew, does to the entries that they have."""
        # Most records of some lanes have no entry, and those that begin seldom have.
        counts = Counter([entry for item in items if (entry := item.entry) is not None])
        return Leaving(counts, [entry for entry, count in counts.items() if count >= entry.left])

    def left(self, leaving: Leaving, *, proven: bool = True) -> None:
        """The transaction of ``leaving`` was committed. Not ``proven``: its offsets were, perhaps not all its
        records."""
        for entry, count in leaving.counts.items():
            entry.left -= count
        self._open.difference_update(leaving.closing)
        if not proven and leaving.closing:
            self.unproven.extend(leaving.closing)
            self.wake()

    def gone(self, entry: OpenEntry, records: int) -> None:
        """So many records that the entry names will never be read."""
        entry.left -= records
        if entry.left <= 0:
            self._open.discard(entry)
            self.unproven.append(entry)
            self.wake()

    def begun(self, delivery: OpenDelivery) -> None:
        """The delivery's entries have been written."""
        entries = delivery.entries
        self._open.update(entries.values())
        for item in delivery.items:
            item.entry = entries[item.partition.tp.partition]

    def detach(self, items: Iterable[Item]) -> None:
        """The entries stay when these items settle: something else closes them."""
        for item in items:
            item.entry = None

    def close(self, entries: Iterable[OpenEntry]) -> None:
        """Entries that no item closes any more are taken out, some time."""
        closing = [entry for entry in entries if entry in self._open]
        if closing:
            self._open.difference_update(closing)
            self.unproven.extend(closing)
            self.wake()

    def taken_out(self, delivery: OpenDelivery) -> None:
        """The delivery's entries have been taken out: nothing took effect."""
        mine = set(delivery.entries.values())
        self._open.difference_update(mine)
        for item in delivery.items:
            if item.entry in mine:
                item.entry = None

    # -- what is written

    def entry_writes(self, deliveries: Iterable[OpenDelivery], now_ms: int) -> list[PartitionWrite]:
        """The entries of deliveries that begin."""
        return self._writes(
            (partition, (now_ms, encode_key(DeliveryKey(delivery.id)), delivery.value, []))
            for delivery in deliveries
            for partition in delivery.entries
        )

    def removal_writes(self, entries: Iterable[OpenEntry], now_ms: int) -> list[PartitionWrite]:
        """What takes entries out."""
        return self._writes(
            (entry.partition, (now_ms, encode_key(DeliveryKey(entry.delivery_id)), None, [])) for entry in entries
        )

    async def removals_in_turns(
        self, entries: Sequence[OpenEntry], now_ms: int, turns: Turns
    ) -> Sequence[PartitionWrite]:
        """As :meth:`removal_writes` of 20,000 entries, which takes 35 ms."""
        written: list[list[PartitionWrite]] = []
        for start in range(0, len(entries), _NAMED_AT_ONCE):
            written.append(self.removal_writes(entries[start : start + _NAMED_AT_ONCE], now_ms))
            await turns.rest()
        return merged(*written)

    def _writes(self, records: Iterable[tuple[int, Record]]) -> list[PartitionWrite]:
        by_partition: dict[int, list[Record]] = {}
        for partition, record in records:
            by_partition.setdefault(partition, []).append(record)
        return [PartitionWrite(self._topic, partition, found) for partition, found in by_partition.items()]


def _nobody() -> None:
    """Nobody takes out what is unproven."""


def _gather(offsets: dict[PartitionState, list[int]], items: Iterable[Item]) -> None:
    """Add the items' offsets to their partitions'."""
    for item in items:
        found = offsets.get(item.partition)
        if found is None:
            offsets[item.partition] = [item.offset]
        else:
            found.append(item.offset)


def _named(offsets: dict[PartitionState, list[int]], runs: dict[PartitionState, list[tuple[int, int]]]) -> Named:
    ranges: dict[str, list[Range]] = {}
    for state in sorted(runs, key=attrgetter("tp")):
        topic, partition = state.tp
        ranges.setdefault(topic, []).extend([(partition, first, end) for first, end in runs[state]])
    return Named(
        {state.tp: len(found) for state, found in offsets.items()},
        {topic: tuple(found) for topic, found in ranges.items()},
    )


def _join(runs: list[tuple[int, int]], behind: list[tuple[int, int]]) -> None:
    """Add runs that come behind the others, and may go on with the last of these."""
    if runs and runs[-1][1] == behind[0][0]:
        behind[0] = (runs.pop()[0], behind[0][1])
    runs += behind


def _runs(offsets: list[int]) -> list[tuple[int, int]]:
    """Ascending offsets as half-open runs: an entry names no record that the delivery does not have."""
    if offsets[-1] - offsets[0] == len(offsets) - 1:
        return [(offsets[0], offsets[-1] + 1)]
    runs: list[tuple[int, int]] = []
    start = end = offsets[0]
    for offset in offsets:
        if offset != end:
            runs.append((start, end))
            start = offset
        end = offset + 1
    runs.append((start, end))
    return runs
