"""What is done with each event of a large import lets others go on."""

import asyncio

import pytest

from service.intake.item import Item
from service.lane.delivering import Delivering
from tests.support.fakes import FakeTime, eventually, run
from tests.support.import_world import ImportWorld

EVENTS = 3_000
ASKED_S = 0.00005


def test_the_deadlines_of_an_import_are_looked_at_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a moment, longer behind many outages: of 3,000 no 1,000 are looked at without a pause."""

    async def main(time: FakeTime) -> None:
        asked: list[int] = []  # by turns of the event loop
        goes_on = False
        expires = Delivering._expires_at_ms

        def turn_ends() -> None:
            nonlocal goes_on
            goes_on = False

        def slowly(self: Delivering, item: Item) -> float | None:
            nonlocal goes_on
            if not goes_on:
                asked.append(0)
                asyncio.get_running_loop().call_soon(turn_ends)
            goes_on = True
            asked[-1] += 1
            time.advance(ASKED_S)
            return expires(self, item)

        monkeypatch.setattr(Delivering, "_expires_at_ms", slowly)
        batch = f"{{max_events: {EVENTS}, max_bytes: 10MB, linger: 1s}}"
        world = ImportWorld(time, slots=1, batch=batch, options="deadline: 1h")
        world.patches(monkeypatch)
        world.publish(EVENTS)
        lane = world.lane()
        running = asyncio.create_task(lane.run())
        await eventually(world.settled, within_s=600)
        lane.stop()
        await running
        assert sum(asked) >= EVENTS
        assert max(asked) < 1_000

    run(main, within_s=10_000)
