"""A plain aiokafka loop as many write it: `plain.py BOOTSTRAP URL EVENTS`. No order per key, no retry, no fence.

Polls, decodes, posts with a bounded gather, sends a result for each event, commits. At most once or at least once,
as it happens.
"""

import asyncio
import json
import sys
import time
import uuid
from datetime import UTC, datetime

import aiohttp
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.benchmarks.workload import RESULTS, TOPIC


async def main() -> None:
    bootstrap, url, events = sys.argv[1], sys.argv[2], int(sys.argv[3])
    limit = asyncio.Semaphore(32)
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=bootstrap,
        group_id=f"plain-{uuid.uuid4().hex}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32)) as session:

        async def one(record: object) -> None:
            async with limit:
                event = json.loads(record.value)  # type: ignore[attr-defined] # a ConsumerRecord
                data = event["data"]
                target = data["identifiers"]["np6"]
                for segment in data["segments"]["join"]:
                    path = f"{url}/targets/{target}/segments/{segment}"
                    async with session.post(path, headers={"X-Key": "bench"}) as response:
                        await response.read()
                        status = response.status
                result = {
                    "id": str(uuid.uuid4()),
                    "event": {"id": event["id"], "source": event["source"], "type": event["type"]},
                    "outcome": "delivered" if status < 300 else "failed",
                    "status": status,
                    "target": target,
                    "completed_at": datetime.now(UTC).isoformat(),
                }
                await producer.send(RESULTS, json.dumps(result).encode(), key=record.key)  # type: ignore[attr-defined]

        began, cpu = time.monotonic(), time.process_time()
        await producer.start()
        await consumer.start()
        done = 0
        while done < events:
            batches = await consumer.getmany(timeout_ms=200, max_records=500)
            records = [record for batch in batches.values() for record in batch]
            if records:
                await asyncio.gather(*[one(record) for record in records])
                await producer.flush()
                await consumer.commit()
                done += len(records)
        cpu, wall = time.process_time() - cpu, time.monotonic() - began
        await consumer.stop()
        await producer.stop()
    sys.stdout.write(json.dumps({"cpu_s": cpu, "wall_s": wall}) + "\n")


uvloop.run(main())
