"""The gate in front of a lane's calls: shut while the lane holds by itself, but for one try at a time, and while an
operator has paused it, without exception.
"""

import asyncio
from collections.abc import Callable

from service.clock import Clock
from service.delivery.holding import HoldPolicy, LaneHold

_POLL_S = 1.0


class LaneGate:
    """Who passes while ``hold`` is set does so as its trial, and gives the trial back with ``end_trial``.

    A hold belongs to the lane and outlives its assignments. ``changed`` is called when it begins, changes or ends.
    """

    def __init__(self, policy: HoldPolicy, clock: Clock, changed: Callable[[], None]) -> None:
        self.hold: LaneHold | None = None
        # By whom and why. No call that changes the platform starts; reading ones, and what runs, go on.
        self.paused: str | None = None
        self._policy = policy
        self._clock = clock
        self._changed = changed
        self._opened = asyncio.Event()
        self._waiting = 0

    def shut(self, reason: str, failed: object = None, *, forever: bool = False) -> None:
        """Hold and try again after a while, or ``forever``: until a person opens. For ever is never shortened."""
        hold = self.hold
        if hold is None or (forever and hold.tries_at is not None):
            self.hold = LaneHold(reason, None if forever else self._next_try(), failed)
        elif forever:
            hold.reason = reason
        elif hold.tries_at is not None:
            hold.reason, hold.failed, hold.tries_at = reason, failed, self._next_try()
        self._opened.clear()
        self._changed()

    def open(self) -> None:
        """The cause has gone."""
        if self.hold is not None:
            self.hold = None
            self._opened.set()
            self._changed()

    def pause(self, reason: str) -> None:
        """An operator's word: from now on no trial may start either."""
        self.paused = reason
        self._changed()

    def unpause(self) -> None:
        """The operator's pause ends; a hold of the lane's own does not."""
        self.paused = None
        self._changed()

    def put_off(self, trial: LaneHold) -> None:
        """The trial told nothing: another one after the same pause."""
        if trial.tries_at is not None:
            trial.tries_at = self._next_try()

    def end_trial(self, trial: LaneHold) -> None:
        """However it ended, whatever it told: the next one may begin when it is time."""
        trial.trying = False

    async def enter(self, who: object, wanted: Callable[[], bool]) -> LaneHold | None:
        """Wait until the lane does not hold (or ``wanted`` is False): None. Or until ``who`` may try: the hold."""
        self._waiting += 1
        try:
            while (hold := self.hold) is not None and wanted():
                if hold.may_try(self._clock.monotonic(), who, others=self._waiting > 1):
                    hold.trying = True
                    return hold
                try:
                    async with asyncio.timeout(_POLL_S):
                        await self._opened.wait()
                except TimeoutError:
                    continue
            return None
        finally:
            self._waiting -= 1

    def _next_try(self) -> float:
        return self._clock.monotonic() + self._policy.try_every_s
