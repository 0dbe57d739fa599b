"""A real lane without Kafka, watched: each excuse never restarts it, each standstill does after two minutes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition

from service.batching.batcher import BatchPolicy
from service.config import Start
from service.delivery.breaker import BreakerPolicy
from service.delivery.lane_delivery import DeliveryPolicy
from service.delivery.limiter import LimiterPolicy
from service.delivery.retry import RetryPolicy
from service.intake.assignment import Assignment, PartitionState
from service.intake.planner import PlanningPolicy
from service.kafka.names import lane_names
from service.kafka.private import Membership
from service.lane import Lane, LaneMeans, LaneSetup
from service.lane.observer import LaneObserver
from service.offsets.deferred import key_digest
from service.offsets.ledger import PartitionLedger
from service.settling.settler import SettlePolicy
from service.status.reading import Reading
from service.status.waiting import Wait, Waits
from service.watching.sights import look_at
from service.watching.stalls import StallPolicy, Stalls, Verdict
from tests.support.bulks import NOT_SENT, OK, EchoHandler
from tests.support.dispatching import account_for
from tests.support.fakes import (
    FakeAccountObserver,
    FakeBroker,
    FakePlatform,
    FakeTime,
    answer,
    record,
    run,
    settle_down,
)
from tests.support.settling import documents_for
from tests.support.workflows import notification

TP, OTHER = TopicPartition("notes", 0), TopicPartition("notes", 1)
ALONE = BatchPolicy(1, 1_000_000, 0.1)
TOGETHER = BatchPolicy(100, 1_000_000, 0.1)
LONG = RetryPolicy(first_delay_s=600, max_delay_s=600)


async def never(call: object) -> Any:
    """A call whose time-out does not work."""
    await asyncio.get_running_loop().create_future()


class Watched:
    """A lane of workflows that is handed its records. ``end`` is the end of its first partition."""

    def __init__(
        self,
        time: FakeTime,
        reply: Any = OK,
        *,
        batch: BatchPolicy = ALONE,
        retry: RetryPolicy | None = None,
        takes_s: float = 0.01,
        concurrency: int = 4,
        **account: Any,
    ) -> None:
        self.time = time
        self.platform = FakePlatform(time, reply if callable(reply) else lambda call: reply, takes_s=takes_s)
        self.broker = FakeBroker()
        self.broker.generation = 1
        setup = LaneSetup(
            name="vip",
            names=lane_names("t", "vip"),
            topics=("notes",),
            written=(),
            start=Start(),
            hold_on_gap=True,
            batch=batch,
            delivery=DeliveryPolicy(concurrency, retry or RetryPolicy(max_attempts=1_000_000)),
            planning=PlanningPolicy(other_types_skipped=False, deadline_s=None, deadline_from_time=False),
            guard=None,
            dedupe=None,
            settle=SettlePolicy(),
            buffer_bytes=100_000,
            dry_run=False,
            drain_s=1.0,
            instance_id=None,
            session_timeout_s=30.0,
            rebalance_timeout_s=60.0,
        )
        nothing: Any = None
        self.lane = Lane(
            setup,
            LaneMeans(
                handler=EchoHandler(),
                where=None,
                account=account_for(time, self.platform, **account),
                documents=documents_for(),
                committer=self.broker,
                client=nothing,
                connection={},
                observer=create_autospec(LaneObserver, instance=True),  # it has many methods, and none may matter here
                requests=FakeAccountObserver(),
                control=SimpleNamespace(pause=lambda: None),  # type: ignore[arg-type] # nobody gives orders
                clock=time,
                random=Random(0),
            ),
        )
        self.assignment = self.lane.core.group.assignment = Assignment(
            Membership("g", 1, "m", None), frozenset({TP, OTHER})
        )
        for tp in (TP, OTHER):
            state = PartitionState(self.assignment, tp, PartitionLedger(0, []), is_replay=False)
            self.assignment.partitions[tp] = state
        self.assignment.ready = True
        self.state = self.assignment.partitions[TP]
        self.end: dict[TopicPartition, int | None] = {TP: 0, OTHER: 0}
        self.flushes = True

    def read(self, *keys: str, tp: TopicPartition = TP, value: bytes | None = None) -> None:
        """An event of each key is read."""
        state, first = self.assignment.partitions[tp], self.end[tp] or 0
        records = [_note(tp, first + number, key, value) for number, key in enumerate(keys)]
        self.end[tp] = first + len(records)
        self.lane.taking.take(state, records)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        assert self.lane.bulks is not None
        parts = [self.lane.settler.run(), self.lane.dispatcher.run(), self.lane.bulks.journal.run(), self._flush()]
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            yield
        finally:
            self.assignment.end()
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task

    async def _flush(self) -> None:
        while True:
            if self.flushes:
                self.lane.batcher.due(self.time.monotonic())
            await asyncio.sleep(0.1)

    async def told(self, seconds: float) -> list[tuple[int, str]]:
        """Look every 5 seconds; after how many there was a stall, and what its event did."""
        stalls, began, told = Stalls(StallPolicy()), self.time.monotonic(), list[tuple[int, str]]()
        while self.time.monotonic() - began <= seconds:
            now = self.time.monotonic()
            seen = look_at(self.lane, [self._reading(tp) for tp in (TP, OTHER)], now)
            verdict, stalled = stalls.look({tp: one.sight for tp, one in seen.items()}, now)
            if verdict is not Verdict.FINE:
                item = seen[stalled[0]].item
                wait = Wait("reading") if item is None else Waits(self.lane, now).of(item)
                return [*told, (round(now - began), wait.words)]
            await asyncio.sleep(5)
        return told

    def _reading(self, tp: TopicPartition) -> Reading:
        return Reading(tp, position=self.assignment.partitions[tp].ledger.position, end=self.end[tp])


def _note(tp: TopicPartition, offset: int, key: str, value: bytes | None) -> ConsumerRecord[bytes, bytes]:
    return record(tp, offset, key.encode(), notification(f"e-{offset}", key).value if value is None else value)


# -- what never restarts a lane

Excuse = Callable[[FakeTime], Watched]


def _sleeping_retry(time: FakeTime) -> Watched:
    stage = Watched(time, NOT_SENT, retry=LONG)
    stage.read("a")
    return stage


def _behind_its_key(time: FakeTime) -> Watched:
    stage = _sleeping_retry(time)
    stage.read("a", "a")
    stage.read("a", tp=OTHER)
    return stage


def _breaker(time: FakeTime) -> Watched:
    stage = Watched(time, NOT_SENT, breaker=BreakerPolicy(min_requests=1, first_open_s=900, max_open_s=900))
    stage.read(*"abcdefgh")
    return stage


def _rate_limit(time: FakeTime) -> Watched:
    stage = Watched(time, answer(429, retry_after="290"))
    stage.read(*"abcdefgh")
    return stage


def _pace(time: FakeTime) -> Watched:
    """A call in twenty seconds."""
    stage = Watched(time, limits=LimiterPolicy(requests_per_second=0.05))
    stage.read(*"abcdefghijklmnopqrstuvwxyz")
    return stage


def _all_in_flight(time: FakeTime) -> Watched:
    """One call at a time for the account; each takes long, but less than its time-out."""
    stage = Watched(time, takes_s=100, limits=LimiterPolicy(max_in_flight=1))
    stage.read(*"abcdefgh")
    return stage


def _all_workers_busy(time: FakeTime) -> Watched:
    stage = Watched(time, takes_s=100, concurrency=1)
    stage.read(*"abcdefgh")
    return stage


def _pause(time: FakeTime) -> Watched:
    stage = Watched(time)
    stage.lane.dispatcher.pause("paused by anna")
    stage.read("a")
    return stage


def _pause_over_a_call(time: FakeTime) -> Watched:
    """Not even one that hangs."""
    stage = _hanging_call(time)
    stage.lane.dispatcher.pause("paused by anna")
    return stage


def _hold(time: FakeTime) -> Watched:
    stage = Watched(time, answer(404))
    stage.read(*"abcdefgh")
    return stage


def _guard(time: FakeTime) -> Watched:
    stage = Watched(time)
    stage.lane.dispatcher._gate.shut("guard", forever=True)
    stage.read("a", "b")
    return stage


def _credentials(time: FakeTime) -> Watched:
    stage = Watched(time, answer(401))
    stage.read(*"abcdefgh")
    return stage


def _drain(time: FakeTime) -> Watched:
    stage = _hanging_call(time)
    stage.assignment.draining = True
    return stage


def _offsets_and_journal(time: FakeTime) -> Watched:
    stage = Watched(time)
    stage.end[TP] = 10
    stage.assignment.ready = False
    return stage


def _dedupe(time: FakeTime) -> Watched:
    stage = Watched(time)
    stage.end[TP] = 10
    stage.state.reading_back = True
    return stage


def _full(time: FakeTime) -> Watched:
    """The buffer is full of what sleeps; the other partition is not read."""
    stage = _sleeping_retry(time)
    stage.end[OTHER] = 10
    stage.lane.core.buffer.held_bytes = 100_000
    return stage


def _hot_key(time: FakeTime) -> Watched:
    stage = Watched(time)
    stage.end[TP] = 10
    stage.state.ledger.defer([], {key_digest(b"hot"): 0})
    return stage


def _kafka(time: FakeTime) -> Watched:
    stage = _hanging_settler(time)
    stage.lane.core.troubles.kafka = "no leader"
    return stage


def _lost_records(time: FakeTime) -> Watched:
    stage = Watched(time)
    stage.end[TP] = 10
    stage.lane.core.troubles.gap = "lost: notes-0 offsets 1 to 2"
    return stage


def _unknown(time: FakeTime) -> Watched:
    stage = Watched(time)
    stage.end[TP] = None
    return stage


def _long_linger(time: FakeTime) -> Watched:
    stage = Watched(time, batch=BatchPolicy(100, 1_000_000, 900.0))
    stage.read("a", "b", "a")
    return stage


def _nothing_to_do(time: FakeTime) -> Watched:
    return Watched(time)


EXCUSES = [
    _sleeping_retry,
    _behind_its_key,
    _breaker,
    _rate_limit,
    _pace,
    _all_in_flight,
    _all_workers_busy,
    _pause,
    _pause_over_a_call,
    _hold,
    _guard,
    _credentials,
    _drain,
    _offsets_and_journal,
    _dedupe,
    _full,
    _hot_key,
    _kafka,
    _lost_records,
    _unknown,
    _long_linger,
    _nothing_to_do,
]


@pytest.mark.parametrize("excuse", EXCUSES, ids=[excuse.__name__.strip("_") for excuse in EXCUSES])
def test_no_excuse_is_taken_for_a_stall(excuse: Excuse) -> None:
    """However long it takes: eight minutes here."""

    async def main(time: FakeTime) -> None:
        stage = excuse(time)
        async with stage.running():
            assert await stage.told(480) == []

    run(main)


# -- what does


def _hanging_call(time: FakeTime) -> Watched:
    stage = Watched(time, never)
    stage.read("a", "b")
    return stage


def _hanging_probe(time: FakeTime) -> Watched:
    """The breaker is an excuse, the call that is to find out whether it may close is none."""
    replies = iter([NOT_SENT])
    breaker = BreakerPolicy(min_requests=1, first_open_s=5)
    stage = Watched(time, lambda call: next(replies, None) or never(call), breaker=breaker)
    stage.read("a")
    return stage


def _ended_worker(time: FakeTime) -> Watched:
    """A stray cancellation ends a worker, and nobody is told; the others go on."""
    stage = Watched(time)
    stage.platform.scripts["batch"].append(asyncio.CancelledError())
    stage.read("a")
    return stage


def _hanging_settler(time: FakeTime) -> Watched:
    stage = Watched(time)
    stage.broker.takes_s = 1e9
    stage.read("a", value=b"")
    return stage


def _hanging_journal(time: FakeTime) -> Watched:
    stage = Watched(time)
    stage.broker.takes_s = 1e9
    stage.read("a")
    return stage


def _poll_loop_with_a_batch(time: FakeTime) -> Watched:
    stage = Watched(time, batch=TOGETHER)
    stage.flushes = False
    stage.read("a")
    return stage


def _poll_loop(time: FakeTime) -> Watched:
    stage = Watched(time)
    stage.end[TP] = 10
    return stage


STALLS = [
    (_hanging_call, "in flight for"),
    (_hanging_probe, "in flight for"),
    (_ended_worker, "its turn on account"),
    (_hanging_settler, "to be settled"),
    (_hanging_journal, "its turn on account"),
    (_poll_loop_with_a_batch, "in a batch that closes in 0.0 s"),
    (_poll_loop, "reading"),
]


@pytest.mark.parametrize(("stall", "words"), STALLS, ids=[stall.__name__.strip("_") for stall, _ in STALLS])
def test_a_standstill_is_found_two_minutes_after_its_last_move(stall: Excuse, words: str) -> None:
    """And what its first event does is told, without its key."""

    async def main(time: FakeTime) -> None:
        stage = stall(time)
        async with stage.running():
            await settle_down()
            [(seconds, told)] = await stage.told(200)
            assert 120 <= seconds <= 140
            assert words in told

    run(main)


def test_what_goes_on_beside_it_hides_no_standstill() -> None:
    """One call hangs; events of other contacts are delivered all the time, in the same partition too."""

    async def main(time: FakeTime) -> None:
        replies = iter([never])
        stage = Watched(time, lambda call: next(replies, lambda _: OK)(call))
        stage.read("a")

        async def load() -> None:
            for number in range(1_000):
                await asyncio.sleep(1)
                stage.read(f"k{number}")
                stage.read(f"o{number}", tp=OTHER)

        async with stage.running():
            loading = asyncio.create_task(load())
            [(seconds, told)] = await stage.told(200)
            loading.cancel()
            assert 120 <= seconds <= 130
            assert "in flight" in told

    run(main)
