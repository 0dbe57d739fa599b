"""Facts of aiokafka, and of Kafka through it, on which the design leans: each is a promise of nobody's.

A version that changes one of them turns its test red. That is not a fault of that version: it is the moment to
look at what stands on the fact, which each docstring names.
"""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    OffsetMetadataTooLargeError,
    UnknownError,
    for_code,
)
from aiokafka.protocol import transaction
from aiokafka.protocol.commit import OffsetFetchResponse_v3

from service.kafka.clients import stop_within
from service.kafka.groups import members_of
from service.kafka.private import tasks_of
from service.localkafka import LocalKafka
from tests.support.kafka import (
    Message,
    create_topics,
    end_offsets,
    produce,
    produce_raw_record,
    read_all,
    read_committed_all,
)
from tests.support.patience import patiently

DEADLINE_S = 20.0


async def until(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Polls ``condition`` until it holds. Raises TimeoutError."""
    async with asyncio.timeout(patiently(deadline_s)):
        while not condition():  # noqa: ASYNC110 - the client announces nothing
            await asyncio.sleep(0.01)


class Listener(ConsumerRebalanceListener):
    """Keeps what the client calls it with; ``on_assigned`` runs inside the callback."""

    def __init__(self, on_assigned: Callable[[], Awaitable[None]] | None = None) -> None:
        self.assigned: list[set[TopicPartition]] = []
        self.revoked: list[set[TopicPartition]] = []
        self._on_assigned = on_assigned

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self.assigned.append(set(assigned))
        if self._on_assigned:
            await self._on_assigned()

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self.revoked.append(set(revoked))


def member(bootstrap_servers: str, group: str, **options: Any) -> AIOKafkaConsumer:
    """A member of ``group`` with the short times of tests; it is neither started nor subscribed."""
    chosen: dict[str, Any] = {
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "session_timeout_ms": 6000,  # a machine may stand still for a while
        "heartbeat_interval_ms": 300,
        "rebalance_timeout_ms": 5000,
    }
    return AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, group_id=group, **(chosen | options))


@asynccontextmanager
async def joined(
    bootstrap_servers: str, group: str, topics: list[str], listener: Listener, **options: Any
) -> AsyncIterator[AIOKafkaConsumer]:
    """A member that has been assigned its partitions once (the callback may still run)."""
    consumer = member(bootstrap_servers, group, **options)
    consumer.subscribe(topics, listener=listener)
    await consumer.start()
    try:
        await until(lambda: bool(listener.assigned))
        yield consumer
    finally:
        await consumer.stop()


def coordinator(consumer: AIOKafkaConsumer) -> Any:
    """The private object that keeps the membership."""
    return consumer._coordinator


async def one(consumer: AIOKafkaConsumer) -> list[bytes | None]:
    """The values of the next records."""
    async with asyncio.timeout(patiently(DEADLINE_S)):
        while True:
            if found := await consumer.getmany(timeout_ms=200):
                return [record.value for records in found.values() for record in records]


async def records_of(bootstrap_servers: str, topic: str, count: int) -> TopicPartition:
    """A new topic of one partition with ``count`` records."""
    await create_topics(bootstrap_servers, [topic])
    await produce(bootstrap_servers, topic, [Message(b"%d" % n) for n in range(count)])
    return TopicPartition(topic, 0)


# The names on which our own code stands.


async def test_the_private_names_of_the_membership_exist(bootstrap_servers: str, prefix: str) -> None:
    """The fence carries generation, member and instance id; a rejoin is asked for; heartbeats that were answered are
    watched (service/kafka/private.py)."""
    await records_of(bootstrap_servers, f"{prefix}.t", 0)
    listener = Listener()
    async with joined(bootstrap_servers, f"{prefix}.g", [f"{prefix}.t"], listener, group_instance_id="one") as consumer:
        private = coordinator(consumer)
        assert private.generation == 1
        assert private.member_id.startswith("one-")
        assert private._group_instance_id == "one"
        assert not inspect.iscoroutinefunction(private.request_rejoin)
        assert inspect.iscoroutinefunction(private._do_heartbeat)
        assert await private._do_heartbeat() is True


async def test_the_private_names_of_what_runs_of_a_client_exist(bootstrap_servers: str, prefix: str) -> None:
    """It ends with the client, whatever aiokafka's own end came to (service/kafka/private.py)."""
    await records_of(bootstrap_servers, f"{prefix}.t", 0)
    names: set[str] = set()
    of_a_member = {
        "_coordination_routine",
        "_heartbeat_routine",
        "_commit_refresh_routine",
        "_fetch_requests_routine",
        "_proc_fetch_request",
    }

    def look(client: AIOKafkaConsumer | AIOKafkaProducer) -> bool:
        names.update(getattr(task.get_coro(), "__name__", "") for task in tasks_of(client)[0])
        return True

    async with joined(bootstrap_servers, f"{prefix}.g", [f"{prefix}.t"], Listener()) as consumer:
        await until(lambda: look(consumer) and names >= of_a_member)
        assert tasks_of(consumer)[1]._conns
    alone = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers)
    for client in (alone, producer):
        await client.start()
        assert look(client)
        await stop_within(client, DEADLINE_S)
        assert tasks_of(client)[0] == set()
    # Positions are asked for before records are, in a task of the same kind.
    assert names - {"_update_fetch_positions"} == of_a_member | {"_reset_committed_routine", "_sender_routine"}


async def test_the_membership_is_known_inside_the_callback(bootstrap_servers: str, prefix: str) -> None:
    """The lane captures it before the callback's first await: by then it is the new generation's."""
    await records_of(bootstrap_servers, f"{prefix}.t", 0)
    seen: list[tuple[int, str]] = []

    async def capture() -> None:
        seen.append((coordinator(consumer).generation, coordinator(consumer).member_id))

    consumer = member(bootstrap_servers, f"{prefix}.g")
    listener = Listener(capture)
    consumer.subscribe([f"{prefix}.t"], listener=listener)
    await consumer.start()
    await until(lambda: bool(seen))
    assert seen == [(1, coordinator(consumer).member_id)]
    assert seen[0][1]
    await consumer.stop()


def test_the_clients_lower_layer_has_what_the_transaction_uses() -> None:
    """The settling transaction is built on these names of the client."""
    for name in ("bootstrap", "send", "coordinator_lookup", "force_metadata_update", "add_topic", "close"):
        assert callable(getattr(AIOKafkaClient, name))
    assert {"COORDINATION", "DEFAULT"} <= set(ConnectionGroup.__members__)
    assert {"GROUP", "TRANSACTION"} <= set(CoordinationType.__members__)


def test_the_clients_own_offsets_in_a_transaction_carry_no_generation() -> None:
    """Why there is a request of our own: with the client's, a frozen former owner can commit."""
    versions = [name for name in vars(transaction) if name.startswith("TxnOffsetCommitRequest_v")]
    assert versions == ["TxnOffsetCommitRequest_v0"]
    assert "generation_id" not in transaction.TxnOffsetCommitRequest_v0.SCHEMA.names


@pytest.mark.parametrize("code", [82, 88, 90, 120])
def test_error_codes_that_the_client_does_not_know(code: int) -> None:
    """Fenced instance, unstable offsets, fenced producer, abortable: numbers are handled, not classes."""
    assert for_code(code) is UnknownError


# Assignment.


async def test_records_are_handed_out_while_the_callback_runs(bootstrap_servers: str, prefix: str) -> None:
    """Without a pause, ``getmany`` gives records before ``on_partitions_assigned`` has ended."""
    await records_of(bootstrap_servers, f"{prefix}.t", 60)
    finish = asyncio.Event()

    async def wait() -> None:
        await finish.wait()

    async with joined(
        bootstrap_servers, f"{prefix}.g", [f"{prefix}.t"], Listener(wait), session_timeout_ms=10_000
    ) as consumer:
        assert len(await one(consumer)) == 60
        assert not finish.is_set()
        finish.set()


async def test_a_pause_before_the_callbacks_first_await_holds_them_back(bootstrap_servers: str, prefix: str) -> None:
    """What the lane does: nothing is handed out until it seeks and resumes, after the callback too."""
    tp = await records_of(bootstrap_servers, f"{prefix}.t", 60)
    consumer = member(bootstrap_servers, f"{prefix}.g")
    ended = asyncio.Event()

    async def pause() -> None:
        consumer.pause(*consumer.assignment())
        await asyncio.sleep(0)
        ended.set()

    consumer.subscribe([tp.topic], listener=Listener(pause))
    await consumer.start()
    await asyncio.wait_for(ended.wait(), patiently(DEADLINE_S))
    assert await consumer.getmany(timeout_ms=500) == {}
    consumer.seek(tp, 57)
    consumer.resume(tp)
    assert await one(consumer) == [b"57", b"58", b"59"]
    await consumer.stop()


async def test_the_assignment_is_visible_inside_the_callback(bootstrap_servers: str, prefix: str) -> None:
    """``pause(*assigned)`` works there, and ``seek`` after it: the partitions are the consumer's already."""
    await create_topics(bootstrap_servers, {f"{prefix}.t": 4})
    seen: list[set[TopicPartition]] = []
    consumer = member(bootstrap_servers, f"{prefix}.g")

    async def look() -> None:
        seen.append(set(consumer.assignment()))

    listener = Listener(look)
    consumer.subscribe([f"{prefix}.t"], listener=listener)
    await consumer.start()
    await until(lambda: bool(seen))
    assert seen == listener.assigned == [{TopicPartition(f"{prefix}.t", n) for n in range(4)}]
    await consumer.stop()


async def test_pauses_are_lost_at_a_rebalance(bootstrap_servers: str, prefix: str) -> None:
    """A partition that is kept is not paused any more: the lane pauses all at every assignment."""
    await create_topics(bootstrap_servers, {f"{prefix}.t": 2})
    first, second = Listener(), Listener()
    async with joined(bootstrap_servers, f"{prefix}.g", [f"{prefix}.t"], first) as consumer:
        consumer.pause(*consumer.assignment())
        assert len(consumer.paused()) == 2
        async with joined(bootstrap_servers, f"{prefix}.g", [f"{prefix}.t"], second):
            await until(lambda: len(first.assigned) == 2)
            assert len(consumer.assignment()) == 1
            assert consumer.paused() == set()


async def test_an_error_in_the_callback_is_swallowed(
    bootstrap_servers: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is told: the callback itself must hand its errors to somebody."""
    await records_of(bootstrap_servers, f"{prefix}.t", 1)

    async def fail() -> None:
        raise RuntimeError("in the callback")

    async with joined(bootstrap_servers, f"{prefix}.g", [f"{prefix}.t"], Listener(fail)) as consumer:
        assert await one(consumer) == [b"0"]
    assert "failed on partition assignment" in caplog.text


async def test_no_heartbeat_runs_during_the_callback(bootstrap_servers: str, prefix: str) -> None:
    """A callback longer than the session costs the membership: it must be short."""
    await records_of(bootstrap_servers, f"{prefix}.t", 0)
    group, first = f"{prefix}.g", True
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers)
    await client.bootstrap()

    async def slow_once() -> None:
        nonlocal first
        if first:
            first = False
            while (await members_of(client, group)).clients:  # noqa: ASYNC110 - polls the broker
                await asyncio.sleep(0.1)

    listener = Listener(slow_once)
    async with joined(bootstrap_servers, group, [f"{prefix}.t"], listener, session_timeout_ms=1000) as consumer:
        before = coordinator(consumer).member_id
        await until(lambda: len(listener.assigned) >= 2)
        assert coordinator(consumer).member_id != before
    await client.close()


async def test_stop_revokes_nothing(bootstrap_servers: str, prefix: str) -> None:
    """``stop()`` calls no callback: the lane drains by itself before it."""
    await records_of(bootstrap_servers, f"{prefix}.t", 0)
    listener = Listener()
    async with joined(bootstrap_servers, f"{prefix}.g", [f"{prefix}.t"], listener):
        before = list(listener.revoked)
    assert listener.revoked == before


async def test_without_getmany_a_member_is_put_out(bootstrap_servers: str, prefix: str) -> None:
    """``max_poll_interval_ms`` counts time without a ``getmany``, paused or not: one loop stays in it."""
    tp = await records_of(bootstrap_servers, f"{prefix}.t", 1)
    async with joined(bootstrap_servers, f"{prefix}.g", [tp.topic], Listener(), max_poll_interval_ms=2500) as consumer:
        consumer.pause(tp)
        begun = time.monotonic()
        while time.monotonic() - begun < 3.0:
            assert await consumer.getmany(timeout_ms=100) == {}
        generation = coordinator(consumer).generation
        assert generation == 1
        await until(lambda: coordinator(consumer).generation != generation)


# Static members and rejoining.


class Told(RoundRobinPartitionAssignor):
    """An assignor whose members carry ``data`` to the leader."""

    name = "told"
    data = b"1"

    @classmethod
    def metadata(cls, topics: Any) -> ConsumerProtocolMemberMetadata:
        return ConsumerProtocolMemberMetadata(0, sorted(topics), cls.data)


async def test_a_static_member_that_returns_with_other_topics_causes_no_rebalance(
    bootstrap_servers: str, prefix: str
) -> None:
    """It gets its old assignment of the old generation: members compare their view and ask for a rejoin."""
    await create_topics(bootstrap_servers, [f"{prefix}.a", f"{prefix}.b"])
    static: dict[str, Any] = {"group_instance_id": "one", "session_timeout_ms": 30_000}
    before, after = Listener(), Listener()
    async with joined(bootstrap_servers, f"{prefix}.g", [f"{prefix}.a"], before, **static) as consumer:
        generation = coordinator(consumer).generation
    both = [f"{prefix}.a", f"{prefix}.b"]
    async with joined(bootstrap_servers, f"{prefix}.g", both, after, **static) as consumer:
        assert coordinator(consumer).generation == generation
        assert after.assigned == [{TopicPartition(f"{prefix}.a", 0)}]


async def test_a_rejoin_rebalances_only_with_other_bytes(bootstrap_servers: str, prefix: str) -> None:
    """With unchanged metadata the coordinator answers a follower's rejoin with the generation it has."""
    await create_topics(bootstrap_servers, {f"{prefix}.t": 2})
    leader, follower = Listener(), Listener()

    class Own(Told):
        pass

    group, topics = f"{prefix}.g", [f"{prefix}.t"]
    async with (
        joined(bootstrap_servers, group, topics, leader, partition_assignment_strategy=[Told]),
        joined(bootstrap_servers, group, topics, follower, partition_assignment_strategy=[Own]) as consumer,
    ):
        await until(lambda: len(leader.assigned) == 2)
        generation = coordinator(consumer).generation
        coordinator(consumer).request_rejoin()
        await until(lambda: len(follower.assigned) == 2)
        assert coordinator(consumer).generation == generation
        assert len(leader.assigned) == 2
        Own.data = b"2"
        coordinator(consumer).request_rejoin()
        await until(lambda: len(leader.assigned) == 3 and len(follower.assigned) == 3)
        assert coordinator(consumer).generation == generation + 1


# Offsets.


async def test_top_level_errors_of_offset_fetch_are_ignored(
    bootstrap_servers: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loading coordinator reads as "no commit", and the consumer resets: we read offsets ourselves."""
    tp = await records_of(bootstrap_servers, f"{prefix}.t", 3)
    async with joined(bootstrap_servers, f"{prefix}.g", [tp.topic], Listener()) as consumer:
        await consumer.commit({tp: 2})
        assert await consumer.committed(tp) == 2
        loading: Any = OffsetFetchResponse_v3(0, [(tp.topic, [(0, -1, "", 0)])], 14)

        async def answer(request: object) -> Any:
            return loading

        monkeypatch.setattr(coordinator(consumer), "_send_req", answer)
        offsets = await coordinator(consumer).fetch_committed_offsets([tp])
        monkeypatch.undo()
        assert loading.error_code == 14
        assert offsets == {}


async def test_committed_gives_no_metadata(bootstrap_servers: str, prefix: str) -> None:
    """The finished offsets travel in a commit's metadata, which the consumer drops."""
    tp = await records_of(bootstrap_servers, f"{prefix}.t", 3)
    async with joined(bootstrap_servers, f"{prefix}.g", [tp.topic], Listener()) as consumer:
        await consumer.commit({tp: (2, "what finished")})
        assert await consumer.committed(tp) == 2
        assert isinstance(await consumer.committed(tp), int)


async def test_a_commit_carries_4096_bytes_of_metadata(bootstrap_servers: str, prefix: str) -> None:
    """One byte more is refused: the ledger bounds what it writes there."""
    tp = await records_of(bootstrap_servers, f"{prefix}.t", 3)
    async with joined(bootstrap_servers, f"{prefix}.g", [tp.topic], Listener()) as consumer:
        await consumer.commit({tp: (1, "x" * 4096)})
        with pytest.raises(OffsetMetadataTooLargeError):
            await consumer.commit({tp: (2, "x" * 4097)})
        assert await consumer.committed(tp) == 1


async def test_a_bare_commit_commits_what_was_handed_out(bootstrap_servers: str, prefix: str) -> None:
    """Positions, not what was processed: offsets are always given."""
    tp = await records_of(bootstrap_servers, f"{prefix}.t", 3)
    async with joined(bootstrap_servers, f"{prefix}.g", [tp.topic], Listener()) as consumer:
        await one(consumer)
        await consumer.commit()
        assert await consumer.committed(tp) == 3


async def test_commit_markers_occupy_offsets(bootstrap_servers: str, prefix: str) -> None:
    """Behind a transactional publisher ``end - committed`` never reaches 0; the position does reach the end."""
    tp = TopicPartition(f"{prefix}.t", 0)
    await create_topics(bootstrap_servers, [tp.topic])
    for n in range(3):
        await produce(bootstrap_servers, tp.topic, [Message(b"%d" % n)], transactional_id=f"{prefix}.x")
    assert await end_offsets(bootstrap_servers, [tp.topic]) == {tp: 6}
    async with joined(
        bootstrap_servers, f"{prefix}.g", [tp.topic], Listener(), isolation_level="read_committed"
    ) as consumer:
        offsets: list[int] = []
        async with asyncio.timeout(patiently(DEADLINE_S)):
            while await consumer.position(tp) < 6:
                found = await consumer.getmany(timeout_ms=100)
                offsets += [record.offset for records in found.values() for record in records]
        assert offsets == [0, 2, 4]


async def test_end_offsets_of_a_committed_reader_are_the_stable_ones(bootstrap_servers: str, prefix: str) -> None:
    """An open transaction's records are behind the end that such a reader is told."""
    tp = await records_of(bootstrap_servers, f"{prefix}.t", 2)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, transactional_id=f"{prefix}.x")
    await producer.start()
    async with producer.transaction():
        await producer.send_and_wait(tp.topic, b"open")
        assert await end_offsets(bootstrap_servers, [tp.topic], isolation_level="read_committed") == {tp: 2}
        assert await end_offsets(bootstrap_servers, [tp.topic]) == {tp: 3}
    await producer.stop()


# Records.


async def test_a_record_that_is_refused_does_not_fail_its_transaction(bootstrap_servers: str, prefix: str) -> None:
    """The commit succeeds, the offsets move, and the whole batch is gone: why the producer is not used."""
    results, tp = f"{prefix}.results", await records_of(bootstrap_servers, f"{prefix}.t", 2)
    await create_topics(bootstrap_servers, [results], config={"max.message.bytes": "1000"})
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, transactional_id=f"{prefix}.x", linger_ms=100)
    await producer.start()
    await producer.begin_transaction()
    futures = [await producer.send(results, value) for value in (b"small", b"x" * 2000)]
    await producer.send_offsets_to_transaction({tp: 2}, f"{prefix}.g")
    await producer.commit_transaction()
    refused = await asyncio.gather(*futures, return_exceptions=True)
    await producer.stop()
    assert [type(error) for error in refused] == [MessageSizeTooLargeError] * 2
    assert await read_all(bootstrap_servers, [results]) == []
    consumer = member(bootstrap_servers, f"{prefix}.g")
    await consumer.start()
    async with asyncio.timeout(patiently(DEADLINE_S)):
        # Who commits is told so before the group is.
        while (committed := await consumer.committed(tp)) is None:  # noqa: ASYNC110 - polls the broker
            await asyncio.sleep(0.02)
    assert committed == 2
    await consumer.stop()


@pytest.fixture
async def unparsable(bootstrap_servers: str, prefix: str) -> TopicPartition:
    """Offsets 0, 1 and 3 are records like others; 2 has a header key that is not UTF-8."""
    tp = await records_of(bootstrap_servers, f"{prefix}.t", 2)
    offset = await produce_raw_record(bootstrap_servers, tp.topic, value=b"2", headers=[(b"\xff", b"x")])
    assert offset == 2
    await produce(bootstrap_servers, tp.topic, [Message(b"3")])
    return tp


async def test_a_header_key_that_is_not_utf8_makes_getmany_fail_for_ever(
    bootstrap_servers: str, prefix: str, unparsable: TopicPartition
) -> None:
    """No call gives anything of what was fetched with the record, and the position does not move."""
    async with joined(bootstrap_servers, f"{prefix}.g", [unparsable.topic], Listener()) as consumer:
        for _ in range(3):
            with pytest.raises(UnicodeDecodeError):
                await one(consumer)
            assert await consumer.position(unparsable) == 0


async def test_getone_leads_up_to_the_record_and_seek_past_it(
    bootstrap_servers: str, prefix: str, unparsable: TopicPartition
) -> None:
    """Asked one by one a partition gives what lies before the record, then its position is the record's."""
    async with joined(bootstrap_servers, f"{prefix}.g", [unparsable.topic], Listener()) as consumer:

        async def next_value() -> bytes | None:
            record = await asyncio.wait_for(consumer.getone(unparsable), patiently(DEADLINE_S))
            return record.value

        assert [await next_value(), await next_value()] == [b"0", b"1"]
        with pytest.raises(UnicodeDecodeError):
            await next_value()
        assert await consumer.position(unparsable) == 2
        consumer.seek(unparsable, 3)
        assert await next_value() == b"3"


async def test_a_failing_getmany_loses_the_other_partitions_records(
    bootstrap_servers: str, prefix: str, unparsable: TopicPartition
) -> None:
    """Positions have moved past records that nobody was given: after such an error all are sought back."""
    good = await records_of(bootstrap_servers, f"{prefix}.good", 5)
    topics = [good.topic, unparsable.topic]
    consumer = member(bootstrap_servers, f"{prefix}.g")

    async def pause() -> None:
        consumer.pause(unparsable)

    listener = Listener(pause)
    consumer.subscribe(topics, listener=listener)
    await consumer.start()
    fetcher: Any = consumer._fetcher
    fetched = fetcher._records
    await until(lambda: good in fetched)
    consumer.resume(unparsable)
    await until(lambda: unparsable in fetched)
    with pytest.raises(UnicodeDecodeError):
        await consumer.getmany(timeout_ms=200)
    assert await consumer.position(good) == 5
    consumer.pause(unparsable)
    assert await consumer.getmany(timeout_ms=300) == {}
    consumer.seek(good, 0)
    assert len(await one(consumer)) == 5
    await consumer.stop()


async def test_open_transactions_outlive_the_only_brokers_death(prefix: str) -> None:
    """With a time-out far away, what was open at a kill is aborted for good; tests of restarts lean on it."""
    async with LocalKafka() as kafka:
        await create_topics(kafka.bootstrap_servers, {"t": 8})
        options: dict[str, Any] = {
            "bootstrap_servers": kafka.bootstrap_servers,
            "transactional_id": "x",
            "transaction_timeout_ms": 60_000,
        }
        frozen = AIOKafkaProducer(**options)
        await frozen.start()
        await frozen.begin_transaction()
        await asyncio.gather(*[await frozen.send("t", b"open", partition=n) for n in range(8)])
        kafka.kill()
        await kafka.restart()
        successor = AIOKafkaProducer(**options)
        await successor.start()
        async with successor.transaction():
            await asyncio.gather(*[await successor.send("t", b"done", partition=n) for n in range(8)])
        await successor.stop()
        committed = await read_committed_all(kafka.bootstrap_servers, ["t"])
        assert [record.value for record in committed] == [b"done"] * 8
        with pytest.raises(KafkaError):
            await frozen.send_and_wait("t", b"late", partition=0)
        await asyncio.wait_for(frozen.stop(), patiently(DEADLINE_S))
