"""FastStream's batch subscriber executing workflows, one request for each batch, without any of the guarantees.

``faststream_workflows.py BOOTSTRAP URL EVENTS``. Events are dicts, the cheaper way; what fails is told and lost.
"""

import asyncio
import json
import logging
import sys
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import aiohttp
import uvloop
from faststream import FastStream
from faststream.kafka import KafkaBroker

from tests.benchmarks.workload import MEDIA_TYPE, NOTIFICATIONS, RESULTS, WORKFLOW

logging.disable(logging.WARNING)
HEADERS = {"X-Key": "bench", "Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE}


def execution(event: dict[str, Any], batch: str) -> dict[str, Any]:
    data = event["data"]
    return {
        "id": str(uuid.uuid4()),
        "stamp": {"time": int(time.time() * 1000), "id": str(uuid.uuid4()), "thread": event["id"], "set": batch},
        "receiver": {"type": "id", "value": data["target"]},
        "data": {"label": data.get("label"), "at": data["occurred_at"]},
    }


def result(event: dict[str, Any], sent: dict[str, Any], status: int, item: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "event": {"id": event["id"], "source": event["source"], "type": event["type"]},
        "outcome": "delivered" if item["type"] == "success" else "failed",
        "status": status,
        "target": sent["receiver"]["value"],
        "reference": sent["id"],
        "completed_at": datetime.now(UTC).isoformat(),
    }


async def main() -> None:
    bootstrap, url, events = sys.argv[1], sys.argv[2], int(sys.argv[3])
    # The results of a batch go out in one of the producer's batches, whose default of 16 KiB holds 40 of them.
    broker = KafkaBroker(bootstrap, logger=None, max_batch_size=1024 * 1024)
    finished = asyncio.Event()
    session = aiohttp.ClientSession()
    done = 0

    @broker.subscriber(
        NOTIFICATIONS,
        batch=True,
        max_records=500,
        group_id=f"faststream-{uuid.uuid4().hex}",
        auto_offset_reset="earliest",
    )
    async def handle(messages: list[dict[str, Any]]) -> None:
        nonlocal done
        batch = str(uuid.uuid4())
        wanted = [event for event in messages if event["data"]["action"] == "activation"]
        sent = [execution(event, batch) for event in wanted]
        path = f"{url}/scripting/workflows/{WORKFLOW}/executions"
        async with session.post(path, data=json.dumps(sent), headers=HEADERS) as response:
            status, items = response.status, await response.json(content_type=None)
        results = [result(*pair, status, item) for *pair, item in zip(wanted, sent, items, strict=True)]
        await broker.publish_batch(*results, topic=RESULTS)
        done += len(messages)
        if done >= events:
            finished.set()

    app = FastStream(broker)
    began, cpu = time.monotonic(), time.process_time()
    await app.start()
    await finished.wait()
    cpu, wall = time.process_time() - cpu, time.monotonic() - began
    await app.stop()
    await session.close()
    sys.stdout.write(json.dumps({"cpu_s": cpu, "wall_s": wall}) + "\n")


uvloop.run(main())
