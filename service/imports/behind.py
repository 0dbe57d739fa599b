"""Events that wait behind one with a key of theirs, in the order in which they came.

What an import frees is looked for in slices: 25,000 waiting events at one go take 80 ms. Between two slices each event
is either here or in an open batch, and what comes meanwhile with a key of one that waits comes behind it.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, KeysView, Sequence, Set
from itertools import chain, islice

from service.intake.item import Item

_AT_ONCE = 200
Entry = tuple[Item, set[Hashable]]
# Whether these events could be put into open batches, all of them or none, where none of their keys is among the given
# ones; and whether one could be.
PutFree = Callable[[Sequence[Item], Set[Hashable], float], bool]
Put = Callable[[Item, set[Hashable], float], bool]


class Behind:
    """Pure but for the two calls that put events into open batches."""

    def __init__(self, put_free: PutFree, put: Put) -> None:
        self._put_free = put_free
        self._put = put
        self._queue: list[Entry] = []
        # How many of those that wait have each key.
        self._counts: dict[Hashable, int] = {}
        # What was freed, of which the queue is looked through up to ``_at``; what of that goes on to wait, and its
        # keys; and what was freed meanwhile, for which those are looked through again.
        self._freed: set[Hashable] = set()
        self._at = 0
        self._kept: list[Entry] = []
        self._kept_keys: set[Hashable] = set()
        self._freed_meanwhile: set[Hashable] = set()

    def __len__(self) -> int:
        return len(self._kept) + len(self._queue) - self._at

    def items(self) -> Iterator[Item]:
        """In their order."""
        return (item for item, _ in chain(self._kept, islice(self._queue, self._at, None)))

    @property
    def keys(self) -> KeysView[Hashable]:
        """Of all that wait."""
        return self._counts.keys()

    def add(self, item: Item, keys: set[Hashable]) -> None:
        """One more, behind the others."""
        self._queue.append((item, keys))
        self._count(keys)

    def add_in_front(self, entries: Sequence[Entry]) -> None:
        """In front of all others."""
        for _, keys in entries:
            self._count(keys)
        if self._at:
            self._kept[:0] = entries
            self._kept_keys.update(*[keys for _, keys in entries])
        else:
            self._queue[:0] = entries

    def free(self, keys: Iterable[Hashable]) -> None:
        """What had these keys has ended: ``look`` has something to do where somebody waits for one."""
        if not self._counts:
            return
        waited_for = self._counts.keys() & keys
        self._freed |= waited_for
        if self._at:
            self._freed_meanwhile |= waited_for

    def look(self, now: float) -> bool:
        """Put some of what may go on into open batches; whether there is more to look through."""
        if not self._freed:
            return False
        some = self._queue[self._at : self._at + _AT_ONCE]
        self._at += len(some)
        if self._put_free([item for item, _ in some], self._kept_keys, now):
            for _, keys in some:
                self._went(keys)
        else:
            self._look_at_each(some, now)
        if self._at >= len(self._queue):
            self._queue, self._kept, self._at = self._kept, [], 0
            self._kept_keys = set()
            self._freed, self._freed_meanwhile = self._freed_meanwhile, set()
        return bool(self._freed)

    def _look_at_each(self, some: Iterable[Entry], now: float) -> None:
        """Each that waits for one of the freed keys, unless it waits for another too: it is kept then."""
        for item, keys in some:
            stays = keys.isdisjoint(self._freed) or not self._kept_keys.isdisjoint(keys)
            if stays or not self._put(item, keys, now):
                self._kept.append((item, keys))
                self._kept_keys |= keys
            else:
                self._went(keys)

    def _went(self, keys: set[Hashable]) -> None:
        """One with these keys waits no longer, and whoever waits behind it may go with it."""
        counts = self._counts
        for key in keys:
            if counts[key] == 1:
                del counts[key]
            else:
                counts[key] -= 1
        self._freed |= keys

    def _count(self, keys: Iterable[Hashable]) -> None:
        counts = self._counts
        for key in keys:
            counts[key] = counts.get(key, 0) + 1
