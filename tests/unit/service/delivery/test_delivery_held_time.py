"""The time in which a lane held: it does not count against a deadline."""

from hypothesis import given
from hypothesis import strategies as st

from service.delivery.holding import HeldTime


def test_held_intervals_add_up() -> None:
    """Whole ones, and the part behind a moment."""
    held = HeldTime()
    held.begin(1000)
    held.end(2000)
    held.begin(5000)
    held.end(6000)
    assert held.since(0, 9000) == 2000
    assert held.since(1500, 9000) == 1500
    assert held.since(5900, 9000) == 100
    assert held.since(6000, 9000) == 0


def test_a_hold_that_lasts_counts_up_to_now() -> None:
    """Also for an event that came while it lasted."""
    held = HeldTime()
    held.begin(1000)
    assert held.since(0, 1500) == 500
    assert held.since(1400, 1500) == 100


def test_beginning_twice_and_ending_twice_change_nothing() -> None:
    """The lane's state is worked out again and again."""
    held = HeldTime()
    held.end(500)
    held.begin(1000)
    held.begin(1500)
    held.end(2000)
    held.end(3000)
    assert held.since(0, 4000) == 1000


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=20), st.integers(0, 1000), st.booleans())
def test_it_counts_like_a_clock(phases: list[tuple[int, int]], since: int, holding: bool) -> None:
    """Millisecond by millisecond."""
    held, now, ticks = HeldTime(), 0, []
    for free, long in phases:
        now += free
        held.begin(now)
        ticks.extend(range(now, now + long))
        now += long
        held.end(now)
    if holding:
        held.begin(now)
        ticks.extend(range(now, now + 7))
        now += 7
    assert held.since(since, now) == sum(1 for tick in ticks if tick >= since)
