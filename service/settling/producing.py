"""Sends record batches and checks the answer for every partition."""

import asyncio
from collections.abc import Mapping
from functools import partial

import msgspec
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition

from service.errors import RefusedError, TransactorLostError
from service.kafka.codes import LEADER_MOVED, REFUSED, Code, name_of
from service.settling.batches import Batch, PackedWrite, Write, build
from service.settling.packing import signed

_ALL_REPLICAS = -1
# Compressing takes 3.5 ms a megabyte of results, and up to 25 ms of what is less alike. More than this at once
# is done in a thread; between smaller ones everybody else gets a turn.
_ASIDE_BYTES = 512 * 1024
_IN_A_ROW_BYTES = 256 * 1024


class TransactorPolicy(msgspec.Struct, frozen=True):
    """How long a transaction may take and how a step is tried again; all in seconds."""

    transaction_timeout_s: float = 15.0
    settle_deadline_s: float = 10.0
    open_deadline_s: float = 60.0
    # 51 and 19 end within milliseconds: a growing delay would cost more than it spares.
    short_backoff_s: float = 0.015
    max_backoff_s: float = 0.2


class Backoff:
    """The delays between the tries of one step."""

    def __init__(self, policy: TransactorPolicy) -> None:
        self._short_s = policy.short_backoff_s
        self._max_s = policy.max_backoff_s
        self._next_s = policy.short_backoff_s

    async def wait(self, *, short: bool) -> None:
        if short:
            await asyncio.sleep(self._short_s)
            return
        await asyncio.sleep(self._next_s)
        self._next_s = min(self._next_s * 2, self._max_s)


class BatchBuilder:
    """Makes the record batches of one transaction, as ``build`` does, without keeping the event loop for long."""

    def __init__(self) -> None:
        self._in_a_row = 0

    async def built(
        self, write: Write, *, producer_id: int, producer_epoch: int, base_sequence: int, transactional: bool
    ) -> list[Batch]:
        """The write's record batches."""
        if isinstance(write, PackedWrite):
            size = sum([len(batch.body) for batch in write.batches])
            make = partial(
                signed,
                write.batches,
                producer_id=producer_id,
                producer_epoch=producer_epoch,
                base_sequence=base_sequence,
                transactional=transactional,
            )
        else:
            size = sum([len(value) for _, _, value, _ in write.records if value])
            make = partial(
                build,
                write.records,
                producer_id=producer_id,
                producer_epoch=producer_epoch,
                base_sequence=base_sequence,
                transactional=transactional,
            )
        if size > _ASIDE_BYTES:
            return await asyncio.to_thread(make)
        self._in_a_row += size
        if self._in_a_row > _IN_A_ROW_BYTES:
            await asyncio.sleep(0)
            self._in_a_row = size
        return make()


class BatchSender:
    """Produces batches to their leaders until each is acknowledged, or fails as a whole."""

    def __init__(self, client: AIOKafkaClient, transactional_id: str | None, policy: TransactorPolicy) -> None:
        self._client = client
        self._id = transactional_id
        self._policy = policy

    async def send(self, batches: Mapping[TopicPartition, list[Batch]]) -> None:
        """Send all batches of each partition in order. The caller bounds the time.

        Raises RefusedError (a record, a right: naming the topic), TransactorLostError.
        """
        pending = {tp: list(queue) for tp, queue in batches.items()}
        backoff = Backoff(self._policy)
        while pending:
            # One batch of a partition at a time keeps the sequence numbers in order whatever is tried again.
            answers = await self._send_round({tp: queue[0] for tp, queue in pending.items()})
            # The refusal counts before all else: it says what a person has to mend.
            for tp, code in answers.items():
                if code in REFUSED:
                    raise RefusedError(tp.topic, name_of(code))
            again: set[int] = set()
            for tp, code in answers.items():
                if code in (Code.NONE, Code.DUPLICATE_SEQUENCE_NUMBER):
                    pending[tp].pop(0)
                    if not pending[tp]:
                        del pending[tp]
                elif code in LEADER_MOVED or code == Code.CONCURRENT_TRANSACTIONS:
                    again.add(code)
                else:
                    raise TransactorLostError(f"{tp.topic}-{tp.partition}: {name_of(code)}")
            if again:
                short = again <= {Code.NOT_ENOUGH_REPLICAS, Code.CONCURRENT_TRANSACTIONS}
                if not short:
                    self._client.force_metadata_update()
                await backoff.wait(short=short)

    async def _send_round(self, batches: Mapping[TopicPartition, Batch]) -> dict[TopicPartition, int]:
        """Send one batch to each partition; its error code, NETWORK_EXCEPTION without an answer."""
        by_leader: dict[int, list[TopicPartition]] = {}
        answers: dict[TopicPartition, int] = {}
        for tp in batches:
            leader = self._client.cluster.leader_for_partition(tp)
            if leader is None or leader == -1:
                self._client.add_topic(tp.topic)
                answers[tp] = Code.LEADER_NOT_AVAILABLE
            else:
                by_leader.setdefault(leader, []).append(tp)
        sends = [self._send_to_leader(leader, {tp: batches[tp] for tp in tps}) for leader, tps in by_leader.items()]
        for part in await asyncio.gather(*sends):
            answers.update(part)
        return answers

    async def _send_to_leader(self, leader: int, batches: Mapping[TopicPartition, Batch]) -> dict[TopicPartition, int]:
        topics: dict[str, list[tuple[int, bytes]]] = {}
        for tp, batch in batches.items():
            topics.setdefault(tp.topic, []).append((tp.partition, batch.data))
        timeout_ms = int(self._policy.settle_deadline_s * 1000)
        answers = dict.fromkeys(batches, int(Code.NETWORK_EXCEPTION))
        try:
            response = await self._client.send(
                leader, ProduceRequest(self._id, _ALL_REPLICAS, timeout_ms, list(topics.items()))
            )
        except KafkaError:
            return answers
        for topic, parts in response.topics:
            for partition, code, *_ in parts:
                answers[TopicPartition(topic, partition)] = code
        return answers
