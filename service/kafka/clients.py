"""Starts and ends Kafka clients in tasks that may be cancelled at any moment, and leaves nothing of theirs open."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from service.kafka.private import tasks_of

Client = AIOKafkaConsumer | AIOKafkaProducer

# What is cancelled ends within a few turns, unless it waits for somebody else's code.
_TASKS_END_S = 1.0
_ANSWERED_S = 1.0


@asynccontextmanager
async def started(client: Client, *, stop_within_s: float) -> AsyncIterator[None]:
    """A client that runs for as long as the block. Raises KafkaError where it cannot start; how it stops is nobody's
    error."""
    await start(client, stop_within_s=stop_within_s)
    try:
        yield
    finally:
        await stop_quietly(client, stop_within_s)


async def start(client: Client, *, stop_within_s: float) -> None:
    """Start a consumer or a producer; where that fails, or is cancelled, it is stopped. Raises KafkaError, and whatever
    else its ``start()`` raises."""
    starting = asyncio.ensure_future(client.start())  # type: ignore[no-untyped-call] # aiokafka's
    try:
        await asyncio.shield(starting)
    except BaseException:
        try:
            # aiokafka forgets the connection that it asks on first where it is cancelled: an answer is soon there.
            await asyncio.wait({starting}, timeout=_ANSWERED_S)
        finally:
            starting.add_done_callback(_take_exception)
            starting.cancel()
            await stop_quietly(client, stop_within_s)
        raise


async def stop_quietly(client: Client, within_s: float) -> None:
    """As ``stop_within``, for whoever has what it wanted: it raises nothing but CancelledError."""
    with suppress(TimeoutError, KafkaError):
        await stop_within(client, within_s)


async def stop_within(client: Client, within_s: float) -> None:
    """Stop a consumer or a producer; its connections are closed however that ends. Raises what its ``stop()`` raises,
    and TimeoutError."""
    await end_within(_stopped(client), within_s)


async def _stopped(client: Client) -> None:
    try:
        await client.stop()  # type: ignore[no-untyped-call] # aiokafka's
    finally:
        # aiokafka closes its connections last: never, where it is broken off, and where it cancels a fetch that has not
        # begun or that waits to be tried again, whose end it takes for its own.
        tasks, connections = tasks_of(client)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_TASKS_END_S)
        await connections.close()


async def end_within(closing: Coroutine[Any, Any, object], within_s: float) -> None:
    """Wait for a client's ``stop()`` or ``close()``. Raises what it raises, and TimeoutError; then it is left alone.

    aiokafka suppresses every CancelledError that meets it there, also one that is meant for the caller: whoever was
    cancelled meanwhile would go on for ever. So the client ends in a task of its own, and a cancellation of the caller
    is kept until it has ended, or the time is over.
    """
    task = asyncio.ensure_future(closing)
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    cancelled = False
    while not task.done() and (left_s := until - loop.time()) > 0:
        try:
            await asyncio.wait({task}, timeout=left_s)
        except asyncio.CancelledError:
            cancelled = True
    if not task.done():
        task.cancel()
        # Nobody will ask for what it raises in the end.
        task.add_done_callback(_take_exception)
    if cancelled:
        raise asyncio.CancelledError
    if not task.done():
        raise TimeoutError
    # Cancelled by nobody of ours: aiokafka waits for tasks of its own that have been cancelled already.
    if not task.cancelled():
        task.result()


def _take_exception(task: "asyncio.Future[object]") -> None:
    if not task.cancelled():
        task.exception()
