"""Rows collected into batches that become files: while no slot is free the next batch grows, so that load makes imports
larger and not more.

Beside its record's key an event has the keys of its rows: any of them is in at most one import at a time. An event one
of whose keys is under way, or sits in another open batch, or waits already, waits here behind it.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence, Set
from itertools import repeat
from math import inf

import msgspec

from contracts.results import Operation
from service.batching.batcher import Batcher, BatchPolicy, Cause, OpenBatch
from service.imports.behind import Behind
from service.imports.growing import GrowingBatch, Line
from service.imports.growth import Reading, Waiting, stands_still
from service.imports.returning import Restore, Returning
from service.intake.item import Item

_Group = tuple[int, Hashable]  # the slot, and what the handler says may not go together


class BatchingMeans(msgspec.Struct, frozen=True):
    """``slot_of`` a partition; ``may_open``: whether an import of this slot could be opened now; ``max_file_bytes``:
    the platform's bound of all lines together; ``reading``: what stops a slot's partitions from being read."""

    slot_of: Callable[[int], int]
    may_open: Callable[[int], bool]
    max_file_bytes: int
    reading: Callable[[int], Reading]


def keys_of(item: Item) -> set[Hashable]:
    """What of an event is in one import at a time."""
    rows, own = item.rows, item.record.key
    if len(rows) == 1 and own is not None and rows[0].key is not None:
        return {own, rows[0].key}
    keys: set[Hashable] = {row.key for row in rows}
    keys.add(own)
    keys.discard(None)
    return keys


class ImportBatcher(Batcher):
    """In the place of the lane's ``Batcher``: it closes a batch only where a slot is free."""

    def __init__(self, policy: BatchPolicy, dispatch: Callable[[OpenBatch, Cause], None], means: BatchingMeans) -> None:
        super().__init__(policy, dispatch)
        self._means = means
        self._max_bytes = min(policy.max_bytes, means.max_file_bytes)
        self._lines: dict[_Group, Line] = {}
        # Which batch has a key: one that is closed is under way, until its keys are freed.
        self._held: dict[Hashable, GrowingBatch] = {}
        self._freed = 0
        # In the place of the imports that somebody else began.
        self._begun = GrowingBatch(None, 0.0)
        self._begun.is_closed = True
        self._behind = Behind(self._put_free, self._put)
        self._returning = Returning(keys_of, self._behind.add_in_front, self.free)

    def add(self, item: Item, group: Hashable, now: float) -> None:
        """Take a planned event. ``group`` is not asked: the slot and the rows say where it belongs."""
        keys = keys_of(item)
        if not self._behind.keys.isdisjoint(keys) or not self._put(item, keys, now):
            self._behind.add(item, keys)

    def add_all(self, items: Sequence[Item], group_of: Callable[[Operation], Hashable], now: float) -> None:
        """:meth:`add` of each, in the order given."""
        if not self._put_free(items, self._behind.keys, now):
            for item in items:
                self.add(item, None, now)

    def claim(self, item: Item) -> None:
        """The event is in an import already, which somebody else began."""
        for key in keys_of(item):
            self._held.setdefault(key, self._begun)

    def take_back(self, items: Sequence[Item], restore: Restore) -> None:
        """Events of an import of which nothing took effect: in front of what waits for them, with ``go_on``."""
        self._returning.add(items, restore)

    def release(self, key: bytes | None, now: float) -> None:
        """As :meth:`release_all` of one."""
        self.release_all({key}, now)

    def release_all(self, keys: Set[Hashable], now: float) -> None:
        """What had these keys has ended: what waited for it goes into an open batch."""
        self.free(keys)
        while self.go_on(now):
            pass

    def free(self, keys: Collection[Hashable]) -> None:
        """What had these keys has ended; ``go_on`` follows. None is nobody's key."""
        held = self._held
        had = list(map(held.pop, keys, repeat(None)))
        still_open = {batch for batch in set(had) if batch is not None and not batch.is_closed}
        if still_open:  # theirs are not freed
            held.update((key, batch) for key, batch in zip(keys, had, strict=True) if batch in still_open)
        self._freed += len(keys)
        if self._freed > len(held):
            # A table keeps the room that it has grown to, and to compare it with a few keys goes through that room
            # once it has fewer: half a millisecond for each event, behind 50,000 rows.
            self._held, self._freed = dict(held), 0
        self._behind.free(keys)

    def go_on(self, now: float) -> bool:
        """Some of what waited for what is freed goes into an open batch; whether there is more of it."""
        return self._returning.step() or self._behind.look(now)

    def release_items(self, items: Iterable[Item], now: float) -> None:
        """:meth:`release_all` of all their keys."""
        self.release_all({key for item in items for key in keys_of(item)}, now)

    def due(self, now: float) -> float | None:
        """Dispatch what is large or old enough, or cannot grow, and has a free slot; seconds until the next is old
        enough."""
        self.go_on(now)
        ready = sorted((line for line in self._lines.values() if self._cause(line, now)), key=_opened)
        for line in ready:
            cause = self._cause(line, now)
            if cause is not None and self._means.may_open(_slot(line)):
                self._close_import(line, cause, now)
        for slot in {_slot(line) for line in self._lines.values()}:
            if self._means.may_open(slot):
                self._close_standing(slot, now)
        linger_s = self._policy.linger_s
        waits = (line.opened + linger_s - now for line in self._lines.values())
        return min((wait for wait in waits if wait > 0), default=None)

    def crowded(self, partition: int) -> bool:
        """Whether the partition's slot has as much waiting as its next import may hold."""
        slot = self._means.slot_of(partition)
        return any(line.full for line in self._lines.values() if _slot(line) == slot)

    def slots_due(self, now: float) -> set[int]:
        """The slots of batches that are large or old enough, and open still."""
        return {_slot(line) for line in self._lines.values() if self._cause(line, now)}

    # -- what the lane asks of any batcher

    def flush(self) -> None:
        """Nothing: what has no import yet is left to the next owner."""

    @property
    def waiting(self) -> int:
        """How many events wait behind one with a key of theirs."""
        return len(self._behind) + len(self._returning)

    def queues(self) -> Iterable[tuple[bytes, Sequence[tuple[Item, Hashable]]]]:
        """None: nothing of a hot key leaves memory here, for its changes become one row of the next file."""
        return ()

    def queue(self, key: bytes) -> list[Item]:
        """As :meth:`queues`."""
        return []

    def ended_early(self, key: bytes | None) -> None:
        """Nothing waits that could be cut off."""

    def cut(self, key: bytes, keep: int) -> list[Item]:
        """As :meth:`queues`."""
        return []

    def is_waiting(self, item: Item) -> bool:
        """Whether the event waits behind one with a key of its."""
        return self._returning.has(item) or any(one is item for one in self._behind.items())

    def closes_in_s(self, item: Item, now: float) -> float | None:
        """When the open batch that holds the event closes if a slot is free then."""
        for line in self._lines.values():
            if any(one is item for batch in line.batches for one in batch.items):
                return max(0.0, line.opened + self._policy.linger_s - now)
        return None

    def open_until(self) -> Iterable[tuple[float, Sequence[Item]]]:
        """As of any batch; one for which no slot is free closes nobody knows when."""
        for line in self._lines.values():
            until = line.opened + self._policy.linger_s if self._means.may_open(_slot(line)) else inf
            for batch in line.batches:
                yield until, batch.items

    # -- rules

    def _put_free(self, items: Sequence[Item], others: Set[Hashable], now: float) -> bool:
        """Put all of these events, a third of the time of one by one; False, and nothing is put, where a key of theirs
        is another's too. ``others``: the keys of what waits in front of them."""
        keys = self._free_keys(items, others)
        if keys is None:
            return False
        for group, some in self._by_group(items).items():
            sizes = [len(item.rows[0].line) + 1 for item in some]  # as bytes_of each
            for batch, taken in self._line(group, now).take(some, sizes):
                whole = len(taken) == len(items)
                own = keys if whole else {key for item in taken for key in keys_of(item)}
                self._held.update(dict.fromkeys(own, batch))
        return True

    def _by_group(self, items: Sequence[Item]) -> dict[_Group, Sequence[Item]]:
        """Events of one row each; nearly always all are of one group."""
        slot_of, states = self._means.slot_of, [item.partition for item in items]
        own = [item.rows[0].group for item in items]
        if items and states.count(states[0]) == own.count(own[0]) == len(items):
            return {(slot_of(states[0].tp.partition), own[0]): items}
        groups: dict[_Group, list[Item]] = {}
        for item in items:
            groups.setdefault((slot_of(item.partition.tp.partition), item.rows[0].group), []).append(item)
        return {**groups}

    def _free_keys(self, items: Sequence[Item], others: Set[Hashable]) -> set[Hashable] | None:
        """The keys of these events where each has two of its own that nobody else has, as nearly always; else None."""
        rows = [item.rows for item in items]
        if sum(map(len, rows)) != len(rows):
            return None
        keys: set[Hashable] = {row.key for (row,) in rows}
        keys.update([item.record.key for item in items])
        if len(keys) != 2 * len(rows) or None in keys:
            return None
        return keys if self._held.keys().isdisjoint(keys) and others.isdisjoint(keys) else None

    def _line(self, group: _Group, now: float) -> Line:
        """The open batches of a group."""
        line = self._lines.get(group)
        if line is None:
            line = self._lines[group] = Line(group, now, self._policy.max_events, self._max_bytes)
        return line

    def _put(self, item: Item, keys: set[Hashable], now: float) -> bool:
        """Into the open batch where it belongs, unless a key of it sits in another one, or that one is full."""
        group = (self._means.slot_of(item.partition.tp.partition), item.rows[0].group)
        holders = {self._held[key] for key in keys if key in self._held}
        size = bytes_of(item)
        if holders:
            line = self._lines.get(group)
            if line is None or holders != {line.batches[-1]}:
                return False
            if not line.fits(1, size):
                line.batches[-1].is_full = True
                return False
        ((batch, _),) = self._line(group, now).take([item], [size])
        self._held.update(dict.fromkeys(keys, batch))
        return True

    def _cause(self, line: Line, now: float) -> Cause | None:
        if (full := line.full) is not None:
            return full
        return Cause.LINGER if now - line.opened >= self._policy.linger_s else None

    def _close_standing(self, slot: int, now: float) -> None:
        """Dispatch the largest batch of a slot if it waits for nothing that could come."""
        reading = self._means.reading(slot)
        if reading.full_bytes is None and reading.unfinished is None:
            return
        lines = [line for line in self._lines.values() if _slot(line) == slot]
        largest = max(lines, key=_held_bytes)
        waiting = Waiting(
            batch_bytes=largest.held_bytes,
            all_bytes=sum(map(_held_bytes, self._lines.values())),
            slot_events=sum(line.events for line in lines),
        )
        cause = stands_still(waiting, reading)
        if cause is not None:
            self._close_import(largest, cause, now)

    def _close_import(self, line: Line, cause: Cause, now: float) -> None:
        """Dispatch what one import may hold; the rest is the next batch."""
        batch = line.close(now)
        if not line.batches:
            del self._lines[_group(line)]
        self._dispatch(batch, cause)


def bytes_of(item: Item) -> int:
    """What the event's rows take of a file; what stands between two rows is counted as a byte."""
    rows = item.rows
    return len(rows[0].line) + 1 if len(rows) == 1 else sum([len(row.line) + 1 for row in rows])


def _group(line: Line) -> _Group:
    group = line.group
    assert isinstance(group, tuple)
    return group


def _slot(line: Line) -> int:
    return _group(line)[0]


def _opened(line: Line) -> float:
    return line.opened


def _held_bytes(line: Line) -> int:
    return line.held_bytes
