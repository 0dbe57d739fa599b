"""Services under test: a stage with topics, a sandbox and a configuration; the service in process or as processes."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.structs import TopicPartition

from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox import Call, SandboxServer
from service.app import KINDS, Application
from service.config import loads
from service.kafka.offsets import read_told_offsets
from service.lane import Lane
from service.localkafka.process import freeze
from tests.support.events import ContactEvent, Feed, messages
from tests.support.kafka import create_topics, produce, read_committed_all
from tests.support.oracle import (
    Death,
    Expect,
    Place,
    Result,
    Results,
    Source,
    check_dead_letters,
    check_results,
    delivered,
    event_calls,
    read_results,
    read_sources,
    until,
)
from tests.support.patience import Patience, patiently

KEY_VARIABLE = "FANLINE_TEST_NP6_KEY"
API_KEY = "np6-key-that-nobody-may-read-4711"
ROOT = Path(__file__).parents[2]
DRAIN_S = 25.0
_AHEAD_S = 10

# A machine that stands still for a while takes no partition away. Only who waits for a session to end needs it short.
KAFKA_TIMES = {"session_timeout": "30s", "transaction_timeout": "3s"}
SHORT_SESSION = {"session_timeout": "6s"}
RETRIES = {"first_delay": "20ms", "max_delay": "300ms", "max_attempts": 1000}

# What a lane says to its handler unless a test says otherwise.
HANDLER_KEYS: dict[str, dict[str, Any]] = {
    "np6.segments": {
        "handler": "np6.segments",
        "target": "data.identifiers.np6",
        "join": "data.segments.join",
        "leave": "data.segments.leave",
    },
    "np6.workflows": {
        "handler": "np6.workflows",
        "workflow": 42,
        "receiver": {"type": "id", "value": "data.target"},
        "data": {"event": "event.id", "label": "data.label"},
    },
    "apsis.imports": {},
    "copernica.imports": {},
    "np6.imports": {},
}


class ServiceProcess:
    """``python -m service run`` with its output in a file. Ended by ``close``, whatever state it is in.

    ``module`` is what stands in the service's place: an entry that changes something of it first.
    """

    def __init__(
        self,
        config: Path,
        log: Path,
        environment: Mapping[str, str],
        arguments: Sequence[str] = (),
        *,
        module: str = "service",
    ) -> None:
        self._command = [sys.executable, "-m", module, "run", "--config", str(config), *arguments]
        self._environment = {**os.environ, **environment}
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, or start again once it has ended."""
        assert self._process is None or self._process.poll() is not None, "it is running"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._signal(signal.SIGKILL)
        self._running().wait(patiently(10))

    def terminate(self) -> None:
        """SIGTERM: it drains."""
        self._signal(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP; returns when it stands still. Nothing happens to one that has ended."""
        if (process := self._running()).poll() is None:
            freeze(process.pid)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    async def ended(self, *, within_s: float) -> int:
        """Its exit code."""
        process = self._running()
        await until(lambda: process.poll() is not None, within_s=within_s, what="the process has ended")
        return process.returncode

    def must_live(self) -> None:
        """Raises AssertionError if it has ended, by itself or not."""
        code = self._running().poll()
        assert code is None, f"the service ended with {code}:\n{self.tail()}"

    def must_not_have_ended(self) -> None:
        """Raises AssertionError if it has ended by itself: it failed."""
        code = None if self._process is None else self._process.poll()
        assert code in (None, 0, -signal.SIGKILL), f"the service ended with {code}:\n{self.tail()}"

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        if not self.log.exists():
            return "never started"
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])

    def close(self) -> None:
        """Ends it if it runs, also if it is frozen."""
        if self._process is not None and self._process.poll() is None:
            self._signal(signal.SIGKILL)
            self._process.wait(patiently(10))

    def _signal(self, number: int) -> None:
        self._running().send_signal(number)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was not started"
        return self._process


class Stage:
    """Topics under a prefix, a sandbox and a service's configuration; an async context manager.

    ``lanes`` by name: the keys of a lane that differ from the default. ``sources`` by name under the prefix: their
    partitions. A lane's account is a sandbox account of the same name as the lane unless it says otherwise.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        prefix: str,
        directory: Path,
        *,
        lanes: Mapping[str, Mapping[str, Any]],
        sources: Mapping[str, int] | None = None,
        kafka: Mapping[str, Any] | None = None,
        account: Mapping[str, Any] | None = None,
        topic_config: Mapping[str, str] | None = None,
        dead_letter_config: Mapping[str, str] | None = None,
        replication: int = 1,
    ) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.prefix = prefix
        self.directory = directory
        self.sources = {f"{prefix}.{name}": count for name, count in (sources or {"contacts": 6}).items()}
        self.results_topic = f"{prefix}.results"
        self.sandbox = SandboxServer(np6=Np6Sandbox())
        self.other_sandboxes: dict[str, SandboxServer] = {}
        self._lanes = lanes
        self._kafka = dict(kafka or {})
        self._account = dict(account or {})
        self._topic_config = dict(topic_config or {})
        self._dead_letter_config = dict(dead_letter_config or {})
        self._replication = replication
        self._stack = AsyncExitStack()
        self._processes: list[ServiceProcess] = []
        self.results: Results

    async def __aenter__(self) -> "Stage":
        async with AsyncExitStack() as stack:
            os.environ[KEY_VARIABLE] = API_KEY
            stack.callback(self._close_processes)
            await stack.enter_async_context(self.sandbox)
            for server in self.other_sandboxes.values():
                await stack.enter_async_context(server)
            await self._create_topics()
            self.results = await stack.enter_async_context(Results(self.bootstrap_servers, self.results_topic))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        if error is not None:
            for process in self._processes:
                print(f"--- {process.log.name}\n{process.tail()}")

    def _close_processes(self) -> None:
        for process in self._processes:
            process.close()

    async def _create_topics(self) -> None:
        broker, width = self.bootstrap_servers, max(self.sources.values())
        copies = self._replication
        await create_topics(broker, self.sources, config=self._topic_config, replication=copies)
        ours = {self.results_topic: 4, f"{self.prefix}.status": 1, f"{self.prefix}.control": 1}
        for lane in self._lanes:
            ours |= {f"{self.prefix}.{lane}.replay": width, f"{self.prefix}.{lane}.journal": width}
        await create_topics(broker, ours, replication=copies)
        dead = {self.dead_letter_topic(lane): width for lane in self._lanes}
        await create_topics(broker, dead, config=self._dead_letter_config, replication=copies)

    def dead_letter_topic(self, lane: str) -> str:
        return f"{self.prefix}.{lane}.dead-letters"

    def topic(self, name: str = "contacts") -> str:
        """The full name of a source topic."""
        return f"{self.prefix}.{name}"

    def topics_of(self, lane: str) -> list[str]:
        """The source topics of a lane."""
        return [self.topic(name) for name in self._lanes[lane].get("topics", ["contacts"])]

    # -- the service

    def configuration(
        self, *, account_suffix: str = "", kafka: Mapping[str, Any] | None = None, http_port: int | None = None
    ) -> bytes:
        """The configuration (JSON, which is YAML). ``account_suffix`` tells at the sandbox which process called."""
        accounts: dict[str, Any] = {}
        lanes: dict[str, Any] = {}
        for lane, given in self._lanes.items():
            name = given.get("account", lane)
            server = self.other_sandboxes.get(name, self.sandbox)
            accounts[name] = {
                "platform": "np6",
                "base_url": server.base_url("np6", name + account_suffix),
                "api_key": {"env": KEY_VARIABLE},
                "limits": {"requests_per_second": None},
                **self._account,
                **given.get("account_keys", {}),
            }
            lanes[lane] = {
                **HANDLER_KEYS[given.get("handler", "np6.segments")],
                "batch": {"linger": "20ms"},
                "retry": RETRIES,
                **{key: value for key, value in given.items() if key != "account_keys"},
                "account": name,
                "topics": self.topics_of(lane),
            }
        document: dict[str, Any] = {
            "kafka": {
                "bootstrap_servers": self.bootstrap_servers.split(","),
                "topic_prefix": self.prefix,
                **KAFKA_TIMES,
                **self._kafka,
                **(kafka or {}),
            },
            "results": {"topic": self.results_topic},
            "accounts": accounts,
            "lanes": lanes,
        }
        if http_port is not None:
            document["http"] = {"listen": f"127.0.0.1:{http_port}"}
        return json.dumps(document, indent=1).encode()

    def process(
        self,
        name: str = "service",
        *,
        arguments: Sequence[str] = (),
        module: str = "service",
        environment: Mapping[str, str] | None = None,
        **configuration: Any,
    ) -> ServiceProcess:
        """A process, not yet started; it is ended with the stage."""
        file = self.directory / f"{name}.yaml"
        file.write_bytes(self.configuration(**configuration))
        secrets = {KEY_VARIABLE: API_KEY}
        log = self.directory / f"{name}.log"
        process = ServiceProcess(file, log, {**secrets, **(environment or {})}, arguments, module=module)
        self._processes.append(process)
        return process

    @asynccontextmanager
    async def application(self, **configuration: Any) -> AsyncIterator[Application]:
        """The service in this process; at the end it drains."""
        async with Application(loads(self.configuration(**configuration), KINDS), drain_s=DRAIN_S) as application:
            stop = asyncio.Event()
            running = asyncio.create_task(application.run(stop))
            try:
                yield application
            finally:
                stop.set()
                await asyncio.wait_for(running, patiently(DRAIN_S + 15))

    # -- what happens on it

    async def publish(
        self,
        events: Sequence[ContactEvent],
        topic: str = "contacts",
        *,
        transactional_id: str | None = None,
        abort: bool = False,
    ) -> list[Place]:
        """Produce events; where they lie now."""
        name = self.topic(topic)
        written = await produce(
            self.bootstrap_servers, name, messages(events), transactional_id=transactional_id, abort=abort
        )
        return [Place(name, partition, offset) for partition, offset in written]

    @asynccontextmanager
    async def load(self, feed: Feed, *, per_s: int = 300) -> AsyncIterator[None]:
        """Publish events of a feed at a steady rate while the block runs; at its end all are written.

        Where the machine is too busy for that rate, what has not been called yet grows no further than to some seconds'
        work.
        """
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap_servers, linger_ms=5)
        await producer.start()
        done = asyncio.Event()

        async def publish() -> None:
            written: list[Any] = []
            while not done.is_set():
                waiting = len(feed.events) - self.sandbox.log.count
                events = feed.take(per_s // 10 if waiting < per_s * _AHEAD_S else 0)
                written += [await producer.send(self.topic(), event.message.value, key=event.key) for event in events]
                with suppress(TimeoutError):
                    await asyncio.wait_for(done.wait(), 0.1)
            await asyncio.gather(*written)

        publishing = asyncio.create_task(publish())
        try:
            yield
        finally:
            done.set()
            try:
                await publishing
            finally:
                await producer.stop()

    async def settled_up_to(self, feed: Feed, lane: str = "lane", *, within_s: float) -> None:
        """Wait until every event that the feed has given by now has a result."""
        wanted = {event.id for event in feed.events}

        patience = Patience(within_s)
        while missing := wanted - {str(r.document["subject"]) for r in self.results.found if r.lane == lane}:
            assert not patience.is_over(len(missing)), f"{len(missing)} of {len(wanted)} events have no result"
            await self.results.look()

    def calls(self, *accounts: str) -> list[Call]:
        """The joins that the sandbox was asked for, in order of arrival."""
        return event_calls(self.sandbox.log.calls(), accounts)

    async def kill(self, process: ServiceProcess) -> Death:
        """SIGKILL the only process; when that was. What it had sent has reached the sandbox then."""
        process.kill()
        at_ms = time.time() * 1000
        # A request can outlive its sender, in the kernel: whatever starts behind this line is somebody else's.
        server = self.sandbox._web
        assert server is not None
        await until(lambda: not server.connections, within_s=10, what="the dead process's connections are closed")
        return Death(time.monotonic(), at_ms)

    async def until_called(self, count: int, *accounts: str, within_s: float = 30.0) -> None:
        """Wait until so many joins of the accounts have started; every process that was started must live."""
        patience = Patience(within_s)
        while (made := len(self.calls(*accounts))) < count:
            for process in self._processes:
                process.must_not_have_ended()
            assert not patience.is_over(made), f"{made} of {count} calls within {within_s} s"
            await asyncio.sleep(0.01)

    async def committed(self, lane: str) -> dict[tuple[str, int], int]:
        """The committed offsets of a lane's group in its source topics."""
        return {place: offset for place, (offset, _) in (await self.commits(lane)).items()}

    async def commits(self, lane: str) -> dict[tuple[str, int], tuple[int, str]]:
        """Offset and metadata that a lane's group has committed for (topic, partition) of its sources.

        Those of a transaction that is about to end are waited for: who commits is told so before the group is.
        """
        tps = {TopicPartition(name, n) for name in self.topics_of(lane) for n in range(self.sources[name])}
        client = AIOKafkaClient(bootstrap_servers=self.bootstrap_servers)
        await client.bootstrap()
        try:
            told = await read_told_offsets(client, f"{self.prefix}.{lane}", tps, within_s=patiently(2))
        finally:
            await client.close()
        return {(tp.topic, tp.partition): (value.offset, value.metadata) for tp, value in told.offsets.items()}

    # -- the verdict

    async def check(
        self,
        lane: str,
        expect: Expect = delivered,
        *,
        repeats_allowed: bool = False,
        sources: Mapping[Place, Source] | None = None,
        results: list[Result] | None = None,
    ) -> list[Result]:
        """One result for each event of a lane, as expected; dead letters match. Gives the results.

        ``sources`` says what lies in the topics where that cannot be read back, ``results`` what was read already.
        """
        if sources is None:
            sources = await read_sources(self.bootstrap_servers, self.topics_of(lane))
        if results is None:
            results = await read_results(self.bootstrap_servers, self.results_topic)
        first = check_results(results, lane, sources, expect, repeats_allowed=repeats_allowed)
        dead = await read_committed_all(self.bootstrap_servers, [self.dead_letter_topic(lane)])
        check_dead_letters(dead, lane, sources, first)
        return [result for result in results if result.lane == lane]


async def until_state(lane: Lane, state: str, word: str, *, within_s: float) -> str:
    """Wait until a lane in this process is in a state whose reason holds ``word``; the reason."""
    board = lane.board
    deadline = time.monotonic() + patiently(within_s)
    while board.state.value != state or word not in (board.reason or ""):
        if time.monotonic() > deadline:
            raise AssertionError(f"the lane is {board.state.value} ({board.reason}), not {state} ({word})")
        await asyncio.sleep(0.02)
    return board.reason or ""


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
