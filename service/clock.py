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


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def wall_ms() -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000
