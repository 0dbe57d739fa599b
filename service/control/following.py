"""Reads the control topic of a process: to its end whenever a lane asks, and on from there for as long as it runs."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.structs import TopicPartition

from service.clock import until_next
from service.kafka.aside import ask_offsets_aside
from service.kafka.clients import start, stop_within

# How long a broker keeps a request of ours that it has nothing for.
_KEPT_MS = 2000
# How long we wait for records, until all that is there is known.
_WAIT_MS = 500
# Once everything is known, what comes wakes us; else it is looked whether the topic is there still.
_QUIET_S = 1.0
# As ``service.lane.group`` has it.
_FETCHER_LOOK_MS = 5000
_RETRY_S = 0.5
_RETRY_MAX_S = 10.0
_CLOSE_S = 5.0

# Key and value of a record; whether it was there before this process had read the topic to its end.
Apply = Callable[[bytes | None, bytes | None, bool], None]


class Follower:
    """One reader of ``<p>.control``. ``run`` follows until it is cancelled; whatever the brokers do it goes on.

    The topic is compacted and small: it is read whole, and a broker hands out what is new at once.
    """

    def __init__(self, connection: Mapping[str, Any], topic: str, apply: Apply, failed: Callable[[str], None]) -> None:
        self._connection = connection
        self._tp = TopicPartition(topic, 0)
        self._apply = apply
        self._failed = failed
        self._consumer: AIOKafkaConsumer | None = None
        self._position: int | None = None
        self._caught_up = False
        self._old_before: int | None = None
        self._moved = asyncio.Event()
        self._error: KafkaError | None = None  # why nothing can be read at this moment

    @property
    def missing(self) -> str | None:
        """That no order can be read because the topic is gone; None while it is there, as far as we know."""
        if not isinstance(self._error, UnknownTopicOrPartitionError):
            return None
        topic = self._tp.topic
        return f"no order can be read: topic {topic} is gone, or may not be seen; `fanline topics ensure` creates it"

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        pause_s = _RETRY_S
        while True:
            try:
                await self._follow()
            except KafkaError as error:
                # Longer each time while the topic is gone: that ends by a person, and each try asks for all topics.
                gone = isinstance(error, UnknownTopicOrPartitionError) and self.missing is not None
                pause_s = min(pause_s * 2, _RETRY_MAX_S) if gone else _RETRY_S
                self._error = error
                self._moved.set()
                self._failed(type(error).__name__)
            await asyncio.sleep(pause_s)

    async def read_to_end(self) -> None:
        """Return once everything that was ordered before this call has been applied. The caller bounds the time.

        Raises KafkaError, also where the topic cannot be read at all: whoever waits says why.
        """
        while (consumer := self._consumer) is None:
            await self._next_move()
        end = (await consumer.end_offsets([self._tp]))[self._tp]
        while self._position is None or self._position < end:
            await self._next_move()
        self._caught_up = True

    async def _next_move(self) -> None:
        self._moved.clear()
        await self._moved.wait()
        if self._error is not None:
            raise self._error

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            **self._connection,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=_KEPT_MS,
            consumer_timeout_ms=_FETCHER_LOOK_MS,
        )
        await start(consumer, stop_within_s=_CLOSE_S)
        ask_offsets_aside(consumer)
        try:
            if self.missing is not None:
                await self._find_topic(consumer)
                await self._begin_anew(consumer)
            consumer.assign([self._tp])
            if self._position is not None:
                consumer.seek(self._tp, self._position)
            self._consumer = consumer
            while True:
                await self._read_some(consumer)
        finally:
            self._consumer = None
            try:
                await stop_within(consumer, _CLOSE_S)
            except (TimeoutError, KafkaError) as error:
                self._failed(type(error).__name__)

    async def _find_topic(self, consumer: AIOKafkaConsumer) -> None:
        """Raises UnknownTopicOrPartitionError where the topic is gone: a consumer that is assigned to it would ask for
        it hundreds of times a second, and never say so."""
        if self._tp.topic not in await consumer.topics():
            raise UnknownTopicOrPartitionError(self._tp.topic)

    async def _begin_anew(self, consumer: AIOKafkaConsumer) -> None:
        """A topic that was gone may be another by now, whose first orders lie before where we were in the old one. What
        stands in it counts as ordered before: some of it may have been carried out."""
        self._position, self._caught_up = None, False
        self._old_before = (await consumer.end_offsets([self._tp]))[self._tp]

    async def _read_some(self, consumer: AIOKafkaConsumer) -> None:
        try:
            batches = await consumer.getmany(self._tp, timeout_ms=self._wait_ms())
        except UnicodeDecodeError:
            # A foreign record whose header the client cannot parse: it is no order of ours.
            await self._pass_unparsable(consumer)
            return
        if not batches and not consumer.partitions_for_topic(self._tp.topic):
            await self._find_topic(consumer)
        for record in batches.get(self._tp, ()):
            self._apply(record.key, record.value, not self._caught_up)
        await self._note_position(consumer)

    def _wait_ms(self) -> int:
        return round(until_next(_QUIET_S, asyncio.get_running_loop().time()) * 1000) if self._caught_up else _WAIT_MS

    async def _pass_unparsable(self, consumer: AIOKafkaConsumer) -> None:
        try:
            while True:
                record = await consumer.getone(self._tp)
                self._apply(record.key, record.value, not self._caught_up)
        except UnicodeDecodeError:
            consumer.seek(self._tp, await consumer.position(self._tp) + 1)
        await self._note_position(consumer)

    async def _note_position(self, consumer: AIOKafkaConsumer) -> None:
        self._position = await consumer.position(self._tp)
        if self._old_before is not None and self._position >= self._old_before:
            self._caught_up, self._old_before = True, None
        self._error = None
        self._moved.set()
