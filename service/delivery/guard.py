"""The guard: a lane most of whose operations are refused is configured wrongly, and holds before it has filed
all its events as dead letters.
"""

from collections import deque

import msgspec

from contracts.outcomes import Reason

# These ends tell of a wrong target, segment or address as well as of a bad item.
GUARDED = frozenset({Reason.NOT_FOUND, Reason.REFUSED, Reason.UNCONFIRMED})

JUDGED_FROM = 50

# 0.29 * 100 is 28.999…: a fraction that was written as a whole percentage is meant as one.
_ROUNDING = 1e-9


class GuardPolicy(msgspec.Struct, frozen=True, gc=False):
    """Hold when more than ``dead_letters`` (a fraction) of the last ``of_last`` operations end in GUARDED."""

    dead_letters: float = 0.2
    of_last: int = 200


class Guard:
    """The ends of the last operations of one lane in this process.

    Judged once 50 have ended since the start or the last resume; tripped until ``resume``, which empties the
    window.
    """

    __slots__ = ("_ended", "_guarded", "_of_last", "_policy", "_tripped", "_window")

    def __init__(self, policy: GuardPolicy) -> None:
        self._policy = policy
        self._of_last = policy.of_last
        self._window: deque[bool] = deque()
        self._guarded = 0  # in the window
        self._ended = 0  # since the start or the last resume
        self._tripped = False

    @property
    def tripped(self) -> bool:
        """Whether the lane must hold."""
        return self._tripped

    def record(self, reason: Reason | None) -> bool:
        """An operation ended with this reason (None: delivered). Whether the lane must hold."""
        guarded = reason in GUARDED
        window = self._window
        window.append(guarded)
        self._guarded += guarded
        self._ended += 1
        if len(window) > self._of_last:
            self._guarded -= window.popleft()
        if self._guarded and self._ended >= JUDGED_FROM and not self._tripped:
            self._tripped = self._guarded > int(self._policy.dead_letters * len(window) + _ROUNDING)
        return self._tripped

    def record_delivered(self, count: int) -> bool:
        """:meth:`record` of so many operations that were delivered, at once."""
        if self._guarded or self._tripped:
            for _ in range(count):
                self.record(None)
            return self._tripped
        window = self._window
        window.extend([False] * min(count, self._of_last))
        while len(window) > self._of_last:
            window.popleft()
        self._ended += count
        return False

    def resume(self) -> None:
        """An operator has looked at it: begin anew."""
        self._window.clear()
        self._guarded = 0
        self._ended = 0
        self._tripped = False

    def describe(self) -> str:
        """Why the lane holds, for its reason."""
        return f"guard: {self._guarded} of the last {len(self._window)} operations were refused or not found"
