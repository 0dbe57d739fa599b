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


def lowered(ceiling: float = 64.0, *, refusals: int = 1) -> AdaptingConcurrency:
    """After some refusals, a second apart."""
    concurrency = AdaptingConcurrency()
    concurrency.set_ceiling(ceiling)
    for number in range(refusals):
        concurrency.lower(NOW + number)
    return concurrency


def test_it_begins_with_all_that_is_allowed() -> None:
    """Nothing is lower than the ceiling, and answers do not change that."""
    concurrency = AdaptingConcurrency()
    assert (concurrency.limit, concurrency.lowered) == (float("inf"), False)
    concurrency.set_ceiling(8)
    concurrency.note(0.1)
    concurrency.grow()
    assert (concurrency.limit, concurrency.lowered) == (8, False)
    concurrency.lower(NOW)
    assert (concurrency.limit, concurrency.lowered) == (4, True)


def test_refusals_within_a_second_count_once() -> None:
    """The next one after a second counts again."""
    concurrency = lowered()
    concurrency.lower(NOW + 0.99)
    assert concurrency.limit == 32
    concurrency.lower(NOW + 1.0)
    assert concurrency.limit == 16


def test_it_grows_by_one_a_round_and_twenty_times_slower_near_the_last_refusal() -> None:
    """From three quarters of where that came on; beyond it, as quick as before: that limit is gone."""
    concurrency = lowered(refusals=2)  # 16, and refused at 32
    for _ in range(16):
        concurrency.grow()
    assert concurrency.limit == pytest.approx(17, abs=0.1)
    concurrency.limit = 23.99
    concurrency.grow()
    assert concurrency.limit == pytest.approx(23.99 + 1 / 23.99)
    concurrency.limit = 24.0
    concurrency.grow()
    assert concurrency.limit == pytest.approx(24 + 1 / (24 * 20))
    concurrency.limit = 32.0
    concurrency.grow()
    assert concurrency.limit == pytest.approx(32 + 1 / (32 * 20))
    before = concurrency.limit
    concurrency.grow()
    assert concurrency.limit == pytest.approx(before + 1 / before)


def test_it_never_grows_beyond_what_is_allowed() -> None:
    """The last step is a shorter one."""
    concurrency = lowered()
    concurrency.limit = 63.9995
    concurrency.grow()
    assert concurrency.limit == 64
    concurrency.grow()
    assert concurrency.limit == 64


@pytest.mark.parametrize(
    ("slow_s", "answers", "grows"), [(0.24, 200, True), (0.26, 200, False), (1.0, 1, True), (1.0, 2, False)]
)
def test_answers_that_take_longer_stop_its_growth(slow_s: float, answers: int, grows: bool) -> None:
    """Twice the calm time and 50 ms more, over the latest answers; a single slow one is not enough."""
    concurrency = lowered()
    concurrency.note(0.1)
    for _ in range(answers):
        concurrency.note(slow_s)
    before = concurrency.limit
    concurrency.grow()
    assert (concurrency.limit > before) is grows


@pytest.mark.parametrize(("refusals", "grows"), [(2, True), (1, False)], ids=["a quarter", "a half"])
def test_with_few_in_flight_a_slower_platform_is_calm_again_soon(refusals: int, grows: bool) -> None:
    """Up to a quarter of the ceiling a hundred answers are enough; above it they are not."""
    concurrency = lowered(refusals=refusals)
    concurrency.note(0.1)
    for _ in range(100):
        concurrency.note(0.5)
    before = concurrency.limit
    concurrency.grow()
    assert (concurrency.limit > before) is grows


def test_a_platform_that_becomes_quicker_is_measured_by_that_soon() -> None:
    """After thirty quick answers the old time is slow."""
    concurrency = lowered()
    concurrency.note(1.0)
    for _ in range(60):
        concurrency.note(0.1)
    for _ in range(5):
        concurrency.note(1.0)
    before = concurrency.limit
    concurrency.grow()
    assert concurrency.limit == before


def test_where_the_refusal_came_is_shared_like_the_rest() -> None:
    """A quarter of the ceiling: the slow part begins at a quarter too. A ceiling that goes and comes forgets it."""
    concurrency = lowered(refusals=2)  # refused at 32 of 64
    concurrency.set_ceiling(16)
    assert concurrency.limit == 4
    for limit, rounds in ((5.9, 1), (6.0, 20)):
        concurrency.limit = limit
        concurrency.grow()
        assert concurrency.limit == pytest.approx(limit + 1 / (limit * rounds))
    concurrency.set_ceiling(float("inf"))
    assert (concurrency.limit, concurrency.lowered) == (float("inf"), False)


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
