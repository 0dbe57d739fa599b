"""Whether a measure stays flat: a straight line through the samples of a run's second half, and how far it rises.

The first half is warming up: caches, windows and the allocator's arenas fill. A line and not two points, because load
and failures make every measure swing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

# Fewer points say nothing about a slope.
_LEAST_SAMPLES = 8


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What is sampled. The line through the second half may rise by ``most`` or ``share`` of the median, whichever is
    more; no sample may be over ``bound``. ``slow``: says something only in a run of minutes."""

    name: str
    tells: str
    most: float
    share: float = 0.0
    bound: float | None = None
    slow: bool = False


@dataclass(frozen=True)
class Verdict:
    """What became of a measure; ``fault`` is None if it is flat, or not judged."""

    measure: Measure
    lowest: float
    middle: float
    highest: float
    rises: float
    tolerance: float
    judged: bool
    fault: str | None


def rise(samples: Sequence[tuple[float, float]]) -> float:
    """By how much the least-squares line through (seconds, value) rises from the first to the last sample."""
    times, values = zip(*samples, strict=True)
    time_mean, value_mean = fmean(times), fmean(values)
    spread = sum((time - time_mean) ** 2 for time in times)
    if not spread:
        return 0.0
    slope = sum((time - time_mean) * (value - value_mean) for time, value in samples) / spread
    return float(slope * (times[-1] - times[0]))


def judge(measure: Measure, samples: Sequence[tuple[float, float]], *, long: bool) -> Verdict:
    """``samples``: (seconds, value) of the whole run in order; ``long``: it took minutes."""
    if not samples:
        return Verdict(measure, 0.0, 0.0, 0.0, 0.0, 0.0, judged=True, fault="was never seen")
    middle_s = (samples[0][0] + samples[-1][0]) / 2
    half = [sample for sample in samples if sample[0] >= middle_s]
    values = [value for _, value in half]
    rises, tolerance = rise(half), max(measure.most, measure.share * median(values))
    judged = long or not measure.slow
    fault = None
    if judged and len(half) < _LEAST_SAMPLES:
        fault = f"only {len(half)} samples"
    elif judged and rises > tolerance:
        fault = f"rises by {rises:.4g}, at most {tolerance:.4g} is flat"
    elif measure.bound is not None and max(value for _, value in samples) > measure.bound:
        fault = f"reached {max(value for _, value in samples):.4g}, over {measure.bound:.4g}"
    return Verdict(measure, min(values), median(values), max(values), rises, tolerance, judged, fault)
