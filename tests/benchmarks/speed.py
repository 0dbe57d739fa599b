"""CPU seconds per 100,000 events from a backlog: Fanline and its peers, interleaved in one run, medians.

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
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox.outages import Mode, Outage
from handlers.sandbox.server import serve
from service.localkafka import Cluster
from tests.benchmarks.workload import PARTITIONS, RESULTS, TOPIC, event
from tests.support.kafka import create_topics

CONTENDERS = Path(__file__).parent / "contenders"
_CONFIG = """
kafka: {{bootstrap_servers: ["{bootstrap}"], topic_prefix: {prefix}}}
results: {{topic: {results}}}
accounts:
  np6: {{platform: np6, base_url: "{url}", api_key: {{env: BENCH_KEY}}, limits: {{requests_per_second: null}}}}
lanes:
  bench:
    handler: np6.segments
    account: np6
    topics: [{topic}]
    where: data.change != "deleted"
    target: data.identifiers.np6
    join: data.segments.join
    leave: data.segments.leave
    dry_run: {dry_run}
"""


def sandbox(ready: Any, hangs: bool = False) -> None:
    """The platform, in a process of its own; ``ready`` gets its address."""
    import uvloop

    def told(server: Any) -> None:
        if hangs:
            server.outages.set(Outage(Mode.HANG), time.monotonic())
        ready.put(server.base_url("np6", "bench"))

    uvloop.run(serve("127.0.0.1:0", ready=told, record=False, np6=Np6Sandbox(remember=False)))


async def fill(bootstrap: str, events: int, contacts: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=256 * 1024)
    await producer.start()
    for n in range(events):
        key, value = event(n, contacts)
        await producer.send(TOPIC, value, key=key)
    await producer.stop()


def fanline(bootstrap: str, url: str, events: int, folder: Path, *, dry_run: bool) -> list[str]:
    prefix = f"f-{secrets.token_hex(4)}"
    topics = [f"{prefix}.bench.{name}" for name in ("dead-letters", "replay", "journal")]
    shared = {f"{prefix}.status": 1, f"{prefix}.control": 1}
    asyncio.run(create_topics(bootstrap, dict.fromkeys(topics, PARTITIONS) | shared))
    path = folder / f"{prefix}.yaml"
    text = _CONFIG.format(
        bootstrap=bootstrap, prefix=prefix, results=RESULTS, url=url, topic=TOPIC, dry_run=str(dry_run).lower()
    )
    path.write_text(text)
    return [str(CONTENDERS / "fanline.py"), str(path), str(events)]


def _command(name: str, bootstrap: str, url: str, events: int, folder: Path) -> list[str]:
    match name:
        case "spine":
            return fanline(bootstrap, url, events, folder, dry_run=True)
        case "segments":
            return fanline(bootstrap, url, events, folder, dry_run=False)
        case _:
            return [str(CONTENDERS / f"{name}.py"), bootstrap, url, str(events)]


def measure(command: list[str]) -> dict[str, float]:
    environment = {**os.environ, "BENCH_KEY": "bench", "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=900, check=False
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
        asyncio.run(create_topics(bootstrap, {TOPIC: PARTITIONS, RESULTS: 12}))
        asyncio.run(fill(bootstrap, options.events, options.events // 5))
        for round_ in range(options.rounds):
            for name in options.only:
                measured = measure(_command(name, bootstrap, url, options.events, Path(folder)))
                figures[name].append(measured)
                per = measured["cpu_s"] / options.events * 100_000
                print(
                    f"round {round_ + 1}  {name:18} {per:6.2f} CPU-s per 100,000   {measured['wall_s']:6.1f} s",
                    flush=True,
                )
    platform.terminate()
    medians = {
        name: statistics.median(one["cpu_s"] for one in runs) / options.events * 100_000
        for name, runs in figures.items()
    }
    print("\nmedians, CPU seconds per 100,000 events")
    for name, median in medians.items():
        ratio = f"   {median / medians['segments']:.2f} x segments" if "segments" in medians else ""
        print(f"  {name:18} {median:6.2f}{ratio}")


if __name__ == "__main__":
    main()
