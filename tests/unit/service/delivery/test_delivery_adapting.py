"""How many requests at the same time an account bears is found, kept to, and found again."""

import heapq
from collections.abc import Callable
from itertools import pairwise

import pytest

from service.delivery.adapting import AdaptingConcurrency
from service.delivery.limiter import AccountLimiter, LimiterPolicy

NOW = 1_000.0


class Load:
    """As much as may be in flight always is; ``platform`` says of (in flight, now) status and seconds of a request."""

    def __init__(self, platform: Callable[[int, float], tuple[int | None, float]], *, adaptive: bool = True) -> None:
        self.limiter = AccountLimiter(LimiterPolicy(max_in_flight=64, adaptive=adaptive))
        self.platform = platform
        self.now = NOW
        self.limits: list[tuple[float, float]] = []
        self.done = self.refused = 0
        self._ends: list[tuple[float, int, float, int | None]] = []
        self._count = 0

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        self.limits, self.done, self.refused = [], 0, 0
        while self.now < until:
            while (wait_s := self.limiter.admit(self.now)) == 0.0:
                status, took_s = self.platform(self.limiter.in_flight, self.now)
                self._count += 1
                heapq.heappush(self._ends, (self.now + took_s, self._count, self.now, status))
            if not self._ends or self.now + wait_s < self._ends[0][0]:
                self.now += wait_s
                continue
            self.now, _, began, status = heapq.heappop(self._ends)
            self.limiter.release()
            if status is None:
                self.limiter.timed_out(self.now)
            else:
                headers = {"retry-after": "1"} if status == 503 else {}
                self.limiter.observe(headers, status, self.now, self.now, began)
            self.done += status == 204
            self.refused += status != 204
            self.limits.append((self.now, self.limiter.concurrency_limit))


def hard(most: int, seconds: float = 0.1) -> Callable[[int, float], tuple[int | None, float]]:
    """Refuses what goes over ``most`` at the same time."""
    return lambda in_flight, _: (204, seconds) if in_flight <= most else (503, 0.01)


def test_it_stays_under_a_limit_that_nobody_tells() -> None:
    """A platform that bears 24 at the same time: after a minute 19 of 20 requests and more get through, at two thirds
    of what it can do, between 8 and 25 in flight. Without it more are refused than half of those that get through."""
    load = Load(hard(24))
    load.run(60)
    load.run(120)
    assert load.refused < load.done / 20
    assert load.done > 120 * 240 * 0.66
    assert min(limit for _, limit in load.limits) >= 8
    assert max(limit for _, limit in load.limits) < 26
    rigid = Load(hard(24), adaptive=False)
    rigid.run(60)
    assert rigid.refused > rigid.done / 2


def test_it_does_not_swing_wildly() -> None:
    """Once settled it is lowered at most once in five seconds, to half and not further, and rises by steps."""
    load = Load(hard(24))
    load.run(60)
    load.run(120)
    falls = [(at, before, after) for (_, before), (at, after) in pairwise(load.limits) if after < before]
    assert len(falls) <= 120 / 5
    assert all(after >= before / 2 for _, before, after in falls)
    assert all(after - before <= 1 for (_, before), (_, after) in pairwise(load.limits))


def test_it_goes_up_again_when_the_platform_bears_more() -> None:
    """From 8 to all 64 within two minutes."""
    load = Load(hard(8))
    load.run(60)
    assert load.limiter.concurrency_limit <= 9
    load.platform = hard(1_000)
    load.run(120)
    assert load.limiter.concurrency_limit == 64


def test_it_does_not_grow_while_answers_take_longer() -> None:
    """Beyond 16 the platform only queues: latency is no longer flat, and more in flight brings nothing."""
    load = Load(lambda in_flight, _: (204, 0.1 * max(1.0, in_flight / 16)))
    for second in range(5):
        load.limiter.timed_out(NOW + second)
    load.now = NOW + 5
    load.run(30)
    assert 16 <= load.limiter.concurrency_limit <= 56
    assert load.done > 30 * 160 * 0.8


def test_a_platform_that_slows_down_for_all_is_not_asked_by_ones_and_twos_for_ever() -> None:
    """After quick answers and some refusals it takes eight times as long, whatever is in flight: all 64 again within
    40 s. Seen once as one to three in flight for eight minutes, with thousands of events behind them."""
    load = Load(lambda in_flight, now: (204, 0.02 if now < NOW + 30 else 0.16))
    load.run(30)
    for second in range(6):
        load.limiter.timed_out(NOW + 30 + second)
    load.run(40)
    assert load.limiter.concurrency_limit == 64


def test_time_outs_lower_it() -> None:
    """Those that were in flight together count once."""
    concurrency = AdaptingConcurrency()
    concurrency.set_ceiling(32)
    for _ in range(32):
        concurrency.lower(NOW)
    assert concurrency.limit == 16
    for second in range(1, 20):
        concurrency.lower(NOW + second)
    assert concurrency.limit == 1


def test_a_share_keeps_what_was_found() -> None:
    """Half of the ceiling before is half of the ceiling after; never under one."""
    concurrency = AdaptingConcurrency()
    concurrency.set_ceiling(32)
    concurrency.lower(NOW)
    concurrency.set_ceiling(8)
    assert concurrency.limit == 4
    concurrency.set_ceiling(1)
    assert concurrency.limit == 1


@pytest.mark.parametrize("adaptive", [True, False])
def test_it_is_off_by_configuration(adaptive: bool) -> None:
    """``adaptive: false``: time-outs change nothing."""
    limiter = AccountLimiter(LimiterPolicy(max_in_flight=32, adaptive=adaptive))
    limiter.timed_out(NOW)
    assert limiter.concurrency_limit == (16 if adaptive else 32)


def test_without_a_limit_of_ours_there_is_none_to_lower() -> None:
    """Any number may be in flight, as before."""
    limiter = AccountLimiter(LimiterPolicy())
    limiter.timed_out(NOW)
    assert limiter.concurrency_limit == float("inf")
