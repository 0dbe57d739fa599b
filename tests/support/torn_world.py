"""Imports of two partitions that two processes have by now, one after the other in fake time: each a whole lane."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from handlers.base import Hold, Reply
from handlers.imports.verdicts import Opened
from service.dedupe.readback import Records, Stretch
from service.imports.seams import Spooled
from service.lane import Lane
from tests.support.fakes import FakeTime, eventually
from tests.support.import_world import ACCOUNT, ImportWorld
from tests.support.lane_world import ALL, HOP_S

FIRST, SECOND = 0, 1


class TornWorld(ImportWorld):
    """One slot, and an import of all that is published. ``trouble`` meets whoever reads another's records."""

    def __init__(self, time: FakeTime, **given: Any) -> None:
        super().__init__(time, slots=1, **given)
        self.trouble: list[Exception] = []
        self.reads = 0
        # So many of them are gone without a word.
        self.compacted = 0
        self._holds_uploads = False

    def patches(self, patch: pytest.MonkeyPatch) -> None:
        super().patches(patch)
        patch.setattr("service.imports.others.ReadBack", lambda *_, **__: _Reading(self))

    async def lives(
        self, *partitions: int, until: Callable[[], bool], look: Callable[[Lane], None] | None = None
    ) -> None:
        """A process that has these partitions, until it is killed."""
        self.assigned = frozenset(tp for tp in ALL if tp.partition in partitions)
        lane = self.lane()
        running = asyncio.create_task(lane.run())
        await eventually(until, within_s=2_000, every_s=0.05)
        if look is not None:
            look(lane)
        running.cancel()
        await asyncio.wait({running})
        assert lane.died is None, self.observer.faults

    async def send(self, opened: Opened, file: Spooled) -> Reply | Hold:
        if self._holds_uploads:
            await asyncio.Event().wait()
        return await super().send(opened, file)

    async def until_created(self) -> None:
        """The import is open, and has no file."""
        self._holds_uploads = True
        await self.lives(FIRST, SECOND, until=lambda: self.states() == ["created", "created"])
        self._holds_uploads = False
        assert "upload" not in self.kinds

    def states(self) -> list[str]:
        """What the entries say, sorted."""
        return sorted(state for state, _ in self.open_entries())

    def for_s(self, seconds: float) -> Callable[[], bool]:
        """So long from now on."""
        until = self.time.monotonic() + seconds
        return lambda: self.time.monotonic() >= until

    def has_settled(self, count: int) -> Callable[[], bool]:
        """Whether so many events have a result, and nothing of them is on its way to the journal."""
        return lambda: len(self.results()) == count

    def uploaded(self) -> list[int]:
        """How often each import got its file, in order."""
        return [one.uploads for one in self.sandbox.imports(ACCOUNT)]


class _Reading:
    """In place of ``ReadBack``."""

    def __init__(self, world: TornWorld) -> None:
        self._world = world

    async def __aenter__(self) -> "_Reading":
        self._world.reads += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def read(
        self, stretches: Mapping[TopicPartition, Stretch], take: Callable[[TopicPartition, Records], None]
    ) -> None:
        await asyncio.sleep(HOP_S)
        if self._world.trouble:
            raise self._world.trouble.pop(0)
        for tp, stretch in stretches.items():
            take(tp, self._world.log[tp][stretch.at + self._world.compacted : stretch.end])
