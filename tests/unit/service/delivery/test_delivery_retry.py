"""Delays between tries, and what ``Retry-After`` asks for."""

import random
import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.delivery.retry import RetryPolicy, retry_after_s

NOW_S = 1_767_225_600.0  # Thu, 01 Jan 2026 00:00:00 GMT


def most() -> float:
    return 1.0


def test_the_bound_doubles_up_to_the_longest_delay() -> None:
    """The first failure waits at most the first delay; each further one twice as long, up to the longest."""
    policy = RetryPolicy(first_delay_s=0.5, max_delay_s=60.0, max_attempts=10)
    assert [policy.delay_s(attempt, most) for attempt in range(1, 10)] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]


def test_the_jitter_is_full() -> None:
    """Delays are spread over the whole of what is allowed, from nothing on."""
    chance = random.Random(7)
    delays = [RetryPolicy().delay_s(8, chance.random) for _ in range(1000)]
    assert min(delays) < 1 < 59 < max(delays)


@given(st.integers(-5, 10**9), st.floats(0, 1), st.floats(0.001, 1e6), st.floats(0.001, 1e6))
def test_no_attempt_number_breaks_the_bounds(attempt: int, drawn: float, first: float, longest: float) -> None:
    """Whatever the number of the attempt, the delay is between nothing and the longest."""
    policy = RetryPolicy(first_delay_s=first, max_delay_s=longest, max_attempts=3)
    assert 0 <= policy.delay_s(attempt, lambda: drawn) <= longest


def test_attempts_are_used_up() -> None:
    """With ten attempts allowed the tenth failure is the last."""
    policy = RetryPolicy(max_attempts=10)
    assert [policy.exhausted(attempts) for attempts in (9, 10, 11)] == [False, True, True]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        ("301", 300.0),
        ("999999999999999", 300.0),
        ("Thu, 01 Jan 2026 00:00:42 GMT", 42.0),
        ("Thursday, 01-Jan-26 00:00:42 GMT", 42.0),
        ("Thu Jan  1 00:00:42 2026", 42.0),
        ("Thu, 01 Jan 2026 01:00:42 +0100", 42.0),
        ("Wed, 31 Dec 2025 23:00:00 GMT", 0.0),
        ("Fri, 01 Jan 2027 00:00:00 GMT", 300.0),
    ],
)
def test_retry_after_is_read(text: str, seconds: float) -> None:
    """Seconds or a date, in each of the three forms; capped at five minutes, never negative."""
    assert retry_after_s({"retry-after": text}, NOW_S) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5", "1e3", "inf", "nan", "٣", "Thu, 99 Jan 2026", "1,5", "0x10"])
def test_an_unreadable_retry_after_is_none(text: str) -> None:
    """What cannot be read asks for nothing."""
    assert retry_after_s({"retry-after": text}, NOW_S) is None


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "XXX-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_east")
def test_a_date_without_a_zone_is_in_utc() -> None:
    """Wherever the process runs: the obsolete form names no zone and means UTC."""
    assert retry_after_s({"retry-after": "Thu Jan  1 00:00:42 2026"}, NOW_S) == 42.0


def test_no_retry_after_is_none() -> None:
    """A missing header asks for nothing."""
    assert retry_after_s({"date": "Thu, 01 Jan 2026 00:00:42 GMT"}, NOW_S) is None


@pytest.mark.parametrize(
    ("date_s", "seconds"),
    [
        (-600, 300.0),
        (-4, 46.0),
        (-3, 42.0),
        (3, 42.0),
        (4, 38.0),
        (40, 2.0),
        (600, 0.0),
    ],
)
def test_a_date_is_compared_with_the_platforms_own_clock(date_s: float, seconds: float) -> None:
    """A clock that differs from ours by more than an answer takes is theirs; a smaller difference is the way."""
    headers = {"retry-after": formatdate(NOW_S + 42, usegmt=True), "date": formatdate(NOW_S + date_s, usegmt=True)}
    assert retry_after_s(headers, NOW_S) == seconds


def test_a_date_that_cannot_be_read_leaves_our_own_clock() -> None:
    """The platform's clock is a help where it is told, and not needed."""
    headers = {"retry-after": "Thu, 01 Jan 2026 00:00:42 GMT", "date": "yesterday"}
    assert retry_after_s(headers, NOW_S) == 42.0


@given(st.text(max_size=80), st.floats(0, 1e11))
def test_no_text_makes_the_reader_fail(text: str, now_s: float) -> None:
    """Headers come from outside: any text gives seconds within the cap, or none."""
    seconds = retry_after_s({"retry-after": text}, now_s)
    assert seconds is None or 0 <= seconds <= 300
