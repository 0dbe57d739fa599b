"""CPU seconds per 100,000 events from a backlog: Fanline and its peers, interleaved in one run, medians.

Two shapes. A request per event: ``segments``, with ``spine`` for all but the requests; peers ``faststream_batch`` and
``plain``. A request for up to 500: ``workflows``, and ``workflows_whole`` with the handler's default deadline and
``dedupe`` too; peers ``faststream_workflows`` and ``plain_workflows``.

``python -m tests.benchmarks.speed [--events 100000] [--rounds 3] [--only NAME ...]``. Everything runs on loopback:
Kafka, the sandbox and each contender are processes of their own; only the contender's CPU counts.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox.outages import Mode, Outage
from handlers.sandbox.server import serve
from service.localkafka import Cluster
from tests.benchmarks.workload import NOTIFICATIONS, PARTITIONS, RESULTS, TOPIC, WORKFLOW, event, notification
from tests.support.kafka import create_topics

# Fanline's lanes and their peers: what each name is compared with.
WORKFLOWS = ("workflows", "workflows_whole", "faststream_workflows", "plain_workflows")

CONTENDERS = Path(__file__).parent / "contenders"
_CONFIG = """
kafka: {{bootstrap_servers: ["{bootstrap}"], topic_prefix: {prefix}}}
results: {{topic: {results}}}
accounts:
  np6: {{platform: np6, base_url: "{url}", api_key: {{env: BENCH_KEY}}, limits: {{requests_per_second: null}}}}
lanes:
  bench:
    account: np6
"""
SEGMENTS = f"""
    handler: np6.segments
    topics: [{TOPIC}]
    where: data.change != "deleted"
    target: data.identifiers.np6
    join: data.segments.join
    leave: data.segments.leave
"""
_WORKFLOWS = f"""
    handler: np6.workflows
    topics: [{NOTIFICATIONS}]
    where: data.action == "activation"
    workflow: {WORKFLOW}
    receiver: {{type: id, value: data.target}}
    data: {{label: data.label, at: data.occurred_at}}
    batch: {{max_events: 500}}
"""
SPINE = SEGMENTS + "    dry_run: true\n"
# Without the deadline and the window against repeated events, which no peer has.
_BARE = _WORKFLOWS + "    deadline: null\n    dedupe: off\n"
_LANES = {"spine": SPINE, "segments": SEGMENTS, "workflows": _BARE, "workflows_whole": _WORKFLOWS}


def sandbox(ready: Any, hangs: bool = False) -> None:
    """The platform, in a process of its own; ``ready`` gets its address."""
    import uvloop

    def told(server: Any) -> None:
        if hangs:
            server.outages.set(Outage(Mode.HANG), time.monotonic())
        ready.put(server.base_url("np6", "bench"))

    uvloop.run(serve("127.0.0.1:0", ready=told, record=False, np6=Np6Sandbox(remember=False)))


async def fill(bootstrap: str, topic: str, event_of: Callable[[int, int], tuple[bytes, bytes]], events: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=256 * 1024)
    await producer.start()
    for n in range(events):
        key, value = event_of(n, events // 5)
        await producer.send(topic, value, key=key)
    await producer.stop()


def fanline(bootstrap: str, url: str, events: int, folder: Path, lane: str) -> list[str]:
    prefix = f"f-{secrets.token_hex(4)}"
    topics = [f"{prefix}.bench.{name}" for name in ("dead-letters", "replay", "journal")]
    shared = {f"{prefix}.status": 1, f"{prefix}.control": 1}
    asyncio.run(create_topics(bootstrap, dict.fromkeys(topics, PARTITIONS) | shared))
    path = folder / f"{prefix}.yaml"
    path.write_text(_CONFIG.format(bootstrap=bootstrap, prefix=prefix, results=RESULTS, url=url) + lane)
    return [str(CONTENDERS / "fanline.py"), str(path), str(events)]


def _command(name: str, bootstrap: str, url: str, events: int, folder: Path) -> list[str]:
    if name in _LANES:
        return fanline(bootstrap, url, events, folder, _LANES[name])
    return [str(CONTENDERS / f"{name}.py"), bootstrap, url, str(events)]


def measure(command: list[str], *, within_s: float = 900) -> dict[str, float]:
    environment = {**os.environ, "BENCH_KEY": "bench", "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=within_s, check=False
    )
    if run.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{run.stderr[-4000:]}")
    measured: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["spine", "segments", "faststream_batch", "plain"])
    options = parser.parse_args()
    queue: Any = multiprocessing.get_context("spawn").Queue()
    platform = multiprocessing.get_context("spawn").Process(target=sandbox, args=(queue,), daemon=True)
    platform.start()
    url = queue.get(timeout=30)
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in options.only}
    with Cluster() as cluster, tempfile.TemporaryDirectory() as folder:
        bootstrap = cluster.bootstrap_servers
        asyncio.run(create_topics(bootstrap, {TOPIC: PARTITIONS, NOTIFICATIONS: PARTITIONS, RESULTS: 12}))
        if set(options.only) - set(WORKFLOWS):
            asyncio.run(fill(bootstrap, TOPIC, event, options.events))
        if set(options.only) & set(WORKFLOWS):
            asyncio.run(fill(bootstrap, NOTIFICATIONS, notification, options.events))
        for round_ in range(options.rounds):
            for name in options.only:
                measured = measure(_command(name, bootstrap, url, options.events, Path(folder)))
                figures[name].append(measured)
                per = measured["cpu_s"] / options.events * 100_000
                print(
                    f"round {round_ + 1}  {name:20} {per:6.2f} CPU-s per 100,000   {measured['wall_s']:6.1f} s",
                    flush=True,
                )
    platform.terminate()
    medians = {
        name: statistics.median(one["cpu_s"] for one in runs) / options.events * 100_000
        for name, runs in figures.items()
    }
    print("\nmedians, CPU seconds per 100,000 events")
    for name, median in medians.items():
        ours = "workflows" if name in WORKFLOWS else "segments"
        ratio = f"   {median / medians[ours]:.2f} x {ours}" if ours in medians else ""
        print(f"  {name:20} {median:6.2f}{ratio}")


if __name__ == "__main__":
    main()
