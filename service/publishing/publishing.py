"""Sends events to a topic, each acknowledged by all in-sync replicas, those of one key in order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, TopicAuthorizationFailedError

from service.errors import FanlineError
from service.publishing.validating import STRUCTURED

T = TypeVar("T")

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

    def __init__(
        self, producer: AIOKafkaProducer, topic: str, acknowledged: Callable[[int], object], stalled_after_s: float
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._acknowledged = acknowledged
        self._stalled_after_s = stalled_after_s
        self._ended_last = asyncio.get_running_loop().time()
        self._room = asyncio.Semaphore(_IN_FLIGHT)
        self._error: BaseException | None = None
        self.published = 0
        self.bytes = 0

    async def send(self, key: bytes, value: bytes) -> None:
        """Hand over one event; it is acknowledged later. Raises PublishError for an earlier one that failed."""
        self._raise_if_failed()
        if self._room.locked():
            await self._bounded(self._room.acquire())
        else:
            await self._room.acquire()
        future = await self._bounded(self._producer.send(self._topic, value, key=key, headers=[STRUCTURED]))
        future.add_done_callback(lambda done: self._ended(done, len(key) + len(value)))

    async def finish(self) -> None:
        """Wait for all acknowledgements. Raises PublishError."""
        await self._bounded(self._producer.flush())
        self._raise_if_failed()

    async def _bounded(self, work: Awaitable[T]) -> T:
        """Wait for ``work`` as long as acknowledgements come. Raises PublishError."""
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)
        began = loop.time()
        try:
            while True:
                left_s = max(began, self._ended_last) + self._stalled_after_s - loop.time()
                done, _ = await asyncio.wait([task], timeout=max(0.0, left_s))
                if done:
                    return task.result()
                if left_s <= 0:
                    raise self._failure(TimeoutError())
        except KafkaError as error:
            raise self._failure(error) from error
        finally:
            task.cancel()

    def _ended(self, future: "asyncio.Future[Any]", size: int) -> None:
        self._room.release()
        self._ended_last = asyncio.get_running_loop().time()
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
            case TimeoutError():
                why = f"no answer from the brokers for {self._stalled_after_s:g} s"
            case _:
                why = f"the broker did not take an event ({type(error).__name__})"
        return PublishError(f"topic {self._topic}: {why}. {self.published} events had been acknowledged")


@asynccontextmanager
async def publisher(
    arguments: Mapping[str, Any],
    topic: str,
    *,
    max_message_bytes: int,
    acknowledged: Callable[[int], object],
    stalled_after_s: float = _STALLED_AFTER_S,
) -> AsyncIterator[Publisher]:
    """A publisher with an idempotent producer, which gives up when nothing was acknowledged for ``stalled_after_s``.
    ``arguments`` are those of a client."""
    producer = AIOKafkaProducer(
        **arguments, enable_idempotence=True, acks="all", linger_ms=5, max_request_size=max_message_bytes
    )
    await producer.start()
    try:
        yield Publisher(producer, topic, acknowledged, stalled_after_s)
    finally:
        with suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(_STOP_WITHIN_S):
                await producer.stop()
