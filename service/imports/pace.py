"""PURE: the pace of creates, where a platform allows an account only so many imports a minute.

Nobody counts for all processes. But a slot is one process's at a time, and all slots of an account are known: each may
have its part of the minute, whole creates of it, evenly spaced. What one create lies behind another of its slot is
counted from the end of the first to the start of the second, so that at the platform they lie no closer; and who takes
a slot over, knowing nothing of the creates before, waits as long as if the last one had ended just now. So no minute,
wherever it begins, sees more than are allowed.

Rejected: to share what is left of the minute out of the journal. It forgets an import that has ended.
"""

from collections.abc import Collection

MINUTE_S = 60.0


def create_every_s(per_minute: int, slots: int) -> float:
    """How far the creates of one of an account's slots have to lie apart. With more slots than creates a minute they
    are apart as on average, and a minute can see more: the platform refuses those."""
    each = per_minute // slots
    return MINUTE_S / each if each else MINUTE_S * slots / per_minute


class CreatePace:
    """When the slots of this process may create next. Times are monotonic seconds."""

    def __init__(self, every_s: float | None) -> None:
        """``every_s``: between two creates of one slot; None: at will."""
        self._every_s = every_s or 0.0
        self._owned: frozenset[int] = frozenset()
        self._generation: int | None = None
        self._taken_over_at = 0.0
        self._next: dict[int, float] = {}

    def begin(self, owned: Collection[int], generation: int, now: float) -> None:
        """An assignment begins. What was ours in the generation before was nobody else's since."""
        kept = self._owned if self._generation == generation - 1 else frozenset()
        self._next = {slot: self._next[slot] if slot in kept else now + self._every_s for slot in owned}
        self._owned, self._generation, self._taken_over_at = frozenset(owned), generation, now

    def ended(self, slot: int, now: float) -> None:
        """A create of the slot has ended, by an answer or not."""
        self._next[slot] = now + self._every_s

    def wait_s(self, slot: int, now: float) -> float:
        """How long the slot's next create has to wait; 0: it may be made now."""
        return max(0.0, self._next.get(slot, self._taken_over_at + self._every_s) - now)
