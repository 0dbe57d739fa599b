"""Reads stretches of topics, as a reader of committed records does: for commands that look for something.

A bounded number of partitions is read at once, and nothing is kept of what was handed out: memory does not grow with
the topics. Records that the Kafka client cannot parse are passed by.

The client is not left to choose where to go on if retention passes us while we read: it would say nothing of what is
passed over. It refuses, and what was deleted unread is told to whoever wants to know.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, TopicAuthorizationFailedError
from aiokafka.structs import ConsumerRecord, OffsetAndTimestamp, TopicPartition

from service.errors import FanlineError
from service.intake.unparsable import find_unparsable
from service.kafka.clients import started, stop_quietly
from service.kafka.connection import client_for
from service.kafka.probing import connected, view

Record = ConsumerRecord[bytes | None, bytes | None]

_POLL_MS = 200
_MAX_RECORDS = 2_000
_PARTITIONS_AT_ONCE = 16
_FETCH_MAX_BYTES = 16 * 1024 * 1024
# So long nothing may come of partitions that have records: brokers are away, or a partition has no leader.
_STALLED_AFTER_S = 30.0
_AGAIN_S = 0.05
_CLOSE_S = 5.0
_ENDLESS = 2**63 - 1


class ReadingError(FanlineError):
    """A topic cannot be read. The message says which, and what to do."""


class Span(msgspec.Struct, frozen=True, gc=False):
    """Offsets of one partition, from ``first`` to before ``end``."""

    first: int
    end: int

    @property
    def size(self) -> int:
        """How many offsets; markers and removed records are counted too."""
        return max(0, self.end - self.first)


Spans = Mapping[TopicPartition, Span]

# Is told which offsets were deleted before they were read.
Deleted = Callable[[TopicPartition, Span], None]


def ignored(amount: int) -> None:
    """Nobody wants to know how far it has come."""


def _passed_by(tp: TopicPartition, offset: int) -> None:
    pass


def _nobody_misses(tp: TopicPartition, span: Span) -> None:
    pass


@asynccontextmanager
async def reading(connection: Mapping[str, Any]) -> AsyncIterator["TopicReader"]:
    """A reader of topics. ``connection`` are a client's arguments. Raises NoBrokerError, ReadingError."""
    async with connected(connection):
        pass  # only to say by name what is wrong with the broker, if anything is
    consumer = AIOKafkaConsumer(
        **connection,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        fetch_max_bytes=_FETCH_MAX_BYTES,
        fetch_max_wait_ms=100,
    )
    client = client_for(dict(connection))
    try:
        await consumer.start()
        yield TopicReader(connection, consumer, client)
    except TopicAuthorizationFailedError as error:
        names = ", ".join(sorted(map(str, error.args[0]))) if error.args else "a topic"
        raise ReadingError(f"{names}: this user of Kafka may not read it; grant Read and Describe") from error
    except (KafkaError, TimeoutError) as error:
        raise ReadingError(f"Kafka: {type(error).__name__}; look at the brokers and try again") from error
    finally:
        try:
            await stop_quietly(consumer, _CLOSE_S)
        finally:
            await client.close()


class TopicReader:
    """Reads one stretch after the other. ``passed`` counts the records that could not be parsed."""

    def __init__(self, connection: Mapping[str, Any], consumer: AIOKafkaConsumer, client: AIOKafkaClient) -> None:
        self._connection = connection
        self._consumer = consumer
        self._client = client
        self._next: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._short_since: float | None = None
        self._moved_at = time.monotonic()
        self._bootstrapped = False
        self._unparsable: Callable[[TopicPartition, int], None] = _passed_by
        self._deleted: Deleted = _nobody_misses
        self.passed = 0

    async def partitions(self, topics: Collection[str]) -> dict[str, int]:
        """How many partitions each topic has; one that does not exist, or may not be seen, is absent."""
        async with connected(self._connection) as connection:
            seen = await view(connection, sorted(topics))
        return {name: seen.topics[name].partitions for name in topics if name not in seen.missing([name])}

    async def spans(
        self, partitions: Collection[TopicPartition], since_ms: int | None = None
    ) -> dict[TopicPartition, Span]:
        """What lies in the partitions now, from the first record at or after ``since_ms`` on (of the time index, by
        the records' timestamps; commit markers have one too, so that a little more may lie in it), to before the first
        open transaction. Raises ReadingError."""
        parts = sorted(partitions)
        if not parts:
            return {}
        consumer = self._consumer
        try:
            async with asyncio.timeout(_STALLED_AFTER_S):
                first, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
                if since_ms is not None:
                    found = await consumer.offsets_for_times(dict.fromkeys(parts, max(0, since_ms)))
                    first = {tp: _at(found.get(tp), ends[tp]) for tp in parts}
        except TimeoutError:
            raise ReadingError(f"{_names(parts)}: nobody tells the offsets; have they leaders?") from None
        return {tp: Span(first[tp], max(first[tp], ends[tp])) for tp in parts}

    async def scan(
        self,
        spans: Spans,
        advanced: Callable[[int], None] = ignored,
        unparsable: Callable[[TopicPartition, int], None] = _passed_by,
        deleted: Deleted = _nobody_misses,
    ) -> AsyncGenerator[tuple[TopicPartition, Sequence[Record]], None]:
        """All records of the spans, some partitions at a time, each partition in order. ``advanced`` is told by how
        many offsets; ``unparsable`` where a record lies that is passed by; ``deleted`` what was deleted before it was
        read. Raises ReadingError."""
        parts = [tp for tp, span in sorted(spans.items()) if span.size]
        for begin in range(0, len(parts), _PARTITIONS_AT_ONCE):
            some = {tp: spans[tp] for tp in parts[begin : begin + _PARTITIONS_AT_ONCE]}
            self._begin(some, unparsable, deleted)
            unread = set(some)
            while unread:
                for tp, records in (await self._take(unread, advanced)).items():
                    if inside := [record for record in records if record.offset < some[tp].end]:
                        yield tp, inside
                unread = await self._unread(unread, some, advanced)

    async def merge(
        self, spans: Spans, advanced: Callable[[int], None] = ignored, deleted: Deleted = _nobody_misses
    ) -> AsyncGenerator[Record, None]:
        """All records of the spans, the oldest first by their timestamps; each partition in order. ``deleted`` is told
        as by ``scan``.

        One stretch of each partition is held. Raises ReadingError.
        """
        some = {tp: span for tp, span in spans.items() if span.size}
        if not some:
            return  # aiokafka's consumer does not end well with an empty assignment
        self._begin(some, deleted=deleted)
        unread = set(some)
        heads: dict[TopicPartition, deque[Record]] = {tp: deque() for tp in some}
        while unread or any(heads.values()):
            while hungry := [tp for tp in unread if not heads[tp]]:
                for tp, records in (await self._take(hungry, advanced)).items():
                    heads[tp].extend(record for record in records if record.offset < some[tp].end)
                unread = await self._unread(unread, some, advanced)
            filled = [queue for queue in heads.values() if queue]
            if not filled:
                continue
            # While every partition that is not at its end has a head, the oldest of the heads comes next.
            oldest = min(filled, key=lambda queue: queue[0].timestamp)
            yield oldest.popleft()

    async def follow(
        self, partitions: Mapping[TopicPartition, int], deleted: Deleted = _nobody_misses
    ) -> AsyncGenerator[Record, None]:
        """Records from the given offsets on, as they come, until cancelled. ``deleted`` is told as by ``scan``."""
        self._begin({tp: Span(offset, _ENDLESS) for tp, offset in partitions.items()}, deleted=deleted)
        while True:
            found = await self._take(partitions, ignored, patient=True)
            for record in sorted((r for records in found.values() for r in records), key=lambda r: r.timestamp):
                yield record

    async def high_watermarks(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Behind the last record of each partition, committed or not. Raises ReadingError."""
        consumer = AIOKafkaConsumer(**self._connection, isolation_level="read_uncommitted", enable_auto_commit=False)
        async with started(consumer, stop_within_s=_CLOSE_S), asyncio.timeout(_STALLED_AFTER_S):
            return dict(await consumer.end_offsets(list(partitions)))

    def _begin(
        self,
        spans: Spans,
        unparsable: Callable[[TopicPartition, int], None] = _passed_by,
        deleted: Deleted = _nobody_misses,
    ) -> None:
        self._unparsable, self._deleted = unparsable, deleted
        self._consumer.assign(sorted(spans))
        self._next = {tp: span.first for tp, span in spans.items()}
        self._ends = {tp: span.end for tp, span in spans.items()}
        for tp, offset in self._next.items():
            self._consumer.seek(tp, offset)
        self._moved_at = time.monotonic()

    async def _take(
        self, wanted: Collection[TopicPartition], advanced: Callable[[int], None], *, patient: bool = False
    ) -> Mapping[TopicPartition, Sequence[Record]]:
        """What is at hand of some partitions. Raises ReadingError if nothing comes for long, unless ``patient``."""
        try:
            found = await self._consumer.getmany(*wanted, timeout_ms=_POLL_MS, max_records=_MAX_RECORDS)
        except UnicodeDecodeError:
            async with asyncio.timeout(_STALLED_AFTER_S):
                found = await self._pass_unparsable(wanted, advanced)
        except OffsetOutOfRangeError:
            async with asyncio.timeout(_STALLED_AFTER_S):
                await self._pass_deleted(wanted, advanced)
            found = {}
        for tp, records in found.items():
            if records:
                self._advance(tp, records[-1].offset + 1, advanced)
        if not patient and time.monotonic() - self._moved_at > _STALLED_AFTER_S:
            raise ReadingError(
                f"{_names(wanted)}: nothing could be read for {_STALLED_AFTER_S:.0f} s; have they leaders?"
            )
        return found

    async def _unread(
        self, unread: set[TopicPartition], spans: Spans, advanced: Callable[[int], None]
    ) -> set[TopicPartition]:
        """Those that are not at their end; markers at the end are passed without a record."""
        left = set()
        for tp in unread:
            position = await self._consumer.position(tp)
            self._advance(tp, position, advanced)
            if position < spans[tp].end:
                left.add(tp)
        return left

    def _advance(self, tp: TopicPartition, offset: int, advanced: Callable[[int], None]) -> None:
        if offset > self._next[tp]:
            advanced(max(0, min(offset, self._ends[tp]) - self._next[tp]))
            self._next[tp] = offset
            self._moved_at = time.monotonic()
            self._short_since = None

    async def _pass_unparsable(
        self, wanted: Collection[TopicPartition], advanced: Callable[[int], None]
    ) -> dict[TopicPartition, list[Record]]:
        """Seek behind the record that cannot be parsed; the good ones before it are given.

        Whatever the failed call had taken from other partitions is lost with it: all are read again.
        """
        if not self._bootstrapped:
            await self._client.bootstrap()
            self._bootstrapped = True
        found: dict[TopicPartition, list[Record]] = {}
        for tp in wanted:
            self._consumer.seek(tp, self._next[tp])
        for tp in wanted:
            await self._client.add_topic(tp.topic)
            offset = await find_unparsable(self._client, tp, self._next[tp])
            if offset is not None:
                found[tp] = await self._up_to(tp, offset)
                self._consumer.seek(tp, offset + 1)
                self._advance(tp, offset + 1, advanced)
                self.passed += 1
                self._unparsable(tp, offset)
        await asyncio.sleep(_AGAIN_S)
        return found

    async def _pass_deleted(self, wanted: Collection[TopicPartition], advanced: Callable[[int], None]) -> None:
        """Go on where the partitions begin by now. Raises ReadingError where one stays shorter than what was read.

        Whatever the failed call had taken from other partitions is lost with it: all are read again.
        """
        first = await self._consumer.beginning_offsets(list(wanted))
        ends = await self._consumer.end_offsets(list(wanted))
        for tp in wanted:
            at = self._next[tp]
            if at > max(first[tp], ends[tp]):
                self._refuse_short(tp, at, ends[tp])
            if (gone := Span(at, min(first[tp], self._ends[tp]))).size:
                self._deleted(tp, gone)
                self._advance(tp, gone.end, advanced)
            self._consumer.seek(tp, max(at, first[tp]))
        await asyncio.sleep(_AGAIN_S)

    def _refuse_short(self, tp: TopicPartition, at: int, end: int) -> None:
        """A new leader may lack some of it for a moment."""
        now = time.monotonic()
        self._short_since = now if self._short_since is None else self._short_since
        if now - self._short_since > _STALLED_AFTER_S:
            raise ReadingError(f"{_names([tp])}: ends at {end}, and {at} has been read; was it made anew? Try again")

    async def _up_to(self, tp: TopicPartition, offset: int) -> list[Record]:
        """The good records in front of the one at ``offset``, one by one: more at a time would fail again."""
        records: list[Record] = []
        with suppress(UnicodeDecodeError):
            while True:
                record = await self._consumer.getone(tp)
                if record.offset > offset:
                    break
                records.append(record)
        return records


def _at(found: OffsetAndTimestamp | None, end: int) -> int:
    """Where a time lies; behind the last record if nothing is as young."""
    return end if found is None else found.offset


def _names(partitions: Collection[TopicPartition]) -> str:
    some = ", ".join(f"{tp.topic}-{tp.partition}" for tp in sorted(partitions)[:3])
    return some if len(partitions) <= 3 else f"{some} and {len(partitions) - 3} more partitions"
