"""How much longer than its bound a wait may take: the bounds in the tests are those of an idle machine."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PATIENCE = float(os.environ.get("FANLINE_TEST_PATIENCE", "4"))
"""A wait polls, so patience costs nothing where the condition comes; a machine with other work needs it."""
_TICK_S = 0.02
_SHARE = 4
_STILL_S = 5.0


def patiently(within_s: float) -> float:
    """The bound of a wait, in seconds, on a machine that may be busy. Never for what itself is under test."""
    return within_s * PATIENCE


class Patience:
    """A bound that is not reached while what is counted goes on: a machine may be slower than any factor allows for."""

    def __init__(self, within_s: float) -> None:
        self._until_s = time.monotonic() + patiently(within_s)
        self._moved_s = time.monotonic()
        self._count = -1

    def is_over(self, count: int) -> bool:
        """Whether the bound has passed, and the count has not changed for a while."""
        now = time.monotonic()
        if count != self._count:
            self._count, self._moved_s = count, now
        return now > max(self._until_s, self._moved_s + patiently(_STILL_S))


class Delays:
    """How late the machine is, measured by timers of our own: milliseconds when it is idle."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    @property
    def allowed_s(self) -> float:
        """What another process may be late by without a fault of its own: it waits for the processor, for the
        broker's answer and for the next turn of its loop, each as long as we had to."""
        return _SHARE * self.longest_s


@asynccontextmanager
async def delays() -> AsyncIterator[Delays]:
    """Measures while the block runs; for bounds that are under test and may not be multiplied."""
    found = Delays()

    async def measure() -> None:
        while True:
            due = time.monotonic() + _TICK_S
            await asyncio.sleep(_TICK_S)
            found.longest_s = max(found.longest_s, time.monotonic() - due)

    measuring = asyncio.create_task(measure())
    try:
        yield found
    finally:
        measuring.cancel()
