"""What integration tests do with a broker: topics, records in, records out.

Every function takes ``bootstrap_servers`` first; further keyword arguments (``security_protocol``, …) go to
the aiokafka client.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.structs import ConsumerRecord

from service.kafka.clients import stop_quietly
from service.localkafka import Cluster
from tests.support.patience import patiently

# Of brokers that nobody restarts: they need not be let in again soon, and are not taken for dead for a machine that
# stands still for a while.
UNHURRIED = {"broker.session.timeout.ms": "60000"}
READ_DEADLINE_S = 60.0
# How long a topic may take to be known, and a transaction that has ended to be marked as such in its partitions.
_SOON_S = 5.0
_UNCOMMITTED, _COMMITTED = 0, 1
_NOT_LEADER, _NO_BROKER_FOR_IT = 6, 38
Record = ConsumerRecord[bytes | None, bytes | None]


@dataclass(frozen=True)
class Broker:
    """The broker of a test run; ``cluster`` is None where ``FANLINE_TEST_BOOTSTRAP`` names another one."""

    bootstrap_servers: str
    cluster: Cluster | None = None


@dataclass(frozen=True)
class Message:
    """A record to be produced. Without ``partition`` the key decides; without ``timestamp_ms`` the clock."""

    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int | None = None


def foreign_bootstrap() -> str | None:
    """The broker that the environment names instead of ours."""
    return os.environ.get("FANLINE_TEST_BOOTSTRAP") or None


def unique(prefix: str = "t") -> str:
    """A name that nobody has used: tests share one broker."""
    return f"{prefix}-{secrets.token_hex(4)}"


async def create_topics(
    bootstrap_servers: str,
    topics: Mapping[str, int] | Iterable[str],
    *,
    config: Mapping[str, str] | None = None,
    replication: int = 1,
    **client: Any,
) -> None:
    """Creates topics (name -> partitions, or names of topics with one) and waits until all have leaders.

    What stands in them stays, unless ``config`` says otherwise: tests write records with timestamps of long ago, and
    the broker looks every few minutes for those that are older than a week.
    """
    partitions = dict(topics) if isinstance(topics, Mapping) else dict.fromkeys(topics, 1)
    configs = {"retention.ms": "-1", **(config or {})}
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **client)
    await admin.start()
    try:
        left = set(partitions)
        async with asyncio.timeout(READ_DEADLINE_S):
            while left:
                topics = [NewTopic(name, partitions[name], replication, topic_configs=configs) for name in left]
                left = _not_yet(await admin.create_topics(topics))
                await asyncio.sleep(0.1 if left else 0)
            while not _all_led(await admin.describe_topics(list(partitions)), partitions):  # noqa: ASYNC110 - polls
                await asyncio.sleep(0.02)
    finally:
        await admin.close()


def _not_yet(answer: Any) -> set[str]:
    """Topics that no broker takes now: on a machine that stood still they were taken for dead. Raises RuntimeError."""
    refused = {name: (code, text) for name, code, text in answer.topic_errors if code}
    fenced = {name for name, (code, text) in refused.items() if code == _NO_BROKER_FOR_IT and "fenced" in text}
    errors = [(name, text or code) for name, (code, text) in refused.items() if name not in fenced]
    if errors:
        raise RuntimeError(f"topics were not created: {errors}")
    return fenced


def _all_led(described: Sequence[Mapping[str, Any]], wanted: Mapping[str, int]) -> bool:
    leaders = {
        topic["topic"]: sum(part["leader"] >= 0 and not part["error_code"] for part in topic["partitions"])
        for topic in described
    }
    return leaders == dict(wanted)


async def produce(
    bootstrap_servers: str,
    topic: str,
    messages: Iterable[Message],
    *,
    transactional_id: str | None = None,
    abort: bool = False,
    **client: Any,
) -> list[tuple[int, int]]:
    """Produces ``messages`` in order; gives (partition, offset) of each.

    With ``transactional_id`` all in one transaction, which ``abort`` aborts; its markers are written then.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, transactional_id=transactional_id, linger_ms=5, **client
    )
    await producer.start()
    try:
        if transactional_id:
            await producer.begin_transaction()
        futures = [
            await producer.send(
                topic,
                message.value,
                key=message.key,
                partition=message.partition,
                timestamp_ms=message.timestamp_ms,
                headers=list(message.headers),
            )
            for message in messages
        ]
        written = [(sent.partition, sent.offset) for sent in await asyncio.gather(*futures)]
        if transactional_id:
            await (producer.abort_transaction() if abort else producer.commit_transaction())
    finally:
        await producer.stop()
    if transactional_id:
        await _marked(bootstrap_servers, topic, **client)
    return written


async def end_of(consumer: AIOKafkaConsumer) -> None:
    """Stop it. aiokafka's own ``stop()`` leaves connections at times, and raises a cancellation that is nobody's."""
    await stop_quietly(consumer, patiently(_SOON_S))


async def _marked(bootstrap_servers: str, topic: str, **client: Any) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, isolation_level="read_committed", **client)
    await consumer.start()
    try:
        await _until_ended(consumer, await partitions_of(consumer, [topic]))
    finally:
        await end_of(consumer)


async def read_all(
    bootstrap_servers: str,
    topics: Sequence[str],
    *,
    isolation_level: str = "read_committed",
    deadline_s: float = READ_DEADLINE_S,
    **client: Any,
) -> list[Record]:
    """Every record that stands in ``topics`` now, in order within each partition.

    ``read_committed`` ends where the first open transaction begins, ``read_uncommitted`` at the high
    watermark. A transaction that is about to end is waited for: who committed it is told so before all its partitions
    are. Raises TimeoutError after ``deadline_s``.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level=isolation_level,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=8 * 1024 * 1024,
        **client,
    )
    await consumer.start()
    try:
        async with asyncio.timeout(deadline_s):
            partitions = await partitions_of(consumer, topics)
            if isolation_level == "read_committed":
                await _until_ended(consumer, partitions)
            return await _read_to_ends(consumer, partitions)
    finally:
        await end_of(consumer)


async def read_committed_all(bootstrap_servers: str, topics: Sequence[str], **more: Any) -> list[Record]:
    """What a ``read_committed`` reader finds in ``topics``; see ``read_all``."""
    return await read_all(bootstrap_servers, topics, isolation_level="read_committed", **more)


async def partitions_of(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> list[TopicPartition]:
    """All partitions of the topics. Raises TimeoutError for one that the brokers do not tell of."""
    async with asyncio.timeout(patiently(_SOON_S)):
        # Else the consumer knows no partitions of a topic it does not read; what fails is not told.
        await consumer._client.set_topics(topics)
        while any(consumer.partitions_for_topic(topic) is None for topic in topics):
            await asyncio.sleep(0.05)
            await consumer._client.force_metadata_update()
    return [TopicPartition(topic, n) for topic in topics for n in consumer.partitions_for_topic(topic) or ()]


async def _until_ended(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
    """Wait, but not for long, until the transactions have ended that are open in the partitions now."""
    fetcher: Any = consumer._fetcher  # the level of isolation is one of a consumer's life
    fetcher._isolation_level = _UNCOMMITTED
    written = await consumer.end_offsets(partitions)
    fetcher._isolation_level = _COMMITTED
    deadline = time.monotonic() + patiently(_SOON_S)
    while time.monotonic() < deadline:
        stable = await consumer.end_offsets(partitions)
        if all(stable[tp] >= end for tp, end in written.items()):
            return
        await asyncio.sleep(0.02)


async def _read_to_ends(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> list[Record]:
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)  # with read_committed: the last stable offsets
    await consumer.seek_to_beginning(*partitions)
    records: list[Record] = []
    unread = set(partitions)
    while unread:
        for tp in list(unread):
            if await consumer.position(tp) >= ends[tp]:
                unread.discard(tp)
                consumer.pause(tp)
        if unread:
            found = await consumer.getmany(timeout_ms=200)
            records.extend(record for tp in found for record in found[tp] if record.offset < ends[tp])
    return records


async def delete_before(bootstrap_servers: str, offsets: Mapping[TopicPartition, int]) -> None:
    """What retention does, at once."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records({tp: RecordsToDelete(offset) for tp, offset in offsets.items()})
    finally:
        await admin.close()


async def end_offsets(
    bootstrap_servers: str, topics: Sequence[str], *, isolation_level: str = "read_uncommitted", **client: Any
) -> dict[TopicPartition, int]:
    """The end of every partition; with ``read_committed`` the last stable offset."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, isolation_level=isolation_level, **client)
    await consumer.start()
    try:
        return dict(await consumer.end_offsets(await partitions_of(consumer, topics)))
    finally:
        await end_of(consumer)


class RawHeaderKey(str):
    """A header key whose bytes on the wire are chosen, which need not be UTF-8."""

    raw: bytes

    def __new__(cls, raw: bytes) -> "RawHeaderKey":
        key = super().__new__(cls, raw.decode("latin-1"))
        key.raw = raw
        return key

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self.raw


async def produce_raw_record(
    bootstrap_servers: str,
    topic: str,
    partition: int = 0,
    *,
    key: bytes | None = None,
    value: bytes | None = None,
    headers: Sequence[tuple[bytes, bytes | None]] = (),
    timestamp_ms: int = 0,
    **client: Any,
) -> int:
    """Produces one record whose header keys are any bytes, such as ``b"\\xff"``; gives its offset.

    The client library can neither write nor read one whose header key is not UTF-8: other writers can.
    """
    builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 16 * 1024 * 1024)
    builder.append(0, timestamp_ms, key, value, [(RawHeaderKey(name), data) for name, data in headers])
    batch, deadline = bytes(builder.build()), time.monotonic() + patiently(_SOON_S)
    kafka = AIOKafkaClient(bootstrap_servers=bootstrap_servers, **client)
    await kafka.bootstrap()
    try:
        await kafka._wait_on_metadata(topic)
        leader = kafka.cluster.leader_for_partition(TopicPartition(topic, partition))
        code = _NOT_LEADER
        # A leader is told of a new topic before it has taken it on itself.
        while code == _NOT_LEADER and time.monotonic() < deadline:
            answer = await kafka.send(leader, ProduceRequest(None, -1, 10_000, [(topic, [(partition, batch)])]))
            [(_, [(_, code, offset, *_)])] = answer.topics
            await asyncio.sleep(0.02 if code == _NOT_LEADER else 0)
        if code:
            raise RuntimeError(f"the broker refused the record with error {code}")
        return int(offset)
    finally:
        await kafka.close()
