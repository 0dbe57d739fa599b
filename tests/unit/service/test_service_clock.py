"""The clocks, the machine's and the tests'."""

import time

import pytest

from service.clock import Clock, SystemClock, until_next
from tests.support.clock import FakeClock


def test_the_machines_clocks() -> None:
    """Monotonic seconds and wall milliseconds, as the machine has them."""
    clock: Clock = SystemClock()
    assert abs(clock.monotonic() - time.monotonic()) < 5
    assert abs(clock.wall_ms() - time.time() * 1000) < 5000


def test_the_fake_stands_still_until_moved() -> None:
    """Both clocks go on together, and only by hand."""
    fake = FakeClock()
    clock: Clock = fake
    monotonic, wall_ms = clock.monotonic(), clock.wall_ms()
    assert (clock.monotonic(), clock.wall_ms()) == (monotonic, wall_ms)
    fake.advance(1.5)
    assert (clock.monotonic(), clock.wall_ms()) == (monotonic + 1.5, wall_ms + 1500)


def test_the_wall_clock_may_jump() -> None:
    """The monotonic one does not jump with it, and never goes back."""
    fake = FakeClock()
    monotonic = fake.monotonic()
    fake.set_wall_ms(0)
    assert (fake.monotonic(), fake.wall_ms()) == (monotonic, 0)
    with pytest.raises(ValueError, match="does not go back"):
        fake.advance(-1)


@pytest.mark.parametrize(
    ("now", "left_s"), [(1000.0, 0.5), (1000.1, 0.4), (1000.499, 0.501), (1000.4999999, 0.5), (999.75, 0.25)]
)
def test_who_waits_is_woken_at_a_whole_multiple(now: float, left_s: float) -> None:
    """A timer that ended a little early does not end a second time at the same moment."""
    assert until_next(0.5, now) == pytest.approx(left_s, abs=1e-6)
