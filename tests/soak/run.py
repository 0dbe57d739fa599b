"""A soak run: one process of the service under a steady load, a platform that fails now and then, and samples of all
that could grow.
"""

import asyncio
import json
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import psutil
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox import SandboxServer
from handlers.sandbox.faults import Fault, Faults, FaultSource
from handlers.sandbox.outages import Mode, Outage
from tests.soak.brokers import Brokers
from tests.soak.entry import LEAK_VARIABLE, TELLS_VARIABLE
from tests.soak.flatness import Measure, judge
from tests.soak.report import Report
from tests.support.events import contact_event
from tests.support.harness import ServiceProcess, Stage, free_port, until
from tests.support.kafka import unique
from tests.support.patience import patiently
from tests.support.workflows import notification

LANES: dict[str, dict[str, Any]] = {
    "segments": {"topics": ["contacts"], "buffer": "32MiB"},
    # What a window remembers is forgotten 10,000 records of its partition later: within the first half of a quarter of
    # an hour, with one partition and half of all events.
    "workflows": {"topics": ["notes"], "handler": "np6.workflows", "dedupe": "30s", "buffer": "32MiB"},
}
# Few connections to the platform: how many are open swings with the load, and hides those that stay open.
_IN_FLIGHT = 16
_CONTACTS = 5_000
_NOTES_OF = 2  # one event in so many is a notification
_TICK_S = 0.1
_SAMPLES = 400
_OUTAGE_EVERY_S = 40.0
_OUTAGE_S = 3.0
_OUTAGES = (Mode.UNAVAILABLE, Mode.RESET, Mode.HANG)
# No 503 and no 429: a platform that refuses for load does so for a while, as the outages do. A few all the time would
# have an account go at the pace of a few requests at once.
_RATES = {
    Fault.SERVER_ERROR: 0.001,
    Fault.RESET_BEFORE: 0.001,
    Fault.GARBAGE: 0.001,
    Fault.SLOW: 0.02,
}
# From here on memory is judged too: before, the allocator and the collector have not come to rest.
_LONG_MINUTES = 8.0
_SETTLED_WITHIN_S = 60.0

MEASURES = (
    Measure(name="rss_mib", tells="resident memory, MiB", most=4.0, share=0.03, slow=True),
    Measure(name="blocks", tells="objects that Python has allocated", most=20_000, share=0.02, slow=True),
    Measure(name="file_descriptors", tells="open file descriptors", most=10),
    Measure(name="threads", tells="threads", most=1.5),
    Measure(name="connections", tells="TCP connections, to Kafka and the platform", most=10, bound=2 * _IN_FLIGHT + 24),
    Measure(name="tasks", tells="asyncio tasks", most=3),
    Measure(name="unfinished", tells="events in memory", most=1_500),
    Measure(name="lag", tells="events that wait to be read", most=1_000),
    Measure(name="journal_open", tells="deliveries that the process holds for begun", most=5),
    Measure(name="journal_keys", tells="keys that the journals keep", most=10),
    Measure(name="status_keys", tells="keys that the status topic keeps", most=0.5, bound=len(LANES)),
    Measure(name="group_members", tells="members of the groups", most=0.5, bound=len(LANES)),
    Measure(name="producer_ids", tells="producer ids of the lanes", most=0.5, bound=len(LANES)),
    Measure(name="open_transactions", tells="open transactions", most=1, bound=len(LANES)),
    Measure(name="offset_metadata_bytes", tells="the longest metadata of a committed offset", most=200, bound=4_096),
)


class Soak:
    """One run. ``leak``: put back in the service, to be found."""

    def __init__(self, servers: str, directory: Path, *, minutes: float, per_s: int, leak: str | None = None) -> None:
        self._servers = servers
        self._directory = directory
        self._minutes = minutes
        self._per_s = per_s
        self._leak = leak
        self._prefix = unique("soak")
        self._tells = directory / "tells.json"
        self._samples: dict[str, list[tuple[float, float]]] = {measure.name: [] for measure in MEASURES}
        self._published = 0
        self._outages = 0
        self._faults: list[str] = []

    async def run(self) -> Report:
        """Raises nothing for what the service does wrong: that stands in the report."""
        server = SandboxServer(record=False, np6=Np6Sandbox(remember=False))
        server.faults = FaultSource(Faults(seed=1, rates=_RATES))
        limits = {"requests_per_second": None, "max_in_flight": _IN_FLIGHT}
        sources = {"contacts": 6, "notes": 1}
        stage = Stage(
            self._servers, self._prefix, self._directory, lanes=LANES, sources=sources, account={"limits": limits}
        )
        stage.sandbox = server
        async with stage:
            port = free_port()
            environment = {TELLS_VARIABLE: str(self._tells)} | ({LEAK_VARIABLE: self._leak} if self._leak else {})
            process = stage.process("soak", module="tests.soak.entry", environment=environment, http_port=port)
            process.start()
            compacted = [f"{self._prefix}.{lane}.journal" for lane in LANES] + [f"{self._prefix}.status"]
            async with (
                Brokers(self._servers, self._prefix, list(LANES), compacted) as brokers,
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http,
            ):
                page = f"http://127.0.0.1:{port}"
                await until(lambda: self._at_work(process), within_s=patiently(30), what="the service is at work")
                await self._load(stage, process, brokers, http, page)
                settled = await self._settled(http, page)
            process.terminate()
            code = await process.ended(within_s=patiently(40))
        if code:
            self._faults.append(f"the service ended with {code}")
        return self._report(settled)

    def _at_work(self, process: ServiceProcess) -> bool:
        process.must_live()
        return process.log.read_bytes().count(b'"partitions_assigned"') >= len(LANES)

    async def _load(
        self, stage: Stage, process: ServiceProcess, brokers: Brokers, http: aiohttp.ClientSession, page: str
    ) -> None:
        """Load, failures and samples, for as long as was asked for."""
        seconds = self._minutes * 60
        began = time.monotonic()
        tasks = [
            asyncio.create_task(self._publish(stage, began, seconds)),
            asyncio.create_task(self._fail(stage.sandbox, began, seconds)),
        ]
        pid = process._running().pid
        every_s = max(1.0, seconds / _SAMPLES)
        while (at_s := time.monotonic() - began) < seconds:
            process.must_live()
            sample: dict[str, float] = {}
            with suppress(aiohttp.ClientError, TimeoutError, KafkaError, OSError, ValueError):
                sample |= self._of_process(psutil.Process(pid))
                sample |= await _of_status(http, page)
                sample |= await brokers.look()
            for name, value in sample.items():
                self._samples[name].append((at_s, value))
            await asyncio.sleep(max(0.0, began + at_s + every_s - time.monotonic()))
        await asyncio.gather(*tasks)

    def _of_process(self, process: psutil.Process) -> dict[str, float]:
        told = json.loads(self._tells.read_text())
        return {
            "rss_mib": process.memory_info().rss / 1024 / 1024,
            "file_descriptors": process.num_fds(),
            "threads": process.num_threads(),
            "connections": sum(one.status == psutil.CONN_ESTABLISHED for one in process.net_connections("tcp")),
            "tasks": told["tasks"],
            "blocks": told["blocks"],
        }

    async def _publish(self, stage: Stage, began: float, seconds: float) -> None:
        """The same number of events each second, of the same contacts all the time."""
        random = Random(1)
        producer = AIOKafkaProducer(bootstrap_servers=self._servers, linger_ms=5)
        await producer.start()
        try:
            # To the last of them, also where the machine stood still meanwhile.
            while self._published < int(seconds * self._per_s):
                due = int(min(time.monotonic() - began + _TICK_S, seconds) * self._per_s)
                sent = []
                for number in range(self._published, due):
                    target = f"c-{random.randrange(_CONTACTS):05d}"
                    topic, value = _event(number, target)
                    sent.append(await producer.send(stage.topic(topic), value, key=target.encode()))
                self._published = max(due, self._published)
                await asyncio.gather(*sent)
                await asyncio.sleep(_TICK_S)
        finally:
            await producer.stop()

    async def _fail(self, server: SandboxServer, began: float, seconds: float) -> None:
        """Now and then one of the accounts is away, each time in another way."""
        lanes, number = list(LANES), 0
        while time.monotonic() - began + _OUTAGE_EVERY_S < seconds:
            await asyncio.sleep(_OUTAGE_EVERY_S / 2)
            mode, account = _OUTAGES[number % len(_OUTAGES)], lanes[number % len(lanes)]
            server.outages.set(Outage(mode, account=account, for_s=_OUTAGE_S), time.monotonic())
            number += 1
            self._outages = number
            await asyncio.sleep(_OUTAGE_EVERY_S / 2)

    async def _settled(self, http: aiohttp.ClientSession, page: str) -> int:
        """How many events have a result, once all have one or the time for it is over."""
        deadline = time.monotonic() + patiently(_SETTLED_WITHIN_S)
        while (  # noqa: ASYNC110 - polls
            count := await _events_total(http, page)
        ) < self._published and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
        if count != self._published:
            self._faults.append(f"{self._published} events, {count} results")
        return count

    def _report(self, settled: int) -> Report:
        long = self._minutes >= _LONG_MINUTES
        return Report(
            minutes=self._minutes,
            per_s=self._per_s,
            leak=self._leak,
            published=self._published,
            settled=settled,
            outages=self._outages,
            faults=self._faults,
            verdicts=[judge(measure, self._samples[measure.name], long=long) for measure in MEASURES],
            samples=self._samples,
        )


def _event(number: int, target: str) -> tuple[str, bytes]:
    if number % _NOTES_OF:
        return "contacts", contact_event(f"e-{number}", target, target=target, join=[501 + number % 3])
    message = notification(f"e-{number}", target, label="soak")
    assert message.value is not None
    return "notes", message.value


async def _of_status(http: aiohttp.ClientSession, page: str) -> dict[str, float]:
    async with http.get(f"{page}/status") as answer:
        lanes = (await answer.json())["lanes"]
    partitions = [partition for lane in lanes for partition in lane["partitions"]]
    return {
        "unfinished": sum(partition["unfinished"] for partition in partitions),
        "lag": sum(partition["lag"] or 0 for partition in partitions),
        "journal_open": sum(lane["journal_open"] for lane in lanes),
    }


async def _events_total(http: aiohttp.ClientSession, page: str) -> int:
    async with http.get(f"{page}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return round(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("fanline_events_total{")))
