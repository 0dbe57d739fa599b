"""What of a lane's sources is lost, and whether it may go on behind it: pure.

What retention removed unread is gone whatever the lane does; that it is passed is an operator's decision, or the
configuration's (`on_gap: continue`). Either way the journal says which offsets, by whom and when.
"""

from collections.abc import Callable, Mapping

import msgspec
from aiokafka.structs import TopicPartition

from contracts.control import Loss
from contracts.journal import Lost, Start
from service.intake.starts import Begin
from service.journal.reading import Starts

BY_CONFIGURATION = "on_gap: continue"


class Judged(msgspec.Struct, frozen=True):
    """Where the partitions begin now, what of them is passed, and why the lane holds, if it does."""

    begins: dict[TopicPartition, Begin]
    passed: dict[TopicPartition, Lost]
    gap: str | None


def judge(
    found: Mapping[TopicPartition, Begin],
    accepted: Callable[[TopicPartition], Loss | None],
    starts: Starts,
    *,
    hold: bool,
    now_ms: int,
) -> Judged:
    """``accepted`` is what an operator has given up of a partition, ``starts`` what the journal says of it; ``hold``
    is the lane's `on_gap`. A range that has grown since it was given up is not: what is missing now is another."""
    begins, passed = dict(found), dict[TopicPartition, Lost]()
    ranges: list[str] = []
    forgotten: list[str] = []
    behind: list[str] = []
    for tp, begin in sorted(found.items()):
        loss = accepted(tp)
        if begin.offsets_lost:
            if loss is not None and _names_forgotten(loss, begin, starts.get((tp.topic, tp.partition))):
                begins[tp] = Begin(loss.to_offset, "", first=begin.first)
                passed[tp] = Lost(loss.from_offset, loss.to_offset, loss.by, loss.at_ms)
            elif hold:
                forgotten.append(f"{tp.topic}-{tp.partition}")
        elif begin.behind_end is not None:
            # Whatever `on_gap` is: from the new log's first record everything could be a repeat, from its end a loss.
            ends = f"{tp.topic}-{tp.partition} ends at {begin.behind_end}, before the committed offset {begin.offset}"
            behind.append(ends)
        elif begin.lost is not None:
            first, end = begin.lost
            if loss is not None and _covers(loss, first, end):
                passed[tp] = Lost(first, end, loss.by, loss.at_ms)
            elif hold:
                ranges.append(f"{tp.topic}-{tp.partition} offsets {first} to {end - 1}")
            else:
                passed[tp] = Lost(first, end, BY_CONFIGURATION, now_ms)
    return Judged(begins, passed, _reason(ranges, forgotten, behind))


def _covers(loss: Loss, first: int, end: int) -> bool:
    return not loss.offsets_lost and loss.from_offset <= first and end <= loss.to_offset


def _names_forgotten(loss: Loss, begin: Begin, start: Start | None) -> bool:
    """Whether the order is for these lost offsets: not used up by earlier ones, and nothing more has gone since."""
    used = start is not None and any(lost.at_ms == loss.at_ms for lost in start.lost)
    return loss.offsets_lost and not used and loss.to_offset == begin.first


def _reason(ranges: list[str], forgotten: list[str], behind: list[str]) -> str | None:
    parts = [f"offsets of {', '.join(forgotten)}"] if forgotten else []
    parts += [", ".join(ranges)] if ranges else []
    parts += [f"{', '.join(behind)} (was the topic made anew? `fanline lanes seek` moves the lane)"] if behind else []
    return "lost: " + "; ".join(parts) if parts else None
