"""The order of a restart: a lane that stands still ends, another one begins, once, and only then is /livez asked."""

import asyncio
from types import SimpleNamespace
from typing import Any

from service.app import KINDS, Application
from service.config import loads
from service.status.health import live
from service.status.reading import Reading
from service.watching.stalls import StallPolicy
from service.watching.watchdog import Watchdog
from tests.support.fakes import FakeTime, run
from tests.unit.service.test_service_app import CONFIG
from tests.unit.service.watching.test_watching_watchdog import TP, Lane

ENDS_IN_S = 12.0


class Working(Lane):
    """Ends some time after it was abandoned: its transaction is aborted, its connections are closed."""

    def __init__(self, told: list[str]) -> None:
        super().__init__()
        self.died: str | None = None
        self._told = told
        self._stop = asyncio.Event()
        told.append("begins")

    async def run(self) -> None:
        await self._stop.wait()
        await asyncio.sleep(ENDS_IN_S)
        self._told.append("has ended")

    def abandon(self) -> None:
        super().abandon()
        self._told.append("is to end")
        self._stop.set()

    def stop(self) -> None:
        self._stop.set()


async def _for_ever() -> None:
    await asyncio.Event().wait()


def test_a_lane_takes_anothers_place_once_that_one_has_ended() -> None:
    """Two of one lane in a process would fence each other. When the second one stands still, too, that asks for a new
    process, and not for a third lane."""

    async def main(time: FakeTime) -> None:
        told: list[str] = []
        application: Any = Application(loads(CONFIG, KINDS), clock=time)
        application.lanes = {"one": Working(told)}
        application._control = SimpleNamespace(run=_for_ever)
        application._obeying = lambda *_: Working(told)

        async def read() -> dict[str, list[Reading]]:
            return {"one": [Reading(TP, position=4, end=9)]}

        stop, policy = asyncio.Event(), StallPolicy()
        running = asyncio.create_task(application.run(stop))
        watching = asyncio.create_task(Watchdog(application, policy, read).run())
        await asyncio.sleep(policy.stall_s + 11)
        assert told == ["begins", "is to end"]
        assert live(application).ok
        await asyncio.sleep(ENDS_IN_S)
        assert told == ["begins", "is to end", "has ended", "begins"]
        assert live(application).ok
        await asyncio.sleep(3 * policy.stall_s)
        assert told == ["begins", "is to end", "has ended", "begins"]
        assert not live(application).ok
        stop.set()
        await running
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    run(main)
