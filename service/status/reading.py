"""Where a lane stands in each of its partitions: position, commit, end."""

import asyncio
from math import inf

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from service.intake.assignment import Assignment
from service.intake.item import Item
from service.lane import Lane

# How long the consumer's answer may take; without one, what is known already has to do.
_ASK_S = 1.0
# The ends of partitions that are not fetched from at the moment are asked for at most this often.
_ASK_EVERY_S = 2.0


class Reading(msgspec.Struct, gc=False):
    """One partition as it is now; what is not known is None. Offsets as in ``PartitionStatus``."""

    tp: TopicPartition
    position: int | None = None
    committed: int | None = None
    end: int | None = None
    unfinished: int = 0
    oldest: Item | None = None

    @property
    def lag(self) -> int | None:
        """Offsets from the position to the end."""
        if self.position is None or self.end is None:
            return None
        return max(0, self.end - self.position)


class Readings:
    """Reads the partitions of one lane whenever somebody asks.

    The ends come with the fetches of the consumer. A partition that is paused (the buffer is full) is not
    fetched from, and its end would stand still just when the lag grows: of those the broker is asked.
    """

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self._asked: dict[TopicPartition, int] = {}
        self._asked_for: Assignment | None = None
        self._asked_at = -inf
        self._asking = asyncio.Lock()

    async def read(self, now: float) -> list[Reading]:
        """Every assigned partition in order. ``now`` is monotonic, in seconds. Never raises for Kafka's sake."""
        assignment, consumer = self.lane.assignment, self.lane.consumer
        if assignment is None or consumer is None or not assignment.active:
            return []
        await self._ask(assignment, consumer, now)
        if not assignment.active:
            return []
        return [self._partition(assignment, consumer, tp) for tp in sorted(assignment.tps)]

    def _partition(self, assignment: Assignment, consumer: AIOKafkaConsumer, tp: TopicPartition) -> Reading:
        end = _known_end(consumer, tp)
        asked = self._asked.get(tp)
        if asked is not None:
            end = max(end or 0, asked)
        state = assignment.partitions.get(tp)
        if state is None:
            return Reading(tp, end=end)
        return Reading(
            tp,
            position=state.ledger.position,
            committed=state.committed,
            end=end,
            unfinished=len(state.items),
            # What was read again comes behind what was read later: the lowest offset is what the commit waits for.
            oldest=state.items.get(state.ledger.low) or next(iter(state.items.values()), None),
        )

    async def _ask(self, assignment: Assignment, consumer: AIOKafkaConsumer, now: float) -> None:
        """Ask the broker for the ends that no fetch tells of; one at a time, however many ask us."""
        async with self._asking:
            if self._asked_for is not assignment:
                self._asked_for, self._asked, self._asked_at = assignment, {}, -inf
            if now - self._asked_at < _ASK_EVERY_S:
                return
            try:
                paused = consumer.paused()
                unknown = [tp for tp in assignment.tps if tp in paused or _known_end(consumer, tp) is None]
                if not unknown:
                    return
                self._asked_at = now
                async with asyncio.timeout(_ASK_S):
                    self._asked.update(await consumer.end_offsets(unknown))
            except (KafkaError, TimeoutError, AssertionError):
                return  # unknown, or known as of the last time


def _known_end(consumer: AIOKafkaConsumer, tp: TopicPartition) -> int | None:
    """Behind the last record that may be read, as the last fetch told; None before the first one."""
    try:
        stable = consumer.last_stable_offset(tp)
    except (AssertionError, KeyError, AttributeError):
        return None  # a rebalance is taking the partition away at this moment
    return stable if stable is not None and stable >= 0 else None
