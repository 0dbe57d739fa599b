"""Settling on brokers without transactions: results acknowledged first, offsets after, journal removals last.

A crash in between publishes results again, with the same ids, or leaves a journal entry that the next owner takes
out. Offsets carry the group's generation, so a former owner's are refused; its results are not.
"""

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.structs import TopicPartition

from service.errors import FencedError, RefusedError, TransactorLostError
from service.kafka.codes import COORDINATOR_MOVED, FENCED, REFUSED, name_of, refusal_in
from service.kafka.private import Membership
from service.settling.batches import Batch, PartitionWrite, Write, united
from service.settling.producing import Backoff, BatchBuilder, BatchSender, TransactorPolicy
from service.settling.transactor import Committed

_NO_RETENTION = -1


class AcknowledgedCommitter:
    """``Committer`` for ``delivery: at_least_once``. Not concurrent: the lane's lock stands around it."""

    def __init__(self, client: AIOKafkaClient, policy: TransactorPolicy) -> None:
        self._client = client
        self._policy = policy
        self._sender = BatchSender(client, None, policy)
        self.healthy = False

    async def open(self) -> None:
        """Nothing to fence here."""
        self.healthy = True

    async def commit(
        self,
        writes: Sequence[Write],
        offsets: Mapping[TopicPartition, Committed],
        membership: Membership,
        *,
        after: Sequence[PartitionWrite] = (),
    ) -> None:
        """Produce ``writes``, wait for each acknowledgement, commit, produce ``after``. Raises as
        ``Transactor.commit``."""
        self.healthy = False
        try:
            async with asyncio.timeout(self._policy.settle_deadline_s):
                await self._produce(writes)
                await self._commit_offsets(offsets, membership)
                await self._produce(after)
        except TimeoutError as error:
            raise TransactorLostError("the settle deadline has passed") from error
        self.healthy = True

    async def _produce(self, writes: Sequence[Write]) -> None:
        builder = BatchBuilder()
        batches: dict[TopicPartition, list[Batch]] = {}
        for write in united(writes):
            found = await builder.built(write, producer_id=-1, producer_epoch=-1, base_sequence=-1, transactional=False)
            batches.setdefault(TopicPartition(write.topic, write.partition), []).extend(found)
        if batches:
            await self._sender.send(batches)

    async def _commit_offsets(self, offsets: Mapping[TopicPartition, Committed], membership: Membership) -> None:
        topics: dict[str, list[tuple[int, int, str]]] = {}
        for tp, committed in offsets.items():
            topics.setdefault(tp.topic, []).append((tp.partition, committed.offset, committed.metadata))
        request = OffsetCommitRequest(
            membership.group_id, membership.generation, membership.member_id, _NO_RETENTION, list(topics.items())
        )
        backoff = Backoff(self._policy)
        while True:
            try:
                node = await self._client.coordinator_lookup(CoordinationType.GROUP, membership.group_id)
                answer = await self._client.send(node, request, group=ConnectionGroup.COORDINATION)
            except (KafkaError, AssertionError) as error:
                if (refused := refusal_in(error)) is not None:
                    raise RefusedError(f"group {membership.group_id}", name_of(refused)) from error
                await backoff.wait(short=False)
                continue
            codes = {code for _, parts in answer.topics for _, code in parts} - {0}
            if not codes:
                return
            if codes & FENCED:
                raise FencedError(name_of(min(codes & FENCED)))
            if codes & REFUSED:
                raise RefusedError(f"group {membership.group_id}", name_of(min(codes & REFUSED)))
            if not codes <= COORDINATOR_MOVED:
                raise TransactorLostError(f"OffsetCommit: {name_of(min(codes))}")
            await backoff.wait(short=False)
