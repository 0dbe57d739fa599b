"""Time and peak memory of ``fanline audit`` over a lane that has settled many events.

``python -m tests.benchmarks.audit [--small 100000] [--large 1000000]``. Nothing is delivered: the source records, a
result of the published size for each and the group's offsets are written as a lane would have left them.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from service.localkafka import Cluster
from tests.benchmarks import speed
from tests.benchmarks.workload import PARTITIONS, RESULTS, TOPIC, event
from tests.support.kafka import create_topics, end_offsets

_RESULT = (
    '{"specversion":"1.0","id":"%s","source":"fanline/bench","type":"sync.result.v1","subject":"evt-%09d",'
    '"time":"2026-11-22T08:00:00.000Z","datacontenttype":"application/json","data":{"event":{"id":"evt-%09d","source":'
    '"urn:example:crm","type":"contact.changed.v1","tenant":null},"lane":"bench","handler":"np6.segments","platform":'
    '"np6","account":"bench","config":"9f3c2a10","outcome":"delivered","reason":null,"detail":null,"operations":[{"kind":'
    '"segment.join","target":"000PKXK4","entity":"501","outcome":"delivered","reason":null,"detail":null,"status":204,'
    '"reference":null,"attempts":1}],"attempts":1,"batch_id":"%s","coalesced_into":null,"origin":{"topic":"%s",'
    '"partition":%d,"offset":%d,"timestamp":"2026-11-22T08:00:00.000Z"},"replay":null,"dead_letter":false,"dry_run":false,'
    '"received_at":"2026-11-22T08:00:00.000Z","completed_at":"2026-11-22T08:00:00.000Z"}}'
)
_ID = "00000000-0000-5000-8000-000000000000"


async def _settle(bootstrap: str, group: str) -> int:
    """A result for each record of the source, and the group's offsets behind the last; how many events."""
    ends = await end_offsets(bootstrap, [TOPIC])
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=256 * 1024)
    await producer.start()
    for tp, end in ends.items():
        for offset in range(end):
            value = _RESULT % (_ID, offset, offset, _ID, TOPIC, tp.partition, offset)
            await producer.send(RESULTS, value.encode(), partition=offset % 12)
    await producer.stop()
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(list(ends))
        await consumer.commit({TopicPartition(tp.topic, tp.partition): end for tp, end in ends.items()})
    finally:
        await consumer.stop()
    return sum(ends.values())


def _measure(config: Path) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak MiB of an audit that proves the lane."""
    began = time.monotonic()
    command = [sys.executable, "-m", "service", "audit", "--config", str(config), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "BENCH_KEY": "any"})
    assert process.stdout is not None
    told = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    assert process.returncode == 0, told
    [lane] = json.loads(told)["lanes"].values()
    assert lane["events"] == lane["results"]["delivered"], lane
    unit = 1024 * (1024 if sys.platform == "darwin" else 1)
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit


def _run(events: int, folder: Path, report: Callable[[str], None]) -> None:
    with Cluster() as cluster:
        bootstrap = cluster.bootstrap_servers
        asyncio.run(create_topics(bootstrap, {TOPIC: PARTITIONS, RESULTS: 12}))
        asyncio.run(speed.fill(bootstrap, TOPIC, event, events))
        config = Path(speed.fanline(bootstrap, "http://127.0.0.1:1", events, folder, speed.SEGMENTS)[1])
        [prefix] = re.findall(r"topic_prefix: ([\w-]+)", config.read_text())
        written = asyncio.run(_settle(bootstrap, f"{prefix}.bench"))
        seconds, cpu_s, peak_mib = _measure(config)
        report(f"{written:>9,} events: {seconds:6.1f} s, {cpu_s:6.1f} CPU-s, peak {peak_mib:4.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=100_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for events in (options.small, options.large):
            _run(events, Path(folder), print)


if __name__ == "__main__":
    main()
