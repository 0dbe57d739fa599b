"""Committed offsets, read stable and with their metadata; the ends of partitions.

aiokafka's own ``committed()`` takes an answer with a top-level error (a loading coordinator) for "none", which resets
the consumer, and drops the metadata: neither may happen here.
"""

import asyncio
from collections.abc import Collection

import msgspec
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from service.errors import RefusedError
from service.kafka.codes import REFUSED, name_of, refusal_in
from service.kafka.requests import OffsetFetch


class CommittedOffset(msgspec.Struct, frozen=True):
    """A committed offset and what travels with it."""

    offset: int
    metadata: str


async def read_committed_offsets(
    client: AIOKafkaClient,
    group_id: str,
    partitions: Collection[TopicPartition],
    *,
    backoff_s: float = 0.05,
) -> dict[TopicPartition, CommittedOffset]:
    """The stable committed offsets; a partition without one is absent.

    Asks until every partition has been answered: pending commits (88), a moved or loading coordinator (14, 15, 16)
    and lost connections are asked again, never taken as "none". The caller bounds the time. Raises RefusedError.
    """
    found: dict[TopicPartition, CommittedOffset] = {}
    missing = set(partitions)
    coordinator: int | None = None
    while missing:
        try:
            if coordinator is None:
                coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group_id)
            answer = await client.send(coordinator, _request(group_id, missing), group=ConnectionGroup.COORDINATION)
        except (KafkaError, AssertionError) as error:
            if (refused := refusal_in(error)) is not None:
                raise RefusedError(f"group {group_id}", name_of(refused)) from error
            coordinator = None
            await asyncio.sleep(backoff_s)
            continue
        code = answer.error_code
        if not code:
            for topic, parts, _ in answer.topics:
                for index, offset, _, metadata, part_code, _ in parts:
                    tp = TopicPartition(topic, index)
                    if part_code:
                        # A refusal is said, whatever the partitions behind it answer.
                        code = code if code in REFUSED else part_code
                    elif tp in missing:
                        missing.discard(tp)
                        if offset >= 0:
                            found[tp] = CommittedOffset(offset, metadata or "")
        if code in REFUSED:
            raise RefusedError(f"group {group_id}", name_of(code))
        if missing:
            coordinator = None if code else coordinator
            await asyncio.sleep(backoff_s)
    return found


def _request(group_id: str, partitions: Collection[TopicPartition]) -> OffsetFetch:
    topics: dict[str, list[int]] = {}
    for tp in sorted(partitions):
        topics.setdefault(tp.topic, []).append(tp.partition)
    return OffsetFetch(group_id=group_id, topics=list(topics.items()), require_stable=True)
