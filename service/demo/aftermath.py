"""What an audit does not count: why events became dead letters, with one of each to be looked at."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from aiokafka.structs import TopicPartition

from contracts.deadletters import OUTCOME, REASON
from contracts.envelope import decode
from service.lookup.scanning import reading


class DeadLetters(msgspec.Struct, frozen=True):
    """Of one lane: how many by outcome and reason, and the id of one event of each outcome."""

    counts: Counter[tuple[str, str]]
    event_ids: Mapping[str, str]


async def dead_letters(connection: Mapping[str, Any], topics: Mapping[str, str]) -> dict[str, DeadLetters]:
    """The dead letters of each lane, whose topics are given. ``connection`` are a client's arguments."""
    found: dict[str, DeadLetters] = {}
    async with reading(connection) as reader:
        partitions = await reader.partitions(set(topics.values()))
        for lane, topic in topics.items():
            counts: Counter[tuple[str, str]] = Counter()
            event_ids: dict[str, str] = {}
            spans = await reader.spans([TopicPartition(topic, number) for number in range(partitions[topic])])
            async for _, records in reader.scan(spans):
                for record in records:
                    headers = {name: value.decode() for name, value in record.headers}
                    counts[headers[OUTCOME], headers[REASON]] += 1
                    event_id = decode(record.value, record.headers).id
                    if event_id is not None:
                        event_ids.setdefault(headers[OUTCOME], event_id)
            found[lane] = DeadLetters(counts, event_ids)
    return found
