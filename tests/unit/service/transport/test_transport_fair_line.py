"""The line of an account is fair between lanes, and in turn within a lane."""

import asyncio
from collections import Counter

import pytest

from service.delivery.limiter import LimiterPolicy
from service.transport.account import LaneFlow
from service.transport.fair_line import CREDIT_REQUESTS, FairLine, Flow
from tests.support.dispatching import account_for
from tests.support.fakes import FakeAccountObserver, FakePlatform, FakeTime, run
from tests.unit.service.transport.test_transport_account import REQUEST, always


def served(line: FairLine[str], count: int) -> list[str]:
    """The names of the next so many."""
    names = []
    for _ in range(count):
        found = line.first()
        assert found is not None
        line.serve(*found)
        names.append(found[0])
    return names


def test_turns_go_by_weight() -> None:
    """Two lanes of weights 1 and 3 with backlogs: every fourth turn is the first one's."""
    line: FairLine[str] = FairLine()
    light, heavy = Flow[str](1.0), Flow[str](3.0)
    for _ in range(100):
        line.add("light", light)
        line.add("heavy", heavy)
    assert Counter(served(line, 80)) == {"light": 20, "heavy": 60}


def test_a_backlog_does_not_keep_a_newcomer_waiting() -> None:
    """However many of the one lane wait, the other's first is next."""
    line: FairLine[str] = FairLine()
    large, small = Flow[str](), Flow[str]()
    for _ in range(1000):
        line.add("large", large)
    served(line, 10)
    line.add("small", small)
    assert served(line, 1) == ["small"]


def test_what_was_left_to_others_is_caught_up_within_a_bound() -> None:
    """A lane that waited for nothing goes first for so many requests, and takes turns then."""
    line: FairLine[str] = FairLine()
    large, small = Flow[str](), Flow[str]()
    for _ in range(3000):
        line.add("large", large)
    served(line, 1000)
    for _ in range(500):
        line.add("small", small)
    catching_up = served(line, int(CREDIT_REQUESTS))
    assert set(catching_up) == {"small"}
    turns = Counter(served(line, 200))
    assert abs(turns["small"] - turns["large"]) <= 2


def test_all_who_wait_are_told_in_the_order_of_their_turns() -> None:
    """Of equals the flow that has waited longer; all of a flow behind one another, also while some leave."""
    line: FairLine[str] = FairLine()
    first, second, third = Flow[str](0.5), Flow[str](), Flow[str]()
    for name, flow in (("a", first), ("b", second), ("c", first), ("d", second), ("e", third)):
        line.add(name, flow)
    assert served(line, 1) == ["a"]
    assert list(line) == [("b", second), ("d", second), ("e", third), ("c", first)]
    left = []
    for waiter, flow in line:
        left.append(waiter)
        line.remove(waiter, flow)
    assert (left, line.first()) == (["b", "d", "e", "c"], None)


def test_what_was_caught_up_is_not_caught_up_again() -> None:
    """A lane whose events come one at a time has its credit once, and not each time it waits anew."""
    line: FairLine[str] = FairLine()
    large, small = Flow[str](), Flow[str]()
    for _ in range(3000):
        line.add("large", large)
    served(line, 1000)
    turns: list[str] = []
    while len(turns) < 2 * CREDIT_REQUESTS:
        if not small.waiting:
            line.add("small", small)
        turns += served(line, 1)
    assert Counter(turns)["small"] <= 1.5 * CREDIT_REQUESTS + 2


def test_credit_is_counted_from_the_latest_turn() -> None:
    """A lane that comes while another one catches up gets no more than its own credit in front of the rest."""
    line: FairLine[str] = FairLine()
    large, small, third = Flow[str](), Flow[str](), Flow[str]()
    for _ in range(3000):
        line.add("large", large)
    served(line, 1000)
    line.add("small", small)
    assert served(line, 1) == ["small"]
    for _ in range(500):
        line.add("third", third)
    turns = Counter(served(line, 2 * int(CREDIT_REQUESTS)))
    assert turns["third"] <= 1.5 * CREDIT_REQUESTS + 2


def test_of_equals_the_one_that_has_waited_longer_is_next() -> None:
    """Whoever has just been served stands behind the others."""
    line: FairLine[str] = FairLine()
    double, single = Flow[str](2.0), Flow[str](1.0)
    for _ in range(10):
        line.add("double", double)
        line.add("single", single)
    assert served(line, 5) == ["double", "single", "double", "single", "double"]


def test_a_lane_alone_has_the_whole_account() -> None:
    """What another lane does not use is not kept for it."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time), limits=LimiterPolicy(requests_per_second=50))
        flow, began = LaneFlow(1.0), time.monotonic()

        async def one() -> None:
            permit = await account.enter(always, None, flow)
            assert permit is not None
            await account.send(REQUEST, permit, FakeAccountObserver())

        await asyncio.gather(*(one() for _ in range(100)))
        assert time.monotonic() - began < 2.05

    run(main)


@pytest.mark.parametrize("limits", [LimiterPolicy(requests_per_second=50), LimiterPolicy(max_in_flight=4)])
def test_a_few_are_not_slowed_down_by_many(limits: LimiterPolicy) -> None:
    """A hundred requests take hardly longer beside a lane that always has 64 in line than alone."""

    async def main(time: FakeTime, backlog: bool) -> float:
        account = account_for(time, FakePlatform(time, takes_s=0.1), limits=limits)
        large, small = LaneFlow(1.0), LaneFlow(1.0)

        async def work(flow: LaneFlow, times: int) -> None:
            for _ in range(times):
                permit = await account.enter(always, None, flow)
                assert permit is not None
                await account.send(REQUEST, permit, FakeAccountObserver())

        others = [asyncio.create_task(work(large, 1000)) for _ in range(64 if backlog else 0)]
        await asyncio.sleep(10)
        began = time.monotonic()
        await asyncio.gather(*(work(small, 5) for _ in range(20)))
        took = time.monotonic() - began
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        assert account.limiter.in_flight == 0
        return took

    alone, beside = run(lambda time: main(time, False)), run(lambda time: main(time, True))
    assert beside <= 1.2 * alone + 0.2


def test_one_cancelled_as_it_is_served_gives_the_permit_to_the_next() -> None:
    """Between the permit and the waking of its owner lies a moment."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time), limits=LimiterPolicy(max_in_flight=1))
        first = await account.enter(always)
        waiting = [asyncio.create_task(account.enter(always)) for _ in range(2)]
        await asyncio.sleep(1)
        assert first is not None
        account.abandon(first)  # hands the permit to the first of those that wait
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        assert await waiting[1] is not None
        assert account.limiter.in_flight == 1
        assert not account.is_waited_for

    run(main)


def test_a_lane_that_waits_for_the_window_says_so() -> None:
    """It holds for the rate limit while somebody waits for it, and no longer."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time))
        headers = {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}
        account.limiter.observe(headers, 204, time.monotonic(), time.wall_ms() / 1000)
        assert account.holding() is None
        waiting = asyncio.create_task(account.enter(always))
        await asyncio.sleep(1)
        assert "rate limit" in str(account.holding())
        began = time.monotonic()
        assert await waiting is not None
        assert 28 <= time.monotonic() - began <= 30
        assert account.holding() is None

    run(main)
