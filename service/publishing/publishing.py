"""Sends events to a topic, each acknowledged by all in-sync replicas, those of one key in order."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, TopicAuthorizationFailedError

from service.errors import FanlineError
from service.kafka.clients import stop_quietly
from service.publishing.validating import STRUCTURED

# Bounds what a run holds in memory.
_IN_FLIGHT = 5_000
# Length fields, offsets, header: what a record batch adds to key and value, generously.
BATCH_OVERHEAD = 256
# An idempotent producer of aiokafka tries for ever.
_STALLED_AFTER_S = 30.0
_STOP_WITHIN_S = 5.0


class PublishError(FanlineError):
    """The broker did not take an event. The message says how many it had taken."""


class Publisher:
    """Sends to one topic. ``published`` counts what has been acknowledged; ``acknowledged`` is called with 1 for
    each."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, acknowledged: Callable[[int], object]) -> None:
        self._producer = producer
        self._topic = topic
        self._acknowledged = acknowledged
        self._room = asyncio.Semaphore(_IN_FLIGHT)
        self._error: BaseException | None = None
        self._in_flight = 0
        self.published = 0

    @property
    def is_idle(self) -> bool:
        """Whether everything that was handed over has ended."""
        return not self._in_flight

    async def send(self, key: bytes, value: bytes) -> None:
        """Hand over one event; it is acknowledged later. Raises PublishError for an earlier one that failed."""
        self._raise_if_failed()
        await self._room.acquire()
        try:
            future = await self._producer.send(self._topic, value, key=key, headers=[STRUCTURED])
        except KafkaError as error:
            raise self.failure(error) from error
        self._in_flight += 1
        future.add_done_callback(self._ended)

    async def finish(self) -> None:
        """Wait for all acknowledgements. Raises PublishError."""
        try:
            await self._producer.flush()
        except KafkaError as error:
            raise self.failure(error) from error
        self._raise_if_failed()

    def failure(self, error: BaseException) -> PublishError:
        """What an error means, and how many events had been acknowledged."""
        match error:
            case TopicAuthorizationFailedError():
                why = "this user of Kafka may not write to it; grant Write on the topic"
            case MessageSizeTooLargeError():
                why = "an event is larger than its max.message.bytes"
            case TimeoutError():
                why = "the brokers have fallen silent"
            case _:
                why = f"the broker did not take an event ({type(error).__name__})"
        return PublishError(f"topic {self._topic}: {why}. {self.published} events had been acknowledged")

    def _ended(self, future: "asyncio.Future[Any]") -> None:
        self._room.release()
        self._in_flight -= 1
        if future.cancelled():
            return
        if (error := future.exception()) is not None:
            self._error = self._error or error
            return
        self.published += 1
        self._acknowledged(1)

    def _raise_if_failed(self) -> None:
        if self._error is not None:
            raise self.failure(self._error) from self._error


@asynccontextmanager
async def publisher(
    arguments: Mapping[str, Any],
    topic: str,
    *,
    max_message_bytes: int,
    acknowledged: Callable[[int], object],
    stalled_after_s: float = _STALLED_AFTER_S,
) -> AsyncIterator[Publisher]:
    """A publisher with an idempotent producer. ``arguments`` are those of a client. The block is broken off
    with PublishError when nothing is acknowledged for ``stalled_after_s`` although something is on its way."""
    producer = AIOKafkaProducer(
        **arguments, enable_idempotence=True, acks="all", linger_ms=5, max_request_size=max_message_bytes
    )
    sink = Publisher(producer, topic, acknowledged)
    try:
        await producer.start()
        async with asyncio.timeout(stalled_after_s) as deadline:
            watching = asyncio.create_task(_watch(sink, deadline, stalled_after_s))
            try:
                yield sink
            finally:
                watching.cancel()
    except TimeoutError as error:
        raise sink.failure(error) from error
    finally:
        await stop_quietly(producer, _STOP_WITHIN_S)


async def _watch(sink: Publisher, deadline: asyncio.Timeout, stalled_after_s: float) -> None:
    """Move the deadline for as long as acknowledgements come, or none are due."""
    loop = asyncio.get_running_loop()
    seen = 0
    while True:
        await asyncio.sleep(stalled_after_s / 4)
        if (sink.published > seen or sink.is_idle) and not deadline.expired():
            seen = sink.published
            deadline.reschedule(loop.time() + stalled_after_s)
