"""Reads the records of an import that other members own: from the source, without the group, and plans them as their
owners do. What retention or compaction has taken is told, never passed over."""

import asyncio
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, Protocol

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from service.clock import Clock
from service.dedupe.readback import ReadBack, Records, Stretch
from service.imports.torn import Offsets, Share
from service.intake.assignment import Assignment, PartitionState
from service.intake.item import Item, ReadRecord, item_of
from service.intake.planner import Planner
from service.offsets.ledger import PartitionLedger
from service.turns import Turns

_READ_WITHIN_S = 30.0
_AT_ONCE = 50


class ReadsOthers(Protocol):
    """Where the records come from that others own."""

    async def read(self, share: Share, assignment: Assignment) -> list[Item] | None:
        """The events, planned, nobody's to settle here; None where some of the records are no more. Raises KafkaError,
        TimeoutError."""


class OthersRecords:
    """Through a consumer of its own for as long as it takes."""

    def __init__(
        self, connection: Mapping[str, Any], client: AIOKafkaClient, planner: Planner, replay: str, clock: Clock
    ) -> None:
        """``replay``: the topic whose records are replays."""
        self._connection = connection
        self._client = client
        self._planner = planner
        self._replay = replay
        self._clock = clock

    async def read(self, share: Share, assignment: Assignment) -> list[Item] | None:
        """As :class:`ReadsOthers` says."""
        found: dict[TopicPartition, list[ReadRecord]] = {tp: [] for tp in share.others}

        def take(tp: TopicPartition, records: Records) -> None:
            found[tp] += [record for record in records if _is_named(share.others[tp], record.offset)]

        stretches = {tp: Stretch(ranges[0][0], ranges[-1][1]) for tp, ranges in share.others.items()}
        try:
            async with asyncio.timeout(_READ_WITHIN_S):
                async with ReadBack(self._connection, self._client, all_or_none=True) as reader:
                    await reader.read(stretches, take)
        except OffsetOutOfRangeError:
            return None
        if sum(map(len, found.values())) < share.others_count:
            return None
        return await self._planned(found, assignment)

    async def _planned(
        self, found: Mapping[TopicPartition, Sequence[ReadRecord]], assignment: Assignment
    ) -> list[Item]:
        turns, now_ms = Turns(self._clock), self._clock.wall_ms()
        items: list[Item] = []
        for tp, records in found.items():
            # No state of the assignment's: nothing is settled through it, and no window remembers what it has.
            state = PartitionState(assignment, tp, PartitionLedger(0), is_replay=tp.topic == self._replay)
            for record in records:
                item = item_of(state, record, record.offset, now_ms)
                self._planner.plan(item)
                items.append(item)
                if not len(items) % _AT_ONCE:
                    await turns.rest()
        return items


def _is_named(ranges: Sequence[Offsets], offset: int) -> bool:
    place = bisect_right(ranges, (offset, inf)) - 1
    return place >= 0 and offset < ranges[place][1]
