"""What a lane has settled it holds no longer: neither it nor what it was carried with."""

import asyncio
import gc
import sys

import pytest

from tests.support.fakes import FakeTime, run
from tests.support.import_world import ImportWorld
from tests.support.lane_world import SOURCES, World


def _world(kind: str, time: FakeTime) -> World:
    return ImportWorld(time) if kind == "imports" else World(time, kind, lambda number, call: None)


@pytest.mark.parametrize("kind", ["segments", "workflows", "imports"])
def test_what_is_settled_is_held_by_nobody(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever remembers the last he did until he does the next keeps an import's 50,000 events, and for minutes: beside
    the buffer, which counts them no longer. Nor do they wait for the collector of cycles, which looks seldom. Of calls
    with a single event the last is remembered, to know others from it."""

    async def main(time: FakeTime) -> None:
        world = _world(kind, time)
        world.patches(monkeypatch)
        world.publish(20)
        records = [record for tp in SOURCES for record in world.log[tp]]
        before = [sys.getrefcount(record) for record in records]
        lane = world.lane()
        running = asyncio.create_task(lane.run())
        await world.finished()
        # Once round for whoever asks at intervals.
        await asyncio.sleep(1)
        assert lane.core.buffer.held_bytes == 0
        after = [sys.getrefcount(record) for record in records]
        assert sum(after) - sum(before) == (1 if kind == "segments" else 0)
        lane.stop()
        await running

    gc.disable()
    try:
        run(main, within_s=1_000)
    finally:
        gc.enable()
