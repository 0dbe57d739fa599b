"""A lane that is cancelled at any of its awaits loses nothing and acknowledges nothing that was not settled."""

import asyncio
from collections.abc import Callable

import pytest

from handlers.base import Answer, Reply
from service.lane import Lane
from tests.support.fakes import Call, FakeTime, eventually
from tests.support.lane_world import World
from tests.support.suspending import Cancelling, at_every_await

EVENTS = 6

# Where it has to have been cancelled, so that a life that became too short is noticed.
AWAITS = {
    "Lane.run",
    "start",
    "Group.committed",
    "Preparing._orders_known",
    "Preparing._journal",
    "Preparing._commit_beginnings",
    "begins",
    "Polling.run",
    "Polling._pass_holes",
    "Workers._work",
    "Account.send",
    "Settler.run",
    "Settler._commit",
    "Settler._pause",
    "Settler.drained",
    "HeldTimeWriter.run",
    "Lane._tick",
    "end_within",
}
OF_HANDLER = {
    "segments": {"Account.enter"},
    "workflows": {"JournalWriter.enter", "JournalWriter.take_out", "JournalWriter.run", "JournalWriter._committed"},
}


def _troubles(number: int, call: Call) -> Reply | None:
    """The second call is to come again, the third is refused."""
    return {1: Answer(503, {"retry-after": "0"}, b""), 2: Answer(422, {}, b"{}")}.get(number)


async def _life(world: World, cancelling: Cancelling) -> None:
    """Start, deliver, a rebalance in the middle of it, deliver the rest, stop."""
    lane = world.lane()
    running = asyncio.create_task(lane.run())
    cancelling.watch(running)
    rebalance = asyncio.create_task(_rebalance_when(world, lambda: world.calls >= 2))
    ends = asyncio.create_task(_stop_when_finished(world, lane))
    await asyncio.wait({running})
    cancelling.stop()
    for task in (rebalance, ends):
        task.cancel()
    await asyncio.gather(rebalance, ends, return_exceptions=True)
    assert running.cancelled() == cancelling.done, "the cancellation was swallowed"
    assert running.cancelled() or running.exception() is None
    assert lane.died is None
    assert not world.observer.faults
    assert not world.client.open
    assert world.platform.in_flight == world.account.limiter.in_flight == lane.dispatcher.in_flight == 0
    if world.consumer is not None:
        await world.consumer.late_assignment()
    assert lane.assignment is None or not lane.assignment.active


async def _rebalance_when(world: World, moment: Callable[[], bool]) -> None:
    await eventually(moment, every_s=0.002)
    assert world.consumer is not None
    world.consumer.rejoin()


async def _stop_when_finished(world: World, lane: Lane) -> None:
    await world.finished()
    lane.stop()


@pytest.mark.parametrize("handler", ["segments", "workflows"])
def test_a_lane_that_is_cancelled_at_any_await(handler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process goes on behind it: each record has one result, and no execution is made twice."""

    async def life(time: FakeTime, cancelling: Cancelling) -> None:
        world = World(time, handler, _troubles)
        world.patches(monkeypatch)
        world.publish(EVENTS)
        await _life(world, cancelling)
        if cancelling.done:
            await _life(world, Cancelling(-1))
        world.check()

    places = at_every_await(life, most=2_000)
    assert {place.partition(":")[0] for place in places} >= AWAITS | OF_HANDLER[handler]
