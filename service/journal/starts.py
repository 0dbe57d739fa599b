"""Where a lane once began: its ``start/`` records, read back from every partition of the journal."""

from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from contracts.journal import JournalError, Newer, Start, StartKey, decode_entry, decode_key
from service.errors import JournalUnreadableError

_POLL_MS = 500

# (topic, partition) -> where the lane began with it. The journal's partition is the topic's.
Starts = Mapping[tuple[str, int], Start]


async def read_starts(connection: Mapping[str, Any], journal: str, partitions: int) -> Starts:
    """All start records, as a reader of committed records finds them from beginning to end.

    Not only of the partitions assigned here: whether a topic was begun is told by whichever partition was first.
    Raises KafkaError, JournalUnreadableError.
    """
    tps = [TopicPartition(journal, n) for n in range(partitions)]
    found: dict[tuple[str, int], Start] = {}
    consumer = AIOKafkaConsumer(
        **connection,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        while [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
            for tp, records in (await consumer.getmany(*tps, timeout_ms=_POLL_MS)).items():
                for record in records:
                    _take(found, tp.partition, record.key, record.value)
    finally:
        await consumer.stop()
    return found


def _take(found: dict[tuple[str, int], Start], partition: int, key: bytes | None, value: bytes | None) -> None:
    name = decode_key(key)
    if not isinstance(name, StartKey):
        return
    if value is None:
        found.pop((name.topic, partition), None)
        return
    try:
        entry = decode_entry(name, value)
    except JournalError as error:
        raise JournalUnreadableError(f"journal: start/{name.topic} cannot be read: {error}") from error
    if isinstance(entry, Newer):
        raise JournalUnreadableError(f"journal: start/{name.topic} is of version {entry.version}, newer than ours")
    assert isinstance(entry, Start)
    found[name.topic, partition] = entry
