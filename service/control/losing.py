"""``lanes accept-loss``: what a lane has lost, looked at as the lane does, and the orders that give it up."""

from collections.abc import Mapping, Sequence

import msgspec
from aiokafka.structs import TopicPartition

from contracts.control import Key, Loss, LossKey, Order
from service.control.desk import Desk
from service.journal.reading import Starts
from service.kafka.names import LaneNames
from service.kafka.offsets import CommittedOffset


class LostRange(msgspec.Struct, frozen=True):
    """Offsets ``from_offset`` to before ``to_offset`` are gone; or, ``offsets_lost``, nobody knows how far the lane had
    come between them."""

    topic: str
    partition: int
    from_offset: int
    to_offset: int
    offsets_lost: bool


async def lost_ranges(desk: Desk, names: LaneNames, topics: Sequence[str]) -> list[LostRange]:
    """What the lane holds for, or would hold for if it ran."""
    tps = await desk.partitions([*topics, names.replay])
    committed = await desk.committed(names, tps)
    first = await desk.first(tps)
    starts = (await desk.journal(names.journal)).starts
    return found_lost(tps, committed, first, starts)


def found_lost(
    tps: frozenset[TopicPartition],
    committed: Mapping[TopicPartition, CommittedOffset],
    first: Mapping[TopicPartition, int],
    starts: Starts,
) -> list[LostRange]:
    """Pure: from the group's offsets, the first ones that exist, and where the lane once began."""
    found: list[LostRange] = []
    for tp in sorted(tps):
        at, start = committed.get(tp), starts.get((tp.topic, tp.partition))
        if at is not None and at.offset < first[tp]:
            found.append(LostRange(tp.topic, tp.partition, at.offset, first[tp], False))
        elif at is None and start is not None:
            begun = max([start.first_offset or 0, *(lost.to_offset for lost in start.lost)])
            found.append(LostRange(tp.topic, tp.partition, min(begun, first[tp]), first[tp], True))
    return found


def orders_for(lane: str, ranges: Sequence[LostRange], *, by: str, why: str, at_ms: int) -> dict[Key, Order]:
    """The orders that give them up."""
    return {
        LossKey(lane, each.topic, each.partition): Loss(
            each.from_offset, each.to_offset, by, why, at_ms, each.offsets_lost
        )
        for each in ranges
    }
