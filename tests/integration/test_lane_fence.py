"""The fence itself, on the broker: who is not a current member of the group commits nothing.

A process that froze drops its old work by itself once it notices; what protects the results where it does not notice
in time is this.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient

from service.errors import FencedError
from service.kafka.private import Membership, membership
from service.settling.at_least_once import AcknowledgedCommitter
from service.settling.batches import PartitionWrite
from service.settling.producing import TransactorPolicy
from service.settling.settler import Committer
from service.settling.transactor import Committed, Transactor
from tests.support.kafka import create_topics, end_of, read_committed_all
from tests.support.oracle import until
from tests.support.patience import patiently


@asynccontextmanager
async def member(bootstrap_servers: str, group: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A member of the group that has partitions."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap_servers, group_id=group, enable_auto_commit=False, session_timeout_ms=30_000
    )
    await consumer.start()
    try:
        await until(lambda: bool(consumer.assignment()), within_s=20, what="the member has partitions")
        yield consumer
    finally:
        await end_of(consumer)


async def commit(committer: Committer, results: str, place: TopicPartition, value: bytes, as_: Membership) -> None:
    """One result and one offset."""
    await committer.open()
    write = PartitionWrite(results, 0, [(1_767_225_600_000, None, value, [])])
    await committer.commit([write], {place: Committed(1, "")}, as_)


@pytest.mark.parametrize("kind", ["transactional", "acknowledged"])
async def test_only_a_current_member_commits(bootstrap_servers: str, prefix: str, kind: str) -> None:
    """After a rebalance the old generation is refused, also of a process that is a member again; the new one is not.
    With transactions nothing of the refused work can be read."""
    topic, results, group = f"{prefix}.t", f"{prefix}.r", f"{prefix}.g"
    await create_topics(bootstrap_servers, {topic: 2, results: 1})
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers)
    await client.bootstrap()
    await client.add_topic(results)
    policy = TransactorPolicy()
    committer: Committer = (
        Transactor(client, f"{prefix}.x", policy) if kind == "transactional" else AcknowledgedCommitter(client, policy)
    )
    place = TopicPartition(topic, 0)
    try:
        async with member(bootstrap_servers, group, topic) as first:
            old = membership(first, group)
            await commit(committer, results, place, b"before", old)
            async with member(bootstrap_servers, group, topic):
                # Both are members of a newer generation now; the old papers are worth nothing.
                await until(lambda: membership(first, group) != old, within_s=20, what="a newer generation")
                with pytest.raises(FencedError):
                    await commit(committer, results, place, b"too late", old)
                await _committed_by_the_current(committer, results, place, first, group)
    finally:
        await client.close()
    values = [record.value for record in await read_committed_all(bootstrap_servers, [results])]
    if kind == "transactional":
        assert values == [b"before", b"after"]
    else:
        assert values[-1] == b"after"


async def _committed_by_the_current(
    committer: Committer, results: str, place: TopicPartition, consumer: AIOKafkaConsumer, group: str
) -> None:
    async with asyncio.timeout(patiently(20)):
        while True:
            try:
                return await commit(committer, results, place, b"after", membership(consumer, group))
            except FencedError:
                await asyncio.sleep(0.05)  # the rebalance has not ended
