"""``lanes seek`` and ``lanes copy``: where a lane reads that no process runs, moved or taken over. Rules, then drivers.

A move is written into the journal in the transaction that commits it: what is passed over counts as lost, and said so,
and a lane that reads what it had lost has it no more. Whoever reads the offsets finds the journal in agreement: a
command that died between the two would leave events that the audit takes for lost, or looks for in vain.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from aiokafka.structs import TopicPartition

from contracts.journal import DeliveryKey, Entry, HeldTimeKey, Key, Lost, Start, StartKey
from contracts.timestamps import rfc3339_ms
from service.control.desk import Desk, Signature
from service.control.ordering import OrderError
from service.journal.reading import Journal, Starts
from service.journal.settled import trusted
from service.kafka.names import LaneNames
from service.kafka.offsets import CommittedOffset, ToldOffsets


class Target(msgspec.Struct, frozen=True):
    """Where to: one policy for all partitions, or ``offset`` of some of them."""

    policy: Literal["earliest", "latest", "time", "offset"]
    time_ms: int | None = None
    offsets: Mapping[TopicPartition, int] | None = None


class Move(msgspec.Struct, frozen=True):
    """One partition of a lane; ``before`` is None where the group had no offset."""

    topic: str
    partition: int
    before: int | None
    after: int

    @property
    def tp(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)


async def seek(
    desk: Desk, names: LaneNames, topics: Sequence[str], to: Target, *, by: str, why: str, now_ms: int
) -> list[Move]:
    """Move a lane that nobody runs. Raises GroupBusyError, OrderError, RefusedError, JournalUnreadableError."""
    await desk.refuse_members(names.group)
    tps = await desk.partitions(topics)
    goals = await _goals(desk, tps, to)
    committed = await desk.committed(names, list(goals))
    moves = [
        Move(tp.topic, tp.partition, None if (at := committed.get(tp)) is None else at.offset, after)
        for tp, after in sorted(goals.items())
    ]
    counts = {topic: sum(tp.topic == topic for tp in tps) for topic in topics}
    starts = (await desk.journal(names.journal)).starts
    entries = [
        (move.partition, StartKey(move.topic), moved(move, starts, to, counts, by=by, now_ms=now_ms)) for move in moves
    ]
    offsets = {move.tp: CommittedOffset(move.after, "") for move in moves}
    await desk.move(names, entries, offsets, Signature(by, why, now_ms))
    return moves


async def _goals(desk: Desk, tps: frozenset[TopicPartition], to: Target) -> dict[TopicPartition, int]:
    first, ends = await desk.first(tps), await desk.ends(tps)
    match to.policy:
        case "earliest":
            return first
        case "latest":
            return ends
        case "time":
            assert to.time_ms is not None
            return await desk.at_time(tps, to.time_ms)
        case "offset":
            goals = dict(to.offsets or {})
            for tp, offset in goals.items():
                if tp not in tps:
                    raise OrderError(f"--to {tp.topic}:{tp.partition}:{offset}: the lane reads no such partition")
                if not first[tp] <= offset <= ends[tp]:
                    there = f"the partition has {first[tp]} to {ends[tp]}, its end"
                    raise OrderError(f"--to {tp.topic}:{tp.partition}:{offset}: there is no such offset; {there}")
            return goals


def moved(move: Move, starts: Starts, to: Target, counts: Mapping[str, int], *, by: str, now_ms: int) -> Start:
    """What the journal says of a partition once it has been moved."""
    before = starts.get((move.topic, move.partition))
    if before is None:
        policy = rfc3339_ms(to.time_ms) if to.time_ms is not None else to.policy
        return Start(policy, now_ms, max(1, counts[move.topic]), move.after)
    first = before.first_offset
    if first is None or move.after < first:
        first = move.after
    lost = [cut for each in before.lost if (cut := _before(each, move.after)) is not None]
    since = move.before if move.before is not None else before.first_offset
    if since is not None and since < move.after:
        lost.append(Lost(since, move.after, by, now_ms))
    return msgspec.structs.replace(before, first_offset=first, lost=tuple(lost))


def _before(lost: Lost, offset: int) -> Lost | None:
    """What of a lost range is not read again from ``offset`` on."""
    if lost.from_offset >= offset:
        return None
    return msgspec.structs.replace(lost, to_offset=min(lost.to_offset, offset))


class Copied(msgspec.Struct, frozen=True):
    """What a lane took over: offsets, how many with finished events beyond them, and what of the journal."""

    moves: list[Move]
    with_metadata: int
    deliveries: int
    not_copied: list[str]  # partitions of the other lane that this one does not read


async def copy(
    desk: Desk,
    old: LaneNames,
    new: LaneNames,
    topics: Sequence[str],
    *,
    deliveries: bool,
    by: str,
    why: str,
    now_ms: int,
) -> Copied:
    """Begin ``new`` where ``old`` stopped; nobody may run either. ``deliveries``: what the old one had begun is taken
    over too, because it will never run again.

    Raises GroupBusyError, OrderError, RefusedError, JournalUnreadableError.
    """
    await desk.refuse_members(old.group)
    await desk.refuse_members(new.group)
    tps = await desk.partitions(topics)
    committed = await desk.committed(old, tps)
    if not committed:
        raise OrderError(f"group {old.group} has no offsets in {', '.join(topics)}: is that the lane's old name?")
    there = await desk.committed(new, tps)
    if any(at != committed.get(tp) for tp, at in there.items()):
        raise OrderError(
            f"group {new.group} has begun already; `fanline lanes seek` moves it, a copy would hide events"
        )
    if left_behind := await desk.unfinished(old, old.replay):
        raise OrderError(
            f"topic {old.replay} has {left_behind} replayed events that {old.group} has not ended: {new.group} would "
            "never read them; run the old lane until they are done, then copy"
        )
    journal = await desk.journal(old.journal)
    committed = trusted(ToldOffsets(committed), journal.settled, tps).offsets
    entries = taken_over(journal, tps, deliveries=deliveries)
    wide = {tp.partition for tp in await desk.partitions([new.journal])}
    if any(partition not in wide for partition, _, _ in entries):
        raise OrderError(
            f"topic {new.journal} has fewer partitions than {old.journal}; `fanline topics ensure` says more"
        )
    await desk.move(new, entries, committed, Signature(by, why, now_ms))
    moves = [Move(tp.topic, tp.partition, None, at.offset) for tp, at in sorted(committed.items())]
    left = [f"{topic}-{partition}" for topic, partition in sorted(journal.starts) if topic not in topics]
    began = sum(isinstance(key, DeliveryKey) for _, key, _ in entries)
    return Copied(moves, sum(bool(at.metadata) for at in committed.values()), began, left)


def taken_over(journal: Journal, tps: frozenset[TopicPartition], *, deliveries: bool) -> list[tuple[int, Key, Entry]]:
    """The entries that hold for the new name too: where it began and what it lost, time in which it was held, and
    (``deliveries``) what may not be repeated blindly. Contacts with dead letters stay with the dead letters."""
    partitions = {tp.partition for tp in tps}
    entries: list[tuple[int, Key, Entry]] = [
        (partition, StartKey(topic), entry)
        for (topic, partition), entry in journal.starts.items()
        if TopicPartition(topic, partition) in tps
    ]
    entries += [(n, HeldTimeKey(), entry) for n, entry in journal.held_times.items() if n in partitions]
    if deliveries:
        for (n, name), entry in journal.deliveries.items():
            # What was begun for the old replay topic stays there: the new lane does not read it.
            ranges = {topic: of for topic, of in entry.ranges.items() if any(tp.topic == topic for tp in tps)}
            if ranges and n in partitions:
                entries.append((n, DeliveryKey(name), msgspec.structs.replace(entry, ranges=ranges)))
    return entries
