"""Events of imports of which nothing took effect, on their way back to where they would be without those.

In slices, from the last event to the first, each of which goes in front of all that waits. What comes meanwhile with a
key of theirs waits: for the key, which is under way until its event is here, or behind that event. None goes on before
all are back, or one could pass by an earlier event with its key.
"""

from collections.abc import Callable, Hashable, Sequence, Set

from service.imports.behind import Entry
from service.intake.item import Item

_AT_ONCE = 200
# Makes the event what it was before its import; whether it is to be delivered then.
Restore = Callable[[Item], bool]


class Returning:
    """Pure but for the calls that it was given."""

    def __init__(
        self,
        keys_of: Callable[[Item], set[Hashable]],
        add_in_front: Callable[[Sequence[Entry]], None],
        free: Callable[[Set[Hashable]], None],
    ) -> None:
        self._keys_of = keys_of
        self._add_in_front = add_in_front
        self._free = free
        self._coming: list[tuple[list[Item], Restore]] = []

    def __len__(self) -> int:
        return sum(len(items) for items, _ in self._coming)

    def has(self, item: Item) -> bool:
        """Whether the event is on its way."""
        return any(one is item for items, _ in self._coming for one in items)

    def add(self, items: Sequence[Item], restore: Restore) -> None:
        """Events of one import, in their order."""
        self._coming.append((list(items), restore))

    def step(self) -> bool:
        """Go on by a slice; False where there is none."""
        if not self._coming:
            return False
        items, restore = self._coming[-1]
        some = items[-_AT_ONCE:]
        del items[-_AT_ONCE:]
        if not items:
            self._coming.pop()
        entries = [(item, self._keys_of(item)) for item in some if restore(item)]
        self._add_in_front(entries)
        self._free({key for _, keys in entries for key in keys})
        return True
