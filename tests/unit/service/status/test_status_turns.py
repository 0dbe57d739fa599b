"""The status of many partitions is told in turns."""

import asyncio

import pytest

from service.app import KINDS, Application
from service.config import loads
from service.status.reading import Reading, Readings
from service.status.snapshot import Status

CONFIGURATION = b"""
kafka: {bootstrap_servers: [localhost:9092], topic_prefix: p}
accounts: {a: {platform: np6, base_url: "https://api.example", api_key: {env: KEY}}}
lanes:
  one: {handler: np6.segments, account: a, topics: [contacts], target: data.identifiers.np6,
              join: data.segments.join, leave: data.segments.leave}
  two: {handler: np6.segments, account: a, topics: [contacts], target: data.identifiers.np6,
        join: data.segments.join, leave: data.segments.leave}
"""


async def test_others_go_on_between_the_steps_of_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read of a lane, what it waits for, which events wait longest: 8 ms each with 300 partitions, and no two
    of them in one turn."""
    turn, seen = 0, []

    async def others() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def read(self: Readings, now: float) -> list[Reading]:
        seen.append(turn)
        return []

    def told(self: Status, told: object, _: object) -> object:
        seen.append(turn)
        return told

    monkeypatch.setattr(Readings, "read", read)
    monkeypatch.setattr(Status, "_lane", told)
    monkeypatch.setattr(Status, "_report", told)
    app = Application(loads(CONFIGURATION, KINDS))
    app.lanes.update(dict.fromkeys(("one", "two")))  # type: ignore[arg-type] # nobody asks them
    status = Status(app)
    task = asyncio.create_task(others())
    assert await status.reports(5.0) == ["one", "two"]
    assert len(seen) == len(set(seen)) == 6
    seen.clear()
    assert (await status.document()).lanes == ["one", "two"]
    assert len(seen) == len(set(seen)) == 4
    task.cancel()
