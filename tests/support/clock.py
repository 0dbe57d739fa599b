"""A clock that stands still until it is told to go on."""


class FakeClock:
    """Both clocks of ``service.clock.Clock``, moved by hand and together."""

    def __init__(self, *, monotonic: float = 1_000.0, wall_ms: int = 1_767_225_600_000) -> None:
        self._monotonic = monotonic
        self._wall_ms = wall_ms

    def monotonic(self) -> float:
        return self._monotonic

    def wall_ms(self) -> int:
        return self._wall_ms

    def advance(self, seconds: float) -> None:
        """Let time go by."""
        if seconds < 0:
            raise ValueError("time does not go back; see set_wall_ms")
        self._monotonic += seconds
        self._wall_ms += round(seconds * 1000)

    def set_wall_ms(self, wall_ms: int) -> None:
        """What an administrator or a time server does: the wall clock jumps, the monotonic one does not."""
        self._wall_ms = wall_ms
