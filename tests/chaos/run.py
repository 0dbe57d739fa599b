"""Runs a plan: stage, load, faults, watch; then the verdict."""

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from handlers.sandbox import SandboxServer
from handlers.sandbox.outages import Mode, Outage
from service.localkafka import Cluster
from tests.chaos.entry import BUG_VARIABLE, WIRE_VARIABLE
from tests.chaos.events import LANES, Events, platform
from tests.chaos.judging import Judge, Judged
from tests.chaos.plan import LEAST_ALIVE, OF_REPLICAS, WIRED, Fault, Kind, Plan
from tests.chaos.proxy import Wire
from tests.chaos.replicas import Replica, chaos_stage
from tests.chaos.report import Report
from tests.chaos.verdict import Findings, Trouble, recovery_s, still_s
from tests.chaos.watching import Watch
from tests.chaos.weather import Weather
from tests.support.oracle import until

_LANES: dict[str, dict[str, Any]] = {
    "segments": {"topics": ["contacts"]},
    "workflows": {
        "handler": "np6.workflows",
        "topics": ["notes"],
        "in_doubt": "dead_letter",
        "batch": {"max_events": 50, "linger": "20ms"},
        "concurrency": 8,
    },
}
_BROKER_RECOVERS_S = 15.0
_FEW_BYTES = "100"
_STARTS_WITHIN_S = 180.0
_TELL_EVERY_S = 30.0
# Longer than the brokers may be away.
_PUBLISHED_WITHIN_MS = 180_000
_OTHERS_WITHIN_S = 20.0
_FOUND_NO_BROKERS = "started again: it found no brokers at its start"


class Run:
    """One run of a plan. ``bug``: put back in every replica. ``quiet_s``: without a new result for so long, what is
    missing then is given up."""

    def __init__(
        self,
        plan: Plan,
        servers: str,
        prefix: str,
        directory: Path,
        *,
        cluster: Cluster | None = None,
        bug: str | None = None,
        quiet_s: float = 90.0,
    ) -> None:
        self.plan = plan
        self.options = plan.options
        self.findings = Findings()
        self._audits = True
        self._published = 0
        self.fallen: list[tuple[Fault, float]] = []
        self._servers = servers
        self._prefix = prefix
        self._cluster = cluster
        self._bug = bug
        self._quiet_s = quiet_s
        self._contacts = max(200, min(20_000, self.options.count // 20))
        accounts = [f"{lane}-r{n}" for lane in LANES for n in range(self.options.replicas + 1)]
        self._accounts = accounts
        self._sandbox = SandboxServer(np6=platform(accounts, self._contacts))
        self._weather = Weather(self.options.seed)
        self._stage = chaos_stage(servers, prefix, directory, plan, self._sandbox, _LANES)
        self._watch = Watch(servers, self._stage.results_topic, {lane: f"{prefix}.{lane}" for lane in LANES})
        self._replicas: list[Replica] = []
        self._troubles: list[Trouble] = []
        self._brokers_lock = asyncio.Lock()
        self._kafka_wires: dict[int, Wire] = {}
        self._watching: list[asyncio.Task[None]] = []

    async def run(self) -> Report:
        """The whole of it. Raises nothing for what the service does wrong: that stands in the report."""
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._stage)
            self._sandbox.faults = self._weather
            await self._set_up(stack)
            await self._watch.start()
            stack.push_async_callback(self._watch.stop)
            self._watching = [
                asyncio.create_task(self._watch.follow()),
                asyncio.create_task(self._watch.sample(1.0)),
                asyncio.create_task(self._watch.scrape([replica.port for replica in self._replicas], 5.0)),
            ]
            await self._act()
            await self._settle()
            return await self._judge(began)

    async def _set_up(self, stack: AsyncExitStack) -> None:
        for server in self._servers.split(","):
            broker_host, _, broker_port = server.rpartition(":")
            self._kafka_wires[int(broker_port)] = await stack.enter_async_context(Wire(broker_host, int(broker_port)))
        host, _, port = self._sandbox.url.removeprefix("http://").rpartition(":")
        for number in range(self.options.replicas + 1):
            wire = await stack.enter_async_context(Wire(host, int(port)))
            self._stage.wires[f"r{number}"] = wire
            self._replicas.append(Replica(self._stage, self.plan, number, wire, self._environment(number)))

    def _environment(self, number: int) -> dict[str, str]:
        """Of a replica."""
        environment = {} if self._bug is None else {BUG_VARIABLE: self._bug}
        if number == WIRED:
            environment[WIRE_VARIABLE] = json.dumps({port: wire.port for port, wire in self._kafka_wires.items()})
        return environment

    async def _act(self) -> None:
        """Load and faults, for as long as the plan says."""
        for replica in self._replicas[: self.options.replicas]:
            replica.start()
        await self._all_at_work()
        began = time.monotonic()
        self._watching.append(asyncio.create_task(self._tell(began)))
        load = asyncio.create_task(self._publish(began))
        tasks: set[asyncio.Task[None]] = set()
        for fault in self.plan.faults:
            await asyncio.sleep(max(0.0, began + fault.at_s - time.monotonic()))
            self._look_for_dead()
            tasks.add(asyncio.create_task(self._fall(fault)))
        await load
        await asyncio.gather(*tasks)

    async def _all_at_work(self) -> None:
        """On a busy machine the start alone takes long: neither load nor faults before it is over."""
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not all(replica.at_work() for replica in self._replicas if replica.wanted):
            if time.monotonic() > deadline:
                self.findings.blame(
                    "not at work in time", [r.name for r in self._replicas if r.wanted and not r.at_work()]
                )
                return
            await asyncio.sleep(0.2)

    async def _tell(self, began: float) -> None:
        """How it goes, on the standard error, until cancelled."""
        while True:
            await asyncio.sleep(_TELL_EVERY_S)
            kills = sum(fault.kind is Kind.KILL for fault, _ in self.fallen)
            settled = sum(map(len, self._watch.settled.values()))
            print(
                f"{(time.monotonic() - began) / 60:5.1f} min: {self._published:,} published, {settled:,} settled, "
                f"{len(self.fallen)} faults, {kills} of them kills",
                file=sys.stderr,
                flush=True,
            )

    def _look_for_dead(self) -> None:
        for replica in self._replicas:
            if replica.died():
                if replica.found_no_brokers():
                    self.findings.allow(_FOUND_NO_BROKERS)
                    replica.start()
                    continue
                replica.wanted = False
                self.findings.blame("process died", (replica.name, replica.process.tail(5)))

    async def _publish(self, began: float) -> None:
        """The events, at a steady rate over the run."""
        events, count, duration_s = (
            Events(self.options.seed, self._contacts),
            self.options.count,
            self.options.duration_s,
        )
        producer = AIOKafkaProducer(
            bootstrap_servers=self._servers,
            enable_idempotence=True,
            linger_ms=5,
            request_timeout_ms=_PUBLISHED_WITHIN_MS,
        )
        await producer.start()
        try:
            while events.count < count:
                due = min(count, int((time.monotonic() - began) / duration_s * count) + 1)
                while events.count < due:
                    lane, key, value, partition = events.next()
                    topic = self._stage.topic(LANES[lane])
                    sent = await producer.send(topic, value, key=key, partition=partition)
                    sent.add_done_callback(lambda done: done.cancelled() or done.exception())
                self._published = events.count
                await asyncio.sleep(0.05)
        finally:
            await producer.stop()

    # -- faults

    async def _fall(self, fault: Fault) -> None:
        """One fault, from its beginning to its end."""
        if fault.kind not in OF_REPLICAS:
            self.fallen.append((fault, time.monotonic()))
        replica = self._replicas[min(fault.whom, self.options.replicas)]
        match fault.kind:
            case Kind.KILL | Kind.STOP | Kind.FREEZE | Kind.SCALE:
                await self._others_at_work(replica)
                async with replica.lock:
                    self.fallen.append((fault, time.monotonic()))
                    await self._befall(fault, replica)
            case Kind.WIRE:
                await self._befall_wires([replica.wire], fault, replica)
            case Kind.KAFKA_WIRE:
                await self._befall_wires(list(self._kafka_wires.values()), fault, replica)
            case Kind.STORM:
                self._weather.storms += 1
                await asyncio.sleep(fault.for_s)
                self._weather.storms -= 1
            case Kind.OUTAGE:
                lane, mode = fault.how.split()
                for account in self._accounts:
                    if account.startswith(f"{lane}-"):
                        outage = Outage(Mode(mode), account=account, platform="np6", for_s=fault.for_s)
                        self._sandbox.outages.set(outage, time.monotonic())
            case Kind.CLOCK:
                replica.set_clock(int(fault.how))
                await asyncio.sleep(fault.for_s)
                replica.set_clock(0)
            case Kind.BROKER | Kind.BROKER_FREEZE:
                async with self._brokers_lock:
                    await self._befall_broker(fault)
            case Kind.REFUSAL:
                async with self._brokers_lock:
                    await self._refuse_results(fault)

    async def _others_at_work(self, but: Replica) -> None:
        """Where processes start slowly a fault waits a little, or nobody would ever be at work."""
        deadline = time.monotonic() + _OTHERS_WITHIN_S
        while time.monotonic() < deadline:
            if sum(one.wanted and one.at_work() for one in self._replicas if one is not but) >= LEAST_ALIVE:
                return
            await asyncio.sleep(0.5)

    async def _befall(self, fault: Fault, replica: Replica) -> None:
        if fault.kind is Kind.SCALE:
            replica.start()
            await asyncio.sleep(fault.for_s)
            await self._stopped(replica)
            return
        if replica.died():
            return
        if fault.kind is Kind.FREEZE:
            replica.freeze()
            await asyncio.sleep(fault.for_s)
            replica.thaw()
            return
        if fault.kind is Kind.KILL:
            replica.kill()
        else:
            await self._stopped(replica)
        await asyncio.sleep(fault.for_s)
        replica.start()

    async def _befall_wires(self, wires: list[Wire], fault: Fault, replica: Replica) -> None:
        began = time.monotonic()
        hits = sum(wire.hits for wire in wires)
        for wire in wires:
            wire.set(fault.how)
        await asyncio.sleep(fault.for_s)
        for wire in wires:
            wire.set("")
        replica.trouble(fault.kind.value, began, time.monotonic() + 1.0)
        self.findings.counts[f"{fault.kind.value} {fault.how}: what came to harm"] += (
            sum(wire.hits for wire in wires) - hits
        )

    async def _stopped(self, replica: Replica) -> None:
        try:
            code = await replica.stop()
        except AssertionError:
            self.findings.blame("did not end within its drain", (replica.name, replica.process.tail(3)))
            replica.kill()
            return
        if code and replica.found_no_brokers():
            # It had ended before the signal came, and is started again when the fault is over.
            self.findings.allow(_FOUND_NO_BROKERS)
        elif code:
            self.findings.blame("exit code", (replica.name, code, replica.process.tail(3)))

    async def _befall_broker(self, fault: Fault) -> None:
        cluster, began = self._cluster, time.monotonic()
        assert cluster is not None, "broker faults need a cluster of the run's own"
        if fault.kind is Kind.BROKER:
            cluster.kill(fault.whom)
            await asyncio.sleep(fault.for_s)
            cluster.spawn(fault.whom)
            while not cluster.is_ready(fault.whom):  # noqa: ASYNC110 - polls
                await asyncio.sleep(0.05)
        else:
            cluster.pause(fault.whom)
            await asyncio.sleep(fault.for_s)
            cluster.resume(fault.whom)
        self._troubles.append(Trouble(fault.kind.value, None, began, time.monotonic() + _BROKER_RECOVERS_S))

    async def _refuse_results(self, fault: Fault) -> None:
        """Lanes stop by design when what they have to write is refused; somebody mends it and starts them again."""
        began = time.monotonic()
        for replica in self._replicas:
            replica.wanted = False
        await self._limit_results(_FEW_BYTES)
        await asyncio.sleep(fault.for_s)
        await self._limit_results("1048588")
        for replica in self._replicas[: self.options.replicas]:
            async with replica.lock:
                process = replica.process._process
                if process is not None and process.poll() is None:
                    with suppress(AssertionError):
                        await replica.stop()
                replica.process.close()
                replica.start()
        self._troubles.append(Trouble("refusal", None, began, time.monotonic() + 3.0))

    async def _limit_results(self, max_bytes: str) -> None:
        resource = ConfigResource(
            ConfigResourceType.TOPIC, self._stage.results_topic, configs={"max.message.bytes": max_bytes}
        )
        while True:
            admin = AIOKafkaAdminClient(bootstrap_servers=self._servers)
            try:
                await admin.start()
                await admin.alter_configs([resource])
                return
            except KafkaError:
                await asyncio.sleep(0.5)  # the broker is on its way back
            finally:
                await admin.close()

    # -- the end

    async def _settle(self) -> None:
        """Everything is well again: wait until all is settled, then stop every process and read to the end."""
        self._look_for_dead()
        topics = [self._stage.topic(name) for name in LANES.values()]
        wanted, last, since = await self._watch.written(topics), -1, time.monotonic()
        while (found := sum(map(len, self._watch.settled.values()))) < wanted:
            if found > last:
                last, since = found, time.monotonic()
            self._look_for_dead()
            if time.monotonic() - since > self._quiet_s:
                self.findings.blame("not settled in time", (found, wanted))
                break
            await asyncio.sleep(0.1)
        self._look_for_dead()
        running = [replica for replica in self._replicas if replica.wanted]
        await asyncio.gather(*(self._stopped(replica) for replica in running))
        with suppress(TimeoutError, KafkaError):
            await self._watch.caught_up(self.options.transaction_s + 30)
        # aiokafka suppresses a cancellation that meets it while a client ends: one may not be enough.
        while going := [task for task in self._watching if not task.done()]:
            for task in going:
                task.cancel()
            await asyncio.wait(going, timeout=1.0)
        for ended in await asyncio.gather(*self._watching, return_exceptions=True):
            if isinstance(ended, Exception):
                self.findings.blame("the watch failed", repr(ended))
        with suppress(AssertionError):
            await until(lambda: not self._sandbox.log.running, within_s=15, what="no request is under way")

    async def _judge(self, began: float) -> Report:
        judging = time.monotonic()
        judge = Judge(
            self.findings, self._watch, self._stage, self._sandbox, self._replicas, self._troubles, self._accounts
        )
        try:
            judged = await judge.judge(audits=self._audits)
        except Exception as error:  # noqa: BLE001 - what was found until then is told all the same
            self.findings.blame("no verdict", repr(error))
            judged = Judged(self._published, 0, [], "not asked")
        falls = [(fault.kind.value, at_s) for fault, at_s in self.fallen]
        return Report(
            options=self.options,
            bug=self._bug,
            took_s=time.monotonic() - began,
            judged_s=time.monotonic() - judging,
            memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            events=judged.events,
            faults=Counter(kind for kind, _ in falls),
            assignments=judged.assignments,
            scrapes=self._watch.scrapes,
            findings=self.findings,
            recovery=recovery_s(falls, judged.timelines),
            still=still_s(falls, self._watch.settled),
            audit=judged.audit,
        )
