"""Key-ordered micro-batches.

A key is in at most one batch at a time. Records of a key whose batch is under way wait here, in the order read, and
go into the next batch together; other keys never wait for them. Linger counts from the first record in a batch.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Set
from enum import StrEnum

import msgspec

from contracts.results import Operation
from service.intake.assignment import PartitionState
from service.intake.item import Item


class BatchPolicy(msgspec.Struct, frozen=True):
    """When a batch is closed: by whichever is reached first."""

    max_events: int
    max_bytes: int
    linger_s: float


class Cause(StrEnum):
    """Why a batch was closed; the label of ``fanline_batch_events``."""

    SIZE = "size"
    BYTES = "bytes"
    LINGER = "linger"
    DRAIN = "drain"


class OpenBatch:
    """Records that will be delivered together. ``opened`` is when its first record came, on the caller's clock."""

    __slots__ = ("bytes", "group", "items", "opened")

    def __init__(self, group: Hashable, opened: float) -> None:
        self.group = group
        self.opened = opened
        self.items: list[Item] = []
        self.bytes = 0

    def starts(self) -> Mapping[PartitionState, int]:
        """The lowest offset of each partition that it has records of."""
        # Records of a key that waited come behind newer ones of other keys: the first is not always the lowest.
        starts: dict[PartitionState, int] = {}
        for item in self.items:
            state = item.partition
            first = starts.get(state)
            if first is None or item.offset < first:
                starts[state] = item.offset
        return starts

    def operations(self) -> int:
        """How many its records have."""
        return sum([len(item.operations) for item in self.items])


# The records of a key that wait, with the group of the batch that each belongs into.
_Waiting = deque[tuple[Item, Hashable]]


class Batcher:
    """Collects planned records into batches; hands closed ones to ``dispatch``. Pure but for that call.

    Invariant: per key, records are dispatched in the order added, and none while an earlier one is under way.
    """

    def __init__(self, policy: BatchPolicy, dispatch: Callable[[OpenBatch, Cause], None]) -> None:
        self._policy = policy
        self._dispatch = dispatch
        self._open: dict[Hashable, OpenBatch] = {}
        # A key's place: the group of the open batch that holds it, or among those whose batch is under way.
        self._claimed: dict[bytes, Hashable] = {}
        self._under_way: set[bytes] = set()
        # Of the keys that are under way those that have a queue; none of them is empty.
        self._waiting: dict[bytes, _Waiting] = {}
        # Of a key, the last that waited when a later record of it ended without a call.
        self._pinned: dict[bytes, Item] = {}

    def add(self, item: Item, group: Hashable, now: float) -> None:
        """Take a planned record; may dispatch a batch that it fills."""
        key = item.record.key
        if key is not None:
            if key in self._under_way:
                waiting = self._waiting.get(key)
                if waiting is None:
                    self._waiting[key] = deque([(item, group)])
                else:
                    waiting.append((item, group))
                return
            claimed = self._claimed.setdefault(key, group)
            if claimed != group:
                # An earlier record of the key sits in another open batch: that one goes first, now.
                self._close(self._open[claimed], Cause.SIZE)
                # Under way by now, or, in a dry run, at its end already.
                self.add(item, group, now)
                return
        batch = self._open.get(group)
        if batch is None:
            batch = self._open[group] = OpenBatch(group, now)
        items, policy = batch.items, self._policy
        items.append(item)
        batch.bytes += item.bytes
        if len(items) >= policy.max_events:
            self._close(batch, Cause.SIZE)
        elif batch.bytes >= policy.max_bytes:
            self._close(batch, Cause.BYTES)

    def add_all(self, items: Sequence[Item], group_of: Callable[[Operation], Hashable], now: float) -> None:
        """:meth:`add` of each, in the order given; ``group_of`` says of an item's first operation where it belongs.

        What nearly always comes is taken here, a third quicker; everything else is :meth:`add`'s."""
        under_way, claimed, opened, policy = self._under_way, self._claimed, self._open, self._policy
        for item in items:
            group, key = group_of(item.operations[0]), item.record.key
            batch = opened.get(group)
            # Nobody else's, and new to this batch or in it.
            if batch is None or key is None or key in under_way or claimed.setdefault(key, group) != group:
                self.add(item, group, now)
                continue
            batch.items.append(item)
            batch.bytes += item.bytes
            if len(batch.items) >= policy.max_events or batch.bytes >= policy.max_bytes:
                self._close(batch, Cause.SIZE if len(batch.items) >= policy.max_events else Cause.BYTES)

    def release(self, key: bytes | None, now: float) -> None:
        """The key's records of a batch have all ended; what waited goes into the next batch."""
        if key is None:
            return
        self._under_way.remove(key)
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            self._pinned.pop(key, None)
            return
        while waiting:
            item, group = waiting.popleft()
            self.add(item, group, now)
            if key in self._under_way:
                # The batch was filled and dispatched: the rest waits on, in front of nobody newer.
                if waiting:
                    self._waiting.setdefault(key, deque()).extend(waiting)
                return

    def release_all(self, keys: Set[bytes | None], now: float) -> None:
        """:meth:`release` of each."""
        busy = self._waiting.keys() & keys
        if self._pinned:
            busy |= self._pinned.keys() & keys
        # Of nearly all nothing waits.
        self._under_way -= keys - busy if busy else keys
        for key in busy:
            self.release(key, now)

    def release_items(self, items: Iterable[Item], now: float) -> None:
        """:meth:`release_all` of their keys: nothing of them is under way any more."""
        self.release_all({item.record.key for item in items}, now)

    def crowded(self, partition: int) -> bool:
        """Whether reading of a partition has to wait for its batches: here it never has."""
        return False

    def due(self, now: float) -> float | None:
        """Dispatch what has lingered long enough; seconds until the next batch has, None if none is open."""
        linger = self._policy.linger_s
        for batch in [batch for batch in self._open.values() if now - batch.opened >= linger]:
            self._close(batch, Cause.LINGER)
        return min((batch.opened + linger - now for batch in self._open.values()), default=None)

    def flush(self) -> None:
        """Dispatch every open batch."""
        for batch in list(self._open.values()):
            self._close(batch, Cause.DRAIN)

    @property
    def waiting(self) -> int:
        """How many records wait for an earlier one of their key."""
        return sum(len(queue) for queue in self._waiting.values())

    def queues(self) -> Iterable[tuple[bytes, Sequence[tuple[Item, Hashable]]]]:
        """The records that wait for an earlier one of their key, by key, in the order read."""
        return self._waiting.items()

    def queue(self, key: bytes) -> list[Item]:
        """The records of one key that wait."""
        return [item for item, _ in self._waiting.get(key, ())]

    def ended_early(self, key: bytes | None) -> None:
        """A record of the key ended at its planning. Those in front of it are not cut off: they would come again as all
        that lies behind the first of them, and it has its result."""
        if key is not None and (queue := self._waiting.get(key)):
            self._pinned[key] = queue[-1][0]

    def cut(self, key: bytes, keep: int) -> list[Item]:
        """Take all but the first ``keep`` out of a key's queue, or fewer; they will come again or never."""
        queue = self._waiting.get(key, deque())
        pinned = self._pinned.get(key)
        places = [place for place, (item, _) in enumerate(queue) if item is pinned]
        keep = min(len(queue), max([keep, *(place + 1 for place in places)]))
        dropped = [queue.pop()[0] for _ in range(len(queue) - keep)]
        if not queue:
            self._waiting.pop(key, None)
        return dropped[::-1]

    def is_waiting(self, item: Item) -> bool:
        """Whether the record waits for an earlier one of its key."""
        key = item.record.key
        return key is not None and any(entry is item for entry, _ in self._waiting.get(key, ()))

    def closes_in_s(self, item: Item, now: float) -> float | None:
        """When the open batch that holds the record closes at the latest; None if it is in none."""
        for batch in self._open.values():
            if any(entry is item for entry in batch.items):
                return batch.opened + self._policy.linger_s - now
        return None

    def open_until(self) -> Iterable[tuple[float, Sequence[Item]]]:
        """When each open batch closes at the latest, on the caller's clock, and its records."""
        return ((batch.opened + self._policy.linger_s, batch.items) for batch in self._open.values())

    def _close(self, batch: OpenBatch, cause: Cause) -> None:
        del self._open[batch.group]
        if self._open:
            keys = {item.record.key for item in batch.items}
            for key in keys:
                if key is not None:
                    del self._claimed[key]
                    self._under_way.add(key)
        else:
            # Whatever is claimed is this batch's.
            self._under_way.update(self._claimed)
            self._claimed.clear()
        self._dispatch(batch, cause)
