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
from service.kafka.offsets import CommittedOffset
from service.kafka.private import Membership
from service.offsets.ledger import SettlePlan
from service.settling.batches import PartitionWrite
from service.settling.documents import Documents
from service.settling.transactor import Committed


class SettlePolicy(msgspec.Struct, frozen=True):
    """How much goes into one transaction, and how far apart two are."""

    max_events: int = 5_000
    max_bytes: int = 16 * 1024 * 1024
    pause_s: float = 0.02
    recovery_pause_s: float = 0.2
    recovery_pause_max_s: float = 5.0


class Committer(Protocol):
    """Writes records and offsets as one. ``Transactor`` and ``AcknowledgedCommitter`` are the two."""

    healthy: bool

    async def open(self) -> None: ...

    async def commit(
        self,
        writes: Sequence[PartitionWrite],
        offsets: Mapping[TopicPartition, Committed],
        membership: Membership,
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
    ) -> None:
        self._committer = committer
        self._documents = documents
        self._policy = policy
        self._hooks = hooks
        self._clock = clock
        self._read_offsets = read_offsets
        self._ended: list[Item] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.lock = asyncio.Lock()

    def add(self, item: Item) -> None:
        """An item has reached its outcome."""
        self._ended.append(item)
        if not self._wake.is_set():
            self._idle.clear()
            self._wake.set()

    @property
    def pending(self) -> int:
        """Items that ended and are not committed."""
        return len(self._ended)

    def forget(self) -> None:
        """Drop everything: the assignment has ended."""
        self._ended = [item for item in self._ended if item.partition.assignment.active]

    async def drained(self) -> None:
        """Return once nothing is waiting to be settled. The caller bounds the time."""
        await self._idle.wait()

    async def run(self) -> None:
        """Settle until cancelled."""
        while True:
            await self._wake.wait()
            while self._ended:
                await self._settle_some()
                await asyncio.sleep(self._policy.pause_s)
            self._wake.clear()
            self._idle.set()

    async def _settle_some(self) -> None:
        chunk = self._take()
        if not chunk:
            return
        # All items of the lane belong to its newest assignment: older ones have been dropped.
        assignment = chunk[0].partition.assignment
        async with self.lock:
            if not assignment.active:
                return
            kept_back = await self._commit(assignment, chunk)
        # What did not fit into the metadata, and what was not committed, is offered again, behind what has ended since:
        # kept back in front it could fill every chunk, and the record that would free it would never be reached.
        self._ended.extend(kept_back)
        if kept_back and len(kept_back) == len(self._ended):
            await asyncio.sleep(self._policy.recovery_pause_s)

    def _take(self) -> list[Item]:
        ended = self._ended
        count, size = 0, 0
        for item in ended:
            size += item.size
            count += 1
            if count >= self._policy.max_events or size >= self._policy.max_bytes:
                break
        chunk, self._ended = ended[:count], ended[count:]
        return [item for item in chunk if item.partition.assignment.active]

    async def _commit(self, assignment: Assignment, chunk: list[Item]) -> list[Item]:
        """Commit a chunk; the items that are to be offered again."""
        plans: dict[TopicPartition, SettlePlan] = {}
        kept_back: list[Item] = []
        for state, items in by_partition(chunk).items():
            plan = state.ledger.prepare(
                [item.offset for item in items if item.called],
                [item.offset for item in items if not item.called],
            )
            if plan.kept_back:
                back = set(plan.kept_back)
                kept_back.extend(item for item in items if item.offset in back)
            plans[state.tp] = plan
        if kept_back:
            back_ids = {id(item) for item in kept_back}
            chunk = [item for item in chunk if id(item) not in back_ids]
        if not chunk:
            return kept_back
        writes = self._documents.writes(chunk, self._clock.wall_ms())
        offsets = {tp: Committed(plan.commit_offset, plan.metadata) for tp, plan in plans.items() if plan.settled}
        began = self._clock.monotonic()
        try:
            await self._committer.commit(writes, offsets, assignment.membership)
        except FencedError:
            self._hooks.fenced(assignment)
            return []
        except RefusedError as error:
            self._hooks.refused(error)
            return []
        except TransactorLostError as error:
            self._hooks.lost(str(error))
            chunk = await self._recover(assignment, plans, chunk)
            return [*kept_back, *chunk]
        self._apply(assignment, plans)
        self._hooks.settled(chunk, self._clock.monotonic() - began)
        return kept_back

    def _apply(self, assignment: Assignment, plans: Mapping[TopicPartition, SettlePlan]) -> None:
        for tp, plan in plans.items():
            state = assignment.partitions[tp]
            state.ledger.apply(plan)
            if plan.settled:
                state.committed = plan.commit_offset
            items = state.items
            for offset in plan.settled:
                del items[offset]

    async def _recover(
        self, assignment: Assignment, plans: Mapping[TopicPartition, SettlePlan], chunk: list[Item]
    ) -> list[Item]:
        """Open the committer anew and learn from the offsets what became of the transaction.

        Returns the items of the chunk that were not committed. An assignment that ends meanwhile is left alone.
        """
        await self.reopen(lambda: assignment.active)
        if not assignment.active:
            return []
        committed = await self._read_offsets(assignment)
        self._hooks.recovered()
        if not assignment.active:
            return []
        for tp, plan in plans.items():
            found = committed.get(tp)
            expected = (plan.commit_offset, plan.metadata)
            if plan.settled and (found is None or (found.offset, found.metadata) != expected):
                return chunk
        # A transaction is one: all its offsets are there, so all its records are.
        self._apply(assignment, plans)
        self._hooks.settled(chunk, 0.0)
        return []

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


def by_partition(items: Sequence[Item]) -> dict[PartitionState, list[Item]]:
    """Items by the partition that they were read from."""
    groups: dict[PartitionState, list[Item]] = {}
    for item in items:
        group = groups.get(item.partition)
        if group is None:
            groups[item.partition] = [item]
        else:
            group.append(item)
    return groups
