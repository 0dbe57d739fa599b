"""What stands in for platforms, brokers and time in tests of a lane's parts.

Time is the event loop's: it jumps to the next timer when nothing else can run, so that hours take milliseconds and
each run is the same. A loop in which nothing can ever happen again raises ``Stuck`` where a real one would hang.
"""

import asyncio
import selectors
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import ConsumerRecord, TopicPartition

from contracts.outcomes import Outcome
from contracts.results import Operation
from handlers.base import Answer, Reply, Request
from service.config.secrets import SecretError
from service.errors import FencedError, TransactorLostError
from service.intake.assignment import Assignment, PartitionState
from service.intake.item import Item, item_of
from service.kafka.offsets import CommittedOffset
from service.kafka.private import Membership
from service.offsets.ledger import PartitionLedger
from service.offsets.metadata import decode_all
from service.settling.batches import PartitionWrite, Record, Write
from service.settling.packing import signed
from service.settling.transactor import Committed

T = TypeVar("T")

START_WALL_MS = 1_767_225_600_000


class Stuck(Exception):
    """Nothing can run and no timer is set: a real loop would wait for ever."""


class FakeTime:
    """Both clocks of ``service.clock.Clock``. Only a loop of :func:`run`, or a test, moves them."""

    def __init__(self) -> None:
        self._passed_s = 0.0

    def monotonic(self) -> float:
        return 1_000.0 + self._passed_s

    def wall_ms(self) -> int:
        return START_WALL_MS + round(self._passed_s * 1000)

    def advance(self, seconds: float) -> None:
        """Let time go by."""
        self._passed_s += seconds


class _Selector(selectors.SelectSelector):
    def __init__(self, time: FakeTime) -> None:
        super().__init__()
        self._time = time

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck
        self._time.advance(timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, time: FakeTime) -> None:
        super().__init__(_Selector(time))
        self._fake_time = time

    def time(self) -> float:
        return self._fake_time.monotonic()


def run(main: Callable[[FakeTime], Coroutine[Any, Any, T]], *, within_s: float | None = 30_000) -> T:
    """Run ``main`` on a loop of its own whose time is the one that ``main`` is given.

    Raises Stuck, and TimeoutError behind ``within_s``, where something is waited for that will not come.
    """
    time = FakeTime()

    async def bounded() -> T:
        async with asyncio.timeout(within_s):
            return await main(time)

    with asyncio.Runner(loop_factory=lambda: _Loop(time)) as runner:
        return runner.run(bounded())


async def settle_down(turns: int = 50) -> None:
    """Let everything run that can run without time going by."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def eventually(condition: Callable[[], bool], *, within_s: float = 5_000, every_s: float = 0.05) -> None:
    """Wait until the condition holds. Raises TimeoutError; time is fake, so there can be much of it."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - nothing tells of what a test may ask for
            await asyncio.sleep(every_s)


# -- records and items


class Source:
    """An assignment with its partitions, whose records are numbered as they come."""

    def __init__(
        self,
        *tps: TopicPartition,
        generation: int = 1,
        replay_topic: str = "replay",
        committed: Mapping[TopicPartition, CommittedOffset] | None = None,
    ) -> None:
        partitions = tps or (TopicPartition("contacts", 0),)
        self.assignment = Assignment(Membership("group", generation, "member-1", None), frozenset(partitions))
        for tp in partitions:
            found = (committed or {}).get(tp, CommittedOffset(0, ""))
            ranges, deferred, _ = decode_all(found.offset, found.metadata)
            ledger = PartitionLedger(found.offset, ranges, deferred)
            state = PartitionState(self.assignment, tp, ledger, last_commit=found, is_replay=tp.topic == replay_topic)
            self.assignment.partitions[tp] = state
        self.assignment.ready = True

    def state(self, tp: TopicPartition | None = None) -> PartitionState:
        """One of the partitions; without a name the first."""
        return self.assignment.partitions[tp] if tp else next(iter(self.assignment.partitions.values()))

    def item(
        self,
        key: bytes | None = b"k",
        *operations: Operation,
        tp: TopicPartition | None = None,
        value: bytes | None = b"",
        headers: Sequence[tuple[str, bytes]] = (),
        timestamp: int = START_WALL_MS,
    ) -> Item:
        """The next record of a partition, read and planned: with its operations, or none."""
        state = self.state(tp)
        offset = state.ledger.position
        state.ledger.read(offset)
        item = item_of(state, record(state.tp, offset, key, value, headers, timestamp), offset, START_WALL_MS)
        item.operations = list(operations)
        item.remaining = len(operations)
        state.items[offset] = item
        return item

    def read_up_to(self, end: int, tp: TopicPartition) -> list[Item]:
        """What is unfinished of a partition's records before ``end``, read on from where it stands."""
        state = self.state(tp)
        for offset in range(state.ledger.position, end):
            if state.ledger.read(offset):
                state.items[offset] = item_of(state, record(tp, offset, b"k", b""), offset, START_WALL_MS)
        return list(state.items.values())

    def ended(self, key: bytes | None = b"k", outcome: Outcome = Outcome.DELIVERED, **options: Any) -> Item:
        """The next record of a partition, at its end already."""
        item = self.item(key, **options)
        item.outcome = outcome
        return item


def record(
    tp: TopicPartition,
    offset: int,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]] = (),
    timestamp: int = START_WALL_MS,
) -> ConsumerRecord[bytes, bytes]:
    """A record as aiokafka hands it over."""
    return ConsumerRecord(
        topic=tp.topic,
        partition=tp.partition,
        offset=offset,
        timestamp=timestamp,
        timestamp_type=0,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=-1 if key is None else len(key),
        serialized_value_size=-1 if value is None else len(value),
        headers=tuple(headers),
    )


def join(target: str, segment: int = 1) -> Operation:
    """An assignment of a target to a segment."""
    return Operation("segment.join", target, str(segment))


def leave(target: str, segment: int = 1) -> Operation:
    """The end of one."""
    return Operation("segment.leave", target, str(segment))


# -- the platform

Replies = Callable[["Call"], Reply | BaseException | Awaitable[Reply]]
DONE = Answer(204, {}, b"")


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    """An answer; header names are written with underscores."""
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@dataclass
class Call:
    """A request that a :class:`FakePlatform` got; ``ended_at`` is None while it has not answered."""

    number: int
    request: Request
    credentials: Mapping[str, str]
    began_at: float
    ended_at: float | None = None

    @property
    def target(self) -> str:
        """The second part of the path: NP6's target."""
        return self.request.path.split("/")[2]


class FakePlatform:
    """A transport. Answers 204 after ``takes_s``, but what ``scripts`` hold for a target, or ``replies`` decides."""

    def __init__(self, time: FakeTime, replies: Replies | None = None, *, takes_s: float = 0.01) -> None:
        self.time = time
        self.replies = replies
        self.takes_s = takes_s
        self.calls: list[Call] = []
        self.scripts: defaultdict[str, list[Reply | BaseException]] = defaultdict(list)
        self.in_flight = self.most_in_flight = 0

    async def send(self, request: Request, credentials: Mapping[str, str]) -> Reply:
        call = Call(len(self.calls), request, dict(credentials), self.time.monotonic())
        self.calls.append(call)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.takes_s)
            reply = await self._reply(call)
        finally:
            self.in_flight -= 1
            call.ended_at = self.time.monotonic()
        if isinstance(reply, BaseException):
            raise reply
        return reply

    async def _reply(self, call: Call) -> Reply | BaseException:
        script = self.scripts.get(call.target)
        if script:
            return script.pop(0)
        if self.replies is None:
            return DONE
        reply = self.replies(call)
        return await reply if isinstance(reply, Awaitable) else reply

    def targets(self) -> list[str]:
        """The targets in the order in which they were called."""
        return [call.target for call in self.calls]


class FakeCredentials:
    """A secret file: ``content`` is what stands in it; None: it cannot be read."""

    def __init__(self, content: str | None = "key-1") -> None:
        self.content = content
        self.reads = 0
        self._last: str | None = None

    def read(self) -> Mapping[str, str]:
        self.reads += 1
        if self.content is None:
            raise SecretError("file /secret cannot be read")
        self._last = self.content
        return {"X-Key": self.content}

    def changed(self) -> bool:
        return self.content is not None and self.content != self._last


@dataclass
class FakeAccountObserver:
    """Counts an account's requests by status."""

    ended: list[str] = field(default_factory=list)

    def request_ended(self, status: str, seconds: float) -> None:
        assert seconds >= 0
        self.ended.append(status)


# -- the broker


class FakeBroker:
    """A ``Committer`` with the committed offsets behind it. Each transaction happens as a whole or not at all.

    ``faults`` are taken one per commit, and raised instead of it; None leaves it to happen, :class:`AfterCommit` lets
    it happen and then loses the answer. Once ``generation`` is set, members of another one are fenced.
    """

    def __init__(self, *, takes_s: float = 0.005) -> None:
        self.takes_s = takes_s
        self.healthy = True
        self.opens = 0
        self.offsets: dict[TopicPartition, CommittedOffset] = {}
        self.written: list[PartitionWrite] = []
        self.commits: list[dict[TopicPartition, Committed]] = []
        self.faults: list[BaseException | None] = []
        self.open_faults: list[BaseException | None] = []
        self.read_faults: list[BaseException | None] = []
        self.busy = False
        self.generation: int | None = None

    async def open(self) -> None:
        await asyncio.sleep(self.takes_s)
        self.opens += 1
        fault = self.open_faults.pop(0) if self.open_faults else None
        if fault is not None:
            raise fault
        self.healthy = True

    async def commit(
        self,
        writes: Sequence[Write],
        offsets: Mapping[TopicPartition, Committed],
        membership: Membership,
        *,
        after: Sequence[PartitionWrite] = (),
    ) -> None:
        assert not self.busy, "two transactions at once"
        if not self.healthy:
            raise TransactorLostError("not open")
        self.busy, self.healthy = True, False
        try:
            await asyncio.sleep(self.takes_s)
            fault = self.faults.pop(0) if self.faults else None
            if fault is not None and not isinstance(fault, AfterCommit):
                raise fault
            # As the group coordinator does: who commits no offset is not asked who it is.
            if offsets and self.generation is not None and membership.generation != self.generation:
                raise FencedError("ILLEGAL_GENERATION (22)")
            self._happen([*map(unpacked, writes), *after], offsets)
            if fault is not None:
                raise TransactorLostError("no answer to EndTxn")
            await asyncio.sleep(self.takes_s)
            self.healthy = True
        finally:
            self.busy = False

    def _happen(self, writes: Sequence[PartitionWrite], offsets: Mapping[TopicPartition, Committed]) -> None:
        self.written.extend(writes)
        self.commits.append(dict(offsets))
        for tp, committed in offsets.items():
            self.offsets[tp] = CommittedOffset(committed.offset, committed.metadata)

    async def read_offsets(self, assignment: Assignment) -> Mapping[TopicPartition, CommittedOffset]:
        await asyncio.sleep(self.takes_s)
        fault = self.read_faults.pop(0) if self.read_faults else None
        if fault is not None:
            raise fault
        return {tp: self.offsets[tp] for tp in assignment.tps if tp in self.offsets}


class AfterCommit(Exception):
    """The transaction is committed, and its answer is lost."""


def unpacked(write: Write) -> PartitionWrite:
    """The write with its records as a consumer reads them."""
    if isinstance(write, PartitionWrite):
        return write
    nobody: Any = {"producer_id": -1, "producer_epoch": -1, "base_sequence": -1, "transactional": False}
    batches = signed(write.batches, **nobody)
    return PartitionWrite(write.topic, write.partition, [one for batch in batches for one in records_in(batch.data)])


def records_in(data: bytes) -> list[Record]:
    """The records of a batch, as a consumer reads them."""
    found: list[Record] = []
    records = MemoryRecords(data)
    while records.has_next():
        batch = records.next_batch()
        assert batch.validate_crc()
        found += [(one.timestamp, one.key, one.value, list(one.headers)) for one in batch]
    return found


def values(writes: Iterable[PartitionWrite], topic: str) -> list[bytes | None]:
    """The values that were written to a topic."""
    return [value for write in writes if write.topic == topic for _, _, value, _ in write.records]
