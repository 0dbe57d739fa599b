"""The service's processes in a chaos run, each with its wire, its clock and the times at which something befell it."""

import asyncio
import json
import signal
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from handlers.sandbox import SandboxServer
from tests.chaos.entry import CLOCK_VARIABLE
from tests.chaos.plan import Plan
from tests.chaos.proxy import Wire
from tests.chaos.verdict import Trouble
from tests.support.harness import DRAIN_S, ServiceProcess, Stage, free_port

# Log lines that tell of work given up, and how long before the line it may have been another's already.
_GIVEN_UP = ("settlement_fenced", "transaction_lost", "kafka_error")
_UNNOTICED_S = 10.0


class ChaosStage(Stage):
    """A stage whose replicas reach the platform through wires of their own."""

    wires: dict[str, Wire]

    def configuration(self, *, account_suffix: str = "", **more: Any) -> bytes:
        text = super().configuration(account_suffix=account_suffix, **more)
        wire = self.wires.get(account_suffix.removeprefix("-"))
        if wire is None:
            return text
        return text.replace(self.sandbox.url.encode(), f"http://127.0.0.1:{wire.port}".encode())


# What a process says that ends because no broker answered while it started.
_NO_BROKERS = (
    "is the broker running",
    "the broker closed the connection",
    "no answer within",
    "Unable to bootstrap",
)


class Replica:
    """One process. ``lock`` is held while something befalls it; ``wanted``: it has to be alive."""

    def __init__(self, stage: ChaosStage, plan: Plan, number: int, wire: Wire, environment: dict[str, str]) -> None:
        self.name = f"r{number}"
        self.wire = wire
        self.port = free_port()
        self.lock = asyncio.Lock()
        self.wanted = False
        self._log_before = 0
        self._frozen_at = 0.0
        self.troubles: list[Trouble] = []
        self._clock = stage.directory / f"{self.name}.clock"
        kafka = {"instance_id": f"pod-{number}"} if number in plan.static_members else {}
        self.process: ServiceProcess = stage.process(
            self.name,
            account_suffix=f"-{self.name}",
            kafka=kafka,
            http_port=self.port,
            module="tests.chaos.entry",
            environment={**environment, CLOCK_VARIABLE: str(self._clock)},
        )

    def start(self) -> None:
        log = self.process.log
        self._log_before = log.stat().st_size if log.exists() else 0
        self.process.start()
        self.wanted = True

    def trouble(self, kind: str, from_s: float, to_s: float) -> None:
        self.troubles.append(Trouble(kind, self.name, from_s, to_s))

    def kill(self) -> None:
        """SIGKILL; its connections break with it."""
        self.wanted = False
        now = time.monotonic()
        self.process.kill()
        self.wire.cut()
        self.trouble("kill", now, now + 1.0)

    def freeze(self) -> None:
        """SIGSTOP."""
        self._frozen_at = time.monotonic()
        self.process.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.thaw()
        self.trouble("freeze", self._frozen_at, time.monotonic() + 3.0)

    async def stop(self) -> int:
        """SIGTERM; its exit code. Raises AssertionError if it does not end within its drain."""
        self.wanted = False
        self.process.terminate()
        code = await self.process.ended(within_s=DRAIN_S + 10)
        # Nothing was begun: Python itself was still starting, and ends as any program does.
        return 0 if code == -signal.SIGTERM and not self._has_started() else code

    def _has_started(self) -> bool:
        return b"service_started" in self._said()

    def _said(self) -> bytes:
        """Its log since it was started."""
        with self.process.log.open("rb") as log:
            log.seek(self._log_before)
            return log.read()

    def set_clock(self, offset_s: int) -> None:
        self._clock.write_text(str(offset_s))

    def at_work(self) -> bool:
        """Whether both lanes have been given partitions since the start."""
        return self._said().count(b'"partitions_assigned"') >= 2

    def died(self) -> bool:
        """Whether it has ended by itself."""
        process = self.process._process
        return self.wanted and process is not None and process.poll() is not None

    def found_no_brokers(self) -> bool:
        """Whether it ended because it could reach no broker at its start, as it has to."""
        told = "\n".join(self._said().decode("utf-8", "replace").splitlines()[-3:])
        return not self._has_started() and any(why in told for why in _NO_BROKERS)

    def told(self, wall_to_monotonic_s: float) -> tuple[list[Trouble], Counter[str]]:
        """From its log: when it gave work up to others; and how often it was given partitions, a lane stopped because
        the broker refused, a lane held because the brokers were silent."""
        troubles, counts = [], Counter[str]()
        for line in self.process.log.read_text("utf-8", "replace").splitlines():
            try:
                told = json.loads(line)
            except ValueError:
                continue
            event = told.get("event")
            counts["partitions assigned"] += event == "partitions_assigned"
            if event == "lane_state":
                reason = told.get("reason") or ""
                counts["lanes stopped by a refusal"] += reason.startswith("the broker refused")
                counts["lanes held by the brokers' silence"] += reason.endswith("the brokers answer no heartbeat")
            drained = event == "partitions_revoked" and told.get("seconds", 0) >= DRAIN_S - 1
            if event in _GIVEN_UP or drained:
                at_s = datetime.fromisoformat(told["timestamp"]).timestamp() + wall_to_monotonic_s
                troubles.append(Trouble("takeover", self.name, at_s - _UNNOTICED_S, at_s + 1.0))
        return troubles, counts


def chaos_stage(
    servers: str, prefix: str, directory: Path, plan: Plan, sandbox: SandboxServer, lanes: dict[str, dict[str, Any]]
) -> ChaosStage:
    """The stage of a plan; not yet entered."""
    options = plan.options
    stage = ChaosStage(
        servers,
        prefix,
        directory,
        lanes=lanes,
        sources={"contacts": 6, "notes": 6},
        kafka={"session_timeout": f"{options.session_s:g}s", "transaction_timeout": f"{options.transaction_s:g}s"},
        # What is under test is not the pace: the platform's own limits are those that the run's weather tells.
        account={"limits": {"requests_per_second": None, "max_in_flight": 128}},
        replication=3 if options.brokers == 3 else 1,
    )
    stage.sandbox = sandbox
    stage.wires = {}
    return stage
