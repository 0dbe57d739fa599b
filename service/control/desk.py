"""What an operator's commands ask of a lane's group and topics, with one client and one bound."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from contracts.journal import Entry, Key, Settled, SettledKey, encode_entry, encode_key
from service.control.ordering import OrderError
from service.errors import TransactorLostError
from service.journal.looking import settled_offsets
from service.journal.reading import Journal, read_journal
from service.kafka.clients import end_within, stop_quietly
from service.kafka.connection import client_for
from service.kafka.groups import commit_for_empty_group, refuse_members
from service.kafka.names import LaneNames
from service.kafka.offsets import CommittedOffset
from service.kafka.private import Membership
from service.kafka.probing import connected, view
from service.offsets.metadata import decode as decode_metadata
from service.settling.batches import PartitionWrite, Record
from service.settling.producing import TransactorPolicy
from service.settling.transactor import Committed, Transactor

_WITHIN_S = 60.0
_OFFSETS_WITHIN_S = 20.0
_CLOSE_S = 2.0
_POLL_MS = 200
# Behind a lane's transactional prefix; no process's instance has such a name.
_MOVING = "~moving"

# (partition of the journal, key, entry)
Entries = Collection[tuple[int, Key, Entry]]


class Signature(msgspec.Struct, frozen=True):
    """Who moved a lane, why and when."""

    by: str
    why: str
    now_ms: int


class Desk:
    """Connections of one command."""

    def __init__(
        self, arguments: dict[str, Any], client: AIOKafkaClient, consumer: AIOKafkaConsumer, *, transactions: bool
    ) -> None:
        self._transactions = transactions
        self._arguments = arguments
        self._client = client
        self._consumer = consumer

    async def partitions(self, topics: Collection[str]) -> frozenset[TopicPartition]:
        """All partitions of topics. Raises OrderError if one of them does not exist."""
        async with connected(self._arguments) as connection:
            seen = await view(connection, list(topics))
        if missing := seen.missing(topics):
            raise OrderError(f"topic {missing[0]}: does not exist, or may not be seen by this user of Kafka")
        return frozenset(TopicPartition(name, n) for name in topics for n in range(seen.topics[name].partitions))

    async def refuse_members(self, group: str) -> None:
        """Raises GroupBusyError if a process runs the lane."""
        await refuse_members(self._client, group)

    async def committed(
        self, names: LaneNames, tps: Collection[TopicPartition]
    ) -> dict[TopicPartition, CommittedOffset]:
        """How far a lane is settled. Raises OrderError, RefusedError, JournalUnreadableError."""
        try:
            return await settled_offsets(self._client, self._arguments, names, tps, within_s=_OFFSETS_WITHIN_S)
        except (TimeoutError, TransactorLostError) as error:
            why = str(error) or f"nobody told them within {_OFFSETS_WITHIN_S:g} s"
            raise OrderError(f"the offsets of group {names.group} are not known: {why}; look at the brokers") from error

    async def first(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that exists of each partition."""
        return dict(await self._consumer.beginning_offsets(list(tps)))

    async def ends(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Behind the last record that may be read of each partition."""
        return dict(await self._consumer.end_offsets(list(tps)))

    async def at_time(self, tps: Collection[TopicPartition], time_ms: int) -> dict[TopicPartition, int]:
        """The first offset of that time or later; the end where there is none."""
        found = await self._consumer.offsets_for_times(dict.fromkeys(tps, time_ms))
        ends = await self.ends(tps)
        return {tp: found[tp].offset if found.get(tp) is not None else ends[tp] for tp in tps}

    async def unfinished(self, names: LaneNames, topic: str) -> int:
        """How many records of a topic the lane has not finished; none where there is no such topic."""
        async with connected(self._arguments) as connection:
            seen = await view(connection, [topic])
        if seen.missing([topic]):
            return 0
        tps = [TopicPartition(topic, n) for n in range(seen.topics[topic].partitions)]
        committed, first, ends = await self.committed(names, tps), await self.first(tps), await self.ends(tps)
        begins = {tp: max(first[tp], at.offset if (at := committed.get(tp)) is not None else 0) for tp in tps}
        unread = {tp for tp in tps if begins[tp] < ends[tp]}
        finished = {
            tp: decode_metadata(at.offset, at.metadata)[0] if (at := committed.get(tp)) is not None else ()
            for tp in unread
        }
        count = 0
        async for tp, offset in self._offsets(unread, begins, ends):
            count += not any(begin <= offset < end for begin, end in finished[tp])
        return count

    async def _offsets(
        self,
        unread: Collection[TopicPartition],
        begins: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> AsyncIterator[tuple[TopicPartition, int]]:
        """The offsets at which records lie: markers occupy some too."""
        left = set(unread)
        self._consumer.assign(list(left))
        for tp in left:
            self._consumer.seek(tp, begins[tp])
        while left:
            for tp, records in (await self._consumer.getmany(timeout_ms=_POLL_MS)).items():
                for record in records:
                    if record.offset < ends[tp]:
                        yield tp, record.offset
            left -= {tp for tp in left if await self._consumer.position(tp) >= ends[tp]}

    async def journal(self, topic: str) -> Journal:
        """All that a lane's journal says. Raises JournalUnreadableError."""
        partitions = [tp.partition for tp in await self.partitions([topic])]
        return await read_journal(self._arguments, topic, own=partitions)

    async def move(
        self, names: LaneNames, entries: Entries, offsets: Mapping[TopicPartition, CommittedOffset], signed: Signature
    ) -> None:
        """Write journal entries and the offsets of a group that nobody is in, as one. Raises GroupBusyError,
        RefusedError, OrderError; nothing is written then, but for at least once (the journal may be)."""
        entries = [*entries, *_settled(offsets)]
        if self._transactions:
            await self._move_in_transaction(names, entries, offsets, signed)
            return
        await self._write_journal(names.journal, entries, signed)
        await commit_for_empty_group(self._client, names.group, offsets)

    async def _move_in_transaction(
        self, names: LaneNames, entries: Entries, offsets: Mapping[TopicPartition, CommittedOffset], signed: Signature
    ) -> None:
        """The coordinator takes a transaction's offsets from anybody, also for a group with members. So it is asked
        who is in the group once they are pending: who joined before is seen, who joins later waits for them."""

        async def nobody_came() -> None:
            await refuse_members(self._client, names.group)

        transactor = Transactor(self._client, names.transactional_prefix + _MOVING, TransactorPolicy())
        nobody = Membership(group_id=names.group, generation=-1, member_id="", instance_id=None)
        wanted = {tp: Committed(at.offset, at.metadata) for tp, at in offsets.items()}
        try:
            # Also ends what a command that was killed left open.
            await transactor.open()
            await transactor.commit(_writes(names.journal, entries, signed), wanted, nobody, agreed=nobody_came)
        except TransactorLostError as error:
            raise OrderError(
                f"Kafka: {error}; whether the lane was moved is not known: give the order again"
            ) from error

    async def _write_journal(self, topic: str, entries: Entries, signed: Signature) -> None:
        """Write entries into a journal; acknowledged when this returns."""
        producer = AIOKafkaProducer(**self._arguments, enable_idempotence=True, acks="all")
        try:
            await producer.start()
            for write in _writes(topic, entries, signed):
                for timestamp_ms, key, value, headers in write.records:
                    await producer.send_and_wait(
                        topic, value, key=key, partition=write.partition, timestamp_ms=timestamp_ms, headers=headers
                    )
        finally:
            await stop_quietly(producer, _CLOSE_S)


def _settled(offsets: Mapping[TopicPartition, CommittedOffset]) -> list[tuple[int, Key, Entry]]:
    """What the journal says of where a lane was moved to: it goes back no further than the journal lets it."""
    return [(tp.partition, SettledKey(tp.topic), Settled(at.offset, at.metadata)) for tp, at in offsets.items()]


def _writes(topic: str, entries: Entries, signed: Signature) -> list[PartitionWrite]:
    headers: list[tuple[str, bytes | None]] = [("fanline-by", signed.by.encode()), ("fanline-why", signed.why.encode())]
    by_partition: dict[int, list[Record]] = {}
    for partition, key, entry in entries:
        record: Record = (signed.now_ms, encode_key(key), encode_entry(entry), headers)
        by_partition.setdefault(partition, []).append(record)
    return [PartitionWrite(topic, partition, records) for partition, records in by_partition.items()]


@asynccontextmanager
async def desk(arguments: dict[str, Any], *, transactions: bool = True) -> AsyncIterator[Desk]:
    """For one command; ``arguments`` are those of a client. Without ``transactions`` a move is made in two steps.

    Raises NoBrokerError, UnreachableError, OrderError.
    """
    async with connected(arguments):
        pass  # tells by name what keeps us from it
    client = client_for(arguments)
    consumer = AIOKafkaConsumer(
        **arguments,
        group_id=None,
        enable_auto_commit=False,
        # Where retention is faster than we are, what is left counts; by default the client would go to the end.
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    try:
        async with asyncio.timeout(_WITHIN_S):
            await client.bootstrap()
            await consumer.start()
            yield Desk(arguments, client, consumer, transactions=transactions)
    except TimeoutError as error:
        raise OrderError(f"the brokers did not answer within {_WITHIN_S:.0f} s; look at them and try again") from error
    except KafkaError as error:
        raise OrderError(f"Kafka: {type(error).__name__}: {error}") from error
    finally:
        try:
            await stop_quietly(consumer, _CLOSE_S)
        finally:
            with suppress(TimeoutError, KafkaError):
                await end_within(client.close(), _CLOSE_S)
