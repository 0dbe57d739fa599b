"""The service as a chaos run starts it: with a clock that can be stepped, and on demand with a bug put back."""

import os
import time
from pathlib import Path

CLOCK_VARIABLE = "FANLINE_CHAOS_CLOCK"
BUG_VARIABLE = "FANLINE_CHAOS_BUG"
_LOOK_EVERY_S = 0.25


def step_clock(file: Path) -> None:
    """The wall clock is wrong by as many seconds as the file says."""
    from service.clock import SystemClock

    looked_at, offset_ms = float("-inf"), 0

    def wall_ms() -> int:
        nonlocal looked_at, offset_ms
        if (now := time.monotonic()) > looked_at + _LOOK_EVERY_S:
            looked_at = now
            offset_ms = int(file.read_text() or 0) * 1000 if file.exists() else 0
        return time.time_ns() // 1_000_000 + offset_ms

    SystemClock.wall_ms = staticmethod(wall_ms)


def main() -> None:
    if file := os.environ.get(CLOCK_VARIABLE):
        step_clock(Path(file))
    if bug := os.environ.get(BUG_VARIABLE):
        from tests.chaos.bugs import BUGS

        BUGS[bug].put_back()
    from service.__main__ import main as service

    service()


if __name__ == "__main__":
    main()
