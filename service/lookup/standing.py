"""How one record stands in one lane, from all that is known of both. Pure.

What is settled has a result, and that alone is believed of its end. What is not settled is told by the process that
has its partition; where none tells, by the group's committed offset. Whoever gathers the facts reads offsets and
reports first and the newest results last: then nothing that was settled meanwhile is called unfinished.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec
from aiokafka.structs import TopicPartition

from contracts.deadletters import DeadLetter, Position
from contracts.journal import Delivery, DeliveryState
from contracts.results import SyncResult
from contracts.timestamps import instant_text, parse_rfc3339_ms
from service.journal.reading import Journal
from service.kafka.offsets import CommittedOffset
from service.offsets.metadata import decode as decode_metadata
from service.status.document import LaneReport, PartitionStatus, Waiting


class Standing(StrEnum):
    """How a record stands in a lane."""

    ENDED = "ended"  # it has a result
    WAITING = "waiting"  # read and not settled; what for is known
    IN_WORK = "in_work"  # read and not settled; its process does not tell of it one by one
    NOT_READ = "not_read"
    BEFORE_START = "before_start"  # the lane began behind it
    LOST = "lost"  # given up by an operator
    NO_RESULT = "no_result"  # settled, and no result of it is found


class DeadLetterPlace(msgspec.Struct, frozen=True):
    """A dead letter, and where it lies."""

    topic: str
    partition: int
    offset: int
    told: DeadLetter


class OpenDelivery(msgspec.Struct, frozen=True):
    """A delivery with the record that the journal calls begun."""

    id: str
    state: str
    begun_at: str | None
    reference: str | None


class Explanation(msgspec.Struct, kw_only=True):
    """What became of a record in a lane, or what it waits for. ``text`` says it in words; the other fields hold what it
    is made of, as far as it is known. ``as_of`` is when the process told it."""

    lane: str
    standing: Standing
    text: str
    result: SyncResult | None = None
    dead_letter: DeadLetterPlace | None = None
    replays: list["Explanation"] = []
    lane_state: str | None = None
    lane_reason: str | None = None
    instance: str | None = None
    as_of: str | None = None
    waits_for: str | None = None
    attempt: int | None = None
    next_at: str | None = None
    position: int | None = None
    committed: int | None = None
    ahead: int | None = None
    open_delivery: OpenDelivery | None = None


class LaneFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a lane. ``reports`` are of living processes only; ``pause`` is an operator's order."""

    lane: str
    start: str  # as the configuration says
    skipped_published: bool
    committed: Mapping[TopicPartition, CommittedOffset]
    journal: Journal | None = None
    reports: Sequence[LaneReport] = ()
    pause: str | None = None


def ended(lane: str, result: SyncResult | None, dead: DeadLetterPlace | None) -> Explanation:
    """Of a record with a result, a dead letter, or both."""
    if result is not None:
        data = result.data
        outcome, reason, attempts, at = data.outcome, data.reason, data.attempts, data.completed_at
    else:
        assert dead is not None
        told = dead.told
        outcome, reason, attempts = told.outcome, told.reason, told.attempts
        at = instant_text(told.failed_at_ms) or "an unknown time"
    words = outcome.value if reason is None else f"{outcome.value}: {reason.value}"
    if result is not None and result.data.dry_run:
        words += " (dry run: nothing was called)"
    words += f" at {at}"
    if attempts:
        words += f", after {attempts} attempt" + ("" if attempts == 1 else "s")
    return Explanation(lane=lane, standing=Standing.ENDED, text=words, result=result, dead_letter=dead)


def unended(record: Position, facts: LaneFacts) -> Explanation:
    """Of a record that has neither."""
    tp = TopicPartition(record.topic, record.partition)
    committed = facts.committed.get(tp)
    if committed is not None and _is_finished(record.offset, committed):
        told = _finished(record, facts)
    else:
        told = _unfinished(record, tp, facts, committed)
    told.committed = None if committed is None else committed.offset
    told.open_delivery = _open_delivery(record, facts)
    if told.open_delivery is not None:
        told.text += f"; the journal: {_begun(told.open_delivery)}"
    return told


def _begun(delivery: OpenDelivery) -> str:
    match delivery.state:
        case DeliveryState.INTENDED:
            which = "an import" if delivery.reference is None else f"import {delivery.reference}"
            return f"{which} with it was about to begin at {delivery.begun_at} and may be open"
        case DeliveryState.CREATED:
            return f"import {delivery.reference} was created for it at {delivery.begun_at}, and had no file then"
        case DeliveryState.UPLOADED:
            return f"it is in import {delivery.reference}, begun at {delivery.begun_at}, which has its file"
    return f"a delivery with it was {delivery.state} at {delivery.begun_at} and may have taken effect"


def _is_finished(offset: int, committed: CommittedOffset) -> bool:
    ranges, _ = decode_metadata(committed.offset, committed.metadata)
    return offset < committed.offset or any(first <= offset < end for first, end in ranges)


def _finished(record: Position, facts: LaneFacts) -> Explanation:
    began = None if facts.journal is None else facts.journal.starts.get((record.topic, record.partition))
    if began is not None:
        for lost in began.lost:
            if lost.from_offset <= record.offset < lost.to_offset:
                text = f"given up as lost by {lost.by} at {instant_text(lost.at_ms)}"
                return Explanation(lane=facts.lane, standing=Standing.LOST, text=text)
        if began.first_offset is not None and record.offset < began.first_offset:
            text = f"before the lane's beginning: start: {began.policy} began at offset {began.first_offset}"
            return Explanation(lane=facts.lane, standing=Standing.BEFORE_START, text=text)
    why = (
        "older than the results that are kept or were searched, or passed by `lanes seek`"
        if facts.skipped_published
        else "probably skipped: results.skipped is false; else older than the results that are kept or were searched"
    )
    return Explanation(lane=facts.lane, standing=Standing.NO_RESULT, text=f"settled, but no result is found: {why}")


def _unfinished(
    record: Position, tp: TopicPartition, facts: LaneFacts, committed: CommittedOffset | None
) -> Explanation:
    report, part = _owner(tp, facts.reports)
    if report is None or part is None:
        return _unowned(record, facts, committed)
    told = Explanation(
        lane=facts.lane,
        standing=Standing.NOT_READ,
        text="",
        lane_state=report.state,
        lane_reason=report.reason,
        instance=report.instance,
        as_of=report.time,
        position=part.position,
    )
    waiting = _told_of(record, report.waiting)
    if waiting is not None:
        told.standing, told.text = Standing.WAITING, waiting.waits_for
        told.waits_for, told.attempt, told.next_at = waiting.waits_for, waiting.attempt, waiting.next_at
        return _with_state(told)
    if part.position is not None and record.offset < part.position:
        told.standing = Standing.IN_WORK
        told.text = f"read, one of {part.unfinished} events of its partition that are not settled"
        if part.waits_for is not None:
            told.waits_for = part.waits_for
            told.text += f"; the oldest of them waits for: {part.waits_for}"
        return _with_state(told)
    return _with_state(_not_read(told, record, part.position, committed))


def _not_read(
    told: Explanation, record: Position, position: int | None, committed: CommittedOffset | None
) -> Explanation:
    told.text = "not yet read"
    begin = position if position is not None else None if committed is None else committed.offset
    if begin is not None:
        told.ahead = max(0, record.offset - begin)
        what = "position" if position is not None else "committed offset"
        told.text += f": {told.ahead} offsets before it, from {what} {begin} on"
    return told


def _unowned(record: Position, facts: LaneFacts, committed: CommittedOffset | None) -> Explanation:
    """Nobody has the partition, or nobody has told of it."""
    told = Explanation(lane=facts.lane, standing=Standing.NOT_READ, text="")
    if facts.reports:
        newest = max(facts.reports, key=lambda report: report.time)
        told.lane_state, told.lane_reason = newest.state, newest.reason
        told.instance, told.as_of = newest.instance, newest.time
        _not_read(told, record, None, committed)
        told.text += "; no process has its partition now"
        return _with_state(told)
    if committed is None:
        told.text = f"not read: the lane has never begun with its partition (start: {facts.start})"
    else:
        _not_read(told, record, None, committed)
        told.text = "not settled" + told.text.removeprefix("not yet read")
    told.text += "; no process runs the lane now"
    if facts.pause is not None:
        told.lane_state, told.lane_reason = "paused", facts.pause
        told.text += f"; the lane is {facts.pause}"
    return told


def _with_state(told: Explanation) -> Explanation:
    """What the lane says of itself, where that is more than that it runs."""
    if told.lane_state not in (None, "running") and (told.lane_reason or "") not in told.text:
        told.text += f"; the lane is {told.lane_state}: {told.lane_reason}"
    return told


def _owner(tp: TopicPartition, reports: Sequence[LaneReport]) -> tuple[LaneReport | None, PartitionStatus | None]:
    """The newest report of a process that has the partition."""
    for report in sorted(reports, key=lambda report: report.time, reverse=True):
        for part in report.partitions:
            if (part.topic, part.partition) == tp:
                return report, part
    return None, None


def _told_of(record: Position, waiting: Sequence[Waiting]) -> Waiting | None:
    place = (record.topic, record.partition, record.offset)
    return next((each for each in waiting if (each.topic, each.partition, each.offset) == place), None)


def _open_delivery(record: Position, facts: LaneFacts) -> OpenDelivery | None:
    if facts.journal is None:
        return None
    for (_, delivery_id), delivery in facts.journal.deliveries.items():
        if _covers(delivery, record):
            return OpenDelivery(
                delivery_id, delivery.state.value, instant_text(delivery.begun_at_ms), delivery.reference
            )
    return None


def _covers(delivery: Delivery, record: Position) -> bool:
    return any(
        partition == record.partition and first <= record.offset < end
        for partition, first, end in delivery.ranges.get(record.topic, ())
    )


def living(reports: Sequence[LaneReport], now_ms: int) -> list[LaneReport]:
    """Those of processes that have told within six of their intervals (30 s)."""
    return [
        report
        for report in reports
        if now_ms - (parse_rfc3339_ms(report.time) or 0) <= max(30_000.0, 6_000 * report.interval_s)
    ]
