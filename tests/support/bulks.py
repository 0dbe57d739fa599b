"""Batched delivery before a platform, a broker and a clock that obey the test: the real journal, settler, dispatcher.

The platform is sent the ids of a batch's events, performs them unless its reply says otherwise, and remembers.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import ClassVar

from aiokafka.structs import TopicPartition

from contracts.events import Event, NotificationOccurred
from contracts.ids import ResultIds
from contracts.journal import Delivery, DeliveryKey, decode_entry, decode_key
from contracts.outcomes import Outcome, Reason
from contracts.results import Operation
from handlers.base import (
    Answer,
    BatchVerdict,
    Failure,
    FailureKind,
    Forbidden,
    Hold,
    HoldScope,
    InDoubt,
    Member,
    Piece,
    Refusal,
    Reply,
    Request,
    Retry,
    RetryCause,
    Settle,
    Split,
)
from service.delivery.breaker import BreakerPolicy
from service.delivery.bulk import Bulk
from service.delivery.bulk_dispatcher import BulkDispatcher, BulkHooks
from service.delivery.guard import Guard
from service.delivery.lane_delivery import DeliveryMeans, DeliveryPolicy, LoadHooks
from service.delivery.retry import RetryPolicy
from service.errors import RefusedError
from service.intake.item import Item
from service.journal.deliveries import OpenDeliveries
from service.journal.writer import JournalPolicy, JournalWriter
from service.settling.settler import SettleHooks, SettlePolicy, Settler
from service.transport.account import Account
from tests.support.dispatching import NEVER, account_for
from tests.support.fakes import Call, FakeAccountObserver, FakeBroker, FakePlatform, FakeTime, Source, eventually
from tests.support.settling import documents_for

JOURNAL = "vip.journal"
TIMED_OUT = Failure(FailureKind.TIMED_OUT, "no answer")
RESET = Failure(FailureKind.RESET, "reset")
NOT_SENT = Failure(FailureKind.NOT_SENT, "refused")
OK = Answer(200, {}, b"")


class EchoHandler:
    """A batch handler whose verdict is the plain reading of a status; a 200's body may hold a word per member."""

    name: ClassVar[str] = "np6.workflows"
    platform: ClassVar[str] = "np6"

    def plan(self, event: Event, key: bytes | None) -> Piece | Refusal:
        return Piece(Operation("workflow.execute", None, "42"), event.id.encode())

    def batch_of(self, operation: Operation) -> Hashable:
        return operation.entity

    def batch_request(self, members: Sequence[Member], batch_id: str) -> Request:
        payloads = [member.payload.decode() for member in members]
        if any(payload == "unwritable" for payload in payloads):
            raise RuntimeError("cannot be written")
        return Request("POST", "/x/batch", (), json.dumps(payloads).encode())

    def judge_batch(self, members: Sequence[Member], reply: Reply) -> BatchVerdict:
        if isinstance(reply, Failure):
            return Retry(RetryCause.NOT_SENT) if reply.kind is FailureKind.NOT_SENT else InDoubt(reply.detail)
        text = reply.body.decode() or None
        match reply.status:
            case 401:
                return Hold(HoldScope.ACCOUNT, "credentials refused (401)")
            case 403:
                return Forbidden(text)
            case 404:
                return Hold(HoldScope.LANE, "workflow not found (404)")
            case 400 | 413:
                return Split(Reason.REFUSED if reply.status == 400 else Reason.TOO_LARGE, text)
            case 429 | 503:
                return Retry(RetryCause.THROTTLED)
            case 500:
                return InDoubt("HTTP 500")
            case 299:
                raise RuntimeError("an answer that the handler cannot read")
            case _:
                words = json.loads(reply.body) if reply.body else ["ok"] * len(members)
                return [_END[word] for word in words]


_END: dict[str, Settle | InDoubt] = {
    "ok": Settle(Outcome.DELIVERED),
    "bad": Settle(Outcome.REJECTED, Reason.REFUSED, "no such receiver"),
    "quoted": Settle(Outcome.REJECTED, Reason.REFUSED, "no such receiver: Lindqvist"),
    "what": InDoubt("unknown item"),
}
NOTHING_DONE = frozenset({400, 401, 403, 404, 413, 429, 503})


def ids_of(call: Call) -> list[str]:
    """The events that a request carried."""
    found: list[str] = json.loads(call.request.body or b"[]")
    return found


class BulkBench:
    """One lane's batched delivery. ``ended`` are the items that reached an end, ``settled`` those committed."""

    def __init__(
        self,
        time: FakeTime,
        reply: Callable[[Call], Reply] | None = None,
        *,
        source: Source | None = None,
        broker: FakeBroker | None = None,
        account: Account | None = None,
        breaker: BreakerPolicy = NEVER,
        concurrency: int = 4,
        retry: RetryPolicy | None = None,
        guard: Guard | None = None,
        repeat: bool = False,
        takes_s: float = 0.01,
        journal: JournalPolicy | None = None,
        settle: SettlePolicy | None = None,
        max_attempts: int = 10,
    ) -> None:
        self.time = time
        self._reply = reply
        self.platform = FakePlatform(time, self._replied, takes_s=takes_s)
        self.account = account or account_for(time, self.platform, breaker=breaker)
        self.source = source or Source()
        self.broker = broker or FakeBroker()
        self.broker.generation = self.source.assignment.membership.generation
        self.ended: list[Item] = []
        self.settled: list[Item] = []
        self.released: list[bytes | None] = []
        self.operations: list[tuple[str, Outcome, int]] = []
        self.retries: list[RetryCause] = []
        self.faults: list[BaseException] = []
        self.told: list[str] = []
        self.performed: list[str] = []
        self.deadline_ms: dict[str, float] = {}
        self.deliveries = OpenDeliveries(JOURNAL)
        hooks = SettleHooks(
            settled=lambda items, _: self.settled.extend(items),
            fenced=self._fenced,
            refused=self._refused,
            lost=lambda why: self.told.append("lost"),
            recovered=lambda: self.told.append("recovered"),
        )
        self.settler = Settler(
            self.broker,
            documents_for(),
            settle or SettlePolicy(),
            hooks,
            time,
            self.broker.read_offsets,
            self.deliveries,
        )
        self.journal = JournalWriter(
            self.broker,
            self.settler,
            self.deliveries,
            hooks,
            lambda: self.source.assignment,
            time,
            EchoHandler.name,
            journal,
        )
        retries = retry or RetryPolicy(max_attempts=max_attempts)
        self.dispatcher = BulkDispatcher(
            EchoHandler(),
            DeliveryMeans(
                account=self.account,
                policy=DeliveryPolicy(concurrency, retries, repeat_in_doubt=repeat),
                guard=guard,
                requests=FakeAccountObserver(),
                clock=time,
                random=Random(0),
            ),
            LoadHooks(
                retried=self.retries.append,
                hold_changed=lambda: None,
                expires_at_ms=lambda item: self.deadline_ms.get(name_of(item)),
                fault=self.faults.append,
            ),
            BulkHooks(
                ended=self._ended,
                released=self.released.extend,
                operations_ended=lambda kind, outcome, count: self.operations.append((kind, outcome, count)),
            ),
            self.journal,
            ResultIds("vip"),
        )
        self._batches = 0

    def _replied(self, call: Call) -> Reply:
        """What the platform has performed is remembered, whatever it answers."""
        reply = OK if self._reply is None else self._reply(call)
        failed = reply.kind is FailureKind.NOT_SENT if isinstance(reply, Failure) else reply.status in NOTHING_DONE
        if not failed:
            self.performed.extend(ids_of(call))
        return reply

    def _ended(self, items: Sequence[Item]) -> None:
        for item in items:
            assert item.outcome is not None
            assert item.remaining == 0
            assert id(item) not in {id(other) for other in self.ended}, "an item ended twice"
            assert item.partition.assignment.active
        self.ended.extend(items)
        self.settler.add_all(items)

    def _fenced(self, assignment: object) -> None:
        self.told.append("fenced")
        self.source.assignment.end()

    def _refused(self, error: RefusedError) -> None:
        self.told.append(f"refused {error.what}")
        self.source.assignment.end()

    # -- what a test does

    def item(
        self, name: str, *, key: bytes | None = None, tp: TopicPartition | None = None, value: bytes = b""
    ) -> Item:
        """The next record of a partition, planned: an execution for an event of this name, which is its key too."""
        piece = EchoHandler().plan(_event(name), None)
        assert isinstance(piece, Piece)
        item = self.source.item(key if key is not None else name.encode(), piece.operation, tp=tp, value=value)
        item.hold_piece(_event(name), piece, timed=False)
        return item

    def deliver(self, *items: Item) -> Bulk:
        """A batch of these items."""
        self._batches += 1
        for item in items:
            item.batch_id = f"batch-{self._batches}"
        bulk = Bulk(f"batch-{self._batches}", list(items))
        self.dispatcher.dispatch(bulk)
        return bulk

    def batch(self, names: Iterable[str]) -> list[Item]:
        """Events of these names, as one batch."""
        items = [self.item(name) for name in names]
        self.deliver(*items)
        return items

    async def until_settled(self, count: int) -> None:
        """Wait until so many items have been committed in all."""
        await eventually(lambda: len(self.settled) >= count)

    # -- what it saw

    def outcomes(self) -> dict[str, str]:
        """How each event has ended: outcome and reason."""
        return {
            name_of(item): "/".join(str(part) for part in (item.outcome, item.reason) if part) for item in self.ended
        }

    def carried(self) -> list[list[str]]:
        """The events of each request, in the order of the requests."""
        return [ids_of(call) for call in self.platform.calls]

    def open_entries(self) -> dict[tuple[int, str], Delivery]:
        """What a reader of the journal would find open now, by (partition, id)."""
        return open_entries(self.broker)

    def nothing_is_left(self) -> bool:
        """No call, no bulk, no permit, no entry."""
        dispatcher = self.dispatcher
        counts = (dispatcher.in_flight, dispatcher.ready, dispatcher.retrying, self.account.limiter.in_flight)
        return counts == (0, 0, 0, 0) and not self.open_entries() and not self.deliveries.count


def open_entries(broker: FakeBroker) -> dict[tuple[int, str], Delivery]:
    """What a reader of the journal would find open, by (partition, id)."""
    found: dict[tuple[int, str], Delivery] = {}
    for write in broker.written:
        if write.topic != JOURNAL:
            continue
        for _, key, value, _ in write.records:
            name = decode_key(key)
            assert isinstance(name, DeliveryKey)
            if value is None:
                found.pop((write.partition, name.id), None)
            else:
                entry = decode_entry(name, value)
                assert isinstance(entry, Delivery)
                found[write.partition, name.id] = entry
    return found


def offsets_named(entries: Iterable[Delivery]) -> set[tuple[str, int, int]]:
    """Every (topic, partition, offset) that entries name."""
    return {
        (topic, partition, offset)
        for entry in entries
        for topic, ranges in entry.ranges.items()
        for partition, first, end in ranges
        for offset in range(first, end)
    }


def name_of(item: Item) -> str:
    """The name of the item's event."""
    assert item.envelope is not None
    return item.envelope.id


def _event(name: str) -> Event:
    data = NotificationOccurred(1, "T1", "activation", "2026-01-01T00:00:00Z")
    return Event(name, "crm", "notification.occurred.v1", data)


@asynccontextmanager
async def running(bench: BulkBench) -> AsyncIterator[BulkBench]:
    """Dispatcher, journal and settler at work; an error of theirs comes out here."""
    bench.broker.offsets.update({tp: state.last_commit for tp, state in bench.source.assignment.partitions.items()})
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part.run()) for part in (bench.dispatcher, bench.journal, bench.settler)]
        yield bench
        for task in tasks:
            task.cancel()
