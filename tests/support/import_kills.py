"""SIGKILL of a process whose import lanes stand still, each at a point of its own; and its successor."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from contracts.journal import DeliveryState
from handlers.sandbox import Step
from tests.support import import_halts
from tests.support.events import Feed
from tests.support.harness import ServiceProcess
from tests.support.import_halts import Point
from tests.support.import_stage import ORPHANS_LIVE_S, ImportStage
from tests.support.oracle import Expect, Place, Result, Source, delivered, until
from tests.support.patience import patiently

EVENTS = 40


def in_doubt(_place: Place, _source: Source) -> tuple[str, str | None]:
    """Every event is to be in doubt."""
    return "in_doubt", "interrupted"


class Scene(NamedTuple):
    """Where a lane is when its process is killed: at a ``point``, or while a ``call`` of a kind is under way, of which
    ``effect`` says whether the platform has carried it out; or after so many ``looks`` at the state.

    ``lapses``: what may be open keeps its slot for as long as one may live that nobody knows of. ``again``: what of the
    lane's configuration is another when the process comes back.
    """

    point: Point | None = None
    call: str | None = None
    effect: bool = False
    looks: int = 0
    keys: Mapping[str, Any] = {}
    lapses: bool = False
    expect: Expect = delivered
    again: Mapping[str, Any] = {}


class Killed:
    """A process whose lanes stand still, each where its scene says; its successor, and what came of it."""

    def __init__(self, stage: ImportStage, scenes: Mapping[str, Scene]) -> None:
        self.stage = stage
        self.feed = Feed(15, seed=1)
        self._scenes = scenes
        self._folder: Path = stage.directory / "halts"
        self._folder.mkdir()
        self._service: ServiceProcess

    async def up_to_the_points(
        self, looks: str, has_effect: Callable[[str], object] = bool, ready: Callable[[], bool] = lambda: True
    ) -> None:
        """Publish, start, and kill when all lanes are where they are to be, and the test is ``ready``. ``looks`` is the
        call that polls; ``has_effect``: whether a lane's call that is under way has been carried out."""
        stage = self.stage
        for lane, scene in self._scenes.items():
            if scene.call is not None:
                stage.prescribe(lane, scene.call, Step(hang=True, effect=scene.effect))
        await stage.publish(self.feed.take(EVENTS))
        halts = {lane: scene.point for lane, scene in self._scenes.items() if scene.point is not None}
        environment = import_halts.environment(self._folder, halts)
        service = stage.process(module=import_halts.MODULE, environment=environment)
        service.start()
        await until(
            lambda: halts.keys() <= {file.name for file in self._folder.iterdir()},
            within_s=40,
            what="all at the points",
        )
        for lane, scene in self._scenes.items():
            if scene.call is not None:
                await stage.until_asked(lane, scene.call)
            if scene.effect:
                await until(partial(has_effect, lane), within_s=10, what=f"{lane}: it has taken effect")
            if scene.looks:
                await stage.until_asked(lane, looks, scene.looks)
        await until(ready, within_s=10, what="the test is ready")
        await stage.kill(service)
        stage.sandbox.prescriptions.clear()

    def come_back(self) -> None:
        """Another process, in which nothing stands still."""
        self.stage.change({lane: scene.again for lane, scene in self._scenes.items() if scene.again})
        environment = import_halts.environment(self._folder, {})
        self._service = self.stage.process("again", module=import_halts.MODULE, environment=environment)
        self._service.start()

    async def all_have_results(self, *, but: bool) -> None:
        """Wait for the results of all lanes, ``but`` those whose slot is taken by what nobody can ask about."""
        lanes = [
            lane for lane, scene in self._scenes.items() if not but or not scene.lapses or scene.expect is in_doubt
        ]
        events = len(self.feed.events)
        await self.stage.results.until(dict.fromkeys(lanes, events), within_s=60, alive=self._service.must_live)

    def let_time_pass(self) -> None:
        """Twice as long as an import can live that nobody knows of."""
        (self._folder / import_halts.CLOCK_FILE).write_text(str(2 * ORPHANS_LIVE_S))

    async def more(self, count: int) -> list[Place]:
        """Further events; where they lie."""
        return await self.stage.publish(self.feed.take(count))

    async def until_open(self, lanes: Sequence[str], state: DeliveryState) -> None:
        """Wait until the lanes' journals say so of an import each."""
        deadline = time.monotonic() + patiently(30)
        left = set(lanes)
        while left:
            assert time.monotonic() < deadline, f"no import of {left} is {state}"
            entries = await self.stage.open_entries()
            left = {lane for lane in left if state not in [entry.state for entry in entries.get(lane, ())]}

    async def check(self, expected: Mapping[str, Expect] | None = None) -> dict[str, list[Result]]:
        """One result for each event in each lane, as its scene says unless ``expected`` does, and nothing left in the
        journals; the results of each lane."""
        deadline = time.monotonic() + patiently(20)
        while left := await self.stage.open_entries():
            assert time.monotonic() < deadline, f"open in the journal: {left}"
        return await self.stage.check_all(
            {lane: scene.expect for lane, scene in self._scenes.items()} | (expected or {})
        )
