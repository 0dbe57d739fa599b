"""Reads a lane's journal back at an assignment: all kinds of records in one pass, as a committed reader finds them.

The rejected way: reading to the last stable offset. The coordinator ends a transaction partition by partition: the
offsets that it committed can be stable while the journal's marker is still on its way, and the entry behind the last
stable offset. So partitions of ours are read to their high watermark, past whatever is still open there.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaTimeoutError
from aiokafka.structs import TopicPartition

from contracts.journal import (
    Delivery,
    DeliveryKey,
    HeldTime,
    HeldTimeKey,
    JournalError,
    Key,
    Newer,
    Settled,
    SettledKey,
    Start,
    StartKey,
    decode_entry,
    decode_key,
)
from service.errors import JournalUnreadableError
from service.kafka.clients import started

_POLL_MS = 200
# About 5 ms of decoding; then everybody else gets a turn.
_MAX_RECORDS = 300
# A broker that has nothing (more) for us says so after this long: where the end is, is told with the first answer.
_FETCH_WAIT_MS = 20
_STOP_S = 5.0
# A partition that yields nothing for so long is not waited for in silence: longer than any transaction stays open.
_STALLED_S = 60.0
# Of a name in a lane's reason: nobody but us writes the journal, but a reason is shown in many places.
_MOST_CHARACTERS = 100

# (topic, partition) -> where the lane began with it. The journal's partition is the topic's.
Starts = Mapping[tuple[str, int], Start]
# (topic, partition) -> how far the lane has settled it.
SettledOffsets = Mapping[tuple[str, int], Settled]


class Journal(msgspec.Struct):
    """What stands in the journal. Partitions are the journal's own, which are those of the lane's topics."""

    starts: dict[tuple[str, int], Start] = {}
    deliveries: dict[tuple[int, str], Delivery] = {}  # by (partition, id)
    held_times: dict[int, HeldTime] = {}  # by partition
    settled: dict[tuple[str, int], Settled] = {}

    def take(self, partition: int, key: bytes | None, value: bytes | None, *, starts_only: bool = False) -> None:
        """One record, in the order read. Raises JournalUnreadableError."""
        name = decode_key(key)
        match name:
            case StartKey(topic):
                _put(self.starts, (topic, partition), name, value)
            case SettledKey(topic) if not starts_only:
                _put(self.settled, (topic, partition), name, value)
            case DeliveryKey(delivery_id) if not starts_only:
                _put(self.deliveries, (partition, delivery_id), name, value)
            case HeldTimeKey() if not starts_only:
                _put(self.held_times, partition, name, value)


async def read_journal(
    connection: Mapping[str, Any], topic: str, *, own: Collection[int], others: Collection[int] = ()
) -> Journal:
    """The journal's partitions ``own`` to their very end; the starts alone of ``others``, to their last stable offset.

    Whether a topic was begun is told by whichever of its partitions was first: that needs the others too.

    Raises KafkaError (also when nothing comes any more), JournalUnreadableError.
    """
    journal = Journal()
    unread = {TopicPartition(topic, n): True for n in own} | {
        TopicPartition(topic, n): False for n in set(others) - set(own)
    }
    if not unread:
        return journal
    consumer = AIOKafkaConsumer(
        **connection,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    async with started(consumer, stop_within_s=_STOP_S):
        consumer.assign(list(unread))
        await _read_to_ends(consumer, unread, journal)
    return journal


async def _read_to_ends(consumer: AIOKafkaConsumer, unread: dict[TopicPartition, bool], journal: Journal) -> None:
    """``unread``: whether a partition is ours and read to its high watermark, as the first fetch tells it."""
    owned = dict(unread)
    ends: dict[TopicPartition, int] = {}
    loop = asyncio.get_running_loop()
    progress_at = loop.time()
    while unread:
        found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_MAX_RECORDS)
        for tp, records in found.items():
            for record in records:
                journal.take(tp.partition, record.key, record.value, starts_only=not owned[tp])
        for tp, is_own in list(unread.items()):
            end = ends.get(tp)
            if end is None:
                end = consumer.highwater(tp) if is_own else consumer.last_stable_offset(tp)
                if end is None:
                    continue
                ends[tp] = end
            if await consumer.position(tp) >= end:
                del unread[tp]
                consumer.pause(tp)
        if found:
            progress_at = loop.time()
            # Records that are at hand are returned without a pause.
            await asyncio.sleep(0)
        elif loop.time() - progress_at > _STALLED_S:
            raise KafkaTimeoutError(f"the journal cannot be read to its end: {min(unread)}")


def _put(kept: dict[Any, Any], place: object, name: Key, value: bytes | None) -> None:
    if value is None:
        kept.pop(place, None)
        return
    try:
        entry = decode_entry(name, value)
    except JournalError as error:
        raise JournalUnreadableError(f"journal: {_told(name)} cannot be read: {error}") from error
    if isinstance(entry, Newer):
        raise JournalUnreadableError(f"journal: {_told(name)} is of version {entry.version}, newer than ours")
    kept[place] = entry


def _told(name: Key) -> str:
    match name:
        case StartKey(topic):
            return f"start/{topic[:_MOST_CHARACTERS]}"
        case SettledKey(topic):
            return f"settled/{topic[:_MOST_CHARACTERS]}"
        case DeliveryKey(delivery_id):
            return f"delivery/{delivery_id[:_MOST_CHARACTERS]}"
        case HeldTimeKey():
            return "held-time"
        case _:
            return "contact"
