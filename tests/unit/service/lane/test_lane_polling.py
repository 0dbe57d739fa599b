"""How a lane reads on while much that it has read is not settled."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from service.lane import Lane
from tests.support.fakes import FakeTime, eventually, record, run
from tests.support.lane_world import SOURCES, FakeConsumer, World

MIB = 1024 * 1024
READS = 12
# A record of half a MiB is held with what is made of it, as twice as much; a call hands out four.
PADDING = b" " * (MIB // 2)
READ_BYTES = 4 * 2 * len(PADDING)


class Spoonwise(FakeConsumer):
    """Hands out two records of each partition at a call, and notes when."""

    def __init__(self, world: World, **options: Any) -> None:
        super().__init__(world, **options)
        self.handed_out_at: list[float] = []

    async def getmany(self, *, timeout_ms: int, max_records: int) -> Any:
        found = await super().getmany(timeout_ms=timeout_ms, max_records=2)
        if found:
            self.handed_out_at.append(self._world.time.monotonic())
        return found


def test_a_lane_that_holds_much_does_not_hurry_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading goes on at once until 16 MiB are held; behind that a moment is left to everybody else after each call,
    and never more than a moment."""

    async def reads(time: FakeTime) -> list[float]:
        world = World(time, "segments", lambda number, call: None)
        world.patches(monkeypatch)
        monkeypatch.setattr("service.lane.group.AIOKafkaConsumer", lambda **options: Spoonwise(world, **options))
        world.publish(READS * 4)
        for tp in SOURCES:
            world.log[tp] = [
                record(tp, one.offset, b"%d" % one.offset, (one.value or b"") + PADDING) for one in world.log[tp]
            ]
        lane = world.lane()
        running = asyncio.create_task(lane.run())
        await eventually(lambda: _have_been_made(world), every_s=0.01)
        await _stopped(lane, running)
        assert isinstance(world.consumer, Spoonwise)
        return world.consumer.handed_out_at

    times = run(reads)
    pauses = [round(later - earlier, 6) for earlier, later in pairwise(times)]
    at_once = 16 * MIB // READ_BYTES - 1
    assert pauses == [0.0] * at_once + [0.01] * (READS - 1 - at_once)


def _have_been_made(world: World) -> bool:
    return isinstance(world.consumer, Spoonwise) and len(world.consumer.handed_out_at) == READS


async def _stopped(lane: Lane, running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert lane.died is None
