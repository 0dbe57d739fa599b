"""Sends events to a topic, each acknowledged by all in-sync replicas, those of one key in order."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, TopicAuthorizationFailedError

from service.errors import FanlineError
from service.publishing.validating import STRUCTURED

# Bounds what a run holds in memory.
_IN_FLIGHT = 5_000
# Length fields, offsets, header: what a record batch adds to key and value, generously.
BATCH_OVERHEAD = 256


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
        self.published = 0
        self.bytes = 0

    async def send(self, key: bytes, value: bytes) -> None:
        """Hand over one event; it is acknowledged later. Raises PublishError for an earlier one that failed."""
        self._raise_if_failed()
        await self._room.acquire()
        try:
            future = await self._producer.send(self._topic, value, key=key, headers=[STRUCTURED])
        except KafkaError as error:
            raise self._failure(error) from error
        future.add_done_callback(lambda done: self._ended(done, len(key) + len(value)))

    async def finish(self) -> None:
        """Wait for all acknowledgements. Raises PublishError."""
        try:
            await self._producer.flush()
        except KafkaError as error:
            raise self._failure(error) from error
        self._raise_if_failed()

    def _ended(self, future: "asyncio.Future[Any]", size: int) -> None:
        self._room.release()
        if future.cancelled():
            return
        if (error := future.exception()) is not None:
            self._error = self._error or error
            return
        self.published += 1
        self.bytes += size
        self._acknowledged(1)

    def _raise_if_failed(self) -> None:
        if self._error is not None:
            raise self._failure(self._error) from self._error

    def _failure(self, error: BaseException) -> PublishError:
        match error:
            case TopicAuthorizationFailedError():
                why = "this user of Kafka may not write to it; grant Write on the topic"
            case MessageSizeTooLargeError():
                why = "an event is larger than its max.message.bytes"
            case _:
                why = f"the broker did not take an event ({type(error).__name__})"
        return PublishError(f"topic {self._topic}: {why}. {self.published} events had been acknowledged")


@asynccontextmanager
async def publisher(
    arguments: Mapping[str, Any], topic: str, *, max_message_bytes: int, acknowledged: Callable[[int], object]
) -> AsyncIterator[Publisher]:
    """A publisher with an idempotent producer. ``arguments`` are those of a client."""
    producer = AIOKafkaProducer(
        **arguments, enable_idempotence=True, acks="all", linger_ms=5, max_request_size=max_message_bytes
    )
    await producer.start()
    try:
        yield Publisher(producer, topic, acknowledged)
    finally:
        await producer.stop()
