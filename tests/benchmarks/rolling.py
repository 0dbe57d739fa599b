"""How long partitions stand still while replicas are restarted one after the other, or killed.

``python -m tests.benchmarks.rolling [--replicas 4] [--restarts 4] [--partitions 12] [--per-s 60]
[--members dynamic static] [--how stop kill] [--session-s 30] [--json FILE]``. A gap is the time between two results of
one partition, as a reader of committed records sees them, under a steady load (well below what the machine can do, or a
gap is a queue); beside it stands what the same partitions do while nothing happens. Each restarted replica is back at
work before the next one goes; a killed one comes back once its partitions have been taken over (a static member: at
once, as a StatefulSet does it).
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from service.localkafka import Cluster
from tests.support.events import Feed
from tests.support.harness import DRAIN_S, ServiceProcess, Stage
from tests.support.kafka import unique
from tests.support.oracle import repeats, until

_CALM_S = 10.0
_AT_WORK_S = 60.0
_SETTLES_S = 60.0
_LANES: dict[str, dict[str, Any]] = {"segments": {}}


class Span(NamedTuple):
    """A stretch of time in which something happened; monotonic seconds."""

    what: str
    from_s: float
    to_s: float


def longest_gaps(seen_s: Mapping[int, Sequence[float]], span: Span) -> dict[int, float]:
    """By partition: the longest time between two results of which at least a part lies in the span."""
    found: dict[int, float] = {}
    for partition, times in seen_s.items():
        inside = [
            later - earlier for earlier, later in pairwise(times) if later >= span.from_s and earlier <= span.to_s
        ]
        found[partition] = max(inside, default=0.0)
    return found


def phases(lines: Iterable[str]) -> dict[str, list[float]]:
    """From a process's log: the seconds of each step of its assignments; ``stood_s``, from the drain to reading on, of
    those that it lived through."""
    found: dict[str, list[float]] = defaultdict(list)
    drained_from: datetime | None = None
    for line in lines:
        if '"draining"' in line:
            drained_from = datetime.fromisoformat(json.loads(line)["timestamp"])
        elif '"service_stopped"' in line:
            drained_from = None
        elif '"partitions_assigned"' in line:
            told = json.loads(line)
            for name, value in told.items():
                if name.endswith("_s"):
                    found[name].append(value)
            if drained_from is not None:
                found["stood_s"].append((datetime.fromisoformat(told["timestamp"]) - drained_from).total_seconds())
                drained_from = None
    return found


class Rolling:
    """One run: replicas at work, one after the other restarted, and what their partitions did meanwhile."""

    def __init__(self, stage: Stage, options: argparse.Namespace, members: str, how: str) -> None:
        self.stage = stage
        self._how = how
        self._restarts = min(options.restarts or options.replicas, options.replicas)
        self._static = members == "static"
        self.processes = [self._process(number, members) for number in range(options.replicas)]
        self._read_up_to = dict.fromkeys(range(options.replicas), 0)
        self.spans: list[Span] = []
        self.seen_s: dict[int, list[float]] = defaultdict(list)
        self._looked_at = 0

    def _process(self, number: int, members: str) -> ServiceProcess:
        kafka = {"instance_id": f"pod-{number}"} if members == "static" else {}
        return self.stage.process(f"r{number}", account_suffix=f"-r{number}", kafka=kafka)

    async def run(self, feed: Feed, per_s: int) -> None:
        """All of it; at the end every event has a result."""
        looking = asyncio.create_task(self._look())
        try:
            for process in self.processes:
                process.start()
            async with self.stage.load(feed, per_s=per_s):
                await asyncio.gather(*(self._at_work(number) for number in range(len(self.processes))))
                await asyncio.sleep(_CALM_S)
                now = time.monotonic()
                self.spans.append(Span("calm", now - _CALM_S / 2, now))
                for number in range(self._restarts):
                    await self._restart(number)
                    await asyncio.sleep(_CALM_S / 2)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        await self.stage.settled_up_to(feed, "segments", within_s=_SETTLES_S)
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            assert await process.ended(within_s=DRAIN_S + 10) == 0, process.tail()

    async def _restart(self, number: int) -> None:
        process, began = self.processes[number], time.monotonic()
        self._read_up_to[number] = process.log.stat().st_size
        if self._how == "kill":
            others = self._assignments()
            process.kill()
            if not self._static:
                await until(
                    lambda: self._assignments() >= others + len(self.processes) - 1,
                    within_s=_AT_WORK_S,
                    what="the partitions have been taken over",
                )
        else:
            process.terminate()
            assert await process.ended(within_s=DRAIN_S + 10) == 0, process.tail()
        ended = time.monotonic()
        process.start()
        await self._at_work(number)
        self.spans.append(Span(f"r{number}", began, time.monotonic()))
        print(f"  r{number}: ended after {ended - began:.1f} s, at work after {time.monotonic() - began:.1f} s")

    def _assignments(self) -> int:
        return sum(process.log.read_bytes().count(b'"partitions_assigned"') for process in self.processes)

    async def _at_work(self, number: int) -> None:
        process = self.processes[number]

        def assigned() -> bool:
            return b'"partitions_assigned"' in process.log.read_bytes()[self._read_up_to[number] :]

        await until(assigned, within_s=_AT_WORK_S, what=f"r{number} has partitions")

    async def _look(self) -> None:
        """Take down when each result was seen."""
        results = self.stage.results
        while True:
            await results.look()
            now = time.monotonic()
            for result in results.found[self._looked_at :]:
                self.seen_s[result.place.partition].append(now)
            self._looked_at = len(results.found)

    def report(self) -> dict[str, Any]:
        """What happened, in seconds."""
        calm = longest_gaps(self.seen_s, self.spans[0])
        during = [longest_gaps(self.seen_s, span) for span in self.spans[1:]]
        worst = [max(gaps.values()) for gaps in during]
        every = [gap for gaps in during for gap in gaps.values()]
        accounts = [f"segments-r{number}" for number in range(len(self.processes))]
        steps: dict[str, list[float]] = defaultdict(list)
        for process in self.processes:
            for name, seconds in phases(process.log.read_text("utf-8", "replace").splitlines()).items():
                steps[name] += seconds
        return {
            "events": len(self.stage.results.found),
            "results_twice": len(self.stage.results.found) - len(self.stage.results.of("segments")),
            "calls_again": len(repeats(self.stage.calls(*accounts))),
            "gap_calm_s": round(max(calm.values()), 2),
            "gap_median_s": round(median(every), 2),
            "gap_longest_s": round(max(worst), 2),
            "gap_longest_of_each_restart_s": [round(gap, 2) for gap in worst],
            "restart_s": [round(span.to_s - span.from_s, 2) for span in self.spans[1:]],
            "steps_s": {
                name: {"median": round(median(found), 3), "max": round(max(found), 3)} for name, found in steps.items()
            },
        }


async def measure(servers: str, directory: Path, options: argparse.Namespace, members: str, how: str) -> dict[str, Any]:
    """One kind of membership and of ending."""
    times = {"session_timeout": f"{options.session_s}s", "transaction_timeout": f"{options.session_s // 2}s"}
    directory.mkdir()
    async with Stage(
        servers, unique("rolling"), directory, lanes=_LANES, sources={"contacts": options.partitions}, kafka=times
    ) as stage:
        rolling = Rolling(stage, options, members, how)
        await rolling.run(Feed(50 * options.partitions, seed=1), options.per_s)
        return rolling.report()


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """For people, in Markdown."""
    lines = [
        "| members, ended by | longest gap calm | median gap | longest gap | restart | calls again |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in found.items():
        lines.append(
            f"| {name} | {one['gap_calm_s']} s | {one['gap_median_s']} s | {one['gap_longest_s']} s "
            f"| {median(one['restart_s']):.1f} s | {one['calls_again']} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rolling", description=__doc__)
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--restarts", type=int, help="of so many of them; default: of all")
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--per-s", type=int, default=60)
    parser.add_argument("--members", nargs="+", choices=("dynamic", "static"), default=["dynamic", "static"])
    parser.add_argument("--how", nargs="+", choices=("stop", "kill"), default=["stop"])
    parser.add_argument("--session-s", type=int, default=30)
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--keep", type=Path, help="a folder for the processes' logs")
    options = parser.parse_args()
    # Whoever ends the run ends the processes that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary, Cluster() as cluster:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for members in options.members:
            for how in options.how:
                name = f"{members}, {how}"
                print(name)
                directory = folder / f"{members}-{how}"
                found[name] = asyncio.run(measure(cluster.bootstrap_servers, directory, options, members, how))
                print(json.dumps(found[name], indent=1))
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
