"""Wires everything: the one place that names concrete classes."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from random import Random
from typing import Any, Literal

import msgspec
from aiokafka.client import AIOKafkaClient

from contracts.ids import ResultIds
from contracts.results import ResultEncoder
from handlers.apsis import client as apsis
from handlers.apsis.imports import ApsisImportsConfig, ApsisImportsHandler
from handlers.apsis.wire import platform_text as apsis_text
from handlers.base import BatchHandler, Expression, Handler, RowValue
from handlers.copernica import client as copernica
from handlers.copernica.imports import CompileRow, CopernicaImportsConfig, CopernicaImportsHandler
from handlers.copernica.wire import platform_text as copernica_text
from handlers.imports.rows import ImportHandler
from handlers.np6 import client as np6
from handlers.np6.import_definitions import Definition
from handlers.np6.imports import Np6ImportsConfig, Np6ImportsHandler
from handlers.np6.segments import SegmentsConfig, SegmentsHandler
from handlers.np6.wire import platform_text as np6_text
from handlers.np6.workflows import WorkflowsConfig, workflows_handler
from handlers.platforms import Platform
from handlers.templates import Compile
from service.batching.batcher import BatchPolicy
from service.clock import Clock, SystemClock
from service.config import Account as AccountConfig
from service.config import Batch, Configuration, HandlerKind, Kinds, config_fingerprint, kinds_of
from service.config import Lane as LaneConfig
from service.config.expressions import compile_expression, compile_row_expression
from service.control.control import Control, Obeyed
from service.dedupe.deduper import DedupePolicy
from service.delivery.guard import GuardPolicy
from service.delivery.lane_delivery import DeliveryPolicy
from service.delivery.limiter import AccountLimiter, LimiterPolicy
from service.delivery.retry import RetryPolicy
from service.errors import StartError
from service.imports.wiring import form_uploads, import_policy
from service.intake.planner import PlanningPolicy
from service.kafka.connection import client_for, connection_arguments
from service.kafka.names import LaneNames, control_topic, lane_names
from service.lane import Lane, LaneMeans, LaneSetup
from service.settling.at_least_once import AcknowledgedCommitter
from service.settling.documents import DocumentPolicy, Documents
from service.settling.producing import TransactorPolicy
from service.settling.settler import Committer, SettlePolicy
from service.settling.transactor import Transactor
from service.telemetry import AccountTelemetry, LaneTelemetry, Telemetry
from service.transport.access import KeyAccess, access_to, secrets_of, version_of
from service.transport.account import Account, Credentials, Transport
from service.transport.http import HttpTransport
from service.transport.proving import Kept, ProvenSecrets, ProvingTransport
from service.transport.reaching import policy_of, tls_of
from service.uploading.wiring import file_way

VERSION = "0.1.0"
_MAX_DEFINITION_BYTES = 1024 * 1024


def _segments(options: SegmentsConfig, compile_: Compile) -> Handler:
    return SegmentsHandler(
        target=compile_(options.target, "target"),
        join=compile_(options.join, "join"),
        leave=compile_(options.leave, "leave"),
        confirm_conflicts=options.confirm_conflicts,
    )


PLATFORMS: Mapping[str, Platform] = {
    platform.name: platform
    for platform in [
        Platform(
            name="np6",
            title="NP6",
            secrets=("api_key",),
            probe=np6.probe,
            rights="read and change segments",
            text=np6_text,
            credentials=np6.credentials,
        ),
        Platform(
            name="apsis",
            title="Apsis One",
            secrets=("client_id", "client_secret"),
            probe=apsis.probe,
            rights="read and create imports",
            text=apsis_text,
            tokens=apsis.TOKENS,
        ),
        Platform(
            name="copernica",
            title="Copernica",
            secrets=("access_token",),
            probe=copernica.probe,
            rights="read and create imports",
            text=copernica_text,
            tokens=copernica.TOKENS,
            refuses=copernica.token_ended,
            unknown=400,  # with a message that does not speak of the token
            parameter=copernica.TOKEN_PARAMETER,
        ),
    ]
}
_IMPORTS = {"batch": Batch(max_events=50_000, max_bytes=50_000_000, linger_s=30.0)}
KINDS: Kinds = kinds_of(
    [
        HandlerKind("np6.segments", "np6", SegmentsConfig),
        HandlerKind("np6.workflows", "np6", WorkflowsConfig, {"deadline_s": 86_400.0, "dedupe_s": 600.0}),
        HandlerKind("np6.imports", "np6", Np6ImportsConfig, _IMPORTS),
        HandlerKind("apsis.imports", "apsis", ApsisImportsConfig, _IMPORTS),
        HandlerKind("copernica.imports", "copernica", CopernicaImportsConfig, _IMPORTS),
    ]
)


class _Site(msgspec.Struct, frozen=True):
    """What a handler is made with beside its own keys."""

    compile_: Compile
    compile_row: CompileRow
    account: AccountConfig


_BUILDERS: dict[str, Callable[[Any, _Site], Handler | BatchHandler | ImportHandler]] = {
    "apsis.imports": lambda options, site: ApsisImportsHandler(options, site.compile_),
    "copernica.imports": lambda options, site: CopernicaImportsHandler(
        options, site.compile_, site.compile_row, api_version=version_of(site.account)
    ),
    "np6.imports": lambda options, site: Np6ImportsHandler(options, site.compile_, _definition(options)),
    "np6.segments": lambda options, site: _segments(options, site.compile_),
    "np6.workflows": lambda options, site: workflows_handler(options, site.compile_),
}


def _definition(options: Np6ImportsConfig) -> Definition | None:
    """The import's definition where a file has it. Raises StartError."""
    path = options.import_.definition
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return Definition.of(file.read(_MAX_DEFINITION_BYTES))
    except (OSError, ValueError) as error:
        raise StartError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


class Application:
    """The lanes of one process and the accounts that they share. An async context manager; ``run`` works."""

    def __init__(
        self,
        config: Configuration,
        *,
        lanes: Sequence[str] | None = None,
        drain_s: float = 25.0,
        telemetry: Telemetry | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self.config = config
        self.drain_s = drain_s
        self.clock = clock or SystemClock()
        self.telemetry = telemetry or Telemetry()
        self.instance = config.kafka.instance_id or f"{secrets.token_hex(4)}"
        self._random = random or Random()
        self._stack = AsyncExitStack()
        self._wanted = list(lanes) if lanes else list(config.lanes)
        unknown = [name for name in self._wanted if name not in config.lanes]
        if unknown:
            known = ", ".join(sorted(config.lanes))
            raise StartError(f"--lane {unknown[0]}: there is no such lane; the file has: {known}")
        self.accounts: dict[str, Account] = {}
        # How each of them proves who calls, beside headers that are always the same.
        self._proven: dict[str, Callable[[Transport], Transport]] = {}
        self.lanes: dict[str, Lane] = {}
        # Which lanes stand still although they were restarted, and why: only a new process can help.
        self.stalled: dict[str, str] = {}
        self._stopping = False
        self._control: Control | None = None
        # What clients of Kafka in this process are made with; shared, because tokens are.
        self.connection: dict[str, Any] = {}

    async def __aenter__(self) -> "Application":
        async with AsyncExitStack() as stack:
            for name in {self.config.lanes[lane].account for lane in self._wanted}:
                self.accounts[name] = await self._account(stack, self.config.accounts[name])
            connection = self.connection = connection_arguments(self.config.kafka)
            self._control = control = Control(connection, control_topic(self.config.kafka.topic_prefix), self.clock)
            for name in self._wanted:
                self.lanes[name] = self._obeying(control, self.config.lanes[name], connection)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def run(self, stop: asyncio.Event) -> None:
        """Run the lanes until ``stop`` is set and all have drained. A lane that dies of our own fault takes all down,
        in order: the others drain first. Raises ExceptionGroup with what the lanes died of."""
        died: list[Exception] = []
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._run_lane(name, died), name=f"lane {name}") for name in self.lanes]
            beside = [group.create_task(self._stop_all(stop))]
            if self._control is not None:
                beside.append(group.create_task(self._control.run(), name="control"))
            await asyncio.wait(tasks)
            for task in beside:
                task.cancel()
        if died:
            raise ExceptionGroup("lanes died", died)

    async def _run_lane(self, name: str, died: list[Exception]) -> None:
        """Run a lane, and after one that was abandoned a new one in its place. Raises nothing: an error that left this
        task would cancel the other lanes in the middle of their calls."""
        while True:
            lane = self.lanes[name]
            try:
                await lane.run()
            except Exception as error:  # noqa: BLE001 - kept, and raised once the others have drained
                died.append(error)
                lane.died = type(error).__name__
                self._stop_lanes()
            if not lane.abandoned or self._stopping or self._control is None:
                return
            self.lanes[name] = self._obeying(self._control, self.config.lanes[name], self.connection)

    async def _stop_all(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._stop_lanes()

    def _stop_lanes(self) -> None:
        self._stopping = True
        for lane in self.lanes.values():
            lane.stop()

    # -- building

    async def _account(self, stack: AsyncExitStack, config: AccountConfig) -> Account:
        platform = PLATFORMS[config.platform]
        transport = HttpTransport(policy_of(config, max_connections=config.limits.max_in_flight), tls_of(config))
        await stack.enter_async_context(transport)
        kept = Kept(self.telemetry.secrets.add)
        access = access_to(config, platform, clock=self.clock, keep_secret=kept.keep)
        credentials: Credentials
        proven: Transport = transport
        prepare = None
        if isinstance(access, KeyAccess):
            credentials = access
            self._proven[config.name] = lambda plain: plain
        else:
            credentials = ProvenSecrets(list(secrets_of(config, platform).values()), access)
            prove = partial(ProvingTransport, access=access, refuses=platform.refuses)
            proving = prove(transport)
            proven, prepare = proving, proving.prepare
            self._proven[config.name] = prove
        account = Account(
            config.name,
            transport=proven,
            limiter=AccountLimiter(
                LimiterPolicy(
                    max_in_flight=config.limits.max_in_flight,
                    requests_per_second=config.limits.requests_per_second,
                    adaptive=config.limits.adaptive,
                )
            ),
            credentials=credentials,
            clock=self.clock,
            weights={lane.name: lane.weight for lane in self.config.lanes.values() if lane.account == config.name},
            kept=kept.values,
            prepare=prepare,
        )
        account.open()
        return account

    def _obeying(self, control: Control, config: LaneConfig, connection: dict[str, Any]) -> Lane:
        """A lane that carries out an operator's orders."""
        lane = self._lane(config, connection, control)
        obeyed = Obeyed(switched=lane.orders_changed, released=lane.released, loss_accepted=lane.loss_accepted)
        control.obey(config.name, config.account, obeyed, retry_account=lane.account.resume)
        # Orders that were given before the lane was made anew.
        lane.orders_changed()
        return lane

    def _lane(self, config: LaneConfig, connection: dict[str, Any], control: Control) -> Lane:
        kafka = self.config.kafka
        names = lane_names(kafka.topic_prefix, config.name)
        client = client_for(connection)
        policy = TransactorPolicy(transaction_timeout_s=kafka.transaction_timeout_s)
        handler = self.handler(config)
        return Lane(
            lane_setup(self.config, config, names, self.drain_s, handler),
            LaneMeans(
                handler=handler,
                where=self._where(config),
                account=self.accounts[config.account],
                documents=self._documents(config, names, client),
                committer=self._committer(client, names, policy),
                client=client,
                connection=connection,
                observer=LaneTelemetry(self.telemetry, config.name),
                requests=AccountTelemetry(self.telemetry, config.account, config.name),
                control=control.of_lane(config.name, config.account),
                clock=self.clock,
                random=self._random,
                uploads=form_uploads(self.config.accounts[config.account], handler.max_file_bytes)
                if isinstance(handler, ImportHandler)
                else None,
                way=file_way(
                    self.config.accounts[config.account],
                    handler,
                    config.options,
                    proven=self._proven[config.account],
                    keep_secret=self.telemetry.secrets.add,
                ),
            ),
        )

    def handler(self, config: LaneConfig) -> Handler | BatchHandler | ImportHandler:
        """The lane's handler, its expressions compiled; each tells its ``place``."""

        def compile_(text: str, key: str, wants: Literal["value", "bool"] = "value") -> Expression:
            place = self.config.place(f"lanes.{config.name}.{key}")
            expression = compile_expression(text, place=place, wants=wants)
            expression.place = place  # type: ignore[attr-defined] # a function; handlers.faults reads it
            return expression

        def compile_row(text: str, key: str) -> RowValue:
            place = self.config.place(f"lanes.{config.name}.{key}")
            expression = compile_row_expression(text, place=place)
            expression.place = place  # type: ignore[attr-defined] # as above
            return expression

        site = _Site(compile_, compile_row, self.config.accounts[config.account])
        return _BUILDERS[config.handler](config.options, site)

    def _where(self, config: LaneConfig) -> Expression | None:
        if config.where.strip() == "true":
            return None
        return compile_expression(config.where, place=self.config.place(f"lanes.{config.name}.where"), wants="bool")

    def _documents(self, config: LaneConfig, names: LaneNames, client: AIOKafkaClient) -> Documents:
        results = self.config.results

        def partitions() -> int:
            known = client.cluster.partitions_for_topic(results.topic)
            return len(known) if known else self.config.kafka.topics.results_partitions

        return Documents(
            DocumentPolicy(
                lane=config.name,
                results_topic=results.topic,
                results_partitions=partitions,
                dead_letter_topic=names.dead_letters,
                publish_skipped=results.skipped,
                hash_keys=results.key == "hash",
            ),
            ResultEncoder(
                lane=config.name,
                handler=config.handler,
                platform=self.config.accounts[config.account].platform,
                account=config.account,
                config=config_fingerprint(config),
                dry_run=config.dry_run,
            ),
            ResultIds(config.name),
        )

    def _committer(self, client: AIOKafkaClient, names: LaneNames, policy: TransactorPolicy) -> Committer:
        if self.config.kafka.delivery == "at_least_once":
            return AcknowledgedCommitter(client, policy)
        return Transactor(client, f"{names.transactional_prefix}{self.instance}", policy)


def lane_setup(
    config: Configuration,
    lane: LaneConfig,
    names: LaneNames,
    drain_s: float,
    handler: Handler | BatchHandler | ImportHandler | None = None,
) -> LaneSetup:
    """The lane's policies from its configuration."""
    return LaneSetup(
        name=lane.name,
        names=names,
        topics=lane.topics,
        written=(config.results.topic, names.dead_letters, names.journal),
        start=lane.start,
        hold_on_gap=lane.on_gap == "hold",
        batch=BatchPolicy(lane.batch.max_events, lane.batch.max_bytes, lane.batch.linger_s),
        delivery=DeliveryPolicy(
            lane.concurrency,
            RetryPolicy(lane.retry.first_delay_s, lane.retry.max_delay_s, lane.retry.max_attempts),
            weight=lane.weight,
            repeat_in_doubt=getattr(lane.options, "in_doubt", None) == "repeat",
        ),
        planning=PlanningPolicy(
            other_types_skipped=lane.other_types == "skip",
            deadline_s=lane.deadline_s,
            deadline_from_time=lane.deadline_from == "time",
        ),
        dedupe=None if lane.dedupe_s is None else DedupePolicy(round(lane.dedupe_s * 1000), lane.buffer_bytes),
        guard=None if lane.guard is None else GuardPolicy(lane.guard.dead_letters, lane.guard.of_last),
        settle=SettlePolicy(),
        buffer_bytes=lane.buffer_bytes,
        dry_run=lane.dry_run,
        drain_s=drain_s,
        instance_id=config.kafka.instance_id,
        session_timeout_s=config.kafka.session_timeout_s,
        rebalance_timeout_s=config.kafka.rebalance_timeout_s,
        imports=import_policy(config, lane, handler) if isinstance(handler, ImportHandler) else None,
    )
