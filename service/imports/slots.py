"""PURE: slots. One is the right of one process to have one import open on an account.

A lane has S of them over all replicas; slot s is of whoever owns the partitions n with ``n mod S == s`` of the lane's
topics, and no two members can own them at once: the group coordinator and the journal's fence see to that. A slot is
taken while one of its partitions names an open import in the journal, or one that may be open.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec


class SlotShare(msgspec.Struct, frozen=True):
    """The slots of one import lane: as its file says, None where it leaves that open."""

    lane: str
    wanted: int | None


def shared_slots(lanes: Sequence[SlotShare], most: int) -> dict[str, int]:
    """Each lane's slots of an account that lets ``most`` imports be open. Lanes that say no number share what the
    others leave, rounded down; 0 where nothing is left. Whether the sum fits says :func:`slots_problem`."""
    given = sum(lane.wanted for lane in lanes if lane.wanted is not None)
    sharing = sum(lane.wanted is None for lane in lanes)
    each = max(0, most - given) // sharing if sharing else 0
    return {lane.lane: each if lane.wanted is None else lane.wanted for lane in lanes}


def slots_problem(lanes: Sequence[SlotShare], most: int) -> str | None:
    """Why these lanes cannot be on one account; None if they can."""
    shares = shared_slots(lanes, most)
    total = sum(shares.values())
    if total > most:
        return f"the import lanes of the account have {total} slots together; max_open_imports is {most}"
    empty = [name for name, count in shares.items() if not count]
    if empty:
        return f"max_open_imports is {most}, shared by {len(lanes)} import lanes: none is left for {', '.join(empty)}"
    return None


def owned_slots(assigned: Collection[tuple[str, int]], topics: Mapping[str, int], slots: int) -> frozenset[int]:
    """The slots of a member that was assigned these (topic, partition)s; ``topics`` are the partition counts on which
    the assignment stands.

    Who has a slot is told by one partition of it: that of the slot's own number, of the topic that comes first by name
    among those that have it. So no slot has two owners, even where a rollout has torn a group apart.
    """
    own = set(assigned)
    found = set()
    for slot in range(slots):
        judges = sorted(topic for topic, count in topics.items() if count > slot)
        if judges and (judges[0], slot) in own:
            found.add(slot)
    return frozenset(found)


def is_crowded(entries: Iterable[tuple[int, str]], slots: int) -> bool:
    """Whether any slot has two imports; ``entries``: the journal's partition and the import's id of each that is open,
    of all processes. Then ``slots`` were changed while they were open, and while it is so, a slot that nothing has
    taken is no right to open one more."""
    by_slot: dict[int, set[str]] = {}
    for partition, import_id in entries:
        by_slot.setdefault(partition % slots, set()).add(import_id)
    return any(len(ids) > 1 for ids in by_slot.values())


class SlotTable:
    """The slots that this process has, and what has taken them."""

    def __init__(self) -> None:
        self.count = 0
        self.owned: frozenset[int] = frozenset()
        self._taken: dict[int, set[str]] = {}

    def begin(self, count: int, owned: frozenset[int]) -> None:
        """An assignment begins. Nothing of the one before holds: what is open is read from the journal."""
        self.count = count
        self.owned = owned
        self._taken.clear()

    def of_partition(self, partition: int) -> int:
        """The slot that a partition belongs to."""
        return partition % self.count

    def take(self, slot: int, import_id: str) -> None:
        """An import of this slot is open, or may be. Also one of a slot that somebody else has."""
        self._taken.setdefault(slot, set()).add(import_id)

    def give_back(self, import_id: str) -> None:
        """The import is open no more. One that is not known changes nothing."""
        for slot, ids in list(self._taken.items()):
            ids.discard(import_id)
            if not ids:
                del self._taken[slot]

    def is_free(self, slot: int) -> bool:
        """Whether an import of this slot may be opened by us now."""
        return slot in self.owned and slot not in self._taken

    def taken_by(self, slot: int) -> frozenset[str]:
        """What has taken a slot."""
        return frozenset(self._taken.get(slot, ()))

    @property
    def free(self) -> int:
        """How many of ours are."""
        return sum(self.is_free(slot) for slot in self.owned)
