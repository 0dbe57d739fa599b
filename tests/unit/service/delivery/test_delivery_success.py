"""Whether others succeed."""

from hypothesis import given
from hypothesis import strategies as st

from service.delivery.success import Successes


def test_nobody_has_succeeded_at_first() -> None:
    """At the start there is no success: a failing account is taken for an outage."""
    assert not Successes().others_succeed(object(), 0.0)


def test_ones_own_success_does_not_count() -> None:
    """An operation whose own earlier request succeeded is not "another"."""
    successes, operation = Successes(), object()
    successes.record(operation, 10.0)
    assert not successes.others_succeed(operation, 11.0)
    assert successes.others_succeed(object(), 11.0)


def test_another_ones_success_is_remembered_behind_ones_own() -> None:
    """The success before one's own is another's."""
    successes, one, other = Successes(), object(), object()
    successes.record(other, 10.0)
    successes.record(one, 11.0)
    assert successes.others_succeed(one, 12.0)


def test_successes_count_for_sixty_seconds() -> None:
    """60 s back, and no further."""
    successes = Successes()
    successes.record(object(), 10.0)
    assert successes.others_succeed(object(), 70.0)
    assert not successes.others_succeed(object(), 70.1)


def test_what_succeeded_before_an_operation_failed_says_nothing() -> None:
    """Only a success after it does, not one of the same moment."""
    successes = Successes()
    successes.record(object(), 10.0)
    assert successes.others_succeed(object(), 11.0, since=9.9)
    assert not successes.others_succeed(object(), 11.0, since=10.0)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 40)), max_size=20), st.integers(0, 3), st.floats(0, 80))
def test_two_are_enough(history: list[tuple[int, float]], asked: int, later: float) -> None:
    """The two that are remembered tell the same as the whole history would."""
    operations = [object() for _ in range(4)]
    successes, now, times = Successes(), 0.0, []
    for who, pause in history:
        now += pause
        successes.record(operations[who], now)
        times.append((who, now))
    now += later
    expected = any(who != asked and now - at <= 60 for who, at in times)
    assert successes.others_succeed(operations[asked], now) == expected
