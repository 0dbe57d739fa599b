"""Reads back, at an assignment, what of a source's window lies before the committed offsets.

A consumer of its own, without a group, for as long as it takes: partitions that need nothing, or are done, are read by
the lane meanwhile. It ends with its task, which the next assignment cancels.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.structs import ConsumerRecord, TopicPartition

from service.intake.unparsable import find_unparsable
from service.kafka.clients import start, stop_quietly
from service.kafka.frames import read_whole_frames
from service.kafka.unpacking import unpack_aside

_POLL_MS = 200
_MAX_RECORDS = 500
_STOP_S = 5.0
_ONE_BY_ONE_S = 5.0
# The records on both sides of the committed offset tell what timestamps are to be expected behind it.
AROUND = 100

Records = Sequence[ConsumerRecord[bytes, bytes]]


class Stretch(msgspec.Struct):
    """Offsets of one partition that are to be read: ``at`` to before ``end``."""

    at: int
    end: int


class ReadBack:
    """One reading consumer; an async context manager. Raises KafkaError.

    Where retention is faster than the reading, it goes on at what is left, for what is no more need not be known; with
    ``all_or_none`` it raises OffsetOutOfRangeError instead.
    """

    def __init__(self, connection: Mapping[str, Any], client: AIOKafkaClient, *, all_or_none: bool = False) -> None:
        self._client = client
        self._consumer = AIOKafkaConsumer(
            **connection,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none" if all_or_none else "earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=1024 * 1024,
            fetch_max_bytes=16 * 1024 * 1024,
        )

    async def __aenter__(self) -> "ReadBack":
        await start(self._consumer, stop_within_s=_STOP_S)
        read_whole_frames(self._consumer)
        unpack_aside(self._consumer)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await stop_quietly(self._consumer, _STOP_S)

    async def lowest_timestamps(self, committed: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The lowest timestamp around each committed offset, in milliseconds; absent where no record lies there."""
        lowest: dict[TopicPartition, int] = {}

        def take(tp: TopicPartition, records: Records) -> None:
            known = [record.timestamp for record in records if record.timestamp >= 0]
            if known:
                lowest[tp] = min(*known, lowest.get(tp, known[0]))

        tps = list(committed)
        self._consumer.assign(tps)
        first = await self._consumer.beginning_offsets(tps)
        ends = await self._consumer.end_offsets(tps)
        stretches = {
            tp: Stretch(max(first[tp], offset - AROUND), min(ends[tp], offset + AROUND))
            for tp, offset in committed.items()
        }
        await self.read(stretches, take)
        return lowest

    async def offsets_at(self, times_ms: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The first offset whose record is of the time or later: none before it is; absent where none is at all."""
        found = await self._consumer.offsets_for_times({tp: max(0, time_ms) for tp, time_ms in times_ms.items()})
        return {tp: place.offset for tp, place in found.items() if place is not None}

    async def first_offsets(self, tps: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Where each partition begins by now."""
        # Not assigned for this: without a position of ours the client would look for one of its own.
        found: Mapping[TopicPartition, int] = await self._consumer.beginning_offsets(list(tps))
        return found

    async def read(
        self,
        stretches: Mapping[TopicPartition, Stretch],
        take: Callable[[TopicPartition, Records], None],
        done: Callable[[TopicPartition], None] = lambda tp: None,
    ) -> None:
        """Hand over the records of each stretch in order; ``done`` as soon as one is at its end. ``at`` moves on."""
        consumer = self._consumer
        unread = dict(stretches)
        consumer.assign(list(unread))
        for tp, stretch in unread.items():
            consumer.seek(tp, stretch.at)
        while unread:
            for tp, stretch in list(unread.items()):
                # Holes are passed by the position alone. It moves only when records are handed out here.
                stretch.at = max(stretch.at, await consumer.position(tp))
                if stretch.at >= stretch.end:
                    del unread[tp]
                    consumer.pause(tp)
                    done(tp)
            if not unread:
                return
            try:
                found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_MAX_RECORDS)
            except UnicodeDecodeError:
                await self._pass_unparsable(unread, take)
                continue
            for tp, records in found.items():
                if tp in unread:
                    _hand_over(tp, unread[tp], records, take)
            # Records that are at hand are returned without a pause: the lane's own reading gets its turn here.
            await asyncio.sleep(0)

    async def _pass_unparsable(
        self, unread: Mapping[TopicPartition, Stretch], take: Callable[[TopicPartition, Records], None]
    ) -> None:
        """A record that the client cannot parse has no id: read up to it one by one, and on behind it.

        Whatever the failed call had taken from other partitions is lost with it, so all are read again.
        """
        for tp, stretch in unread.items():
            self._consumer.seek(tp, stretch.at)
        for tp, stretch in unread.items():
            bad = await find_unparsable(self._client, tp, stretch.at)
            if bad is None:
                continue
            try:
                async with asyncio.timeout(_ONE_BY_ONE_S):
                    while stretch.at < min(bad, stretch.end):
                        _hand_over(tp, stretch, [await self._consumer.getone(tp)], take)
            except TimeoutError:
                return
            except UnicodeDecodeError:
                pass
            stretch.at = min(bad + 1, stretch.end)
            self._consumer.seek(tp, stretch.at)


def _hand_over(
    tp: TopicPartition, stretch: Stretch, records: Records, take: Callable[[TopicPartition, Records], None]
) -> None:
    wanted = [record for record in records if record.offset < stretch.end]
    if wanted:
        take(tp, wanted)
    if records:
        stretch.at = max(stretch.at, records[-1].offset + 1)
