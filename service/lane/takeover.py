"""How long the steps of an assignment took: what stands between a partition's two owners, for the one who waits."""

from collections.abc import Mapping

from service.clock import Clock


class Takeover:
    """A stopwatch from the moment when the lane was given its partitions.

    ``done`` ends a step: its time counts from the end of the one before. A step that is made again, because the first
    try failed, counts together.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = self._step_began = clock.monotonic()
        self._steps: dict[str, float] = {}

    def done(self, step: str) -> None:
        """The step has ended. Its name is part of the log: ``journal`` becomes ``journal_s``."""
        now = self._clock.monotonic()
        self._steps[step] = self._steps.get(step, 0.0) + now - self._step_began
        self._step_began = now

    @property
    def seconds(self) -> float:
        """Since the lane was given its partitions."""
        return self._clock.monotonic() - self._began

    @property
    def steps_s(self) -> Mapping[str, float]:
        """The seconds of each step, by ``<step>_s``, in the order of their first ends."""
        return {f"{step}_s": round(seconds, 3) for step, seconds in self._steps.items()}
