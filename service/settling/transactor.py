"""The settling transaction: records and offsets committed together, by a current member of the group or not at all.

Built on aiokafka's client and protocol layer and not on its producer, which counts a transaction as committed
whose records the broker refused, and sends offsets without the group's generation, so that a frozen former owner
could commit. Here every partition's answer is checked, and TxnOffsetCommit carries the membership that was captured
at assignment (KIP-447): the group coordinator refuses whoever is not a current member.

There is one way of recovery: whatever fails, the transactor is lost. A new one with the same transactional id
completes or aborts what the old one left open, and the committed offsets tell which of the two it was.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
)
from aiokafka.structs import TopicPartition

from service.errors import FencedError, RefusedError, TransactorLostError
from service.kafka.codes import COORDINATOR_MOVED, FENCED, REFUSED, Code, name_of, refusal_in
from service.kafka.groups import GroupBusyError
from service.kafka.private import Membership
from service.kafka.requests import TxnOffsetCommit
from service.settling.batches import SEQUENCE_MASK, Batch, PartitionWrite, Write, united
from service.settling.producing import Backoff, BatchBuilder, BatchSender, TransactorPolicy


class Committed(msgspec.Struct, frozen=True):
    """What is to be committed for one partition."""

    offset: int
    metadata: str


class Transactor:
    """One transactional producer of a lane in a process. Not concurrent: the lane's lock stands around it.

    ``healthy`` is False before :meth:`open` and from the first failure on.
    """

    def __init__(self, client: AIOKafkaClient, transactional_id: str, policy: TransactorPolicy) -> None:
        self._client = client
        self._id = transactional_id
        self._policy = policy
        self._coordinator: int | None = None
        self._group_coordinators: dict[str, int] = {}
        self._producer_id = -1
        self._epoch = -1
        self._sequences: defaultdict[TopicPartition, int] = defaultdict(int)
        self._sender = BatchSender(client, transactional_id, policy)
        self.healthy = False

    async def open(self) -> None:
        """Find the coordinator and fence every predecessor with the same id.

        Completes or aborts what a predecessor left open before it returns. Raises TransactorLostError, RefusedError.
        """
        try:
            async with asyncio.timeout(self._policy.open_deadline_s):
                response = await self._ask_coordinator(
                    InitProducerIdRequest(self._id, int(self._policy.transaction_timeout_s * 1000)),
                    lambda answer: answer.error_code,
                    "InitProducerId",
                )
        except TimeoutError as error:
            raise TransactorLostError("no producer id within the deadline") from error
        self._producer_id, self._epoch = response.producer_id, response.producer_epoch
        self._sequences.clear()
        self.healthy = True

    async def commit(
        self,
        writes: Sequence[Write],
        offsets: Mapping[TopicPartition, Committed],
        membership: Membership,
        *,
        after: Sequence[PartitionWrite] = (),
        agreed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Commit ``writes``, ``after`` and ``offsets`` in one transaction; return only when it is committed.

        ``agreed`` is asked once everything is written, and the offsets are pending: what it raises aborts all.

        Raises FencedError (aborted), RefusedError (aborted), TransactorLostError (unknown or aborted).
        """
        if not self.healthy:
            raise TransactorLostError("the transactor is not open")
        # Until the transaction has ended well this transactor is not to be used again, whatever happens:
        # an error, a cancellation, a deadline.
        self.healthy = False
        try:
            async with asyncio.timeout(self._policy.settle_deadline_s):
                await self._write(united(writes, after), offsets, membership)
                if agreed is not None:
                    await agreed()
                await self._end(commit=True)
        except (FencedError, RefusedError, GroupBusyError):
            await self._abort()
            raise
        except TimeoutError as error:
            raise TransactorLostError("the settle deadline has passed") from error
        self.healthy = True

    async def _write(
        self,
        writes: Sequence[Write],
        offsets: Mapping[TopicPartition, Committed],
        membership: Membership,
    ) -> None:
        """Offsets become pending only once every record is acknowledged: while they are, the journal's partition has
        records of this transaction, and who reads it to its end waits for how the transaction ends."""
        if writes:
            await self._add_partitions(writes)
        # Both are awaited to their end, also when one fails: nothing of ours is under way when we abort.
        steps: list[Coroutine[Any, Any, None]] = []
        if writes:
            steps.append(self._produce(writes))
        if offsets:
            steps.append(self._add_group(membership.group_id))
        results = await asyncio.gather(*steps, return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        # A refused record must be named even where the membership is gone too, for it will come back.
        for kind in (RefusedError, FencedError, BaseException):
            for failure in failures:
                if isinstance(failure, kind):
                    raise failure
        if offsets:
            await self._commit_offsets(offsets, membership)

    async def _add_partitions(self, writes: Sequence[Write]) -> None:
        topics: dict[str, list[int]] = {}
        for write in writes:
            topics.setdefault(write.topic, []).append(write.partition)

        def code(answer: Any) -> int:
            codes = [(topic, code) for topic, parts in answer.errors for _, code in parts if code]
            # 55 only says that another partition of the request failed: that other one counts.
            for topic, number in codes:
                if number in REFUSED:
                    raise RefusedError(topic, name_of(number))
            return next((number for _, number in codes if number != Code.OPERATION_NOT_ATTEMPTED), 0)

        await self._ask_coordinator(
            AddPartitionsToTxnRequest(self._id, self._producer_id, self._epoch, list(topics.items())),
            code,
            "AddPartitionsToTxn",
            also_retry=frozenset({Code.UNKNOWN_TOPIC_OR_PARTITION}),
        )

    async def _add_group(self, group_id: str) -> None:
        await self._ask_coordinator(
            AddOffsetsToTxnRequest(self._id, self._producer_id, self._epoch, group_id),
            lambda answer: answer.error_code,
            "AddOffsetsToTxn",
        )

    async def _commit_offsets(self, offsets: Mapping[TopicPartition, Committed], membership: Membership) -> None:
        topics: dict[str, list[tuple[int, int, str]]] = {}
        for tp, committed in offsets.items():
            topics.setdefault(tp.topic, []).append((tp.partition, committed.offset, committed.metadata))
        request = TxnOffsetCommit(
            transactional_id=self._id,
            producer_id=self._producer_id,
            producer_epoch=self._epoch,
            group_id=membership.group_id,
            generation_id=membership.generation,
            member_id=membership.member_id,
            instance_id=membership.instance_id,
            topics=list(topics.items()),
        )
        backoff = Backoff(self._policy)
        while True:
            try:
                node = await self._group_coordinator(membership.group_id)
                answer = await self._client.send(node, request, group=ConnectionGroup.COORDINATION)
            except KafkaError as error:
                if (denied := refusal_in(error)) is not None:
                    raise RefusedError(f"group {membership.group_id}", name_of(denied)) from error
                self._group_coordinators.pop(membership.group_id, None)
                await backoff.wait(short=False)
                continue
            codes = {part[1] for _, parts, _ in answer.topics for part in parts} - {0}
            if not codes:
                return
            if fenced := codes & FENCED:
                raise FencedError(name_of(min(fenced)))
            if refused := codes & REFUSED:
                raise RefusedError(f"group {membership.group_id}", name_of(min(refused)))
            if not codes <= COORDINATOR_MOVED | {Code.UNKNOWN_TOPIC_OR_PARTITION}:
                raise TransactorLostError(f"TxnOffsetCommit: {name_of(min(codes))}")
            self._group_coordinators.pop(membership.group_id, None)
            await backoff.wait(short=False)

    async def _produce(self, writes: Sequence[Write]) -> None:
        batches: dict[TopicPartition, list[Batch]] = {}
        builder = BatchBuilder()
        for write in writes:
            tp = TopicPartition(write.topic, write.partition)
            base = self._sequences[tp]
            found = await builder.built(
                write,
                producer_id=self._producer_id,
                producer_epoch=self._epoch,
                base_sequence=base,
                transactional=True,
            )
            batches.setdefault(tp, []).extend(found)
            self._sequences[tp] = (base + sum(batch.count for batch in found)) & SEQUENCE_MASK
        await self._sender.send(batches)

    async def _end(self, *, commit: bool) -> None:
        await self._ask_coordinator(
            EndTxnRequest(self._id, self._producer_id, self._epoch, commit),
            lambda answer: answer.error_code,
            "EndTxn",
        )

    async def _abort(self) -> None:
        """End it now, so that nobody waits for its time-out; failing that, the time-out does."""
        try:
            async with asyncio.timeout(2.0):
                await self._end(commit=False)
        except (TimeoutError, TransactorLostError, RefusedError):
            return

    async def _ask_coordinator(
        self,
        request: Any,
        code_of: Callable[[Any], int],
        step: str,
        also_retry: frozenset[Code] = frozenset(),
    ) -> Any:
        """Send to the transaction coordinator until it answers; the caller's deadline bounds it.

        An EndTxn or AddOffsets that is sent again after a lost answer is answered alike by the coordinator.
        """
        backoff = Backoff(self._policy)
        while True:
            try:
                if self._coordinator is None:
                    self._coordinator = await self._client.coordinator_lookup(CoordinationType.TRANSACTION, self._id)
                answer = await self._client.send(self._coordinator, request, group=ConnectionGroup.COORDINATION)
            except (KafkaError, AssertionError) as error:
                if (refused := refusal_in(error)) is not None:
                    raise RefusedError(f"transactional id {self._id}", name_of(refused)) from error
                self._coordinator = None
                await backoff.wait(short=False)
                continue
            code = code_of(answer)
            if code == Code.NONE:
                return answer
            if code in COORDINATOR_MOVED:
                self._coordinator = None
                await backoff.wait(short=False)
            elif code == Code.CONCURRENT_TRANSACTIONS or code in also_retry:
                await backoff.wait(short=code == Code.CONCURRENT_TRANSACTIONS)
            elif code in REFUSED:
                raise RefusedError(f"transactional id {self._id}", name_of(code))
            else:
                raise TransactorLostError(f"{step}: {name_of(code)}")

    async def _group_coordinator(self, group_id: str) -> int:
        node = self._group_coordinators.get(group_id)
        if node is None:
            node = await self._client.coordinator_lookup(CoordinationType.GROUP, group_id)
            self._group_coordinators[group_id] = node
        return node
