"""A lane whose brokers go away while it starts."""

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError

from service.lane import Lane
from service.lifecycle import LaneState
from tests.support.fakes import FakeTime, eventually, run
from tests.support.lane_world import FakeConsumer, World


class Away:
    """The brokers: away for the first calls of one step, or for good."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.stopped = 0

    async def start(self, consumer: FakeConsumer) -> None:
        if self.times:
            self.times -= 1
            raise KafkaConnectionError("Unable to bootstrap")

    async def bootstrap(self) -> None:
        await self.start(None)  # type: ignore[arg-type] # there is none yet


def _world(time: FakeTime, patch: pytest.MonkeyPatch) -> World:
    world = World(time, "segments", lambda number, call: None)
    world.patches(patch)
    return world


async def _held(lane: Lane) -> None:
    await eventually(lambda: lane.board.state is LaneState.HOLDING)
    assert lane.board.reason == "kafka: the brokers cannot be reached"


@pytest.mark.parametrize("step", ["consumer", "client"])
def test_it_holds_until_the_brokers_are_back(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """It says so, and does all of its work then; nothing is left open of the attempts."""
    stopped: list[FakeConsumer] = []
    start, stop = FakeConsumer.start, FakeConsumer.stop
    away = Away(3)

    async def started(consumer: FakeConsumer) -> None:
        await away.start(consumer)
        await start(consumer)

    async def ended(consumer: FakeConsumer) -> None:
        stopped.append(consumer)
        await stop(consumer)

    async def main(time: FakeTime) -> None:
        world = _world(time, monkeypatch)
        lane = world.lane()
        if step == "client":
            monkeypatch.setattr(world.client, "bootstrap", away.bootstrap)
        world.publish(4)
        running = asyncio.create_task(lane.run())
        await _held(lane)
        await world.finished()
        lane.stop()
        await running
        world.check()

    monkeypatch.setattr(FakeConsumer, "stop", ended)
    if step == "consumer":
        monkeypatch.setattr(FakeConsumer, "start", started)
    run(main)
    assert len(stopped) == (4 if step == "consumer" else 1)


def test_it_stops_while_they_are_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop is not kept waiting, and is no fault."""

    async def main(time: FakeTime) -> None:
        world = _world(time, monkeypatch)
        lane = world.lane()
        monkeypatch.setattr(world.client, "bootstrap", Away(-1).bootstrap)
        running = asyncio.create_task(lane.run())
        await _held(lane)
        lane.stop()
        await running
        assert (lane.board.state, lane.board.reason, lane.died) == (LaneState.STOPPED, None, None)
        assert not world.client.open

    run(main)
