"""Fanline with a lane of imports: `fanline_imports.py CONFIG EVENTS` settles so many events of a backlog.

Prints its CPU and wall seconds, its peak memory, its event loop's longest turn, and how long imports were where.
"""

import asyncio
import json
import resource
import sys
import time
from collections import defaultdict
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

_LOOK_EVERY_S = 0.01
_TURNS_A_LOOK = 10
_WITHIN_S = 3_600.0


class Turns:
    """CPU seconds of the loop's thread from one look to the next: no turn in between took longer."""

    def __init__(self) -> None:
        self.longest_ms = 0.0
        self.over_50_ms = 0
        self._last_s = time.thread_time()

    def look(self) -> None:
        now_s = time.thread_time()
        took_ms = (now_s - self._last_s) * 1000
        self._last_s = now_s
        self.longest_ms = max(self.longest_ms, took_ms)
        self.over_50_ms += took_ms > 50


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


async def _settled(app: Application, events: int, turns: Turns, stages: Stages) -> None:
    (lane,) = app.lanes.values()
    assert isinstance(lane.dispatcher, ImportDispatcher)
    async with asyncio.timeout(_WITHIN_S):
        while _left(lane, events) > 0:
            for _ in range(_TURNS_A_LOOK):
                await asyncio.sleep(_LOOK_EVERY_S)
                turns.look()
            stages.look(lane.dispatcher.runs)


async def main() -> None:
    config = load(sys.argv[1], KINDS)
    app = Application(config, drain_s=1.0)
    configure_logging("warning", secrets=app.telemetry.secrets)
    stop = asyncio.Event()
    async with app:
        tune_collector()
        began, cpu = time.monotonic(), time.process_time()
        running = asyncio.create_task(app.run(stop))
        turns, stages = Turns(), Stages()
        await _settled(app, int(sys.argv[2]), turns, stages)
        cpu, wall = time.process_time() - cpu, time.monotonic() - began
        stop.set()
        await running
    settling = app.telemetry.metrics[SETTLE_SECONDS].histogram("bench")
    measured: dict[str, Any] = {
        "cpu_s": cpu,
        "wall_s": wall,
        "peak_rss_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "longest_ms": turns.longest_ms,
        "over_50_ms": turns.over_50_ms,
        "stages_s": {**stages.seconds, "settle": settling.sum},
    }
    sys.stdout.write(json.dumps(measured) + "\n")


uvloop.run(main())
