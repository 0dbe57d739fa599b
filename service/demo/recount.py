"""Counts again, from the topics alone, what became of each event: nothing of the service's own counts is believed.

Source offsets are compared with the results that name them, as a ``read_committed`` reader sees both.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from contracts.results import SyncResult, decode_result

# Topic, partition, offset.
Place = tuple[str, int, int]
_EXAMPLES = 3
_POLL_MS = 500


class LaneCount(msgspec.Struct):
    """What the topics say of one lane. ``misplaced`` are dead letters without their result, or results that
    promise a dead letter which is not there, or results of no event."""

    events: int
    outcomes: Counter[str]
    dead_letters: Counter[tuple[str, str]]  # by outcome and reason
    missing: list[Place]
    duplicate: list[Place]
    misplaced: int
    event_ids: Mapping[str, str]  # of one event of each outcome

    @property
    def proven(self) -> bool:
        """Whether each event has exactly one result, and each dead letter is there."""
        return not (self.missing or self.duplicate or self.misplaced)

    def examples(self) -> list[str]:
        """A few places where something is wrong."""
        told = [("missing", place) for place in self.missing[:_EXAMPLES]]
        told += [("duplicate", place) for place in self.duplicate[:_EXAMPLES]]
        return [f"{what}: {topic}-{partition} offset {offset}" for what, (topic, partition, offset) in told]


async def recount(
    connection: Mapping[str, Any], sources: Mapping[str, Sequence[str]], results: str, dead_letters: Mapping[str, str]
) -> dict[str, LaneCount]:
    """The counts of each lane; ``sources`` and ``dead_letters`` are the topics by lane. ``connection`` are a consumer's
    arguments."""
    topics = sorted({topic for of_lane in sources.values() for topic in of_lane})
    events = {place async for place, _, _ in read_all(connection, topics)}
    told: dict[str, list[SyncResult]] = {lane: [] for lane in dead_letters}
    async for _, value, _ in read_all(connection, [results]):
        result = decode_result(value or b"")
        told[result.data.lane].append(result)
    dead: dict[str, list[Mapping[str, str]]] = {}
    for lane, topic in dead_letters.items():
        dead[lane] = [headers async for _, _, headers in read_all(connection, [topic])]
    return {
        lane: count_lane({place for place in events if place[0] in sources[lane]}, told[lane], dead[lane])
        for lane in dead_letters
    }


def count_lane(
    events: set[Place], results: Sequence[SyncResult], dead_letters: Sequence[Mapping[str, str]]
) -> LaneCount:
    """Compare the events with the results of a lane, and those with its dead letters' headers."""
    seen: Counter[Place] = Counter()
    outcomes: Counter[str] = Counter()
    promised: Counter[str] = Counter()
    event_ids: dict[str, str] = {}
    for result in results:
        origin = result.data.origin
        seen[origin.topic, origin.partition, origin.offset] += 1
        outcomes[result.data.outcome.value] += 1
        if result.data.event is not None:
            event_ids.setdefault(result.data.outcome.value, result.data.event.id)
        if result.data.dead_letter:
            promised[result.id] += 1
    found = Counter(headers.get("fanline-result-id", "") for headers in dead_letters)
    return LaneCount(
        events=len(events),
        outcomes=outcomes,
        dead_letters=Counter((each["fanline-outcome"], each["fanline-reason"]) for each in dead_letters),
        missing=sorted(events - seen.keys()),
        duplicate=sorted(place for place, count in seen.items() if count > 1),
        misplaced=((promised - found) + (found - promised)).total() + len(seen.keys() - events),
        event_ids=event_ids,
    )


async def read_all(
    connection: Mapping[str, Any], topics: Sequence[str]
) -> AsyncIterator[tuple[Place, bytes | None, Mapping[str, str]]]:
    """Every committed record of the topics as of now: its place, value and headers."""
    parts = await _partitions(connection, topics)
    consumer = AIOKafkaConsumer(
        **connection, isolation_level="read_committed", auto_offset_reset="none", enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign(parts)
        first, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
        unread = {tp for tp in parts if first[tp] < ends[tp]}
        for tp in parts:
            consumer.seek(tp, first[tp])
        while unread:
            for tp, records in (await consumer.getmany(*unread, timeout_ms=_POLL_MS)).items():
                for record in records:
                    if record.offset < ends[tp]:
                        headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}
                        yield (tp.topic, tp.partition, record.offset), record.value, headers
            # Markers at the end are passed without a record.
            unread = {tp for tp in unread if await consumer.position(tp) < ends[tp]}
    finally:
        await consumer.stop()


async def _partitions(connection: Mapping[str, Any], topics: Sequence[str]) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(**connection)
    await admin.start()
    try:
        described = await admin.describe_topics(list(topics))
    finally:
        await admin.close()
    return [TopicPartition(each["topic"], part["partition"]) for each in described for part in each["partitions"]]
