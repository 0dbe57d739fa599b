"""Fanline itself: `fanline.py CONFIG EVENTS [SECONDS]` settles so many events of a backlog, for so long at the most.

Prints its CPU and wall seconds and its peak memory.
"""

import asyncio
import json
import resource
import sys
import time
from contextlib import nullcontext, suppress

import uvloop

from service.app import KINDS, Application
from service.cli.run import tune_collector
from service.config import load
from service.telemetry import configure_logging


async def _settled(app: Application, events: int) -> None:
    (lane,) = app.lanes.values()
    async with asyncio.timeout(float(sys.argv[3]) if len(sys.argv) > 3 else 900):
        while True:
            assignment = lane.assignment
            if assignment is not None and assignment.ready:
                states = [state for state in assignment.partitions.values() if not state.is_replay]
                if sum(state.ledger.low for state in states) >= events:
                    return
            await asyncio.sleep(0.02)


async def main() -> None:
    config = load(sys.argv[1], KINDS)
    events = int(sys.argv[2])
    app = Application(config, drain_s=1.0)
    configure_logging("warning", secrets=app.telemetry.secrets)
    stop = asyncio.Event()
    async with app:
        tune_collector()
        began, cpu = time.monotonic(), time.process_time()
        running = asyncio.create_task(app.run(stop))
        with suppress(TimeoutError) if len(sys.argv) > 3 else nullcontext():
            await _settled(app, events)
        cpu, wall = time.process_time() - cpu, time.monotonic() - began
        stop.set()
        await running
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(json.dumps({"cpu_s": cpu, "wall_s": wall, "peak_rss_kib": peak}) + "\n")


uvloop.run(main())
