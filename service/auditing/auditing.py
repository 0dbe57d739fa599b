"""Reads what an audit needs, in an order that leaves nothing to chance while the lanes run on.

First the ends of the sources, then what the groups have finished, only then the results and the dead letters, up to all
that had been written by then: whatever was finished has its result in front of the ends that are read last.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from aiokafka.client import AIOKafkaClient
from aiokafka.structs import TopicPartition

from contracts.deadletters import ORIGIN_OFFSET, ORIGIN_PARTITION, ORIGIN_TOPIC, REPLAYS, RESULT_ID
from contracts.ids import ResultIds
from contracts.journal import Start
from contracts.outcomes import Outcome
from service.auditing.marks import Ranges
from service.auditing.retention import Left
from service.auditing.tally import LaneAudit, LaneTally, Place, Terms, Window
from service.config import Configuration
from service.errors import FanlineError, JournalUnreadableError, TransactorLostError
from service.journal.looking import settled_offsets
from service.journal.reading import read_journal
from service.kafka.connection import client_for, connection_arguments
from service.kafka.names import LaneNames, lane_names
from service.lookup.scanning import Record, Span, Spans, TopicReader, reading
from service.offsets.metadata import decode as decode_metadata
from service.settling.partitioner import partitions as partitions_of

_OFFSETS_S = 30.0
# Beyond the transaction time-out, until the broker has looked for it and aborted a dead process's transaction.
_ABORTED_WITHIN_S = 30.0
_AGAIN_S = 0.2
_NO_TIMESTAMP = -1
# How far the first retained record is looked for behind aborted ones and markers.
_FIRST_WITHIN = 1_000


class AuditError(FanlineError):
    """The audit cannot be made. The message says why, and what to do."""


class Bounds(msgspec.Struct, frozen=True):
    """One end of what is compared: an instant for all topics, or offsets of single partitions, or both."""

    at_ms: int | None = None
    offsets: Mapping[TopicPartition, int] = {}


class Progress(msgspec.Struct, frozen=True):
    """Who is told how far the reading is: what is read now, of how many offsets; and each step."""

    begin: Callable[[str, int], None]
    advance: Callable[[int], None]


class _Origin(msgspec.Struct, gc=False):
    topic: str
    partition: int
    offset: int


class _Data(msgspec.Struct, gc=False):
    lane: str
    outcome: Outcome
    origin: _Origin


class _Result(msgspec.Struct, gc=False):
    """As much of a result as the comparison needs."""

    id: str
    data: _Data


_decode = msgspec.json.Decoder(_Result).decode


async def audit(
    config: Configuration, lanes: Sequence[str], begin: Bounds, end: Bounds, progress: Progress
) -> dict[str, LaneAudit]:
    """The audit of each lane. Raises AuditError, and what ``reading`` raises."""
    connection = connection_arguments(config.kafka)
    async with reading(connection) as reader:
        client = client_for(connection)
        try:
            await client.bootstrap()
            return await _Audit(config, lanes, reader, client, connection, progress).run(begin, end)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(_OFFSETS_S):
                    await client.close()


class _Lane:
    """What is collected of one lane."""

    def __init__(self, name: str, topics: Sequence[str], names: LaneNames) -> None:
        self.names = names
        self.topics = (*topics, names.replay)
        self.ids = ResultIds(name)
        self.spans: Spans = {}
        self.tally = LaneTally({}, Terms())

    def window_spans(self, windows: Mapping[Place, Window]) -> dict[TopicPartition, Span]:
        return {tp: Span(windows[tp].first, windows[tp].end) for tp in self.spans}


class _Audit:
    def __init__(
        self,
        config: Configuration,
        lanes: Sequence[str],
        reader: TopicReader,
        client: AIOKafkaClient,
        connection: dict[str, Any],
        progress: Progress,
    ) -> None:
        self._config = config
        self._reader = reader
        self._client = client
        self._connection = connection
        self._progress = progress
        prefix = config.kafka.topic_prefix
        self._lanes = {name: _Lane(name, config.lanes[name].topics, lane_names(prefix, name)) for name in lanes}

    async def run(self, begin: Bounds, end: Bounds) -> dict[str, LaneAudit]:
        for lane in self._lanes.values():
            lane.spans = await self._reader.spans(await self._partitions(lane.topics))
        self._check_partitions(begin, end)
        windows: dict[str, dict[Place, Window]] = {}
        for name, lane in self._lanes.items():
            windows[name] = await self._windows(lane, begin, end)
            lane.tally = LaneTally(windows[name], self._terms())
        results = await self._visible(await self._partitions([self._config.results.topic]))
        dead = {
            name: await self._visible(await self._partitions([lane.names.dead_letters]))
            for name, lane in self._lanes.items()
        }
        await self._read_results(results)
        # What is left is asked for behind the reading: what was deleted during it may have told of something too.
        results_left = await self._left(list(results))
        for name, lane in self._lanes.items():
            await self._read_dead_letters(lane, dead[name])
            dead_left = await self._left(list(dead[name]))
            await self._read_sources(lane, lane.window_spans(windows[name]), results_left, dead_left)
        return {name: lane.tally.verdict() for name, lane in self._lanes.items()}

    def _terms(self) -> Terms:
        return Terms(
            skipped_published=self._config.results.skipped,
            at_least_once=self._config.kafka.delivery == "at_least_once",
        )

    async def _partitions(self, topics: Sequence[str]) -> list[TopicPartition]:
        counts = await self._reader.partitions(topics)
        if absent := [topic for topic in topics if topic not in counts]:
            raise AuditError(
                f"{', '.join(absent)}: does not exist, or may not be seen by this user of Kafka; "
                "`fanline topics ensure` creates the lane's topics"
            )
        return [TopicPartition(topic, number) for topic in topics for number in range(counts[topic])]

    async def _visible(self, partitions: Sequence[TopicPartition]) -> Spans:
        """What lies in the partitions, up to all that has been written by now. An open transaction hides what others
        have committed behind it, until it ends or its broker ends it. Raises AuditError if neither happens."""
        marks = await self._reader.high_watermarks(partitions)
        bound_s = self._config.kafka.transaction_timeout_s + _ABORTED_WITHIN_S
        now = asyncio.get_running_loop().time
        deadline = now() + bound_s
        while True:
            spans = await self._reader.spans(partitions)
            hidden = [tp for tp, span in spans.items() if span.end < marks[tp]]
            if not hidden:
                return spans
            if now() > deadline:
                raise AuditError(
                    f"{hidden[0].topic}-{hidden[0].partition}: a transaction has been open for {bound_s:.0f} s and "
                    "hides what was committed behind it; end its producer, and audit again"
                )
            await asyncio.sleep(_AGAIN_S)

    def _check_partitions(self, *bounds: Bounds) -> None:
        """Raises AuditError for an offset of a partition that is not there: nothing would come of it."""
        there = {tp for lane in self._lanes.values() for tp in lane.spans}
        for tp in sorted(tp for bound in bounds for tp in bound.offsets.keys() - there):
            count = sum(one.topic == tp.topic for one in there)
            raise AuditError(f"{tp.topic}:{tp.partition}: the topic has no such partition; it has {count}, from 0 on")

    # -- windows

    async def _windows(self, lane: _Lane, begin: Bounds, end: Bounds) -> dict[Place, Window]:
        """Where each partition is compared: from the lane's recorded start, or where the operator wants it."""
        finished = await self._finished(lane)
        starts = await self._starts(lane)
        firsts, ends = await self._chosen(lane, begin, first=True), await self._chosen(lane, end, first=False)
        windows: dict[Place, Window] = {}
        for tp, span in lane.spans.items():
            record = starts.get((tp.topic, tp.partition))
            started = span.first if record is None or record.first_offset is None else record.first_offset
            if tp in firsts:
                started = max(started, firsts[tp])
            lost = () if record is None else tuple((one.from_offset, one.to_offset) for one in record.lost)
            windows[tp.topic, tp.partition] = Window(
                started=started,
                first=max(started, span.first),
                end=min(span.end, ends.get(tp, span.end)),
                finished=finished.get(tp, Ranges()),
                lost=Ranges(tuple(sorted(lost))),
                is_replay=tp.topic == lane.names.replay,
            )
        return windows

    async def _finished(self, lane: _Lane) -> dict[TopicPartition, Ranges]:
        """What the group has finished; a partition without an offset has nothing."""
        try:
            committed = await settled_offsets(
                self._client, self._connection, lane.names, list(lane.spans), within_s=_OFFSETS_S
            )
        except (TimeoutError, TransactorLostError, JournalUnreadableError):
            raise AuditError(
                f"group {lane.names.group}: its offsets could not be read in {_OFFSETS_S:.0f} s; "
                "is a transaction stuck, or the coordinator away?"
            ) from None
        return {
            tp: Ranges(((0, found.offset), *decode_metadata(found.offset, found.metadata)[0]))
            for tp, found in committed.items()
        }

    async def _starts(self, lane: _Lane) -> Mapping[Place, Start]:
        counts = await self._reader.partitions([lane.names.journal])
        journal = await read_journal(
            self._connection, lane.names.journal, own=(), others=range(counts.get(lane.names.journal, 0))
        )
        return journal.starts

    async def _chosen(self, lane: _Lane, bounds: Bounds, *, first: bool) -> dict[TopicPartition, int]:
        """The offsets that the operator named for the lane's source partitions, or that lie at the instant."""
        sources = [tp for tp in lane.spans if tp.topic != lane.names.replay]
        chosen = {tp: bounds.offsets[tp] for tp in sources if tp in bounds.offsets}
        if bounds.at_ms is not None:
            at = await self._reader.spans(list(lane.spans), bounds.at_ms)
            chosen = {tp: span.first for tp, span in at.items()} | chosen
        return chosen

    # -- reading

    async def _left(self, partitions: Sequence[TopicPartition]) -> Left:
        """What retention has left of a topic, all of whose partitions are given."""
        while (left := await self._first_left(await self._reader.spans(partitions))) is None:
            pass
        return left

    async def _first_left(self, spans: Spans) -> Left | None:
        """None if something of what was looked at went meanwhile: nothing has been seen of what comes behind it."""
        firsts: dict[int, int | None] = {tp.partition: None for tp, span in spans.items() if span.first > 0}
        wanted = {
            tp: Span(span.first, min(span.end, span.first + _FIRST_WITHIN))
            for tp, span in spans.items()
            if tp.partition in firsts
        }
        deleted: list[TopicPartition] = []
        async for tp, records in self._reader.scan(wanted, deleted=lambda tp, _: deleted.append(tp)):
            if firsts[tp.partition] is None:
                firsts[tp.partition] = records[0].timestamp
        return None if deleted else Left(len(spans), firsts)

    async def _read_results(self, spans: Spans) -> None:
        self._progress.begin("reading results", _total(spans))
        async for _, records in self._reader.scan(spans, self._progress.advance):
            for record in records:
                try:
                    result = _decode(record.value or b"")
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    continue  # no result of ours
                lane = self._lanes.get(result.data.lane)
                if lane is not None:
                    origin = result.data.origin
                    lane.tally.result(origin.topic, origin.partition, origin.offset, result.data.outcome, result.id)

    async def _read_dead_letters(self, lane: _Lane, spans: Spans) -> None:
        self._progress.begin(f"reading {lane.names.dead_letters}", _total(spans))
        async for _, records in self._reader.scan(spans, self._progress.advance):
            for record in records:
                _take_dead_letter(lane.tally, record)

    async def _read_sources(self, lane: _Lane, spans: Spans, results: Left, dead_letters: Left) -> None:
        self._progress.begin(f"reading the sources of {lane.names.group}", _total(spans))
        take, ids = lane.tally.record, lane.ids.of

        def unparsable(tp: TopicPartition, offset: int) -> None:
            # Nobody can read its key or its time: the lane takes them for null and unknown.
            take(
                tp.topic,
                tp.partition,
                offset,
                ids(tp.topic, tp.partition, offset, _NO_TIMESTAMP),
                old=results.may_lack(tp.partition % results.partitions, _NO_TIMESTAMP),
                old_dead=dead_letters.may_lack(tp.partition, _NO_TIMESTAMP),
            )

        def deleted(tp: TopicPartition, gone: Span) -> None:
            lane.tally.deleted(tp.topic, tp.partition, gone.first, gone.end)

        async for (topic, partition), records in self._reader.scan(spans, self._progress.advance, unparsable, deleted):
            is_replay = topic == lane.names.replay
            lies_in = _result_partitions(records, partition, results)
            for record, result_partition in zip(records, lies_in, strict=True):
                offset, stamp = record.offset, record.timestamp
                take(
                    topic,
                    partition,
                    offset,
                    ids(topic, partition, offset, stamp) if is_replay else "",
                    old=results.may_lack(result_partition, stamp),
                    old_dead=dead_letters.may_lack(partition, stamp),
                )


def _result_partitions(records: Sequence[Record], partition: int, results: Left) -> Sequence[int]:
    """Where the results of a partition's records lie; not worth the work while no result was deleted."""
    if results.whole:
        return [0] * len(records)
    return partitions_of([record.key for record in records], [partition] * len(records), results.partitions)


def _take_dead_letter(tally: LaneTally, record: Record) -> None:
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers if value is not None}
    try:
        partition, offset = int(headers[ORIGIN_PARTITION]), int(headers[ORIGIN_OFFSET])
        replays = int(headers.get(REPLAYS, "0"))
        tally.dead_letter(headers[ORIGIN_TOPIC], partition, offset, headers[RESULT_ID], replays)
    except (KeyError, ValueError):
        return  # nothing that a lane wrote


def _total(spans: Spans) -> int:
    return sum(span.size for span in spans.values())
