"""What the watchdog does with a lane that stands still."""

import asyncio
from types import SimpleNamespace
from typing import Any

import structlog
from aiokafka.structs import TopicPartition

from service.lifecycle import LaneState
from service.status.reading import Reading
from service.watching.stacks import task_stacks
from service.watching.stalls import StallPolicy
from service.watching.watchdog import Watchdog
from tests.support.fakes import FakeTime, run

TP = TopicPartition("notes", 0)


class Lane:
    """Reads nothing although there is something to read. It ends when it is abandoned, unless it cannot."""

    def __init__(self) -> None:
        ledger = SimpleNamespace(position=4, low=4, deferred={}, room=lambda more: True)
        state = SimpleNamespace(tp=TP, ledger=ledger, items={}, reading_back=False)
        self.assignment = SimpleNamespace(partitions={TP: state})
        none = SimpleNamespace(carried_loads=list, parked_loads=list)
        self.dispatcher = none
        self.batcher = SimpleNamespace(open_until=list)
        self.bulks = None
        self.settler = SimpleNamespace(kept_back=[])
        self.account = None
        self.is_full = self.abandoned = self.stopping = False
        self.board = SimpleNamespace(state=LaneState.RUNNING)

    def stands_for(self, now: float) -> None:
        return None

    def abandon(self) -> None:
        self.abandoned = self.stopping = True


class Stage:
    """One process with two lanes, of which one stands still. A lane that is abandoned is replaced at once."""

    def __init__(self, time: FakeTime, *, ends: bool = True) -> None:
        self.time = time
        self.ends = ends
        self.stuck, self.other = Lane(), Lane()
        self.app = SimpleNamespace(lanes={"stuck": self.stuck, "other": self.other}, stalled={}, clock=time)
        app: Any = self.app
        self.watchdog = Watchdog(app, StallPolicy(), self._read)
        self.log: list[Any] = []

    async def _read(self) -> dict[str, list[Reading]]:
        return {"stuck": [Reading(TP, position=4, end=9)], "other": [Reading(TP, position=9, end=9)]}

    async def pass_time(self, seconds: int) -> None:
        with structlog.testing.capture_logs() as log:
            for _ in range(seconds // 5):
                await self.watchdog.look()
                if self.ends and self.app.lanes["stuck"].abandoned:
                    self.app.lanes["stuck"] = Lane()
                self.time.advance(5)
        self.log += log


def test_once_a_restart_of_that_lane_alone_then_livez() -> None:
    """One line each time; the second stall is told of in /livez, for as long as it lasts."""

    async def main(time: FakeTime) -> None:
        stage = Stage(time)
        await stage.pass_time(130)
        assert stage.stuck.abandoned
        assert not stage.other.abandoned
        assert stage.app.stalled == {}
        await stage.pass_time(200)
        assert stage.app.lanes["other"] is stage.other
        assert not stage.app.lanes["stuck"].abandoned
        assert stage.app.stalled == {
            "stuck": "stands still again after its restart: notes-0: to be read: the position does not move"
        }
        assert [(line["event"], line["lane"], line["then"]) for line in stage.log] == [
            ("lane_stalled", "stuck", "restart"),
            ("lane_stalled", "stuck", "livez fails"),
        ]
        line = stage.log[0]
        assert (line["topic"], line["partition"], line["offset"]) == ("notes", 0, None)
        assert line["stacks"]
        # It moves again: nobody needs a new process any more.
        stage.app.lanes["stuck"].assignment.partitions[TP].ledger.low = 5
        await stage.pass_time(5)
        assert stage.app.stalled == {}

    run(main)


def test_a_lane_that_does_not_end_leaves_no_room_for_a_new_one() -> None:
    """Its consumer still has the partitions: only a new process helps, at once."""

    async def main(time: FakeTime) -> None:
        stage = Stage(time, ends=False)
        await stage.pass_time(200)
        assert stage.app.stalled == {"stuck": "stood still, and does not end either"}
        assert [line["then"] for line in stage.log] == ["restart", "livez fails"]

    run(main)


def test_stacks_say_functions_and_lines_and_nothing_that_they_hold() -> None:
    """From the task's own coroutine to what it awaits in the end."""

    async def main(time: FakeTime) -> None:
        async def inner(secret: str) -> None:
            await asyncio.sleep(10)

        async def outer(secret: str) -> None:
            await inner(secret)

        tasks = [asyncio.create_task(outer("anna@example.com"), name="anna") for _ in range(3)]
        await asyncio.sleep(0)
        found = next(entry for entry in task_stacks() if entry["tasks"] == 3)
        places = found["stack"]
        assert isinstance(places, list)
        assert [place.rpartition(".")[2] for place in places] == ["outer", "inner", "sleep"] or len(places) == 3
        assert "anna" not in str(task_stacks())
        for task in tasks:
            task.cancel()

    run(main)
