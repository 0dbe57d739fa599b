"""PURE: the pace of creates, where a platform allows an account only so many imports a minute.

Nobody counts for all processes. But a slot is one process's at a time, and all slots of an account are known: each may
have its part of the minute, whole creates of it, evenly spaced. What one create lies behind another of its slot is
counted from the end of the first to the start of the second, so that at the platform they lie no closer; and who takes
a slot over, knowing nothing of the creates before, waits as long as if the last one had ended just now. So no minute,
wherever it begins, sees more than are allowed.

Where an account has more slots than a minute has creates, a slot has no whole one, and however far apart its own lie,
all slots together could begin theirs in one minute. Then they take turns, by the clock: one slot may begin a create in
each turn, and a turn is so long that a minute never touches more of them than creates are allowed, however late these
reach the platform and however far the clocks are apart.

Rejected: to share what is left of the minute out of the journal. It forgets an import that has ended.
"""

from collections.abc import Collection
from typing import NamedTuple, Protocol

from service.clock import Clock
from service.imports.policy import CLOCKS_APART_S, Turns

MINUTE_S = 60.0


class Now(NamedTuple):
    """By both clocks, in seconds."""

    monotonic_s: float
    wall_s: float

    @classmethod
    def of(cls, clock: Clock) -> "Now":
        """This moment."""
        return cls(clock.monotonic(), clock.wall_ms() / 1000)


class Pace(Protocol):
    """When the slots of this process may create next."""

    def begin(self, owned: Collection[int], generation: int, now: Now) -> None:
        """An assignment begins."""

    def ended(self, slot: int, now: Now) -> None:
        """A create of the slot has ended, by an answer or not."""

    def wait_s(self, slot: int, now: Now) -> float:
        """How long the slot's next create has to wait; 0: it may be made now."""


def create_every_s(per_minute: int, slots: int) -> float:
    """How far the creates of one of an account's slots have to lie apart; there are at most as many as creates."""
    return MINUTE_S / (per_minute // slots)


def turn_s(per_minute: int, under_way_s: float) -> float:
    """How long a turn is; ``under_way_s``: so long behind its beginning a create reaches the platform, at most."""
    # A stretch of n turns touches n + 1 of them.
    return (MINUTE_S + under_way_s + CLOCKS_APART_S) / max(1, per_minute - 1)


def pace_of(every_s: float | None, turns: Turns | None) -> Pace:
    """The pace of a lane."""
    return CreatePace(every_s) if turns is None else CreateTurns(turns)


class CreatePace:
    """Each slot for itself, by the monotonic clock."""

    def __init__(self, every_s: float | None) -> None:
        """``every_s``: between two creates of one slot; None: at will."""
        self._every_s = every_s or 0.0
        self._owned: frozenset[int] = frozenset()
        self._generation: int | None = None
        self._taken_over_at = 0.0
        self._next: dict[int, float] = {}

    def begin(self, owned: Collection[int], generation: int, now: Now) -> None:
        """As :class:`Pace`. What was ours in the generation before was nobody else's since."""
        kept = self._owned if self._generation == generation - 1 else frozenset()
        self._next = {slot: self._next[slot] if slot in kept else now.monotonic_s + self._every_s for slot in owned}
        self._owned, self._generation, self._taken_over_at = frozenset(owned), generation, now.monotonic_s

    def ended(self, slot: int, now: Now) -> None:
        """As :class:`Pace`."""
        self._next[slot] = now.monotonic_s + self._every_s

    def wait_s(self, slot: int, now: Now) -> float:
        """As :class:`Pace`."""
        return max(0.0, self._next.get(slot, self._taken_over_at + self._every_s) - now.monotonic_s)


class CreateTurns:
    """All slots of the account in turn, by the wall clock."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._owned: frozenset[int] = frozenset()
        self._generation: int | None = None
        self._over_until = 0
        # Up to which turn a slot has had its own.
        self._had: dict[int, int] = {}

    def begin(self, owned: Collection[int], generation: int, now: Now) -> None:
        """As :class:`Pace`. Whoever had a slot before may have had its turn, which may have begun by his clock."""
        self._over_until = self._turn(now.wall_s + CLOCKS_APART_S)
        kept = self._owned if self._generation == generation - 1 else frozenset()
        self._had = {slot: self._had[slot] if slot in kept else self._over_until for slot in owned}
        self._owned, self._generation = frozenset(owned), generation

    def ended(self, slot: int, now: Now) -> None:
        """As :class:`Pace`."""
        self._had[slot] = max(self._turn(now.wall_s), self._had.get(slot, self._over_until))

    def wait_s(self, slot: int, now: Now) -> float:
        """As :class:`Pace`."""
        turn = self._turn(now.wall_s)
        earliest = max(turn, self._had.get(slot, self._over_until) + 1)
        own = earliest + (self._turns.first + slot - earliest) % self._turns.slots
        return 0.0 if own == turn else own * self._turns.turn_s - now.wall_s

    def _turn(self, wall_s: float) -> int:
        return int(wall_s // self._turns.turn_s)
