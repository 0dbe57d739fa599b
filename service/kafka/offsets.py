"""Committed offsets, read stable and with their metadata; the ends of partitions.

aiokafka's own ``committed()`` takes an answer with a top-level error (a loading coordinator) for "none", which resets
the consumer, and drops the metadata: neither may happen here.
"""

import asyncio
from collections.abc import Collection
from typing import Any

import msgspec
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from service.errors import RefusedError
from service.kafka.codes import REFUSED, Code, name_of, refusal_in
from service.kafka.requests import OffsetFetch


class CommittedOffset(msgspec.Struct, frozen=True):
    """A committed offset and what travels with it."""

    offset: int
    metadata: str


class ToldOffsets(msgspec.Struct, frozen=True):
    """``offsets``: what the group told; a partition without one is absent. ``pending``: partitions of which it calls a
    commit undecided, and told what was committed before."""

    offsets: dict[TopicPartition, CommittedOffset]
    pending: frozenset[TopicPartition] = frozenset()


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
    reader = _Reader(client, group_id, partitions, backoff_s)
    await reader.read(stable=True)
    return reader.found


async def read_told_offsets(
    client: AIOKafkaClient,
    group_id: str,
    partitions: Collection[TopicPartition],
    *,
    within_s: float,
    backoff_s: float = 0.05,
) -> ToldOffsets:
    """The stable committed offsets, but where all that is missing behind ``within_s`` is called pending: those as they
    were before, and named. Only the lane's journal tells then whether they hold (``service/journal/settled.py``).

    Raises TimeoutError (behind ``within_s`` something else is missing, or as much again has passed), RefusedError.
    """
    reader = _Reader(client, group_id, partitions, backoff_s)
    try:
        async with asyncio.timeout(within_s):
            await reader.read(stable=True)
    except TimeoutError:
        pending = frozenset(reader.missing)
        if not pending <= reader.pending:
            raise
        async with asyncio.timeout(within_s):
            await reader.read(stable=False)
        return ToldOffsets(reader.found, pending)
    return ToldOffsets(reader.found)


class _Reader:
    """Asks a group's coordinator until each partition has been answered."""

    def __init__(
        self, client: AIOKafkaClient, group_id: str, partitions: Collection[TopicPartition], backoff_s: float
    ) -> None:
        self._client = client
        self._group_id = group_id
        self._backoff_s = backoff_s
        self.found: dict[TopicPartition, CommittedOffset] = {}
        self.missing = set(partitions)
        # Of the missing ones, those whose last answer was that a commit is undecided.
        self.pending: set[TopicPartition] = set()

    async def read(self, *, stable: bool) -> None:
        """Until nothing is missing. Raises RefusedError."""
        coordinator: int | None = None
        while self.missing:
            try:
                if coordinator is None:
                    coordinator = await self._client.coordinator_lookup(CoordinationType.GROUP, self._group_id)
                request = _request(self._group_id, self.missing, stable=stable)
                answer = await self._client.send(coordinator, request, group=ConnectionGroup.COORDINATION)
            except (KafkaError, AssertionError) as error:
                if (refused := refusal_in(error)) is not None:
                    raise RefusedError(f"group {self._group_id}", name_of(refused)) from error
                coordinator = None
                self.pending.clear()
                await asyncio.sleep(self._backoff_s)
                continue
            code = self._take(answer)
            if code in REFUSED:
                raise RefusedError(f"group {self._group_id}", name_of(code))
            if self.missing:
                coordinator = None if code else coordinator
                await asyncio.sleep(self._backoff_s)

    def _take(self, answer: Any) -> int:
        """What was answered; the code of a fault, a refusal before any other."""
        code: int = answer.error_code
        self.pending.clear()
        if code:
            return code
        for topic, parts, _ in answer.topics:
            for index, offset, _, metadata, part_code, _ in parts:
                tp = TopicPartition(topic, index)
                if part_code:
                    # A refusal is said, whatever the partitions behind it answer.
                    code = code if code in REFUSED else part_code
                    if part_code == Code.UNSTABLE_OFFSET_COMMIT:
                        self.pending.add(tp)
                elif tp in self.missing:
                    self.missing.discard(tp)
                    if offset >= 0:
                        self.found[tp] = CommittedOffset(offset, metadata or "")
        return code


def _request(group_id: str, partitions: Collection[TopicPartition], *, stable: bool) -> OffsetFetch:
    topics: dict[str, list[int]] = {}
    for tp in sorted(partitions):
        topics.setdefault(tp.topic, []).append(tp.partition)
    return OffsetFetch(group_id=group_id, topics=list(topics.items()), require_stable=stable)
