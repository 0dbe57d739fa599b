"""A plain aiokafka loop executing workflows, as its documentation has it: `plain_workflows.py BOOTSTRAP URL EVENTS`.

Takes up to 500 records, makes one request, sends a result for each event with ``send_and_wait``, commits. No order per
key, no retry, no fence, no journal.
"""

import json
import sys
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import aiohttp
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.benchmarks.workload import MEDIA_TYPE, NOTIFICATIONS, RESULTS, WORKFLOW

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
    consumer = AIOKafkaConsumer(
        NOTIFICATIONS,
        bootstrap_servers=bootstrap,
        group_id=f"plain-{uuid.uuid4().hex}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    path = f"{url}/scripting/workflows/{WORKFLOW}/executions"
    async with aiohttp.ClientSession() as session:
        began, cpu = time.monotonic(), time.process_time()
        await producer.start()
        await consumer.start()
        done = 0
        while done < events:
            batches = await consumer.getmany(timeout_ms=200, max_records=500)
            records = [record for batch in batches.values() for record in batch]
            if not records:
                continue
            batch = str(uuid.uuid4())
            wanted = [json.loads(record.value) for record in records]
            sent = [execution(event, batch) for event in wanted]
            async with session.post(path, data=json.dumps(sent), headers=HEADERS) as response:
                status, items = response.status, await response.json(content_type=None)
            for record, event, one, item in zip(records, wanted, sent, items, strict=True):
                value = json.dumps(result(event, one, status, item)).encode()
                await producer.send_and_wait(RESULTS, value, key=record.key)
            await consumer.commit()
            done += len(records)
        cpu, wall = time.process_time() - cpu, time.monotonic() - began
        await consumer.stop()
        await producer.stop()
    sys.stdout.write(json.dumps({"cpu_s": cpu, "wall_s": wall}) + "\n")


uvloop.run(main())
