"""What a lane has settled it holds no longer: neither it nor what it was carried with."""

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable

import pytest

from tests.support.fakes import FakeTime, run
from tests.support.import_world import ACCOUNT, ImportWorld
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
        world.publish(20)
        assert await _held(world, monkeypatch) == (1 if kind == "segments" else 0)

    _without_collector(main)


def test_an_import_whose_end_nobody_tells_holds_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its events are in doubt and settled; it is asked about for as long as the platform says that it goes on."""

    async def main(time: FakeTime) -> None:
        world = ImportWorld(time, rules={"stuck_at": "in_progress"})
        world.publish(4)
        assert await _held(world, monkeypatch) == 0
        assert [one.ended for one in world.sandbox.imports(ACCOUNT)] == [None, None]

    _without_collector(main)


async def _held(world: World, patch: pytest.MonkeyPatch) -> int:
    """A lane until all is settled; how many references to records are left then."""
    world.patches(patch)
    records = [record for tp in SOURCES for record in world.log[tp]]
    before = [sys.getrefcount(record) for record in records]
    lane = world.lane()
    running = asyncio.create_task(lane.run())
    await world.finished()
    # Once round for whoever asks at intervals.
    await asyncio.sleep(1)
    assert lane.core.buffer.held_bytes == 0
    after = [sys.getrefcount(record) for record in records]
    lane.stop()
    await running
    return sum(after) - sum(before)


def _without_collector(main: Callable[[FakeTime], Awaitable[None]]) -> None:
    gc.disable()
    try:
        run(main, within_s=100_000)
    finally:
        gc.enable()
