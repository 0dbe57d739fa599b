"""The demo: Kafka, a platform that is imitated, topics, events, the service, and an audit of what became of each.

It is made of the parts that a user has: the local Kafka, the sandbox, ``topics ensure``, the publisher, a
configuration in a file, ``run``'s application with its HTTP server.
"""

import asyncio
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType

import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from rich.console import Console
from rich.table import Table
from rich.text import Text

from contracts.outcomes import Outcome
from handlers.sandbox import SandboxServer
from service.app import KINDS, Application
from service.auditing.auditing import Bounds, Progress, audit
from service.auditing.showing import audit_lines, audit_table
from service.auditing.tally import LaneAudit
from service.config import Configuration, load
from service.demo.aftermath import DeadLetters, dead_letters
from service.demo.events import FIRST_EVENT_ID, SampleContacts, SampleEvent, SampleNotifications
from service.demo.platforms import ACCOUNTS, MAX_OPEN, Platforms
from service.demo.screen import dead_letter_table
from service.demo.setting import Setting
from service.demo.trouble import begin_outage
from service.demo.watching import until_running, watch
from service.http import Endpoint, serve
from service.kafka.connection import connection_arguments
from service.kafka.ensuring import ensure_topics
from service.kafka.names import lane_names
from service.kafka.topics import DEFAULT_MAX_MESSAGE_BYTES
from service.localkafka import LocalKafka
from service.publishing.publishing import publisher
from service.status import settled_of
from service.status.reporting import reporting
from service.telemetry import Telemetry, configure_logging

PARTITIONS = 6
WORKFLOWS_LANE = "welcome"
_MORE_EVENTS = 200
_DRAIN_S = 25.0
# The part of the events that are settled when the outage begins.
_OUTAGE_AT = 0.3


class Options(msgspec.Struct, frozen=True):
    """What may be chosen. ``kafka`` is ``host:port`` of a broker to use instead of a local one."""

    events: int = 5_000  # about contacts; there are half as many notifications
    faults: bool = False
    keep: bool = False
    kafka: str | None = None

    @property
    def notifications(self) -> int:
        """How many events there are beside those about contacts."""
        return max(1, self.events // 2)


class Demo:
    """One run of the demo. ``audits`` are there once it has come to its end, ``proven`` is the verdict."""

    def __init__(self, options: Options, console: Console, *, program: str = "fanline") -> None:
        self._options = options
        self._console = console
        self._contacts = SampleContacts(options.events)
        self._notifications = SampleNotifications(options.notifications)
        self._platforms = Platforms(self._contacts, self._notifications, faults=options.faults)
        self._published = 0
        self._took_s = 0.0
        self._calls = 0
        self._program = program
        self._enough = asyncio.Event()
        self._keeping = False
        self.audits: dict[str, LaneAudit] = {}
        self.dead_letters: dict[str, DeadLetters] = {}
        self._sound = False

    @property
    def proven(self) -> bool:
        """Whether every lane has exactly one result for each event, and the platforms' own records are in order."""
        audited = all(
            found.proven and found.events == sum(found.results.values()) == self._wanted(lane)
            for lane, found in self.audits.items()
        )
        return bool(self.audits) and audited and self._sound

    def _wanted(self, lane: str) -> int:
        """How many events a lane has."""
        return self._options.notifications if lane == WORKFLOWS_LANE else self._options.events

    async def run(self) -> None:
        """Everything, from Kafka's start to the verdict; with ``keep`` until cancelled. Raises StalledError
        and what the parts raise."""
        async with AsyncExitStack() as stack:
            kafka = await self._kafka(stack)
            setting = self._setting(stack)
            sandbox = await stack.enter_async_context(self._sandbox())
            setting.write(kafka, self._platforms.urls(sandbox), max_open=MAX_OPEN)
            config = load(setting.config_file, KINDS)
            await self._topics(stack, config)
            telemetry = self._telemetry(stack, setting)
            async with self._service(config, telemetry) as (app, endpoint):
                await self._work(app, sandbox, setting)
                if self._options.keep:
                    await self._verdict(config)
                    self._tell_how_to_look(setting, endpoint, sandbox, kafka)
                    self._keeping = True
                    await self._enough.wait()
            if not self._options.keep:
                # The service is gone: what it has left behind is all there is.
                await self._verdict(config)

    def enough(self) -> bool:
        """Somebody has seen enough: end in good order. False if there is nothing to be seen yet."""
        self._enough.set()
        return self._keeping

    # -- the parts

    async def _kafka(self, stack: AsyncExitStack) -> str:
        if self._options.kafka is not None:
            self._step(f"Kafka at {self._options.kafka}, as you said")
            return self._options.kafka
        began = time.monotonic()
        with self._console.status("getting Apache Kafka ready (the first time, half a minute)") as shown:

            def fetching(done: int, total: int) -> None:
                shown.update(f"getting Apache Kafka ready: downloading {done} of {total} parts")

            kafka = await stack.enter_async_context(LocalKafka(progress=fetching))
        self._step(f"Apache Kafka at {kafka.bootstrap_servers}, ready in {time.monotonic() - began:.1f} s")
        return kafka.bootstrap_servers

    def _setting(self, stack: AsyncExitStack) -> Setting:
        directory = Path(tempfile.mkdtemp(prefix="fanline-demo-"))

        def clean(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
            """What failed is worth looking at; what was interrupted is not."""
            if (self.audits and not self.proven) or (kind is not None and issubclass(kind, Exception)):
                self._console.print(f"\nConfiguration and log are kept in {directory}", soft_wrap=True)
            else:
                shutil.rmtree(directory, ignore_errors=True)

        stack.push(clean)
        prefix = "fanline" if self._options.kafka is None else f"fanline-demo-{secrets.token_hex(3)}"
        own = "" if self._options.kafka is None else f"{prefix}."
        return Setting(directory, prefix, f"{own}contacts.changed", f"{own}notifications")

    @asynccontextmanager
    async def _sandbox(self) -> AsyncIterator[SandboxServer]:
        async with self._platforms.serve() as server:
            faults = ", with faults" if self._options.faults else ""
            self._step(f"NP6 (2 accounts), Apsis One and Copernica, imitated, at {server.url}{faults}")
            yield server

    async def _topics(self, stack: AsyncExitStack, config: Configuration) -> None:
        review = await ensure_topics(config, source_partitions=PARTITIONS)
        created = [topic.name for topic in review.topics if topic.created]
        if self._options.kafka is not None and not self._options.keep:
            stack.push_async_callback(_delete_topics, config, created)
        self._step(f"{len(created)} topics, the sources with {PARTITIONS} partitions each")

    def _telemetry(self, stack: AsyncExitStack, setting: Setting) -> Telemetry:
        telemetry = Telemetry()
        log = stack.enter_context(setting.log_file.open("a", encoding="utf-8", buffering=1))
        configure_logging("info", "json", secrets=telemetry.secrets, stream=log)
        return telemetry

    @asynccontextmanager
    async def _service(
        self, config: Configuration, telemetry: Telemetry
    ) -> AsyncIterator[tuple[Application, Endpoint]]:
        """The application at work; at the end it drains."""
        assert config.http is not None
        application = Application(config, drain_s=_DRAIN_S, telemetry=telemetry)
        async with (
            application as app,
            serve(app, config.http.listen) as endpoint,
            reporting(app),
            asyncio.TaskGroup() as group,
        ):
            stop = asyncio.Event()
            group.create_task(app.run(stop))
            try:
                await until_running(app)
                self._step(f"the service, with {len(app.lanes)} lanes: {endpoint.url}/status")
                yield app, endpoint
            finally:
                stop.set()

    # -- the work

    async def _work(self, app: Application, sandbox: SandboxServer, setting: Setting) -> None:
        """Publish and watch until every lane is through."""
        began, calls = time.monotonic(), sandbox.log.count
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish(app.config, setting.contacts, self._contacts.events()))
            group.create_task(self._publish(app.config, setting.notifications, self._notifications.events()))
            if self._options.faults:
                group.create_task(self._outage(app, sandbox))
            await watch(
                app,
                self._console,
                events=self._events,
                of_lane={lane: self._wanted(lane) for lane in app.lanes},
                published=lambda: self._published,
            )
        self._took_s, self._calls = time.monotonic() - began, sandbox.log.count - calls

    @property
    def _events(self) -> int:
        return self._options.events + self._options.notifications

    async def _publish(self, config: Configuration, topic: str, events: Iterable[SampleEvent]) -> None:
        def acknowledged(count: int) -> None:
            self._published += count

        async with publisher(
            connection_arguments(config.kafka),
            topic,
            max_message_bytes=DEFAULT_MAX_MESSAGE_BYTES,
            acknowledged=acknowledged,
        ) as sink:
            for event in events:
                await sink.send(event.key, event.value)
            await sink.finish()

    async def _outage(self, app: Application, sandbox: SandboxServer) -> None:
        """Once the first lane is well under way, its account fails as a whole."""
        lane, wanted = next(iter(app.lanes)), self._options.events * _OUTAGE_AT
        while sum(settled_of(app.telemetry, lane).values()) < wanted:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.02)
        begin_outage(sandbox, ACCOUNTS[app.lanes[lane].account.name][1])

    # -- the verdict

    async def _verdict(self, config: Configuration) -> None:
        """Audit the topics, ask the platform what it has performed, and say what they hold."""
        out, events = self._console, self._events
        out.print(
            f"\n{events:,} events through {len(config.lanes)} lanes in {self._took_s:.1f} s "
            f"({events / self._took_s:,.0f} a second), {self._calls:,} calls to the platforms.\n"
            f"What `{self._program} audit` says of the topics, read back as a reader of committed records:\n"
        )
        with out.status("auditing") as shown:
            progress = Progress(lambda what, _: shown.update(what), lambda _: None)
            self.audits = await audit(config, list(config.lanes), Bounds(), Bounds(), progress)
            topics = {name: lane_names(config.kafka.topic_prefix, name).dead_letters for name in config.lanes}
            self.dead_letters = await dead_letters(connection_arguments(config.kafka), topics)
        out.print(audit_table(self.audits))
        for line in audit_lines(self.audits):
            out.print(line, markup=False, soft_wrap=True)
        self._tell_of_dead_letters()
        out.print("\nBy the platforms' own records:")
        told = list(self._platforms.told())
        self._sound = all(fine for _, fine in told)
        for line, fine in told:
            out.print(f"  {line}", style="" if fine else "bold red", soft_wrap=True)
        if self.proven:
            out.print("\nEvery event has exactly one result in every lane.", style="bold green")
            if not self._options.keep:
                self._tell_what_else()
        else:
            found = ", ".join(f"{found.events:,}" for found in self.audits.values())
            out.print(f"\nThe topics do not hold what they must (source events found: {found}).", style="bold red")

    def _tell_of_dead_letters(self) -> None:
        if not any(dead.counts for dead in self.dead_letters.values()):
            return
        self._console.print()
        self._console.print(dead_letter_table(self.dead_letters))
        if any(Outcome.IN_DOUBT.value in dead.event_ids for dead in self.dead_letters.values()):
            self._console.print(
                "\nin_doubt: a request failed after it was sent, and may have taken effect. It is not sent again; its "
                "events are dead letters.",
                style="dim",
            )

    def _tell_what_else(self) -> None:
        self._console.print(
            f"""
To look further
  {self._program} demo --keep     leaves it running: status, metrics, Kafka, the log, more events
  {self._program} demo --faults   lets the platforms fail now and then, and for some seconds wholly""",
            markup=False,
            soft_wrap=True,
        )

    def _tell_how_to_look(self, setting: Setting, endpoint: Endpoint, sandbox: SandboxServer, kafka: str) -> None:
        with setting.sample_file.open("wb") as file:
            file.writelines(event.value + b"\n" for event in SampleContacts(_MORE_EVENTS, seed=2).valid_events())
        table = Table.grid(padding=(0, 2))
        for name, value in (
            ("status", f"{endpoint.url}/status"),
            ("metrics", f"{endpoint.url}/metrics"),
            ("Kafka", kafka),
            ("the platforms, imitated", sandbox.url),
            ("configuration", str(setting.config_file)),
            ("log", str(setting.log_file)),
        ):
            table.add_row(Text(name, style="bold"), Text(value))
        outage = '{"mode": "unavailable", "status": 500, "account": "main", "for_s": 20}'
        self._console.print("\nEverything keeps running:\n")
        self._console.print(table, soft_wrap=True)
        self._console.print(
            f"""
What each lane does, and what its oldest event waits for
  {self._program} status --config {setting.config_file}
What became of an event in every lane, and the results as they come
  {self._program} explain {self._example()} --config {setting.config_file}
  {self._program} results --follow --config {setting.config_file}
The same proof once more, while everything runs
  {self._program} audit --config {setting.config_file}
No call until somebody says so: an operator's hand on a lane
  {self._program} lanes pause welcome --reason "a look" --config {setting.config_file}
{_MORE_EVENTS} further events
  {self._program} publish --config {setting.config_file} --topic {setting.contacts} {setting.sample_file}
An account that is dead for 20 seconds: its lanes hold, the others go on
  curl {sandbox.url}/__sandbox__/mode -d '{outage}'

Ctrl-C ends it all.""",
            markup=False,
            soft_wrap=True,
        )

    def _example(self) -> str:
        """An event worth explaining: one that went wrong, where there is one."""
        for outcome in (Outcome.IN_DOUBT, Outcome.REJECTED, Outcome.INVALID):
            for dead in self.dead_letters.values():
                if outcome.value in dead.event_ids:
                    return dead.event_ids[outcome.value]
        return FIRST_EVENT_ID

    def _step(self, text: str) -> None:
        self._console.print(Text.assemble(("✓ ", "green"), text), soft_wrap=True)


async def _delete_topics(config: Configuration, names: list[str]) -> None:
    """Take our own topics away from somebody else's Kafka."""
    admin = AIOKafkaAdminClient(**connection_arguments(config.kafka))
    await admin.start()
    try:
        await admin.delete_topics(names)
    finally:
        await admin.close()
