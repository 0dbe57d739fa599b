"""Settles what has ended: results, dead letters, journal and offsets in one transaction, and only then "done".

One settler a lane. It collects the items that ended, and every so often commits a chunk of them. An item leaves
memory when its transaction is committed, not before; whatever goes wrong, it is either committed or still unfinished.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec
from aiokafka.structs import TopicPartition

from service.clock import Clock
from service.errors import FencedError, RefusedError, TransactorLostError
from service.intake.assignment import Assignment, PartitionState
from service.intake.item import Item
from service.journal.deliveries import Leaving, OpenDeliveries
from service.journal.settled import settled_writes
from service.kafka.offsets import CommittedOffset
from service.kafka.private import Membership
from service.offsets.ledger import SettlePlan
from service.settling.batches import PartitionWrite, Write
from service.settling.documents import Documents
from service.settling.transactor import Committed
from service.settling.writing import written
from service.turns import Turns, drop_in_turns

# Settling takes at most about a tenth of the time, whatever the broker's pace.
_TIMES_AS_LONG = 10
# Events of so many bytes on average are freed one by one.
_LARGE_BYTES = 64 * 1024


class SettlePolicy(msgspec.Struct, frozen=True):
    """How much goes into one transaction, and how far apart two are."""

    max_events: int = 5_000
    max_bytes: int = 16 * 1024 * 1024
    # Between two transactions: ten times as long as the last one took, within these bounds.
    pause_s: float = 0.02
    pause_max_s: float = 0.2
    recovery_pause_s: float = 0.2
    recovery_pause_max_s: float = 5.0


class Committer(Protocol):
    """Writes records and offsets as one. ``Transactor`` and ``AcknowledgedCommitter`` are the two."""

    healthy: bool

    async def open(self) -> None: ...

    async def commit(
        self,
        writes: Sequence[Write],
        offsets: Mapping[TopicPartition, Committed],
        membership: Membership,
        *,
        after: Sequence[PartitionWrite] = (),  # together with the rest, or, without transactions, behind it
    ) -> None: ...


class SettleHooks(msgspec.Struct, frozen=True):
    """What the lane wants to know."""

    settled: Callable[[Sequence[Item], float], None]  # committed, and how long the transaction took in seconds
    fenced: Callable[[Assignment], None]  # the assignment is somebody else's
    refused: Callable[[RefusedError], None]  # the lane must stop
    lost: Callable[[str], None]  # the connection or the transaction is lost, and why; recovery begins
    recovered: Callable[[], None]


class Settler:
    """The lane's one way out. ``lock`` stands around the committer, which takes one transaction at a time."""

    def __init__(
        self,
        committer: Committer,
        documents: Documents,
        policy: SettlePolicy,
        hooks: SettleHooks,
        clock: Clock,
        read_offsets: Callable[[Assignment], Awaitable[Mapping[TopicPartition, CommittedOffset]]],
        deliveries: OpenDeliveries | None = None,
        *,
        journal: str | None = None,
    ) -> None:
        """``deliveries``: those that were begun, where the lane keeps a journal of them. ``journal``: the topic that
        says with each commit how far the lane has settled."""
        self._committer = committer
        self._documents = documents
        self._policy = policy
        self._hooks = hooks
        self._clock = clock
        self._read_offsets = read_offsets
        self._deliveries = deliveries
        self._journal = journal
        self._ended: list[Item] = []
        self._kept_back: list[Item] = []
        self._losses = 0  # one after the other
        self.commits = 0
        self._wake = asyncio.Event()
        self._enough = asyncio.Event()
        self._hurried = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.lock = asyncio.Lock()

    def add(self, item: Item) -> None:
        """An item has reached its outcome."""
        ended = self._ended
        ended.append(item)
        if len(ended) == self._policy.max_events:
            self._enough.set()
        if not self._wake.is_set():
            self._idle.clear()
            self._wake.set()

    def add_all(self, items: Sequence[Item]) -> None:
        """Items that reached their outcomes together."""
        ended = self._ended
        ended.extend(items)
        if len(ended) >= self._policy.max_events:
            self._enough.set()
        if not self._wake.is_set():
            self._idle.clear()
            self._wake.set()

    @property
    def pending(self) -> int:
        """Items that ended and wait to be committed."""
        return len(self._ended) + len(self._kept_back)

    @property
    def kept_back(self) -> Sequence[Item]:
        """Items that ended and wait until something else of their partition does."""
        return self._kept_back

    def forget(self) -> None:
        """Drop what is of an assignment that has ended."""
        self._ended = _active(self._ended)
        self._kept_back = _active(self._kept_back)

    async def drained(self) -> None:
        """Return once nothing is left that could be settled now. The caller bounds the time.

        What is kept back is not waited for: it cannot be settled before something else of its partition has ended.
        """
        self._hurried = True
        self._enough.set()
        try:
            await self._idle.wait()
        finally:
            self._hurried = False

    async def run(self) -> None:
        """Settle until cancelled. What was being settled then is unfinished: the assignment has to end too."""
        while True:
            await self._wake.wait()
            settled = True
            # Only what has been settled makes room for what is kept back.
            while self._ended or (self._kept_back and settled):
                began = self._clock.monotonic()
                settled = await self._settle_some()
                await self._pause(settled, self._clock.monotonic() - began)
            self._wake.clear()
            self._idle.set()

    async def _pause(self, settled: bool, took_s: float) -> None:
        """Let items gather until the next transaction.

        Behind one that was lost: longer each time, or a broker in trouble would get more of it.
        """
        policy = self._policy
        if not settled and self._losses:
            doubled_s = policy.recovery_pause_s * 2.0 ** min(self._losses - 1, 16)
            await asyncio.sleep(min(doubled_s, policy.recovery_pause_max_s))
            return
        pause_s = min(max(_TIMES_AS_LONG * took_s, policy.pause_s), policy.pause_max_s)
        if self._hurried or len(self._ended) >= policy.max_events:
            pause_s = policy.pause_s
        self._enough.clear()
        try:
            async with asyncio.timeout(pause_s):
                await self._enough.wait()
        except TimeoutError:
            return

    async def _settle_some(self) -> bool:
        """Settle a chunk of what has ended; whether anything was settled."""
        chunk = self._take()
        if not chunk:
            return False
        # All items of the lane belong to its newest assignment: older ones have been dropped.
        assignment = chunk[0].partition.assignment
        async with self.lock:
            settled = assignment.active and await self._commit(assignment, chunk)
        if settled:
            await self._free(chunk)
        return settled

    async def _free(self, chunk: list[Item]) -> None:
        """Let go of events in turns: 5,000 take 7 ms; one of 1 MiB may be made of 30,000 objects, and 16 are settled
        together."""
        turns = Turns(self._clock)
        if len(chunk) * _LARGE_BYTES >= sum([item.bytes for item in chunk]):
            await drop_in_turns(turns, chunk)
        while chunk:
            chunk.pop()
            await turns.rest()

    def _take(self) -> list[Item]:
        """The next chunk: at most half of it what is kept back, and one of each at least, so that neither waits for
        ever."""
        max_events, max_bytes = self._policy.max_events, self._policy.max_bytes
        count = max(1, _fitting(self._kept_back, max_events // 2, max_bytes // 2))
        # Not a slice of the rest: that would look at each of 50,000 items, for its count of references.
        chunk = self._kept_back[:count]
        del self._kept_back[:count]
        size = sum(item.bytes for item in chunk)
        count = max(1, _fitting(self._ended, max_events - len(chunk), max_bytes - size))
        chunk += self._ended[:count]
        del self._ended[:count]
        return _active(chunk)

    async def _commit(self, assignment: Assignment, chunk: list[Item]) -> bool:
        """Commit a chunk; whether anything was settled. What was not, and still can be, is offered again."""
        plans = _plans(chunk)
        if any(plan.kept_back for plan in plans.values()):
            chunk = self._keep_back(plans, chunk)
            if not chunk:
                return False
        now_ms = self._clock.wall_ms()
        writes = await written(self._documents, chunk, now_ms, Turns(self._clock))
        if not assignment.active:
            return False
        leaving, removals = self._leaving(chunk, now_ms)
        offsets = {tp: Committed(plan.commit_offset, plan.metadata) for tp, plan in plans.items() if plan.settled}
        if self._journal is not None:
            removals = [*removals, *settled_writes(self._journal, offsets, now_ms)]
        began = self._clock.monotonic()
        proven = True
        try:
            await self._committer.commit(writes, offsets, assignment.membership, after=removals)
        except FencedError:
            self._hooks.fenced(assignment)
            return False
        except RefusedError as error:
            self._hooks.refused(error)
            return False
        except TransactorLostError as error:
            self._hooks.lost(str(error))
            if not await self._recover(assignment, plans):
                self._losses += 1
                self._ended[:0] = chunk
                return False
            proven = False
        self._losses = 0
        self.commits += 1
        # It may have ended meanwhile: whoever owns its partitions now learns of this commit from their offsets.
        if assignment.active:
            _apply(assignment, plans)
            if self._deliveries is not None and leaving is not None:
                self._deliveries.left(leaving, proven=proven)
            self._hooks.settled(chunk, self._clock.monotonic() - began)
        return True

    def _leaving(self, chunk: list[Item], now_ms: int) -> tuple[Leaving | None, Sequence[PartitionWrite]]:
        """What settling the chunk does to the deliveries that were begun: entries go with the last of their records."""
        if self._deliveries is None:
            return None, ()
        leaving = self._deliveries.leaving(chunk)
        return leaving, self._deliveries.removal_writes(leaving.closing, now_ms)

    def _keep_back(self, plans: Mapping[TopicPartition, SettlePlan], chunk: list[Item]) -> list[Item]:
        """Put aside what the metadata has no room for; the rest of the chunk."""
        back = {(tp, offset) for tp, plan in plans.items() for offset in plan.kept_back}
        rest: list[Item] = []
        for item in chunk:
            (self._kept_back if (item.partition.tp, item.offset) in back else rest).append(item)
        return rest

    async def _recover(self, assignment: Assignment, plans: Mapping[TopicPartition, SettlePlan]) -> bool:
        """Open the committer anew and learn from the offsets whether the transaction was committed.

        A transaction is one: if all its offsets are there, so are all its records. An assignment that ends meanwhile
        is left alone.
        """
        await self.reopen(lambda: assignment.active)
        if not assignment.active or not self._committer.healthy:
            return False
        committed = await self._offsets_told(assignment)
        if committed is None:
            return False
        self._hooks.recovered()
        for tp, plan in plans.items():
            found = committed.get(tp)
            if plan.settled and (
                found is None or (found.offset, found.metadata) != (plan.commit_offset, plan.metadata)
            ):
                return False
        return True

    async def _offsets_told(self, assignment: Assignment) -> Mapping[TopicPartition, CommittedOffset] | None:
        """The committed offsets, asked for until they are told: without them nobody knows whether to settle again.
        None if the assignment ended over it, or the brokers refuse."""
        while assignment.active:
            try:
                return await self._read_offsets(assignment)
            except TransactorLostError as error:
                self._hooks.lost(str(error))
                await asyncio.sleep(self._policy.recovery_pause_s)
            except RefusedError as error:
                self._hooks.refused(error)
                return None
        return None

    async def reopen(self, wanted: Callable[[], bool]) -> None:
        """Open the committer, trying again for as long as it is wanted. The caller holds the lock."""
        pause_s = self._policy.recovery_pause_s
        while wanted() and not self._committer.healthy:
            try:
                await self._committer.open()
            except TransactorLostError as error:
                self._hooks.lost(str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, self._policy.recovery_pause_max_s)
            except RefusedError as error:
                self._hooks.refused(error)
                return


def _fitting(items: Sequence[Item], max_events: int, max_bytes: int) -> int:
    """How many of the first items stay within the bounds."""
    if sum([item.bytes for item in items[:max_events]]) <= max_bytes:
        return min(len(items), max_events)
    size = 0
    for count, item in enumerate(items):
        size += item.bytes
        if count >= max_events or size > max_bytes:
            return count
    return len(items)


def _active(items: list[Item]) -> list[Item]:
    return [item for item in items if item.partition.assignment.active]


def _plans(chunk: Sequence[Item]) -> dict[TopicPartition, SettlePlan]:
    """What committing the chunk means for each of its partitions."""
    offsets: dict[PartitionState, tuple[list[int], list[int]]] = {}  # without a call, and with one
    for item in chunk:
        found = offsets.get(item.partition)
        if found is None:
            found = offsets[item.partition] = ([], [])
        found[item.called].append(item.offset)
    return {state.tp: state.ledger.prepare(called, uncalled) for state, (uncalled, called) in offsets.items()}


def _apply(assignment: Assignment, plans: Mapping[TopicPartition, SettlePlan]) -> None:
    """The plans' transaction has been committed."""
    for tp, plan in plans.items():
        state = assignment.partitions[tp]
        state.ledger.apply(plan)
        if plan.settled:
            state.committed = plan.commit_offset
            state.last_commit = CommittedOffset(plan.commit_offset, plan.metadata)
        for offset in plan.settled:
            del state.items[offset]
