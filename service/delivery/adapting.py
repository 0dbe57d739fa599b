"""How many requests an account bears at the same time: fewer at once when it slows down or refuses, slowly more again.

Halved on a refusal or a time-out, once a second at most. Raised by one a round of answers while their latency stays
flat, and twenty times slower near where the last refusal came, so that a limit that nobody tells us is not run into
every few seconds.
"""

from math import inf

# How much of each new answer's time goes into that of the latest answers, and into that of calm ones.
_LATEST, _CALM = 0.1, 0.00005
# So small a part of the ceiling is no load to speak of: what takes longer then is not slow because of us.
_FEW, _CALM_OF_FEW = 0.25, 0.01
_FLAT_TIMES, _FLAT_S = 2.0, 0.05
_NEAR = 0.75
_ROUNDS_NEAR = 20
_LOWER_EVERY_S = 1.0


class AdaptingConcurrency:
    """``limit`` may be in flight, between 1 and the ceiling. ``now`` is monotonic, in seconds."""

    __slots__ = ("_calm_s", "_ceiling", "_latest_s", "_lowered_at", "_refused_at", "limit")

    def __init__(self) -> None:
        self.limit = inf
        self._ceiling = inf
        self._refused_at = inf
        self._lowered_at = -inf
        self._latest_s = self._calm_s = 0.0

    @property
    def lowered(self) -> bool:
        """Whether it is below the ceiling."""
        return self.limit < self._ceiling

    def set_ceiling(self, ceiling: float) -> None:
        """What is allowed has changed; the part of it that the account bears has not."""
        part = self.limit / self._ceiling if self._ceiling < inf else 1.0
        if self._ceiling < inf and ceiling < inf:
            self._refused_at *= ceiling / self._ceiling
        self._ceiling = ceiling
        self.limit = max(1.0, ceiling * part)

    def lower(self, now: float) -> None:
        """The platform refused for load, or did not answer in time. Those that were in flight together count once."""
        if self._ceiling < inf and now - self._lowered_at >= _LOWER_EVERY_S:
            self._lowered_at = now
            self._refused_at = self.limit
            self.limit = max(1.0, self.limit / 2)

    def note(self, seconds: float) -> None:
        """An answer took so long."""
        if not self._calm_s:
            self._latest_s = self._calm_s = seconds
            return
        self._latest_s += _LATEST * (seconds - self._latest_s)
        # Quickly down to what is better, slowly up: a platform that stays slower is calm again some day. With few in
        # flight soon: else one that has slowed down would be asked by ones and twos until then.
        slower = _CALM_OF_FEW if self.limit <= self._ceiling * _FEW else _CALM
        part = _LATEST if seconds < self._calm_s else slower
        self._calm_s += part * (seconds - self._calm_s)

    def grow(self) -> None:
        """An answer that was no refusal."""
        if self.limit >= self._ceiling or self._latest_s > self._calm_s * _FLAT_TIMES + _FLAT_S:
            return
        rounds = _ROUNDS_NEAR if self.limit >= self._refused_at * _NEAR else 1
        self.limit = min(self._ceiling, self.limit + 1.0 / (self.limit * rounds))
        if self.limit > self._refused_at:
            self._refused_at = inf
