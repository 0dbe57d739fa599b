"""What an operator's commands ask of a lane's group and topics, with one client and one bound."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from contracts.journal import Entry, Key, encode_entry, encode_key
from service.control.ordering import OrderError
from service.journal.reading import Journal, read_journal
from service.kafka.connection import client_for
from service.kafka.groups import commit_for_empty_group, refuse_members
from service.kafka.offsets import CommittedOffset, read_committed_offsets
from service.kafka.probing import connected, view

_WITHIN_S = 60.0
_CLOSE_S = 2.0


class Desk:
    """Connections of one command."""

    def __init__(self, arguments: dict[str, Any], client: AIOKafkaClient, consumer: AIOKafkaConsumer) -> None:
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

    async def committed(self, group: str, tps: Collection[TopicPartition]) -> dict[TopicPartition, CommittedOffset]:
        """The group's stable offsets."""
        return await read_committed_offsets(self._client, group, tps)

    async def commit(self, group: str, offsets: Mapping[TopicPartition, CommittedOffset]) -> None:
        """Write the offsets of a group that nobody is in. Raises GroupBusyError, RefusedError."""
        await commit_for_empty_group(self._client, group, offsets)

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

    async def journal(self, topic: str) -> Journal:
        """All that a lane's journal says. Raises JournalUnreadableError."""
        partitions = [tp.partition for tp in await self.partitions([topic])]
        return await read_journal(self._arguments, topic, own=partitions)

    async def write_journal(
        self, topic: str, entries: Collection[tuple[int, Key, Entry]], *, by: str, why: str
    ) -> None:
        """Write entries (partition, key, entry) into a journal; acknowledged when this returns. Nobody who runs the
        lane may do so at the same time."""
        producer = AIOKafkaProducer(**self._arguments, enable_idempotence=True, acks="all")
        headers = [("fanline-by", by.encode()), ("fanline-why", why.encode())]
        try:
            await producer.start()
            for partition, key, entry in entries:
                await producer.send_and_wait(
                    topic, encode_entry(entry), key=encode_key(key), partition=partition, headers=headers
                )
        finally:
            await _close(producer.stop())


@asynccontextmanager
async def desk(arguments: dict[str, Any]) -> AsyncIterator[Desk]:
    """For one command; ``arguments`` are those of a client. Raises NoBrokerError, UnreachableError, OrderError."""
    async with connected(arguments):
        pass  # tells by name what keeps us from it
    client = client_for(arguments)
    consumer = AIOKafkaConsumer(**arguments, group_id=None, enable_auto_commit=False, isolation_level="read_committed")
    try:
        async with asyncio.timeout(_WITHIN_S):
            await client.bootstrap()
            await consumer.start()
            yield Desk(arguments, client, consumer)
    except TimeoutError as error:
        raise OrderError(f"the brokers did not answer within {_WITHIN_S:.0f} s; look at them and try again") from error
    except KafkaError as error:
        raise OrderError(f"Kafka: {type(error).__name__}: {error}") from error
    finally:
        await _close(consumer.stop())
        await _close(client.close())


async def _close(closing: Any) -> None:
    with suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(_CLOSE_S):
            await closing
