"""What is done with each event of a large import lets others go on."""

import asyncio
from collections.abc import Hashable, Sequence

import pytest

from service.imports.batching import ImportBatcher
from service.intake.item import Item
from service.lane.delivering import Delivering
from tests.support.fakes import FakeTime, eventually, run
from tests.support.import_world import ImportWorld, outcomes
from tests.support.lane_world import SOURCES
from tests.support.turns import ByTurns

EVENTS = 3_000
ASKED_S = 0.00005


async def one_import(time: FakeTime, patch: pytest.MonkeyPatch, options: str = "", **published: int) -> ImportWorld:
    """A lane from its start until 3,000 events that go into one import are settled."""
    batch = f"{{max_events: {EVENTS}, max_bytes: 10MB, linger: 1s}}"
    world = ImportWorld(time, slots=1, batch=batch, options=options)
    world.patches(patch)
    world.publish(EVENTS, **published)
    lane = world.lane()
    running = asyncio.create_task(lane.run())
    await eventually(world.settled, within_s=600)
    lane.stop()
    await running
    return world


def test_the_deadlines_of_an_import_are_looked_at_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a moment, longer behind many outages: of 3,000 no 1,000 are looked at without a pause."""

    async def main(time: FakeTime) -> None:
        asked, expires = ByTurns(), Delivering._expires_at_ms

        def slowly(self: Delivering, item: Item) -> float | None:
            asked.did(1)
            time.advance(ASKED_S)
            return expires(self, item)

        monkeypatch.setattr(Delivering, "_expires_at_ms", slowly)
        await one_import(time, monkeypatch, "deadline: 1h")
        assert sum(asked.counts) >= EVENTS
        assert max(asked.counts) < 1_000

    run(main, within_s=10_000)


def test_what_expired_frees_no_row_that_its_import_still_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two changes of a contact, and one of another with the same address, in the other slot: where the first has
    expired, the other one's import begins behind the second's all the same."""

    async def main(time: FakeTime) -> None:
        def expires(self: Delivering, item: Item) -> float | None:
            return 0.0 if (item.partition.tp, item.offset) == (SOURCES[0], 0) else None

        monkeypatch.setattr(Delivering, "_expires_at_ms", expires)
        world = ImportWorld(time, slots=2, options="deadline: 1h")
        world.patches(monkeypatch)
        world.email_of = "one@example.org".format
        for number, contact in ((0, 0), (1, 0)):
            world.publish_more(number, contact=contact)
        lane = world.lane()
        running = asyncio.create_task(lane.run())
        await eventually(lambda: lane.assignment is not None and lane.assignment.ready, within_s=60)
        world.publish_more(2, contact=1)
        await eventually(world.settled, within_s=600)
        lane.stop()
        await running
        assert outcomes(world.results()) == {"expired": 1, "delivered": 2}
        first, second = (n for n, kind in enumerate(world.kinds) if kind == "create")
        assert "status" in world.kinds[first:second]

    run(main, within_s=10_000)


def test_an_import_lets_others_go_on_while_its_keys_are_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 3,000 events, those of one slice at a time; in between the loop is free."""

    async def main(time: FakeTime) -> None:
        freed: list[int] = []
        free = ImportBatcher.free

        def slowly(self: ImportBatcher, keys: Sequence[Hashable]) -> None:
            freed.append(len(keys))
            time.advance(0.01)
            free(self, keys)

        monkeypatch.setattr(ImportBatcher, "free", slowly)
        await one_import(time, monkeypatch, contacts=EVENTS)
        assert sum(freed) == 2 * EVENTS
        assert max(freed) <= 500

    run(main, within_s=10_000)


def test_a_dry_run_ends_an_import_in_turns_and_calls_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 3,000 events no 1,000 without a pause; each has a result, and the platform is not asked for anything."""

    async def main(time: FakeTime) -> None:
        ended, end = ByTurns(), Delivering._items_ended

        def slowly(self: Delivering, items: Sequence[Item]) -> None:
            ended.did(len(items))
            time.advance(0.01)
            end(self, items)

        monkeypatch.setattr(Delivering, "_items_ended", slowly)
        world = await one_import(time, monkeypatch, "dry_run: true")
        results = world.results()
        assert outcomes(results) == {"delivered": EVENTS}
        assert {(one.attempts, one.status) for result in results for one in result.operations} == {(0, None)}
        assert not world.kinds
        assert sum(ended.counts) == EVENTS
        assert max(ended.counts) < 1_000

    run(main, within_s=10_000)
