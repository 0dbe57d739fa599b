"""Open batches of imports: what one import may hold, and what waits behind that for the next.

All is kept as events come, so that to close a batch of 50,000 takes no time: what it is called and what it holds is
known, and which keys are under way is told by the batch that has them, which is closed then.
"""

from collections import deque
from collections.abc import Hashable, Mapping, Sequence

from service.batching.batcher import Cause, OpenBatch
from service.intake.assignment import PartitionState
from service.intake.item import Item


class GrowingBatch(OpenBatch):
    """What one import may hold. ``held_bytes``: what its events take of memory; ``is_full``: there was one that did not
    fit any more; ``is_closed``: it is under way."""

    __slots__ = ("_operations", "_starts", "held_bytes", "is_closed", "is_full")

    def __init__(self, group: Hashable, opened: float) -> None:
        super().__init__(group, opened)
        self.held_bytes = 0
        self.is_full = self.is_closed = False
        self._starts: dict[PartitionState, int] = {}
        self._operations = 0

    def starts(self) -> Mapping[PartitionState, int]:
        """As of any batch."""
        return self._starts

    def operations(self) -> int:
        """As of any batch."""
        return self._operations

    def take(self, items: Sequence[Item], size: int) -> None:
        """Events that fit; ``size``: what they take of a file."""
        self.items += items
        self.bytes += size
        self.held_bytes += sum([item.size for item in items])
        self._operations += sum([len(item.operations) for item in items])
        starts = self._starts
        for item in items:
            first = starts.get(item.partition)
            if first is None or item.offset < first:
                starts[item.partition] = item.offset


class Line:
    """The open batches of a group: the first is what the next import holds, and the last takes what comes."""

    __slots__ = ("_max_bytes", "_max_events", "batches", "group")

    def __init__(self, group: Hashable, opened: float, max_events: int, max_bytes: int) -> None:
        self.group = group
        self.batches = deque([GrowingBatch(group, opened)])
        self._max_events = max_events
        self._max_bytes = max_bytes

    @property
    def opened(self) -> float:
        """When the first of it came, or the import in front was closed."""
        return self.batches[0].opened

    @property
    def events(self) -> int:
        """How many wait in it."""
        return sum(len(batch.items) for batch in self.batches)

    @property
    def held_bytes(self) -> int:
        """What they take of memory."""
        return sum(batch.held_bytes for batch in self.batches)

    @property
    def full(self) -> Cause | None:
        """By what the next import is full."""
        if self.events >= self._max_events:
            return Cause.SIZE
        first = self.batches[0]
        return Cause.BYTES if first.is_full or first.bytes >= self._max_bytes else None

    def fits(self, events: int, size: int) -> bool:
        """Whether the last batch has room for so many more; the first event fits however large it is. Behind one that
        does not fit none does."""
        last = self.batches[-1]
        if not last.items:
            return events == 1 or (events <= self._max_events and size <= self._max_bytes)
        return (
            not last.is_full and len(last.items) + events <= self._max_events and last.bytes + size <= self._max_bytes
        )

    def take(self, items: Sequence[Item], sizes: Sequence[int]) -> list[tuple[GrowingBatch, Sequence[Item]]]:
        """Events and what each takes of a file; which batches have them now."""
        if self.fits(len(items), size := sum(sizes)):
            self.batches[-1].take(items, size)
            return [(self.batches[-1], items)]
        taken: list[tuple[GrowingBatch, Sequence[Item]]] = []
        for item, own in zip(items, sizes, strict=True):
            if not self.fits(1, own):
                self.batches[-1].is_full = True
                self.batches.append(GrowingBatch(self.group, self.opened))
            self.batches[-1].take([item], own)
            taken.append((self.batches[-1], [item]))
        return taken

    def close(self, now: float) -> GrowingBatch:
        """What the next import holds; the linger of what is behind it begins."""
        batch = self.batches.popleft()
        batch.is_closed = True
        if self.batches:
            self.batches[0].opened = now
        return batch
