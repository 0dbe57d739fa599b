"""The pace of processes that share an account, against every way in which platforms are known to count."""

import pytest

from service.delivery.limiter import LimiterPolicy
from tests.support.pacing import Bucket, PlatformLimit, Sliding, Window, run_processes

SECONDS = 30.0
SHARES = {"one": (1.0,), "two": (0.5, 0.5), "uneven": (0.7, 0.2, 0.1)}


@pytest.mark.parametrize("reset", ["seconds", "fraction", "epoch"])
@pytest.mark.parametrize("shares", SHARES.values(), ids=SHARES)
@pytest.mark.parametrize(
    ("platform", "least_used"),
    [
        (lambda: Window(50, 1, on_the_clock=True), 0.9),
        (lambda: Window(50, 1, on_the_clock=False), 0.83),
        (lambda: Window(500, 10, on_the_clock=True), 0.95),
        (lambda: Window(1200, 60, on_the_clock=True), 0.95),
        (lambda: Bucket(50, 50), 0.95),
        (lambda: Bucket(50, 50, reset="next"), 0.95),
        (lambda: Bucket(100, 50), 0.95),
        # Of a window that slides the half that nobody had to wait for, and some more.
        (lambda: Sliding(50, 1), 0.55),
        (lambda: Sliding(500, 10), 0.9),
    ],
    ids=[
        "second",
        "second from the first",
        "10 s",
        "minute",
        "bucket",
        "next token",
        "large bucket",
        "sliding",
        "long",
    ],
)
def test_the_rate_is_used_and_no_429_comes(
    platform: "type[PlatformLimit]", least_used: float, shares: tuple[float, ...], reset: str
) -> None:
    """From the headers alone: fewer than 1 % of the requests are refused, and the allowed rate is used."""
    limit = platform()
    outcome = run_processes(limit, shares, seconds=SECONDS, reset=reset)
    assert outcome.refused_share < 0.01
    assert (outcome.answered - outcome.refused) / SECONDS / limit.per_second >= least_used


@pytest.mark.parametrize("skew_s", [-90.0, 90.0])
def test_clocks_that_differ(skew_s: float) -> None:
    """The platform's Date tells how its clock goes."""
    limit = Window(50, 1, on_the_clock=True)
    outcome = run_processes(limit, (0.5, 0.5), seconds=SECONDS, reset="epoch", skew_s=skew_s)
    assert outcome.refused_share < 0.01
    assert (outcome.answered - outcome.refused) / SECONDS / limit.per_second >= 0.9


def test_each_process_gets_its_share() -> None:
    """Three partitions against one: three times as many requests."""
    outcome = run_processes(Bucket(50, 50), (0.75, 0.25), seconds=SECONDS)
    large, small = (len(starts) for starts in outcome.starts)
    assert 2 <= large / small <= 4


def test_one_that_joins_late_and_one_that_knows_no_share() -> None:
    """Whoever spends more than its share slows the others down, and nobody is refused for it."""
    outcome = run_processes(Window(500, 10, on_the_clock=True), (1.0, 0.5), seconds=60, starts_at=(0.0, 15.0))
    assert outcome.refused_share < 0.01


def test_our_own_rate_holds_beside_the_platforms() -> None:
    """The lower of both."""
    policy = LimiterPolicy(max_in_flight=32, requests_per_second=20)
    outcome = run_processes(Bucket(50, 50), (0.5, 0.5), seconds=SECONDS, policy=policy)
    assert outcome.refused == 0
    assert 0.95 * 20 <= outcome.answered / SECONDS <= 1.05 * 20
