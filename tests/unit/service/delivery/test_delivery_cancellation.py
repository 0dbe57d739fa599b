"""Cancelled at any await, and whatever happens in any order: nothing is lost, nothing ends twice, no worker is."""

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.base import Failure, FailureKind, Reply
from service.delivery.adapting import AdaptingConcurrency
from service.delivery.breaker import BreakerPolicy, BreakerState
from service.delivery.guard import Guard, GuardPolicy
from service.delivery.limiter import LimiterPolicy
from service.delivery.retry import RetryPolicy
from tests.support.dispatching import Bench, account_for, running
from tests.support.fakes import DONE, Call, FakePlatform, FakeTime, Source, answer, join, leave, run

TROUBLE: list[Reply | BaseException] = [
    *[DONE] * 6,
    answer(404),
    answer(409),
    answer(500),
    answer(503),
    answer(429, retry_after="2"),
    answer(401),
    answer(403),
    answer(405),
    *(Failure(kind, "") for kind in FailureKind),
    ValueError("ours"),
]


def troubled(time: FakeTime, chance: Random) -> FakePlatform:
    """A platform that answers anything, after any time."""

    async def reply(call: Call) -> Reply | BaseException:
        await asyncio.sleep(chance.choice((0, 0.1, 1, 8)))
        return answer(200, b"[1]") if call.request.method == "GET" else chance.choice(TROUBLE)

    return FakePlatform(time, reply, takes_s=0)  # type: ignore[arg-type] # it raises what is an error


def bench_for(time: FakeTime, chance: Random) -> Bench:
    platform = troubled(time, chance)
    account = account_for(
        time,
        platform,
        limits=LimiterPolicy(max_in_flight=chance.choice((None, 1, 3))),
        breaker=BreakerPolicy(min_requests=5),
    )
    retry = RetryPolicy(first_delay_s=0.2, max_delay_s=2, max_attempts=3)
    guard = Guard(GuardPolicy(dead_letters=0.6, of_last=60))
    return Bench(time, platform, account=account, retry=retry, guard=guard, concurrency=chance.choice((1, 2, 5)))


def check(bench: Bench) -> None:
    """What has ended ended as a whole and in its key's order; nothing is held by what does not run any more."""
    dispatcher, account = bench.dispatcher, bench.account
    assert dispatcher.in_flight == 0
    assert account.limiter.in_flight == 0
    assert account.breaker.state is not BreakerState.PROBING
    assert account.refused is None or not account.refused.trying
    assert dispatcher.hold is None or not dispatcher.hold.trying
    last: dict[bytes | None, int] = {}
    for item in bench.item_done:
        if item.record.key is not None:
            assert item.offset > last.get(item.record.key, -1)
            last[item.record.key] = item.offset


@pytest.mark.parametrize("seed", range(60))
def test_a_dispatcher_that_is_cancelled_leaves_no_permit_and_no_half_told_end(seed: int) -> None:
    """At a random moment, between any two turns of the loop; what was not told of is unfinished."""

    async def main(time: FakeTime) -> None:
        chance = Random(seed)
        bench = bench_for(time, chance)
        task = asyncio.create_task(bench.dispatcher.run())
        items = []
        for number in range(30):
            operations = [chance.choice((join, leave))(f"T{number}o{n}") for n in range(chance.randrange(1, 3))]
            items.append(bench.source.item(b"%d" % chance.randrange(8), *operations))
        # One batch: nobody here keeps the order of keys between batches.
        bench.deliver(*items)
        await asyncio.sleep(chance.choice((0, 0.3, 3, 30, 400)) * chance.random())
        for _ in range(chance.randrange(20)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        check(bench)
        done = {id(item) for item in bench.item_done}
        for item in items:
            assert (item.outcome is not None) == (id(item) in done)
        calls = len(bench.platform.calls)
        await asyncio.sleep(1000)
        assert len(bench.platform.calls) == calls, "a timer or a task outlived the dispatcher"

    run(main)


STEPS = st.lists(
    st.sampled_from(["batch", "wait", "long wait", "drain", "lose", "resume", "resume account"]), max_size=25
)


@given(steps=STEPS, seed=st.integers(0, 10**6))
@settings(max_examples=80, deadline=None)
def test_no_worker_is_lost_whatever_happens(steps: list[str], seed: int) -> None:
    """Batches, drains, lost assignments and resumes among all troubles: afterwards every worker works."""

    async def main(time: FakeTime) -> None:
        chance = Random(seed)
        bench = bench_for(time, chance)
        number = 0
        async with running(bench):
            for step in steps:
                match step:
                    case "batch":
                        # Each batch has keys of its own, as the batcher would see to.
                        items = []
                        for n in range(chance.randrange(1, 8)):
                            number += 1
                            items.append(bench.source.item(b"%d" % (number - n % 2), join(f"T{number}")))
                        bench.deliver(*items)
                    case "wait":
                        await asyncio.sleep(chance.random())
                    case "long wait":
                        await asyncio.sleep(350)
                    case "drain" | "lose":
                        if step == "drain":
                            bench.source.assignment.draining = True
                            async with asyncio.timeout(60):
                                await bench.dispatcher.quiet()
                        bench.source.assignment.end()
                        bench.source = Source()
                        bench.dispatcher.forget()
                    case "resume":
                        bench.dispatcher.resume()
                    case "resume account":
                        bench.account.resume()
            # A GET that were answered without a body would be asked again for ever, where nobody else succeeds.
            bench.platform.replies = lambda call: answer(200, b"[1]") if call.request.method == "GET" else DONE
            bench.dispatcher.resume()
            expected = [item for item in bench.source.state().items.values() if item.outcome is None]
            async with asyncio.timeout(10_000):
                await bench.until(len(bench.item_done) + len(expected))
                # Whatever was counted before is over.
                await asyncio.sleep(400)
                bench.account.limiter._policy = LimiterPolicy()
                bench.account.limiter.set_share(1.0)
                bench.account.limiter._ceiling = 100.0
                bench.account.limiter._concurrency = AdaptingConcurrency()
                bench.account.limiter._concurrency.set_ceiling(100.0)
                # A breaker that is still open lets one try first, and the others in one after the other behind it.
                before = len(bench.item_done)
                bench.joins(["probe"])
                await bench.until(before + 1)
                await bench.all_workers_work()
        check_ends(bench)

    run(main)


def check_ends(bench: Bench) -> None:
    assert all(item.outcome is not None for item in bench.item_done)
    assert len({id(item) for item in bench.item_done}) == len(bench.item_done)
