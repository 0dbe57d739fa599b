"""A whole lane before a Kafka and a platform that are made of lists: its real parts, wired as in the service.

One partition of the group at a time: whoever joins last has all partitions, as after a rebalance. What was committed,
written and performed outlives the lane, so that another one can go on behind it.
"""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition

from contracts.results import decode_result
from handlers.base import Answer, BatchHandler, Handler, Reply
from service.app import KINDS, Application, lane_setup
from service.config import Configuration, loads
from service.delivery.limiter import LimiterPolicy
from service.intake.assignment import Assignment
from service.intake.assignor import View
from service.journal.reading import Journal
from service.kafka.names import lane_names
from service.kafka.offsets import CommittedOffset, ToldOffsets
from service.kafka.private import Membership
from service.lane import Lane
from service.lane.setup import LaneMeans
from service.offsets.metadata import decode_all
from service.settling.batches import PartitionWrite
from service.settling.transactor import Committed
from tests.support.dispatching import account_for
from tests.support.fakes import (
    Call,
    FakeAccountObserver,
    FakeBroker,
    FakePlatform,
    FakeTime,
    eventually,
    record,
    values,
)
from tests.support.settling import RESULTS, documents_for

CONFIGURATION = """
kafka: {bootstrap_servers: [localhost:9092], topic_prefix: p}
accounts:
  a: {platform: np6, base_url: "https://api.example", api_key: {env: KEY}}
lanes:
  vip:
    handler: np6.HANDLER
    account: a
    topics: [source]
    batch: {max_events: 3, linger: 20ms}
    concurrency: 2
    retry: {first_delay: 50ms, max_delay: 50ms, max_attempts: 3}
    guard: off
    dedupe: off
    deadline: null
    OPTIONS
"""
OPTIONS = {
    "segments": "target: data.identifiers.np6\n    join: data.segments.join",
    "workflows": "workflow: 42\n    receiver: {type: id, value: data.target}",
}
SOURCES = (TopicPartition("source", 0), TopicPartition("source", 1))
ALL = frozenset({*SOURCES, TopicPartition("p.vip.replay", 0), TopicPartition("p.vip.replay", 1)})
HOP_S = 0.003


class CheckedBroker(FakeBroker):
    """At each commit: what it says is finished has its result in what was written."""

    def _happen(self, writes: Sequence[PartitionWrite], offsets: Mapping[TopicPartition, Committed]) -> None:
        super()._happen(writes, offsets)
        settled = {place for place, _ in self.results()}
        for tp, committed in offsets.items():
            finished, deferred, fault = decode_all(committed.offset, committed.metadata)
            assert fault is None
            assert not deferred
            for start, end in [(0, committed.offset), *finished]:
                for offset in range(start, end):
                    assert (tp.topic, tp.partition, offset) in settled, f"acknowledged and not settled: {tp} {offset}"

    def results(self) -> list[tuple[tuple[str, int, int], str]]:
        """Place of the source record, and outcome, of each result."""
        found = []
        for value in values(self.written, RESULTS):
            data = decode_result(value or b"").data
            found.append(((data.origin.topic, data.origin.partition, data.origin.offset), data.outcome.value))
        return found


class FakeConsumer:
    """What a lane asks of aiokafka's consumer."""

    def __init__(self, world: "World", **options: Any) -> None:
        self._world = world
        self._assignor = options["partition_assignment_strategy"][0]
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._listener: Any = None
        self._stopped = False
        self._coordinator = SimpleNamespace(
            generation=-1, member_id="m", _group_instance_id=None, _do_heartbeat=self._heartbeat, request_rejoin=print
        )
        # Nothing is fetched here.
        self._fetcher = SimpleNamespace(_proc_fetch_request=None, _fetch_task=None, _pending_tasks=set())
        self._client = SimpleNamespace(_get_conn=None, close=self._closed)
        world.consumer = self

    async def start(self) -> None:
        await asyncio.sleep(HOP_S)
        self._tasks.append(asyncio.create_task(self._beat()))

    async def _closed(self) -> None:
        assert self._stopped

    async def stop(self) -> None:
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(HOP_S)

    def subscribe(self, topics: Sequence[str], listener: Any) -> None:
        assert set(topics) == {tp.topic for tp in ALL}
        self._listener = listener
        self._tasks.append(asyncio.create_task(self._join()))

    def rejoin(self) -> None:
        """A rebalance, as a member of the group sees it."""
        if not self._stopped:
            self._tasks.append(asyncio.create_task(self._rejoin()))

    async def late_assignment(self) -> None:
        """The last word of a coordinator that is being stopped."""
        if self._listener is not None:
            await self._listener.on_partitions_assigned(set(self._world.assigned))

    async def _rejoin(self) -> None:
        await self._listener.on_partitions_revoked(set(self._world.assigned))
        await self._join()

    async def _join(self) -> None:
        await asyncio.sleep(HOP_S)
        broker = self._world.broker
        broker.generation = (broker.generation or 0) + 1
        self._coordinator.generation = broker.generation
        self._assignor.view = View(topics=Counter(tp.topic for tp in ALL))
        self._positions.clear()
        self._paused.clear()
        await self._listener.on_partitions_assigned(set(self._world.assigned))

    async def _heartbeat(self) -> bool:
        await asyncio.sleep(0)
        return True

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(1)
            await self._coordinator._do_heartbeat()

    def pause(self, *tps: TopicPartition) -> None:
        self._paused.update(tps)

    def resume(self, *tps: TopicPartition) -> None:
        self._paused.difference_update(tps)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset

    async def position(self, tp: TopicPartition) -> int:
        await asyncio.sleep(0)
        return self._positions[tp]

    async def beginning_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        await asyncio.sleep(HOP_S)
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        await asyncio.sleep(HOP_S)
        return {tp: len(self._world.log[tp]) for tp in tps}

    async def getmany(
        self, *, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]:
        found = self._at_hand(max_records)
        if not found:
            await asyncio.sleep(timeout_ms / 1000)
            found = self._at_hand(max_records)
        return found

    def _at_hand(self, most: int) -> dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]:
        found = {}
        for tp, position in self._positions.items():
            stopped = tp in self._paused or tp in self._world.withheld
            records = [] if stopped else self._world.log[tp][position : position + most]
            if records:
                found[tp] = records
                self._positions[tp] = records[-1].offset + 1
        return found


class FakeClient:
    """What a lane asks of aiokafka's client."""

    def __init__(self) -> None:
        self.cluster = SimpleNamespace(partitions_for_topic=lambda topic: {0, 1}, unauthorized_topics=set())
        self.open = False

    async def bootstrap(self) -> None:
        self.open = True
        await asyncio.sleep(HOP_S)

    def add_topic(self, topic: str) -> "asyncio.Future[None]":
        known = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: known.done() or known.set_result(None))
        return known

    def force_metadata_update(self) -> None:
        raise AssertionError("every topic has its partitions")

    async def close(self) -> None:
        await asyncio.sleep(HOP_S)
        self.open = False


class Control:
    """No orders, unless a test sets ``given``."""

    given: Any = None

    async def read_to_end(self) -> None:
        await asyncio.sleep(HOP_S)

    def pause(self) -> Any:
        return self.given

    def missing(self) -> None:
        return None

    def accepted(self, tp: TopicPartition) -> None:
        return None


class Observer:
    """Notes our own faults; everything else is of no interest."""

    def __init__(self) -> None:
        self.faults: list[object] = []

    def handler_fault(self, *told: object) -> None:
        self.faults.append(told)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class World:
    """Kafka, the platform, and the lane that is there now."""

    def __init__(self, time: FakeTime, handler: str, replies: Callable[[int, Call], Reply | None]) -> None:
        """``replies`` answers the n-th call otherwise than with success; None: it succeeds."""
        self.time, self.handler, self._replies = time, handler, replies
        self.broker = CheckedBroker(takes_s=HOP_S)
        self.log: dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]] = {tp: [] for tp in ALL}
        self.performed: Counter[str] = Counter()
        self.order: defaultdict[str, list[int]] = defaultdict(list)
        self.calls = 0
        self.consumer: FakeConsumer | None = None
        # Partitions that the brokers do not hand anything out of for now.
        self.withheld: set[TopicPartition] = set()
        # What whoever joins next is given.
        self.assigned = ALL
        self.control = Control()

    def publish(self, events: int) -> None:
        """Events of a few contacts; the n-th has target Tn."""
        for number in range(events):
            tp = SOURCES[number % 2]
            key = b"%d" % (number % 3)
            self.log[tp].append(record(tp, len(self.log[tp]), key, _event(self.handler, number)))

    def lane(self) -> Lane:
        """A new process, which knows nothing of an earlier one."""
        config, handler = _configured(self.handler)
        lane = config.lanes["vip"]
        self.platform = FakePlatform(self.time, self._reply, takes_s=HOP_S)  # type: ignore[arg-type]
        self.account = account_for(self.time, self.platform, limits=LimiterPolicy(max_in_flight=1))
        self.client, self.observer = FakeClient(), Observer()
        means = LaneMeans(
            handler=handler,
            where=None,
            account=self.account,
            documents=documents_for(),
            committer=self.broker,
            client=self.client,  # type: ignore[arg-type]
            connection={},
            observer=self.observer,  # type: ignore[arg-type]
            requests=FakeAccountObserver(),
            control=self.control,
            clock=self.time,
            random=Random(0),
        )
        return Lane(lane_setup(config, lane, lane_names("p", "vip"), drain_s=5.0), means)

    async def _reply(self, call: Call) -> Reply:
        """What the platform does is done before its answer is on its way."""
        number, self.calls = self.calls, self.calls + 1
        reply = self._replies(number, call)
        if reply is None or (isinstance(reply, Answer) and reply.status == 500):
            for target in targets_of(call):
                self.performed[target] += 1
        await asyncio.sleep(HOP_S)
        return reply if reply is not None else _success(call)

    async def finished(self) -> None:
        """Wait until everything that was published is committed."""
        await eventually(lambda: all(self._is_finished(tp) for tp in SOURCES), within_s=600, every_s=0.1)

    def _is_finished(self, tp: TopicPartition) -> bool:
        return self.broker.offsets.get(tp, CommittedOffset(0, "")).offset >= len(self.log[tp])

    def check(self) -> None:
        """Each record has one result; what was delivered was performed."""
        results = self.broker.results()
        expected = {(tp.topic, tp.partition, offset): 1 for tp in SOURCES for offset in range(len(self.log[tp]))}
        assert Counter(place for place, _ in results) == Counter(expected)
        for (_, partition, offset), outcome in results:
            number = 2 * offset + partition
            times = self.performed[f"T{number}"]
            assert outcome != "delivered" or times >= 1, f"T{number} is said to be delivered"
            if self.handler == "workflows":
                assert times <= 1, f"T{number} was executed {times} times"
                assert outcome in ("delivered", "in_doubt") or times == 0
        assert topic_is_clean(self.broker.written), "an entry is left in the journal"

    def patches(self, patch: pytest.MonkeyPatch) -> None:
        """What a lane makes or asks by itself."""
        patch.setattr("service.lane.group.AIOKafkaConsumer", lambda **options: FakeConsumer(self, **options))
        patch.setattr("service.lane.group.read_told_offsets", self._committed)
        patch.setattr("service.lane.preparing.read_journal", self._journal)
        # A thread's time is not fake.
        patch.setattr(asyncio, "to_thread", _at_once)

    async def _committed(
        self, client: Any, group: str, tps: frozenset[TopicPartition], *, within_s: float
    ) -> ToldOffsets:
        assert self.broker.generation is not None
        membership = Membership(group, self.broker.generation, "m", None)
        return ToldOffsets(dict(await self.broker.read_offsets(Assignment(membership, tps))))

    async def _journal(self, connection: Any, topic: str, *, own: Iterable[int], others: Iterable[int] = ()) -> Journal:
        await asyncio.sleep(HOP_S)
        found = journal_of(write for write in self.broker.written if write.partition in {*own})
        found.starts |= journal_of(write for write in self.broker.written if write.partition in {*others}).starts
        return found


async def _at_once(work: Callable[..., Any], *arguments: Any) -> Any:
    await asyncio.sleep(0)
    return work(*arguments)


def journal_of(written: Iterable[PartitionWrite]) -> Journal:
    """What a reader of the journal finds."""
    found = Journal()
    for write in written:
        if write.topic == "p.vip.journal":
            for _, key, value, _ in write.records:
                found.take(write.partition, key, value)
    return found


def topic_is_clean(written: Iterable[PartitionWrite]) -> bool:
    return not journal_of(written).deliveries


@cache
def _configured(kind: str) -> tuple[Configuration, Handler | BatchHandler]:
    text = CONFIGURATION.replace("HANDLER", kind).replace("OPTIONS", OPTIONS[kind])
    config = loads(text.encode(), KINDS)
    return config, Application(config).handler(config.lanes["vip"])


def targets_of(call: Call) -> list[str]:
    """The targets that a call is about."""
    if call.request.body:
        executions = json.loads(call.request.body)
        if isinstance(executions, list):
            return [one["receiver"]["value"] for one in executions]
    return [call.target]


def _success(call: Call) -> Answer:
    if call.request.body and isinstance(json.loads(call.request.body), list):
        return Answer(200, {}, json.dumps([{"type": "success"}] * len(targets_of(call))).encode())
    return Answer(204, {}, b"")


def _event(handler: str, number: int) -> bytes:
    target = f"T{number}"
    if handler == "segments":
        kind = "contact.changed.v1"
        data: dict[str, Any] = {
            "contact_id": target,
            "change": "updated",
            "identifiers": {"np6": target},
            "segments": {"join": [1]},
        }
    else:
        kind = "notification.occurred.v1"
        data = {"notification_key": 1, "target": target, "action": "dismiss", "occurred_at": "2026-01-01T00:00:00Z"}
    return json.dumps({"specversion": "1.0", "id": target, "source": "s", "type": kind, "data": data}).encode()
