"""Where reading begins: after the committed offset, or, where there is none, where the lane's ``start`` says.

A committed offset that retention has passed is a loss, and said with its exact offsets. So is one behind the end of its
log: the topic was made anew, or its newest records were lost with a broker.
"""

from collections.abc import Mapping

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from service.config import Start
from service.journal.reading import Starts
from service.kafka.offsets import CommittedOffset
from service.offsets.metadata import decode_all as decode_metadata
from service.offsets.metadata import encode as encode_metadata


class Begin(msgspec.Struct, frozen=True):
    """Where one partition is read from. ``lost`` are offsets that retention removed before they were read.

    ``offsets_lost``: the lane began with the partition once, and its committed offset is gone. ``first`` is the first
    offset that exists. ``behind_end``: where the log ends, if that is before the committed offset.
    """

    offset: int
    metadata: str
    fresh: bool = False
    lost: tuple[int, int] | None = None
    offsets_lost: bool = False
    first: int = 0
    behind_end: int | None = None


async def begins(
    consumer: AIOKafkaConsumer,
    partitions: frozenset[TopicPartition],
    committed: Mapping[TopicPartition, CommittedOffset],
    start: Start,
    replay_topic: str,
    begun: Starts,
) -> dict[TopicPartition, Begin]:
    """Where each partition begins. Raises KafkaError.

    ``begun`` is what the journal says of earlier beginnings: ``start`` holds for the partitions that a topic had when
    the lane began with it; one that was added later starts at its beginning, or what was published to it first is lost.
    """
    first = await consumer.beginning_offsets(list(partitions))
    known = [tp for tp in partitions if tp in committed]
    ends = await consumer.end_offsets(known) if known else {}
    fresh = [tp for tp in partitions if tp not in committed]
    by_policy = [tp for tp in fresh if tp.topic != replay_topic and not _added_later(tp, begun)]
    chosen = await _chosen(consumer, by_policy, start, first)
    result: dict[TopicPartition, Begin] = {}
    for tp in partitions:
        found = committed.get(tp)
        if found is None:
            # A replay topic is the lane's own: nothing in it is older than the lane.
            lost = (tp.topic, tp.partition) in begun
            result[tp] = Begin(chosen.get(tp, first[tp]), "", fresh=True, offsets_lost=lost, first=first[tp])
        elif found.offset < first[tp]:
            result[tp] = _behind(found, first[tp])
        elif found.offset > ends[tp]:
            result[tp] = Begin(found.offset, found.metadata, first=first[tp], behind_end=ends[tp])
        else:
            result[tp] = Begin(found.offset, found.metadata, first=first[tp])
    return result


def _behind(found: CommittedOffset, first: int) -> Begin:
    """What retention removed lies before ``first``. What had finished beyond the commit is neither lost nor read again,
    as far as it reaches. Deferred keys stay deferred: of what lies in the ranges, their records alone are read."""
    finished, deferred, _ = decode_metadata(found.offset, found.metadata)
    if deferred:
        left = [(max(begin, first), end) for begin, end in finished if end > first]
        put_off = {digest: max(since, first) for digest, since in deferred.items()}
        return Begin(first, encode_metadata(first, left, put_off), lost=(found.offset, first), first=first)
    offset = next((end for begin, end in finished if begin <= first < end), first)
    lost_to = next((begin for begin, end in finished if begin < first <= end), first)
    later = [(begin, end) for begin, end in finished if begin > offset]
    return Begin(offset, encode_metadata(offset, later), lost=(found.offset, lost_to), first=first)


def _added_later(tp: TopicPartition, begun: Starts) -> bool:
    """Whether the topic had fewer partitions when the lane began with it."""
    earliest = min(
        (entry for (topic, _), entry in begun.items() if topic == tp.topic),
        key=lambda entry: entry.resolved_at_ms,
        default=None,
    )
    return earliest is not None and tp.partition >= earliest.partitions


async def _chosen(
    consumer: AIOKafkaConsumer, fresh: list[TopicPartition], start: Start, first: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    if not fresh:
        return {}
    match start.policy:
        case "earliest":
            return {tp: first[tp] for tp in fresh}
        case "latest":
            return dict(await consumer.end_offsets(fresh))
        case "time":
            assert start.time_ms is not None
            found = await consumer.offsets_for_times(dict.fromkeys(fresh, start.time_ms))
            ends = await consumer.end_offsets([tp for tp in fresh if found.get(tp) is None])
            return {tp: found[tp].offset if found.get(tp) is not None else ends[tp] for tp in fresh}
