"""Why a lane holds by itself: pure state, handed the time."""

import msgspec


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
