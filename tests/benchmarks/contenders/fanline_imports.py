"""Fanline with a lane of imports: `fanline_imports.py CONFIG EVENTS [--unwatched]` settles so many of a backlog.

Prints its CPU and wall seconds, and how many of these nothing was done but wait, its peak memory, its event loop's
longest turn, and how long imports were where. To watch the turns asks the clock of the CPU at each step of each task: a
seventh of what a lane takes that waits. ``--unwatched`` leaves that out.
"""

import asyncio
import json
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import uvloop

from service.app import KINDS, Application
from service.cli.run import tune_collector
from service.config import load
from service.imports.dispatcher import ImportDispatcher
from service.imports.runs import ImportRun, Stage
from service.lane import Lane
from service.telemetry import configure_logging
from service.telemetry.metrics import SETTLE_SECONDS

_SLOW_MS = 20.0
_TOO_LONG_MS = 50.0
_LOOK_EVERY_S = 0.1
# While nothing happens: each look counts as the lane's.
_LOOK_WAITING_S = 0.5
_WITHIN_S = 3_600.0


class _Timed(Coroutine[Any, Any, Any]):
    """A task's coroutine, whose steps are told of with the CPU milliseconds that each took of the loop's thread."""

    def __init__(self, of: Coroutine[Any, Any, Any], told: Callable[[float], None]) -> None:
        self._of = of
        self._told = told
        self.__qualname__ = getattr(of, "__qualname__", type(of).__name__)

    def send(self, value: Any) -> Any:
        began_s = time.thread_time()
        try:
            return self._of.send(value)
        finally:
            self._told((time.thread_time() - began_s) * 1000)

    def throw(self, *error: Any) -> Any:
        return self._of.throw(*error)

    def close(self) -> None:
        self._of.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._of.__await__()


class Turns:
    """What runs between two pauses of one task, of each task that begins from now on."""

    def __init__(self) -> None:
        self.longest_ms = 0.0
        self.over_20_ms = self.over_50_ms = 0
        asyncio.get_running_loop().set_task_factory(self._timed)

    def _timed(self, loop: asyncio.AbstractEventLoop, of: Any, **options: Any) -> "asyncio.Task[Any]":
        return asyncio.Task(_Timed(of, self._note), loop=loop, **options)

    def _note(self, took_ms: float) -> None:
        if took_ms > self.longest_ms:
            self.longest_ms = took_ms
        if took_ms > _SLOW_MS:
            self.over_20_ms += 1
            self.over_50_ms += took_ms > _TOO_LONG_MS

    def told(self) -> dict[str, float]:
        """The longest, and how many were long: until now, for to end a lane is another matter."""
        return {"longest_ms": self.longest_ms, "over_20_ms": self.over_20_ms, "over_50_ms": self.over_50_ms}


class Stages:
    """Seconds that imports have been at each stage, all of them together."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._last_s = time.monotonic()

    def look(self, runs: list[ImportRun]) -> None:
        now_s = time.monotonic()
        passed_s, self._last_s = now_s - self._last_s, now_s
        for run in runs:
            self.seconds[_stage(run)] += passed_s


class Waiting:
    """CPU seconds while nothing happens but that the platform is asked, or its rate waited for."""

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self.wall_s = 0.0
        self._last: tuple[float, float, object] | None = None

    def look(self, lane: Lane) -> bool:
        """Whether nothing has happened since the last look."""
        assert isinstance(lane.dispatcher, ImportDispatcher)
        assignment, runs = lane.assignment, lane.dispatcher.runs
        at_work = any(run.stage is not Stage.POLL and run.file is None for run in runs)
        read = () if assignment is None else tuple(s.ledger.position for s in assignment.partitions.values())
        state = (at_work, read, lane.core.settler.commits, lane.core.settler.pending, [run.stage for run in runs])
        wall_s, cpu_s = time.monotonic(), time.process_time()
        waits = False
        if self._last is not None and state == self._last[2] and not at_work:
            waits = True
            self.wall_s += wall_s - self._last[0]
            self.cpu_s += cpu_s - self._last[1]
        self._last = (wall_s, cpu_s, state)
        return waits


def _stage(run: ImportRun) -> str:
    if run.ends is not None:
        return "ending"
    match run.stage:
        case Stage.CREATE if run.file is None:
            return "file"
        case Stage.POLL:
            return "processing"
        case stage:
            return stage.value


def _left(lane: Lane, events: int) -> int:
    assignment = lane.assignment
    if assignment is None or not assignment.ready:
        return events
    states = [state for state in assignment.partitions.values() if not state.is_replay]
    return events - sum(state.ledger.low for state in states)


async def _settled(app: Application, events: int, stages: Stages, waiting: Waiting) -> None:
    (lane,) = app.lanes.values()
    assert isinstance(lane.dispatcher, ImportDispatcher)
    async with asyncio.timeout(_WITHIN_S):
        waits = False
        while _left(lane, events) > 0:
            await asyncio.sleep(_LOOK_WAITING_S if waits else _LOOK_EVERY_S)
            stages.look(lane.dispatcher.runs)
            waits = waiting.look(lane)


async def main() -> None:
    config = load(sys.argv[1], KINDS)
    app = Application(config, drain_s=1.0)
    configure_logging("warning", secrets=app.telemetry.secrets)
    stop = asyncio.Event()
    async with app:
        tune_collector()
        began, cpu = time.monotonic(), time.process_time()
        turns = None if "--unwatched" in sys.argv[3:] else Turns()
        stages, waiting = Stages(), Waiting()
        running = asyncio.create_task(app.run(stop))
        await _settled(app, int(sys.argv[2]), stages, waiting)
        cpu, wall = time.process_time() - cpu, time.monotonic() - began
        slow = {} if turns is None else turns.told()
        stop.set()
        await running
    settling = app.telemetry.metrics[SETTLE_SECONDS].histogram("bench")
    measured: dict[str, Any] = {
        "cpu_s": cpu,
        "wall_s": wall,
        "waiting_cpu_s": waiting.cpu_s,
        "waiting_s": waiting.wall_s,
        "peak_rss_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        **slow,
        "stages_s": {**stages.seconds, "settle": settling.sum},
    }
    sys.stdout.write(json.dumps(measured) + "\n")


uvloop.run(main())
