"""What one answer after the other says of the platform's window, and what that makes of the next request."""

from math import inf

import pytest

from service.delivery.quota import Quota, QuotaPace, read_quota

NOW = 1_000.0
WALL_S = 1_767_225_600.0


def pace_after(*answers: tuple[float, int | None, int, float], in_flight: float = 0.0) -> QuotaPace:
    """After answers that took no time: (seconds from NOW, limit, remaining, seconds left)."""
    pace = QuotaPace()
    for at, limit, remaining, left_s in answers:
        pace.take(Quota(limit, remaining, left_s), NOW + at, NOW + at, in_flight)
    return pace


def ends_at(pace: QuotaPace) -> float:
    """When the window ends, from NOW on: with more in flight than is left, all wait for that."""
    until = pace.used_up_until(NOW, 1_000_000, 1.0)
    assert until is not None
    return until - NOW


def headers(limit: str, remaining: str, reset: str) -> dict[str, str]:
    return {"x-ratelimit-limit": limit, "x-ratelimit-remaining": remaining, "x-ratelimit-reset": reset}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (headers("100", "5", "10"), Quota(100, 5, 10.0)),
        (headers("100.9", "5.9", "10.5"), Quota(100, 5, 10.5)),
        (headers("many", "5", "10"), Quota(None, 5, 10.0)),
        (headers("100;w=1", "5, 7", "10;x,2"), Quota(100, 5, 10.0)),
        (headers("100", "5", "1000000000"), Quota(100, 5, 300.0)),
        (headers("100", "5", "1000000001"), Quota(100, 5, 0.0)),
        (headers("100", "5", f"{WALL_S + 7:.0f}"), Quota(100, 5, 7.0)),
        (headers("100", "5", ""), None),
        (headers("100", "", "10"), None),
        ({"x-ratelimit-remaining": "5", "x-ratelimit-reset": "10"}, Quota(None, 5, 10.0)),
        ({"x-ratelimit-remaining": "5"}, None),
        ({"x-ratelimit-reset": "10"}, None),
    ],
)
def test_what_one_answer_says(given: dict[str, str], expected: Quota | None) -> None:
    """Numbers, of lists the first; a large reset is an epoch; without a readable limit there is none."""
    assert read_quota(given, WALL_S) == expected


def test_at_first_nothing_is_known() -> None:
    """Whatever share, all may go."""
    pace = QuotaPace()
    assert (pace.active, pace.known, pace.remaining) == (False, False, None)
    assert pace.wait_s(NOW, 1_000, 0.001) == 0.0
    assert pace.used_up_until(NOW, 1_000, 0.001) is None


def test_an_answer_tells_what_is_left_and_until_when() -> None:
    """From its arrival on; a reset within a second is taken as a second."""
    pace = pace_after((0, 10, 4, 20))
    assert (pace.active, pace.known, pace.remaining, ends_at(pace)) == (True, True, 4, 20)
    assert ends_at(pace_after((0, 10, 4, 0.0))) == 1.0
    pace = QuotaPace()
    pace.take(Quota(10, 4, 20), NOW - 6, NOW, 0)
    assert ends_at(pace) == 20


@pytest.mark.parametrize(
    ("began", "arrived", "left_s", "remaining"),
    [
        (-1.0, 1.0, 20, 3),  # asked at the same moment, and the window is as long: less is left
        (-1.0, 1.0, 18, 5),  # asked at the same moment, an earlier end: what came before it says more
        (-3.0, 1.0, 30, 5),  # asked before
        (1.0, 1.0, 18, 3),  # asked later, whatever end
    ],
)
def test_what_was_overtaken_on_its_way_is_not_believed(
    began: float, arrived: float, left_s: float, remaining: int
) -> None:
    """An answer is as old as the middle of its request."""
    pace = pace_after((0, 10, 5, 20))
    pace.take(Quota(10, 3, left_s), NOW + began, NOW + arrived, 0)
    assert pace.remaining == remaining


def test_an_old_answer_is_believed_when_its_window_is_over() -> None:
    """There is nothing better."""
    pace = pace_after((0, 10, 5, 20))
    pace.take(Quota(10, 3, 30), NOW - 30, NOW + 20, 0)
    assert (pace.remaining, ends_at(pace)) == (3, 50)
    pace.take(Quota(10, 7, 30), NOW - 30, NOW + 60, 0)
    assert (pace.remaining, ends_at(pace)) == (7, 90)


def test_of_one_moment_the_lower_count_is_kept() -> None:
    """Two requests that the platform counted together."""
    pace = pace_after((0, 100, 5, 20), (0, 100, 9, 20))
    assert pace.remaining == 5
    pace = pace_after((0, 100, 5, 20), (0, 100, 4, 20))
    assert pace.remaining == 4


@pytest.mark.parametrize(
    ("second", "end"),
    [
        ((5, 100, 4, 16), 20),  # rounding: a second more or less is the same end
        ((5, 100, 4, 16.01), 21.01),  # another window
        ((5, 100, 4, 10), 15),
        ((5, 100, 6, 15), 20),  # one more than before may be one that did not count
        ((5, 100, 7, 15.5), 20.5),  # a bucket is refilled: its end does not stand
        ((5, 100, 56, 15.5), 20.5),  # more than half of the limit: a new window
    ],
)
def test_the_end_stands_but_for_a_new_window_and_a_bucket(second: tuple[float, int, int, float], end: float) -> None:
    """Of two ends that are told of one window the earlier one counts."""
    pace = pace_after((0, 100, 5, 20), second)
    assert ends_at(pace) == pytest.approx(end)
    assert pace.remaining == second[2]


def test_what_was_in_flight_may_have_come_back_uncounted() -> None:
    """So many more than before are no refill."""
    first, second = (0, 100, 5, 20), (5, 100, 9, 15.5)
    assert ends_at(pace_after(first, second, in_flight=3)) == 20
    assert ends_at(pace_after(first, second, in_flight=2.9)) == 20.5


def test_a_window_that_ends_before_its_reset_is_measured() -> None:
    """After three that were as long as the longest of them, and a little: later no reset is believed beyond that."""
    pace = pace_after((0, 100, 10, 60))

    def window_from(at: int) -> None:
        pace.take(Quota(100, 99, 60), NOW + at, NOW + at, 0)
        pace.take(Quota(100, 30, 55), NOW + at + 5, NOW + at + 5, 0)

    for begins in (1, 11, 23):
        window_from(begins)
        assert ends_at(pace) == begins + 60
    window_from(34)  # three have been measured: 10, 12 and 11 s
    assert ends_at(pace) == pytest.approx(34 + 12 * 1.02)
    for begins in (44, 54):
        window_from(begins)
    assert ends_at(pace) == pytest.approx(54 + 11 * 1.02)
    pace.take(Quota(100, 20, 57), NOW + 54 + 12, NOW + 54 + 12, 0)  # this one is longer after all
    assert ends_at(pace) == 54 + 12 + 57


def test_half_of_the_limit_more_is_no_new_window_yet() -> None:
    """Nor is anything one where no limit is told."""
    for limit, more in ((100, 50), (None, 90)):
        pace = pace_after(*((at, limit, 5 + (more if at % 10 == 0 else 0), 60) for at in range(0, 60, 5)))
        pace.take(Quota(limit, 0, 60), NOW + 60, NOW + 60, 0)
        assert ends_at(pace) > 100  # nothing was measured


@pytest.mark.parametrize(("remaining", "waits_s"), [(1, 0.0), (0, 20.0)])
def test_with_nothing_left_all_wait_for_the_end(remaining: int, waits_s: float) -> None:
    """With one left one goes; what is in flight is not counted yet."""
    pace = pace_after((0, 1, remaining, 20))
    assert pace.wait_s(NOW, 0, 1.0) == waits_s
    assert pace.used_up_until(NOW, 0, 1.0) == (None if remaining else NOW + 20)
    assert pace.wait_s(NOW, 1, 1.0) == 20.0
    assert pace.used_up_until(NOW, 1, 1.0) == NOW + 20
    assert pace.used_up_until(NOW + 20, 1, 1.0) is None


def test_what_this_process_has_in_flight_the_others_have_too() -> None:
    """For their shares: with a quarter of the account and two in flight eight are on their way."""
    pace = pace_after((0, 100, 9, 20))
    assert pace.wait_s(NOW, 2, 0.25) == 0.0  # the first goes at once, having waited for long
    pace.started(NOW)
    assert pace.wait_s(NOW, 2, 0.25) == 10.0  # a quarter of one: no more than one in ten seconds
    assert pace.wait_s(NOW + 4, 2, 0.25) == 6.0
    assert pace.wait_s(NOW + 12, 2, 0.25) == 0.0
    pace.started(NOW + 12)
    assert pace.wait_s(NOW + 12, 2, 0.25) == 8.0  # or the window's end
    assert pace.used_up_until(NOW, 2, 0.25) is None
    pace = pace_after((0, 100, 8, 20))
    assert pace.wait_s(NOW, 2, 0.25) == 20.0
    assert pace.used_up_until(NOW, 2, 0.25) == NOW + 20


def test_the_first_half_goes_at_once_and_the_rest_is_spread() -> None:
    """Of what is left over what is left of the window; the share has its part of it."""
    pace = pace_after((0, 100, 50, 60))
    pace.started(NOW)
    assert pace.wait_s(NOW, 0, 1.0) == 0.0
    assert pace.wait_s(NOW, 1, 1.0) == pytest.approx(60 / 49)
    assert pace.wait_s(NOW, 1, 0.5) == pytest.approx(60 / ((50 - 2) * 0.5))
    assert pace.wait_s(NOW + 30, 1, 1.0) == 0.0
    pace.started(NOW + 30)
    assert pace.wait_s(NOW + 30, 30, 1.0) == pytest.approx(30 / 20)
    assert pace.wait_s(NOW + 31, 30, 1.0) == pytest.approx(29 / 20 - 1)


def test_a_small_share_of_the_first_half_still_waits_its_turn() -> None:
    """Less than one request is its own of what is left."""
    pace = pace_after((0, 8, 8, 60))
    pace.started(NOW)
    assert pace.wait_s(NOW, 0, 0.1) == 10.0
    assert pace.wait_s(NOW, 0, 0.125) == 0.0


def test_of_one_and_a_half_requests_one_is_sent_in_two_thirds_of_the_time() -> None:
    """A share that has more than one of its own spreads them."""
    pace = pace_after((0, 100, 3, 9))
    pace.started(NOW)
    assert pace.wait_s(NOW, 0, 0.5) == pytest.approx(9 / 1.5)


def test_at_the_end_of_a_window_nobody_waits_beyond_it() -> None:
    """Though twice the average of its share would be slower."""
    pace = pace_after((0, 10, 4, 60), (59, 10, 4, 1))
    pace.started(NOW + 59)
    assert pace.wait_s(NOW + 59, 0, 1.0) == pytest.approx(1.0)
    pace = pace_after((0, 10, 4, 60), (50, 10, 4, 10))
    pace.started(NOW + 50)
    assert pace.wait_s(NOW + 50, 0, 0.5) == pytest.approx(60 / (10 * 0.5 * 2))


def test_near_the_end_of_a_window_no_more_than_twice_its_average() -> None:
    """However little time is left; where no limit is told there is no average."""
    for limit, waits_s in ((100, 60 / 100 / 2), (None, 1 / 40)):
        pace = pace_after((0, limit, 45, 60), (59, limit, 40, 1))
        pace.started(NOW + 59)
        assert pace.wait_s(NOW + 59, 0, 1.0) == pytest.approx(waits_s)


def test_nobody_waits_longer_than_ten_seconds_or_the_window_for_one_that_is_its_own() -> None:
    """Ten requests a quarter of an hour are one in ten seconds as well."""
    pace = pace_after((0, 100, 10, 300))
    pace.started(NOW)
    assert pace.wait_s(NOW, 0, 1.0) == 10.0
    pace = pace_after((0, 100, 1, 5))
    pace.started(NOW + 2)
    assert pace.wait_s(NOW + 2, 0, 1.0) == pytest.approx(3.0)


def test_in_a_window_that_nobody_has_seen_the_average_is_kept() -> None:
    """Of the limit and the longest time to a reset that was told; one in ten seconds at the least."""
    pace = pace_after((0, 20, 5, 60), (10, 20, 0, 50))
    assert pace.wait_s(NOW + 60, 0, 0.5) == 0.0
    assert (pace.known, pace.active, pace.remaining) == (False, True, None)
    pace.started(NOW + 60)
    assert pace.wait_s(NOW + 60, 7, 0.5) == pytest.approx(60 / (20 * 0.5))
    assert pace.wait_s(NOW + 60, 0, 0.1) == 10.0
    pace.take(Quota(40, 30, 30), NOW + 61, NOW + 61, 0)  # another limit, another window
    assert pace.wait_s(NOW + 91, 0, 1.0) == 0.0
    pace.started(NOW + 91)
    assert pace.wait_s(NOW + 91, 0, 1.0) == pytest.approx(30 / 40)


def test_a_window_without_a_limit_ends_with_what_is_known() -> None:
    """All goes, until an answer tells again; a limit of none is not divided by."""
    pace = pace_after((0, None, 0, 20))
    assert pace.wait_s(NOW + 19, 0, 1.0) == pytest.approx(1.0)
    assert pace.wait_s(NOW + 20, 0, 1.0) == 0.0
    assert (pace.active, pace.known) == (False, False)
    pace = pace_after((0, 0, 0, 8))
    pace.started(NOW + 8)
    assert pace.wait_s(NOW + 8, 0, 1.0) == 8.0


@pytest.mark.parametrize(("left_s", "patience_s"), [(1, 60), (30, 60), (31, 62), (300, 600)])
def test_what_no_answer_tells_any_more_is_forgotten(left_s: float, patience_s: float) -> None:
    """After a minute, and two of its windows."""
    pace = pace_after((0, 10, 0, left_s))
    pace.untold(NOW + patience_s)
    assert (pace.active, pace.known) == (True, True)
    pace.untold(NOW + patience_s + 0.1)
    assert (pace.active, pace.known) == (False, False)
    assert pace.wait_s(NOW + patience_s + 0.1, 5, 1.0) == 0.0


def test_who_never_was_told_has_nothing_to_forget() -> None:
    """An answer without headers changes nothing."""
    pace = QuotaPace()
    pace.untold(inf)
    assert (pace.active, pace.known) == (False, False)
