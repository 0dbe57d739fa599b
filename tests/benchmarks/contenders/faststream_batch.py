"""FastStream's batch subscriber doing the same job without any of the guarantees.

``faststream_batch.py BOOTSTRAP URL EVENTS``.
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

from tests.benchmarks.workload import RESULTS, TOPIC

logging.disable(logging.WARNING)


async def main() -> None:
    bootstrap, url, events = sys.argv[1], sys.argv[2], int(sys.argv[3])
    # The results of a batch go out in one of the producer's batches, whose default of 16 KiB holds 49 of them.
    broker = KafkaBroker(bootstrap, logger=None, max_batch_size=1024 * 1024)
    finished = asyncio.Event()
    limit = asyncio.Semaphore(32)
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32))
    done = 0

    async def one(event: dict[str, Any]) -> dict[str, Any]:
        async with limit:
            data = event["data"]
            target = data["identifiers"]["np6"]
            for segment in data["segments"]["join"]:
                async with session.post(
                    f"{url}/targets/{target}/segments/{segment}", headers={"X-Key": "bench"}
                ) as response:
                    await response.read()
                    status = response.status
            return {
                "id": str(uuid.uuid4()),
                "event": {"id": event["id"], "source": event["source"], "type": event["type"]},
                "outcome": "delivered" if status < 300 else "failed",
                "status": status,
                "target": target,
                "completed_at": datetime.now(UTC).isoformat(),
            }

    @broker.subscriber(
        TOPIC, batch=True, max_records=500, group_id=f"faststream-{uuid.uuid4().hex}", auto_offset_reset="earliest"
    )
    async def handle(messages: list[dict[str, Any]]) -> None:
        nonlocal done
        results = await asyncio.gather(*[one(message) for message in messages])
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
