"""The longest turns of the event loop, by what ran: a lane works off a backlog in this process.

``python -m tests.benchmarks.turns [SHAPE ...]``. CPU milliseconds of the loop's thread, so that other work on the
machine does not count. A turn is what runs between two pauses of one task; while it lasts every lane of the process
waits.
"""

import argparse
import asyncio
import asyncio.events
import gc
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from aiokafka import AIOKafkaProducer

from contracts.journal import Delivery, DeliveryKey, DeliveryState, encode_entry, encode_key
from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox import SandboxServer
from service.app import Application
from service.cli.run import tune_collector
from service.localkafka import Cluster
from service.status import Status, encode_status
from service.telemetry import SecretStrings, configure_logging
from tests.benchmarks.workload import event, notification
from tests.support.events import contact_event
from tests.support.harness import Stage
from tests.support.kafka import unique

# What stands in for others in this process.
_NOT_OURS = (
    "SandboxServer",
    "RequestHandler",
    "Results",
    "AIOKafkaProducer",
    "Sender",
    "main",
    *("_backlog", "_takeover", "_status"),
)
_TOLD_MS = 5.0
_SLOW_MS = 20.0
_WITHIN_S = 240.0

Record = tuple[bytes, bytes]
_turns: dict[str, list[float]] = defaultdict(list)


def _name(handle: asyncio.Handle) -> str:
    callback: Any = handle._callback
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return str(owner.get_coro().__qualname__)
    return str(getattr(callback, "__qualname__", callback))


def _watch() -> None:
    began_s = 0.0

    def collected(phase: str, _: dict[str, int]) -> None:
        nonlocal began_s
        if phase == "start":
            began_s = time.thread_time()
        elif (took_ms := (time.thread_time() - began_s) * 1000) > _TOLD_MS:
            _turns["of these, Python's collector"].append(took_ms)

    gc.callbacks.append(collected)
    original = asyncio.events.Handle._run

    def timed(self: asyncio.Handle) -> None:
        name = _name(self)
        began = time.thread_time()
        original(self)
        took_ms = (time.thread_time() - began) * 1000
        if took_ms > _TOLD_MS and not name.startswith(_NOT_OURS):
            _turns[name].append(took_ms)

    asyncio.events.Handle._run = timed


class Shape:
    """A backlog and a lane for it."""

    def __init__(
        self,
        records: Callable[[], Iterable[Record]],
        lane: dict[str, Any],
        *,
        partitions: int = 6,
        compression: str | None = None,
    ) -> None:
        self.records = records
        self.lane = lane
        self.partitions = partitions
        self.compression = compression


def _many() -> Iterable[Record]:
    return (event(n, 6_000) for n in range(30_000))


def _large() -> Iterable[Record]:
    attributes = {f"a{j:05d}": f"value {j * 7919}" for j in range(28_000)}
    for n in range(150):
        yield b"c%d" % n, contact_event(f"e{n}", f"c{n}", target=f"c{n}", join=[1], attributes=attributes)


def _dense() -> Iterable[Record]:
    """Compresses to an eighth: a batch of 16 MiB fits into what a topic takes."""
    seeded = Random(1)
    words = [f"{seeded.getrandbits(40):x}" for _ in range(50)]
    for n in range(3_000):
        random = Random(n)
        attributes = {f"a{j:05d}": " ".join(random.choices(words, k=60)) for j in range(60)}
        yield b"c%d" % (n % 12), contact_event(f"e{n}", f"c{n}", target=f"c{n}", join=[1], attributes=attributes)


def _notes() -> Iterable[Record]:
    return (notification(n, 20_000) for n in range(20_000))


def _heavy_notes() -> Iterable[Record]:
    for n in range(2_000):
        key, value = notification(n, 2_000)
        document = json.loads(value)
        document["data"]["context"] = {"page": f"{n} " + "x" * 20_000}
        yield key, json.dumps(document).encode()


_SEGMENTS = {"dry_run": True, "batch": {"max_events": 5_000, "linger": "200ms"}}
_WORKFLOWS = {"handler": "np6.workflows", "batch": {"max_events": 500, "linger": "100ms"}}
SHAPES = {
    "30,000 small events, settled 5,000 together": Shape(_many, _SEGMENTS),
    "150 events of 1 MiB": Shape(_large, _SEGMENTS),
    "record batches of 16 MiB, zstd": Shape(_dense, _SEGMENTS, partitions=2, compression="zstd"),
    "20,000 notifications, 500 in a request": Shape(_notes, _WORKFLOWS),
    "2,000 notifications of 20 KiB, 10 MiB in a request": Shape(
        _heavy_notes,
        {
            **_WORKFLOWS,
            "batch": {"max_events": 500, "max_bytes": "16MiB", "linger": "500ms"},
            "data": {"context": "data.context"},
        },
    ),
}


async def _fill(servers: str, topic: str, shape: Shape) -> int:
    producer = AIOKafkaProducer(
        bootstrap_servers=servers,
        compression_type=shape.compression,
        max_request_size=64 * 1024 * 1024,
        max_batch_size=16 * 1024 * 1024 if shape.compression else 256 * 1024,
        linger_ms=2_000 if shape.compression else 20,
    )
    await producer.start()
    count = 0
    try:
        for key, value in shape.records():
            await producer.send(topic, value, key=key)
            count += 1
    finally:
        await producer.stop()
    return count


@asynccontextmanager
async def _stage(servers: str, shape: Shape) -> AsyncIterator[Stage]:
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(
            servers,
            unique("turns"),
            Path(folder),
            lanes={"lane": shape.lane},
            sources={"contacts": shape.partitions},
            topic_config={"max.message.bytes": "20000000"},
        )
        stage.sandbox = SandboxServer(record=False, np6=Np6Sandbox(remember=False))
        async with stage:
            yield stage


def _begin() -> None:
    """From here on it counts, with Python's collector as the service sets it."""
    tune_collector()
    _turns.clear()


async def _settled(app: Application, count: int) -> None:
    lane = app.lanes["lane"]
    async with asyncio.timeout(_WITHIN_S):
        while True:
            assignment = lane.assignment
            if assignment is not None and assignment.ready:
                states = [state for state in assignment.partitions.values() if not state.is_replay]
                if sum(state.ledger.low for state in states) >= count:
                    return
            await asyncio.sleep(0.05)


async def _backlog(servers: str, shape: Shape) -> None:
    async with _stage(servers, shape) as stage:
        count = await _fill(servers, stage.topic(), shape)
        _begin()
        async with stage.application() as app:
            await _settled(app, count)


async def _takeover(servers: str) -> None:
    """20,000 open deliveries in the journal, and a dedupe window of 100,000 events, are read back."""
    shape = Shape(_notes, {**_WORKFLOWS, "dedupe": "7d"})
    async with _stage(servers, shape) as stage:
        count = await _fill(servers, stage.topic(), shape)
        async with stage.application() as app:
            await _settled(app, count)
        for _ in range(4):
            await _fill(servers, stage.topic(), shape)
        async with stage.application() as app:
            await _settled(app, 5 * count)
        producer = AIOKafkaProducer(bootstrap_servers=servers, linger_ms=20)
        await producer.start()
        for n in range(20_000):
            ranges = {stage.topic(): ((n % 6, n, n + 1),)}
            entry = Delivery("np6.workflows", DeliveryState.BEGUN, ranges, begun_at_ms=1)
            key = encode_key(DeliveryKey(f"b-{n}.x"))
            await producer.send(f"{stage.prefix}.lane.journal", encode_entry(entry), key=key, partition=n % 6)
        await producer.stop()
        await _fill(servers, stage.topic(), Shape(lambda: list(_notes())[:100], {}))
        _begin()
        async with stage.application() as app:
            await _settled(app, 5 * count + 100)


async def _status(servers: str) -> None:
    """The status of 300 partitions with 20,000 unfinished events."""
    shape = Shape(_notes, {**_WORKFLOWS, "dry_run": False, "dedupe": "off"}, partitions=300)
    async with _stage(servers, shape) as stage:
        await _fill(servers, stage.topic(), shape)
        stage.sandbox.refuse(600)
        async with stage.application() as app:
            lane = app.lanes["lane"]
            async with asyncio.timeout(_WITHIN_S):
                while (  # noqa: ASYNC110 - polls
                    lane.assignment is None or sum(len(s.items) for s in lane.assignment.partitions.values()) < 9_000
                ):
                    await asyncio.sleep(0.2)
            status = Status(app)
            _begin()
            for _ in range(5):
                encode_status(await asyncio.create_task(status.document(), name="document"))
                await asyncio.create_task(status.reports(5.0), name="reports")


WHOLE = {"a takeover: 20,000 open deliveries, a window of 100,000": _takeover, "status of 300 partitions": _status}


def _tell(name: str) -> None:
    slow = sum(took_ms > _SLOW_MS for turns in _turns.values() for took_ms in turns)
    longest = max((max(turns) for turns in _turns.values()), default=0.0)
    told = f"longest {longest:.0f} ms" if longest else f"none over {_TOLD_MS:g} ms"
    print(f"{name}: {told}, {slow} over {_SLOW_MS:g} ms", flush=True)
    for what, turns in sorted(_turns.items(), key=lambda entry: -max(entry[1])):
        print(f"    {max(turns):6.1f} ms  {len(turns):5} over {_TOLD_MS:g} ms  {what}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.turns", description=__doc__)
    parser.add_argument("shapes", nargs="*", help="a word of each shape that is wanted; default: all")
    wanted = parser.parse_args().shapes
    _watch()
    configure_logging("warning", secrets=SecretStrings())
    with Cluster() as cluster:
        servers = cluster.bootstrap_servers
        for name in [*SHAPES, *WHOLE]:
            if wanted and not any(word in name for word in wanted):
                continue
            asyncio.run(_backlog(servers, SHAPES[name]) if name in SHAPES else WHOLE[name](servers))
            _tell(name)


if __name__ == "__main__":
    main()
