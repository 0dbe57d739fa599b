"""The verdict on a run, once everything has ended: what was published and what was taken down, put side by side."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from handlers.sandbox import SandboxServer
from tests.chaos.events import LANES, allowed, event_of
from tests.chaos.replicas import ChaosStage, Replica
from tests.chaos.verdict import (
    Event,
    Findings,
    Trouble,
    Troubles,
    check_calls,
    check_commits,
    check_executions,
    check_results,
)
from tests.chaos.watching import Watch
from tests.support.harness import ROOT
from tests.support.kafka import Record, end_of, partitions_of, read_committed_all
from tests.support.oracle import Place, Result, Source, check_dead_letters
from tests.support.workflows import performed

# Clocks are stepped by 30 s at the least.
_WRONG_CLOCK_S = 25.0


@dataclass(frozen=True)
class Judged:
    """``timelines`` by lane: when each event was published and settled, monotonic; ``assignments``: how often a process
    was given partitions; ``audit``: what the command says."""

    events: int
    assignments: int
    timelines: list[list[tuple[float, float]]]
    audit: str


class Judge:
    """Takes what a run has left behind, and enters what is wrong into ``findings``."""

    def __init__(
        self,
        findings: Findings,
        watch: Watch,
        stage: ChaosStage,
        sandbox: SandboxServer,
        replicas: Sequence[Replica],
        troubles: Sequence[Trouble],
        accounts: Sequence[str],
    ) -> None:
        self.findings = findings
        self._watch = watch
        self._stage = stage
        self._servers = stage.bootstrap_servers
        self._prefix = stage.prefix
        self._sandbox = sandbox
        self._replicas = replicas
        self._troubles = troubles
        self._accounts = accounts

    async def judge(self, *, audits: bool) -> Judged:
        """The whole of it."""
        findings, watch = self.findings, self._watch
        offset_s = time.monotonic() - time.time()
        troubles, assignments = list(self._troubles), 0
        for replica in self._replicas:
            if replica.process.log.exists():
                told, counts = replica.told(offset_s)
                troubles += [*replica.troubles, *told]
                assignments += counts.pop("partitions assigned", 0)
                findings.counts += counts
                for line in replica.process.log.read_text("utf-8", "replace").splitlines():
                    watch.look_for_leaks("a log", line)
        known = Troubles(troubles)
        for lane, place, _ in watch.again:
            findings.blame("duplicate", (lane, place))
        every: dict[Place, Event] = {}
        timelines = []
        for lane, topic in LANES.items():
            events, dead = await self._read(lane, self._stage.topic(topic))
            settled = watch.settled[lane]
            every |= events
            check_results(findings, lane, events, settled, lambda event, lane=lane: allowed(lane, event))
            await self._check_dead_letters(lane, dead)
            timelines.append(
                [(e.timestamp_ms / 1000 + offset_s, settled[p].seen_s) for p, e in events.items() if p in settled]
            )
            if lane == "segments":
                self._judge_calls(events, known)
            else:
                accounts = [account for account in self._accounts if account.startswith(f"{lane}-")]
                done = performed(self._sandbox, *accounts)
                findings.counts["executions performed"] = len(done)
                check_executions(findings, lane, events, settled, done, known, offset_s)
        restarts_s = [trouble.from_s for trouble in self._troubles if trouble.kind == "broker"]
        check_commits(findings, watch.commits, every, watch.settled, restarts_s)
        await self._look_everywhere()
        for leak, count in watch.leaks.items():
            findings.wrong["leak"] += count
            findings.examples["leak"].append(leak)
        audit = await self._audit() if audits else "not asked"
        return Judged(len(every), assignments, timelines, audit)

    def _judge_calls(self, events: dict[Place, Event], troubles: Troubles) -> None:
        settled = self._watch.settled["segments"]
        seen = {
            (event.target or "", event.number): settled[place].seen_s
            for place, event in events.items()
            if event.number is not None and place in settled
        }
        wanted = {
            (event.target or "", event.number)
            for event in events.values()
            if event.number is not None and not (event.target or "").startswith("stranger")
        }
        calls = [call for call in self._sandbox.log.calls() if call.kind == "join"]
        self.findings.counts["joins called"] = len(calls)
        check_calls(self.findings, calls, seen, wanted, troubles)

    async def _read(self, lane: str, topic: str) -> tuple[dict[Place, Event], dict[Place, Source]]:
        """What was published, in small; and, whole, what ended as a dead letter."""
        events: dict[Place, Event] = {}
        dead: dict[Place, Source] = {}
        settled = self._watch.settled[lane]
        async for record in stream(self._servers, [topic]):
            place = Place(record.topic, record.partition, record.offset)
            source = Source(record.key, record.value, tuple(record.headers), record.timestamp)
            events[place] = event_of(source)
            if place in settled and settled[place].dead_letter:
                dead[place] = source
        return events, dead

    async def _check_dead_letters(self, lane: str, dead: dict[Place, Source]) -> None:
        records = await read_committed_all(self._servers, [self._stage.dead_letter_topic(lane)], deadline_s=300)
        settled = self._watch.settled[lane]
        results = {}
        for place in dead:
            one = settled[place]
            data = {"lane": lane, "outcome": one.outcome, "reason": one.reason, "dead_letter": True}
            results[place] = Result(place, one.key, 0, {"id": one.id, "data": data})
        self.findings.counts[f"{lane}: dead letters"] = len(records)
        try:
            check_dead_letters(records, lane, dead, results)
        except AssertionError as error:
            self.findings.blame("dead letters", str(error)[:600])
        wall_s = time.monotonic() - time.time()
        times = {place: source.timestamp_ms for place, source in dead.items()}
        for record in records:
            headers = {name: (value or b"").decode() for name, value in record.headers}
            place = Place(
                headers["fanline-origin-topic"],
                int(headers["fanline-origin-partition"]),
                int(headers["fanline-origin-offset"]),
            )
            if place in settled and abs(record.timestamp / 1000 + wall_s - settled[place].seen_s) > _WRONG_CLOCK_S:
                self.findings.counts["dead letters with the time of a wrong clock"] += 1
            if times.get(place) == record.timestamp:
                self.findings.blame("dead letter's time", (lane, place))
            self._watch.look_for_leaks("a dead letter's headers", repr(record.headers))

    async def _look_everywhere(self) -> None:
        """Status topic and journals."""
        topics = [f"{self._prefix}.status", *(f"{self._prefix}.{lane}.journal" for lane in LANES)]
        async for record in stream(self._servers, topics):
            self._watch.look_for_leaks(record.topic.rpartition(".")[2], repr((record.key, record.value)))

    async def _audit(self) -> str:
        """What ``fanline audit`` says."""
        command = [
            sys.executable,
            "-m",
            "service",
            "audit",
            "--config",
            str(self._stage.directory / "r0.yaml"),
            "--json",
        ]
        try:
            done = await asyncio.to_thread(
                subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=900
            )
        except subprocess.TimeoutExpired:
            self.findings.blame("audit", "it did not end within a quarter of an hour")
            return "no answer"
        if done.returncode:
            self.findings.blame("audit", (done.returncode, done.stdout[-1500:], done.stderr[-500:]))
        return done.stdout


async def stream(servers: str, topics: Sequence[str]) -> AsyncIterator[Record]:
    """Every committed record of topics, one after the other, without holding all of them."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        partitions = await partitions_of(consumer, topics)
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        left = {tp for tp in partitions if ends[tp]}
        while left:
            with suppress(KafkaError):
                for tp, records in (await consumer.getmany(*left, timeout_ms=200)).items():
                    for record in records:
                        if record.offset < ends[tp]:
                            yield record
            for tp in list(left):
                if await consumer.position(tp) >= ends[tp]:
                    left.discard(tp)
    finally:
        await end_of(consumer)
