"""What a soak run takes for growth, and what for noise."""

from math import sin
from random import Random

import pytest

from tests.soak.flatness import Measure, judge, rise

FILES = Measure(name="files", tells="open files", most=3)
MEMORY = Measure(name="memory", tells="MiB", most=4.0, share=0.03, bound=500, slow=True)


def samples(value_at: object) -> list[tuple[float, float]]:
    return [(at_s, value_at(at_s)) for at_s in range(0, 900, 2)]  # type: ignore[operator]


def test_a_line_rises_by_what_its_ends_differ() -> None:
    """Whatever the noise around it."""
    random = Random(1)
    assert rise([(at_s, at_s / 10) for at_s in range(101)]) == pytest.approx(10)
    noisy = [(at_s, at_s / 10 + random.uniform(-5, 5)) for at_s in range(1_001)]
    assert rise(noisy) == pytest.approx(100, abs=2)
    assert rise([(5.0, 1.0)]) == 0.0


def test_what_swings_or_warms_up_is_flat() -> None:
    """Failures make it swing, and the first half fills caches."""
    assert judge(FILES, samples(lambda at_s: 40 + 8 * sin(at_s / 7)), long=True).fault is None
    assert judge(MEMORY, samples(lambda at_s: min(100, 50 + at_s / 4)), long=True).fault is None
    assert judge(FILES, samples(lambda at_s: 60 - at_s / 20), long=True).fault is None


@pytest.mark.parametrize(
    ("measure", "per_s"), [(FILES, 1 / 60), (MEMORY, 0.02)], ids=["a file a minute", "20 KiB a second"]
)
def test_a_slow_leak_is_no_noise(measure: Measure, per_s: float) -> None:
    """Also behind what swings more than it grows."""
    random = Random(2)
    found = judge(measure, samples(lambda at_s: 90 + per_s * at_s + random.uniform(-4, 4)), long=True)
    assert found.fault is not None
    assert "rises by" in found.fault


def test_a_bound_holds_for_the_whole_run() -> None:
    """Also in its first half, and where nothing rises."""
    found = judge(MEMORY, samples(lambda at_s: 600 if at_s == 10 else 90), long=False)
    assert found.fault == "reached 600, over 500"


def test_what_was_not_looked_at_is_not_flat() -> None:
    """Never seen, or seen too seldom."""
    assert judge(FILES, [], long=True).fault == "was never seen"
    assert judge(FILES, [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)], long=True).fault == "only 2 samples"


def test_memory_is_not_judged_in_a_short_run() -> None:
    """It has not come to rest by then: a verdict would be a guess."""
    found = judge(MEMORY, samples(lambda at_s: 90 + at_s), long=False)
    assert not found.judged
    assert found.fault == "reached 988, over 500"
    assert judge(MEMORY, samples(lambda at_s: 90 + at_s / 9), long=False).fault is None
