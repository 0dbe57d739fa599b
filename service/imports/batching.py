"""Rows collected into batches that become files: while no slot is free the next batch grows, so that load makes imports
larger and not more.

Beside its record's key an event has the keys of its rows: any of them is in at most one import at a time. An event one
of whose keys is under way, or sits in another open batch, or waits already, waits here behind it.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence, Set
from math import inf

import msgspec

from contracts.results import Operation
from service.batching.batcher import Batcher, BatchPolicy, Cause, OpenBatch
from service.imports.growth import Reading, Waiting, stands_still
from service.intake.item import Item

_PUT_AT_ONCE = 200
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


class GrowingBatch(OpenBatch):
    """An open batch: the first ``fitting`` of its events are what one import may hold. ``keys`` are theirs,
    ``rest_keys`` those of the events behind, ``fitting_bytes`` what they take of a file; ``held_bytes`` what all
    take of memory. All is kept as events come, so that to close a batch of 50,000 takes no time."""

    __slots__ = ("fitting", "fitting_bytes", "held_bytes", "keys", "rest_keys")

    def __init__(self, group: Hashable, opened: float) -> None:
        super().__init__(group, opened)
        self.fitting = self.fitting_bytes = self.held_bytes = 0
        self.keys: set[Hashable] = set()
        self.rest_keys: set[Hashable] = set()

    def holds(self, keys: Set[Hashable]) -> bool:
        """Whether each of the keys is one of ours."""
        return keys <= self.keys or all(key in self.keys or key in self.rest_keys for key in keys)

    def take(self, item: Item, keys: set[Hashable], max_events: int, max_bytes: int) -> None:
        """One more event; the first one fits however large it is."""
        size, count = bytes_of(item), len(self.items)
        fits = self.fitting == count and count < max_events and (not count or self.bytes + size <= max_bytes)
        self.items.append(item)
        self.bytes += size
        self.held_bytes += item.size
        if fits:
            self.fitting, self.fitting_bytes = count + 1, self.bytes
            self.keys |= keys
        else:
            self.rest_keys |= keys

    def take_all(self, items: Sequence[Item], keys: set[Hashable], max_events: int, max_bytes: int) -> None:
        """As :meth:`take` of each; ``keys`` are those of all."""
        count, size = len(self.items), sum(map(bytes_of, items))
        # Behind the first that does not fit none does.
        if count + len(items) > max_events or self.bytes + size > max_bytes:
            for item in items:
                self.take(item, keys_of(item), max_events, max_bytes)
            return
        self.items += items
        self.bytes += size
        self.held_bytes += sum([item.size for item in items])
        self.fitting, self.fitting_bytes = len(self.items), self.bytes
        self.keys |= keys

    def cut(self) -> list[Item]:
        """Keep what fits; the events behind it."""
        rest = self.items[self.fitting :]
        if rest:
            del self.items[self.fitting :]
            self.bytes = self.fitting_bytes
            self.held_bytes -= sum([item.size for item in rest])
        return rest


class ImportBatcher(Batcher):
    """In the place of the lane's ``Batcher``: it closes a batch only where a slot is free."""

    def __init__(self, policy: BatchPolicy, dispatch: Callable[[OpenBatch, Cause], None], means: BatchingMeans) -> None:
        super().__init__(policy, dispatch)
        self._means = means
        self._max_bytes = min(policy.max_bytes, means.max_file_bytes)
        self._batches: dict[_Group, GrowingBatch] = {}
        # The keys of all open batches.
        self._placed: set[Hashable] = set()
        self._busy: set[Hashable] = set()
        self._queue: list[tuple[Item, set[Hashable]]] = []
        self._queued: Counter[Hashable] = Counter()

    def add(self, item: Item, group: Hashable, now: float) -> None:
        """Take a planned event. ``group`` is not asked: the slot and the rows say where it belongs."""
        keys = keys_of(item)
        if (
            not self._queued.keys().isdisjoint(keys)
            or not self._busy.isdisjoint(keys)
            or not self._put(item, keys, now)
        ):
            self._queue.append((item, keys))
            self._queued.update(keys)

    def add_all(self, items: Sequence[Item], group_of: Callable[[Operation], Hashable], now: float) -> None:
        """:meth:`add` of each, in the order given."""
        if not self._put_free(items, now):
            for item in items:
                self.add(item, None, now)

    def claim(self, item: Item) -> None:
        """The event is in an import already, which somebody else began."""
        self._busy |= keys_of(item)

    def take_back(self, items: Sequence[Item], now: float) -> None:
        """Events of an import of which nothing took effect: in front of what waits for them."""
        own = [(item, keys_of(item)) for item in items]
        self._queue[:0] = own
        for _, keys in own:
            self._queued.update(keys)
        self.release_all({key for _, keys in own for key in keys}, now)

    def release(self, key: bytes | None, now: float) -> None:
        """As :meth:`release_all` of one."""
        self.release_all({key}, now)

    def release_all(self, keys: Set[Hashable], now: float) -> None:
        """What had these keys has ended: what waited for it goes into an open batch."""
        self._busy = _without(self._busy, keys)
        if self._queued.keys().isdisjoint(keys):
            return
        freed, queue = set(keys), self._queue
        self._queue, self._queued = [], Counter()
        for start in range(0, len(queue), _PUT_AT_ONCE):
            some = queue[start : start + _PUT_AT_ONCE]
            if self._put_free([item for item, _ in some], now):
                freed.update(*[own for _, own in some])
            else:
                self._put_each(some, freed, now)

    def _put_each(self, waiting: Iterable[tuple[Item, set[Hashable]]], freed: set[Hashable], now: float) -> None:
        """Put what waited for one of the keys that are ``freed``, unless it waits for another too: it is kept then."""
        for item, own in waiting:
            held = own.isdisjoint(freed) or not self._busy.isdisjoint(own) or not self._queued.keys().isdisjoint(own)
            if held or not self._put(item, own, now):
                self._queue.append((item, own))
                self._queued.update(own)
            else:
                freed |= own

    def release_items(self, items: Iterable[Item], now: float) -> None:
        """:meth:`release_all` of all their keys."""
        self.release_all({key for item in items for key in keys_of(item)}, now)

    def due(self, now: float) -> float | None:
        """Dispatch what is large or old enough, or cannot grow, and has a free slot; seconds until the next is old
        enough."""
        ready = sorted((batch for batch in self._batches.values() if self._cause(batch, now)), key=_opened)
        for batch in ready:
            cause = self._cause(batch, now)
            if cause is not None and self._means.may_open(_slot(batch)):
                self._close_import(batch, cause, now)
        for slot in {_slot(batch) for batch in self._batches.values()}:
            if self._means.may_open(slot):
                self._close_standing(slot, now)
        linger_s = self._policy.linger_s
        waits = (batch.opened + linger_s - now for batch in self._batches.values())
        return min((wait for wait in waits if wait > 0), default=None)

    def crowded(self, partition: int) -> bool:
        """Whether the partition's slot has as much waiting as its next import may hold."""
        slot = self._means.slot_of(partition)
        return any(self._is_full(batch) for batch in self._batches.values() if _slot(batch) == slot)

    def slots_due(self, now: float) -> set[int]:
        """The slots of batches that are large or old enough, and open still."""
        return {_slot(batch) for batch in self._batches.values() if self._cause(batch, now)}

    # -- what the lane asks of any batcher

    def flush(self) -> None:
        """Nothing: what has no import yet is left to the next owner."""

    @property
    def waiting(self) -> int:
        """How many events wait behind one with a key of theirs."""
        return len(self._queue)

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
        return any(one is item for one, _ in self._queue)

    def closes_in_s(self, item: Item, now: float) -> float | None:
        """When the open batch that holds the event closes if a slot is free then."""
        for batch in self._batches.values():
            if any(one is item for one in batch.items):
                return max(0.0, batch.opened + self._policy.linger_s - now)
        return None

    def open_until(self) -> Iterable[tuple[float, Sequence[Item]]]:
        """As of any batch; one for which no slot is free closes nobody knows when."""
        for batch in self._batches.values():
            free = self._means.may_open(_slot(batch))
            yield (batch.opened + self._policy.linger_s if free else inf), batch.items

    # -- rules

    def _put_free(self, items: Sequence[Item], now: float) -> bool:
        """Put all of these events, a third of the time of one by one; False, and nothing is put, where a key of theirs
        is another's too."""
        keys = self._free_keys(items)
        if keys is None:
            return False
        groups: dict[_Group, list[Item]] = {}
        slot_of = self._means.slot_of
        for item in items:
            groups.setdefault((slot_of(item.partition.tp.partition), item.rows[0].group), []).append(item)
        for group, some in groups.items():
            own = keys if len(groups) == 1 else {key for item in some for key in keys_of(item)}
            self._batch(group, now).take_all(some, own, self._policy.max_events, self._max_bytes)
        self._placed |= keys
        return True

    def _free_keys(self, items: Sequence[Item]) -> set[Hashable] | None:
        """The keys of these events where each has two of its own that nobody else has, as nearly always; else None."""
        rows = [item.rows for item in items]
        if sum(map(len, rows)) != len(rows):
            return None
        keys: set[Hashable] = {row.key for (row,) in rows}
        keys.update([item.record.key for item in items])
        if len(keys) != 2 * len(rows) or None in keys:
            return None
        free = keys.isdisjoint(self._placed) and keys.isdisjoint(self._busy) and self._queued.keys().isdisjoint(keys)
        return keys if free else None

    def _batch(self, group: _Group, now: float) -> GrowingBatch:
        """The open batch of a group."""
        batch = self._batches.get(group)
        if batch is None:
            batch = self._batches[group] = GrowingBatch(group, now)
        return batch

    def _put(self, item: Item, keys: set[Hashable], now: float) -> bool:
        """Into the open batch where it belongs, unless a key of it sits in another one."""
        group = (self._means.slot_of(item.partition.tp.partition), item.rows[0].group)
        batch = self._batches.get(group)
        if not self._placed.isdisjoint(keys) and (batch is None or not batch.holds(keys & self._placed)):
            return False
        self._batch(group, now).take(item, keys, self._policy.max_events, self._max_bytes)
        self._placed |= keys
        return True

    def _cause(self, batch: OpenBatch, now: float) -> Cause | None:
        if len(batch.items) >= self._policy.max_events:
            return Cause.SIZE
        if batch.bytes >= self._max_bytes:
            return Cause.BYTES
        return Cause.LINGER if now - batch.opened >= self._policy.linger_s else None

    def _is_full(self, batch: OpenBatch) -> bool:
        return len(batch.items) >= self._policy.max_events or batch.bytes >= self._max_bytes

    def _close_standing(self, slot: int, now: float) -> None:
        """Dispatch the largest batch of a slot if it waits for nothing that could come."""
        reading = self._means.reading(slot)
        if reading.full_bytes is None and reading.unfinished is None:
            return
        batches = [batch for batch in self._batches.values() if _slot(batch) == slot]
        largest = max(batches, key=_held_bytes)
        waiting = Waiting(
            batch_bytes=largest.held_bytes,
            all_bytes=sum(map(_held_bytes, self._batches.values())),
            slot_events=sum(len(batch.items) for batch in batches),
        )
        cause = stands_still(waiting, reading)
        if cause is not None:
            self._close_import(largest, cause, now)

    def _close_import(self, batch: GrowingBatch, cause: Cause, now: float) -> None:
        """Dispatch what one import may hold; the rest opens the next batch."""
        rest = batch.cut()
        del self._batches[_group(batch)]
        if self._batches:
            self._placed = _without(self._placed, batch.keys | batch.rest_keys if batch.rest_keys else batch.keys)
        else:
            # Whatever is placed is this batch's.
            self._placed = set()
        if self._busy:
            self._busy |= batch.keys
        else:
            # A closed batch needs its keys no longer: those of 50,000 rows are not copied.
            self._busy = batch.keys
        self._put_rest(rest, now)
        self._dispatch(batch, cause)

    def _put_rest(self, rest: Sequence[Item], now: float) -> None:
        """What a batch held beyond one import: in front of whatever waits, which came later."""
        back: list[tuple[Item, set[Hashable]]] = []
        held: set[Hashable] = set()
        for start in range(0, len(rest), _PUT_AT_ONCE):
            some = rest[start : start + _PUT_AT_ONCE]
            if not back and self._put_free(some, now):
                continue
            for item in some:
                keys = keys_of(item)
                if not held.isdisjoint(keys) or not self._busy.isdisjoint(keys) or not self._put(item, keys, now):
                    back.append((item, keys))
                    held |= keys
        self._queue[:0] = back
        for _, keys in back:
            self._queued.update(keys)


def _without(found: set[Hashable], keys: Set[Hashable]) -> set[Hashable]:
    """``found``, which is changed, without ``keys``. A set keeps the room that it has grown to, and to compare it with
    a few keys goes through that room once it has fewer: half a millisecond for each event, behind 50,000 rows."""
    found -= keys
    return set(found) if len(found) < len(keys) else found


def bytes_of(item: Item) -> int:
    """What the event's rows take of a file; what stands between two rows is counted as a byte."""
    rows = item.rows
    return len(rows[0].line) + 1 if len(rows) == 1 else sum([len(row.line) + 1 for row in rows])


def _group(batch: OpenBatch) -> _Group:
    group = batch.group
    assert isinstance(group, tuple)
    return group


def _slot(batch: OpenBatch) -> int:
    return _group(batch)[0]


def _opened(batch: OpenBatch) -> float:
    return batch.opened


def _held_bytes(batch: GrowingBatch) -> int:
    return batch.held_bytes
