"""Why a lane holds by itself, and how long it has: pure state, handed the time."""

from collections import deque

import msgspec

_REMEMBERED = 256


class HoldPolicy(msgspec.Struct, frozen=True):
    """How often a lane that holds for its request, address or rights tries one operation; seconds."""

    try_every_s: float = 300.0


class LaneHold:
    """A lane's own hold. One operation at a time may try whether its cause has gone; the guard's waits for a person."""

    __slots__ = ("failed", "reason", "tries_at", "trying")

    def __init__(self, reason: str, tries_at: float | None, failed: object = None) -> None:
        self.reason = reason
        self.tries_at = tries_at
        self.failed = failed  # the operation that was held for last
        self.trying = False

    def may_try(self, now: float, who: object = None, *, others: bool = False) -> bool:
        """Whether the operation ``who`` may find out; not the one that failed last, if ``others`` wait too."""
        if self.trying or self.tries_at is None or now < self.tries_at:
            return False
        return not others or who is None or who is not self.failed


class HeldTime:
    """When the lane held or was paused: this time does not count against an event's deadline. Wall milliseconds."""

    __slots__ = ("_intervals", "_since")

    def __init__(self) -> None:
        self._intervals: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)
        self._since: int | None = None

    def begin(self, now_ms: int) -> None:
        """The lane holds from now on; nothing changes if it does already."""
        if self._since is None:
            self._since = now_ms

    def end(self, now_ms: int) -> None:
        """The lane goes on."""
        if self._since is not None:
            self._intervals.append((self._since, now_ms))
            self._since = None

    def since(self, from_ms: float, now_ms: int) -> float:
        """How many milliseconds after ``from_ms`` were held."""
        held = sum(max(0.0, end - max(start, from_ms)) for start, end in self._intervals)
        if self._since is not None:
            held += max(0.0, now_ms - max(self._since, from_ms))
        return held
