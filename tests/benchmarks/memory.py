"""Peak memory over a backlog of 100,000 and of 1,000,000 events: it must not grow with the backlog.

``python -m tests.benchmarks.memory [--small 100000] [--large 1000000] [--rounds 1]``. Two shapes: a dry run, where
everything flows, and a platform that never answers, where the buffer fills and intake pauses.
"""

import argparse
import asyncio
import multiprocessing
import statistics
import tempfile
from pathlib import Path
from typing import Any

from service.localkafka import Cluster
from tests.benchmarks import speed
from tests.benchmarks.workload import PARTITIONS, RESULTS, TOPIC, event
from tests.support.kafka import create_topics

# A buffer that a backlog of 100,000 fills too: what is compared is the backlog behind a full buffer.
_BUFFER = "    buffer: 64MiB\n"
_HANGING_S = 20


def _peak(command: list[str]) -> float:
    return speed.measure(command)["peak_rss_kib"] / 1024


def _hanging(command: list[str]) -> list[str]:
    """The same lane, ended after a while in which nothing was answered."""
    path = Path(command[1])
    path.write_text(path.read_text() + _BUFFER)
    return [*command, str(_HANGING_S)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=100_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    queue: Any = multiprocessing.get_context("spawn").Queue()
    sandbox = multiprocessing.get_context("spawn").Process(target=speed.sandbox, args=(queue, True), daemon=True)
    sandbox.start()
    url = queue.get(timeout=30)
    peaks: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for events in (options.small, options.large):
            with Cluster() as cluster:
                bootstrap = cluster.bootstrap_servers
                asyncio.run(create_topics(bootstrap, {TOPIC: PARTITIONS, RESULTS: 12}))
                asyncio.run(speed.fill(bootstrap, TOPIC, event, events))
                for _ in range(options.rounds):
                    flowing = speed.fanline(bootstrap, url, events, Path(folder), speed.SPINE)
                    peaks.setdefault(("flowing", events), []).append(_peak(flowing))
                    hanging = _hanging(speed.fanline(bootstrap, url, events, Path(folder), speed.SEGMENTS))
                    peaks.setdefault(("platform hangs", events), []).append(_peak(hanging))
    sandbox.terminate()
    for shape in ("flowing", "platform hangs"):
        small, large = (statistics.median(peaks[shape, events]) for events in (options.small, options.large))
        print(
            f"{shape:15} {options.small:>9,}: {small:6.0f} MiB   {options.large:>9,}: {large:6.0f} MiB   "
            f"ratio {large / small:.2f}"
        )


if __name__ == "__main__":
    main()
