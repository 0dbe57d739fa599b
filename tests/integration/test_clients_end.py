"""However a client of Kafka's ends, its connections and tasks end with it."""

import asyncio
from typing import Any

import aiokafka.client
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.client import ConnectionGroup

from service.kafka.clients import Client, start, started, stop_quietly, stop_within
from service.kafka.private import tasks_of
from tests.support.kafka import create_topics
from tests.support.oracle import until

WITHIN_S = 30.0


def consumer_of(bootstrap_servers: str, topic: str, group: str | None) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap_servers,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )


async def fetching(consumer: AIOKafkaConsumer) -> "asyncio.Task[Any]":
    """The request for records of a consumer that has partitions."""
    of: Any = consumer
    found: list[asyncio.Task[Any]] = []

    def asks() -> bool:
        found[:] = [task for task in of._fetcher._pending_tasks if task.get_coro().__name__ == "_proc_fetch_request"]
        return found != [] and not found[0].done()

    await until(asks, within_s=WITHIN_S, what="a request for records")
    return found[0]


async def fetching_member(bootstrap_servers: str, topic: str) -> tuple[Any, set["asyncio.Task[Any]"]]:
    """A member of a group that asks for records, and what runs of it."""
    consumer = consumer_of(bootstrap_servers, topic, f"{topic}.g")
    await consumer.start()
    await fetching(consumer)
    return consumer, tasks_of(consumer)[0]


def connections_of(client: Client) -> list[Any]:
    kept: Any = tasks_of(client)[1]
    return [connection for connection in kept._conns.values() if connection.connected()]


def sleeps(task: "asyncio.Task[Any]") -> bool:
    """Whether it waits for a time, and for nothing else."""
    awaited: Any = task.get_coro()
    while getattr(awaited, "cr_await", None) is not None:
        if awaited.cr_code is asyncio.sleep.__code__:
            return True
        awaited = awaited.cr_await
    return False


@pytest.fixture
async def topic(bootstrap_servers: str, prefix: str) -> str:
    await create_topics(bootstrap_servers, [f"{prefix}.t"])
    return f"{prefix}.t"


@pytest.mark.parametrize("with_group", [True, False])
async def test_a_consumer_whose_fetch_has_just_failed(bootstrap_servers: str, topic: str, with_group: bool) -> None:
    """It waits to be tried again when the consumer is stopped: aiokafka takes the end of that wait for its own, and
    does not come to its connections."""
    consumer = consumer_of(bootstrap_servers, topic, f"{topic}.g" if with_group else None)
    await consumer.start()
    of: Any = consumer
    of._fetcher._retry_backoff = 3600
    fetch = await fetching(consumer)
    tasks = tasks_of(consumer)[0]
    node = of._client.cluster.leader_for_partition(TopicPartition(topic, 0))
    of._client._conns[node, ConnectionGroup.DEFAULT].close()
    await until(lambda: sleeps(fetch), within_s=WITHIN_S, what="its wait")
    # The connection is there again: others of the client have asked for it.
    await of._client.ready(node)
    assert connections_of(consumer) != []
    await stop_within(consumer, WITHIN_S)
    assert fetch.cancelled()
    assert connections_of(consumer) == []
    assert all(task.done() for task in tasks)


async def test_a_consumer_whose_fetch_has_not_begun(bootstrap_servers: str, topic: str) -> None:
    """The same for a fetch that is cancelled before its first step."""
    of, tasks = await fetching_member(bootstrap_servers, topic)
    waiting = asyncio.ensure_future(asyncio.sleep(3600))
    of._fetcher._pending_tasks.add(waiting)
    await stop_within(of, WITHIN_S)
    assert connections_of(of) == []
    assert waiting.cancelled()
    assert all(task.done() for task in tasks)


async def test_a_consumer_whose_stop_takes_too_long(bootstrap_servers: str, topic: str) -> None:
    """It waits for others: TimeoutError is raised when the time is over, and nothing of it goes on."""
    of, tasks = await fetching_member(bootstrap_servers, topic)
    of._coordinator.close = asyncio.Event().wait
    with pytest.raises(TimeoutError):
        await stop_within(of, 0.05)
    await until(lambda: not connections_of(of), within_s=WITHIN_S, what="closed connections")
    assert all(task.done() for task in tasks)
    assert tasks_of(of)[0] == set()


async def test_a_producer_whose_stop_takes_too_long(bootstrap_servers: str, topic: str) -> None:
    """One that is not rid of its records, which an idempotent one waits for without end."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, enable_idempotence=True)
    await producer.start()
    await producer.send_and_wait(topic, b"1")
    of: Any = producer
    of._message_accumulator.close = asyncio.Event().wait
    await stop_quietly(producer, 0.05)
    await until(lambda: not connections_of(producer), within_s=WITHIN_S, what="closed connections")
    assert tasks_of(producer)[0] == set()


async def test_a_start_that_is_cancelled(bootstrap_servers: str, topic: str) -> None:
    """In the middle of it the client has connections already; whoever cancels gets their cancellation."""
    consumer = consumer_of(bootstrap_servers, topic, None)
    of: Any = consumer
    entered = asyncio.Event()

    async def endless() -> None:
        entered.set()
        await asyncio.Event().wait()

    of._wait_topics = endless

    async def use() -> None:
        async with started(consumer, stop_within_s=WITHIN_S):
            raise AssertionError("it never starts")

    using = asyncio.create_task(use())
    await entered.wait()
    assert of._client._sync_task is not None
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    assert connections_of(consumer) == []
    assert of._client._sync_task is None


async def test_a_start_that_is_cancelled_at_its_first_question(
    bootstrap_servers: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on a connection of its own, which aiokafka would forget."""
    made: list[Any] = []
    connect, asked = aiokafka.client.create_conn, asyncio.Event()

    async def noted(*args: Any, **named: Any) -> Any:
        connection = await connect(*args, **named)
        send = connection.send

        def telling(request: Any, **more: Any) -> Any:
            asked.set()
            return send(request, **more)

        connection.send = telling
        made.append(connection)
        return connection

    monkeypatch.setattr(aiokafka.client, "create_conn", noted)
    starting = asyncio.create_task(start(consumer_of(bootstrap_servers, topic, None), stop_within_s=WITHIN_S))
    await asked.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert made
    assert not any(connection.connected() for connection in made)


async def test_a_cancellation_meanwhile_is_kept(bootstrap_servers: str, topic: str) -> None:
    """aiokafka would swallow it: the client ends first, and then the cancellation is raised."""
    consumer, _ = await fetching_member(bootstrap_servers, topic)
    stopping = asyncio.create_task(stop_within(consumer, WITHIN_S))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert connections_of(consumer) == []
    assert tasks_of(consumer)[0] == set()
