"""An operator's pause: no call that changes the platform starts; what has begun is brought to its end."""

import asyncio

from contracts.outcomes import Outcome
from service.delivery.limiter import LimiterPolicy
from tests.support.dispatching import Bench, account_for, running
from tests.support.fakes import FakePlatform, FakeTime, answer, join, run, settle_down


def test_a_paused_lane_starts_no_call_and_loses_none() -> None:
    """What runs is ended; what waits is delivered after the pause, in the order in which it waited."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time, takes_s=1.0)
        async with running(Bench(time, platform, concurrency=2)) as bench:
            bench.joins([f"t{n}" for n in range(6)])
            await settle_down()
            bench.dispatcher.pause("paused by ops@host: maintenance")
            await asyncio.sleep(600)
            assert platform.targets() == ["t0", "t1"]
            assert [item.outcome for item in bench.item_done] == [Outcome.DELIVERED] * 2
            assert bench.dispatcher.ready == 4
            assert len(list(bench.dispatcher.ready_loads())) == 4
            bench.dispatcher.unpause()
            await bench.until(6)
            assert platform.targets() == [f"t{n}" for n in range(6)]
            await bench.all_workers_work()

    run(main)


def test_a_confirming_request_goes_on_while_all_else_waits() -> None:
    """Also one that has to be tried again: no worker is kept by what may not start."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time, takes_s=1.0)
        platform.scripts["t0"] = [answer(409), answer(503), answer(200, b"[1]")]
        async with running(Bench(time, platform, concurrency=1)) as bench:
            bench.joins(["t0", "t1", "t2"])
            await settle_down()
            bench.dispatcher.pause("paused")
            await bench.until(1)
            assert [call.request.method for call in platform.calls] == ["POST", "GET", "GET"]
            await asyncio.sleep(600)
            assert len(platform.calls) == 3
            bench.dispatcher.unpause()
            await bench.until(3)

    run(main)


def test_who_waits_for_the_account_when_the_pause_comes_makes_no_call() -> None:
    """The place in line is given up; nothing of the account's is kept."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time, takes_s=5.0)
        account = account_for(time, platform, limits=LimiterPolicy(max_in_flight=1))
        async with running(Bench(time, platform, account=account, concurrency=3)) as bench:
            bench.joins(["t0", "t1", "t2"])
            await asyncio.sleep(1)
            bench.dispatcher.pause("paused")
            await asyncio.sleep(60)
            assert platform.targets() == ["t0"]
            assert account.limiter.in_flight == 0
            assert not account.is_waited_for
            bench.dispatcher.unpause()
            await bench.until(3)

    run(main)


def test_a_paused_lane_does_not_try_whether_its_hold_has_ended() -> None:
    """The hold outlives the pause, and is tried again after it."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        platform.scripts["t0"] = [answer(405)]
        async with running(Bench(time, platform, concurrency=2)) as bench:
            bench.joins(["t0", "t1"])
            await asyncio.sleep(1)
            assert bench.dispatcher.hold is not None
            calls = len(platform.calls)
            bench.dispatcher.pause("paused")
            await asyncio.sleep(3_600)
            assert len(platform.calls) == calls
            assert bench.dispatcher.hold is not None
            bench.dispatcher.unpause()
            await bench.until(2)
            assert bench.dispatcher.hold is None

    run(main)


def test_what_waits_for_a_retry_stays_behind_the_pause() -> None:
    """Its time comes and goes; it is called once the pause ends."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        platform.scripts["t0"] = [answer(503)]
        async with running(Bench(time, platform)) as bench:
            bench.joins(["t0"])
            await settle_down()
            bench.dispatcher.pause("paused")
            await asyncio.sleep(600)
            assert len(platform.calls) == 1
            bench.dispatcher.unpause()
            await bench.until(1)
            assert len(platform.calls) == 2

    run(main)


def test_what_waits_behind_a_pause_is_dropped_with_its_assignment() -> None:
    """The partitions are somebody else's after a rebalance."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        async with running(Bench(time, platform)) as bench:
            bench.dispatcher.pause("paused")
            bench.deliver(bench.source.item(b"k", join("t0")))
            await settle_down()
            assert bench.dispatcher.ready == 1
            bench.source.assignment.end()
            bench.dispatcher.forget()
            assert bench.dispatcher.ready == 0
            bench.dispatcher.unpause()
            await asyncio.sleep(60)
            assert platform.calls == []

    run(main)


def test_a_hold_of_the_account_is_not_tried_by_a_paused_lane() -> None:
    """Refused credentials are tried with a call that would change the platform."""

    async def main(time: FakeTime) -> None:
        platform = FakePlatform(time)
        platform.scripts["t0"] = [answer(401)]
        async with running(Bench(time, platform)) as bench:
            bench.joins(["t0"])
            await asyncio.sleep(1)
            assert bench.account.refused is not None
            bench.dispatcher.pause("paused")
            await asyncio.sleep(3_600)
            assert len(platform.calls) == 1
            bench.dispatcher.unpause()
            await bench.until(1)

    run(main)
