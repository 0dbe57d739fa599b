"""The two clocks. Rules are handed ``now``; only drivers hold a clock, so that tests can hold another."""

import time
from typing import Protocol


class Clock(Protocol):
    """What time it is, for measuring and for stamping."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back. For delays, windows and deadlines in the process."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch. For what leaves the process, and for comparing with record
        timestamps.
        """


# A timer may end as much before its time as the event loop's clock, in milliseconds, differs from ours.
_EARLY_S = 0.005


def until_next(period_s: float, now: float) -> float:
    """Seconds until the next whole multiple of ``period_s``, no fewer than 5 ms: what waits so, in whatever task, is
    woken together, for to be woken costs a process that has nothing to do more than what it looks at."""
    left_s = period_s - now % period_s
    return left_s if left_s >= _EARLY_S else left_s + period_s


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def wall_ms() -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000
