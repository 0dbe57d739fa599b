"""Searches the topics for all that tells of one event.

The order of steps is what makes the answer true: sources and results first, which takes long; then, in a moment,
reports and committed offsets; last the results that came meanwhile. So whatever an offset calls settled has its result
in what was read, and whatever has a result is not called unfinished. A transaction of another lane can hide results in
the same partition for some seconds: if one is missed, the partitions are read up to their high watermark.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import aclosing

import msgspec
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from contracts.timestamps import instant_text
from service.config import Configuration, Start
from service.control.ordering import read_orders
from service.control.orders import Orders
from service.errors import JournalUnreadableError, TransactorLostError
from service.journal.looking import settled_offsets
from service.journal.reading import Journal, read_journal
from service.kafka.connection import client_for, connection_arguments
from service.kafka.names import LaneNames, control_topic, lane_names, status_topic
from service.lookup.findings import Findings, Story
from service.lookup.live import read_reports
from service.lookup.scanning import ReadingError, Span, TopicReader, ignored, reading
from service.lookup.standing import LaneFacts, Standing, living
from service.status.document import LaneReport

# A publisher's clock may be ahead of ours by so much.
_SKEW_MS = 3_600_000
_OFFSETS_WITHIN_S = 15.0
# Longer than a transaction may stay open by default.
_HIDDEN_FOR_S = 20.0
_AGAIN_S = 0.2


class Searched(msgspec.Struct):
    """A topic that was looked through. ``offsets`` counts what lies between the time and the end; ``missing``: it does
    not exist, or may not be seen."""

    topic: str
    what: str
    partitions: list[int]
    since: str | None
    offsets: int
    missing: bool


class Deletion(msgspec.Struct, frozen=True):
    """Offsets, from the first to before ``to_offset``, that were to be read and that retention deleted before: what
    they told of the event is not known."""

    topic: str
    partition: int
    from_offset: int
    to_offset: int


class Answer(msgspec.Struct):
    """All that was found of an event."""

    event_id: str
    stories: list[Story]
    searched: list[Searched]
    deleted: list[Deletion]

    @property
    def is_known(self) -> bool:
        """Whether anything was found."""
        return bool(self.stories)


class Progress(msgspec.Struct, frozen=True):
    """Whom to tell how far a search has come: ``begin`` what is read now and how many offsets, ``advance`` how many
    of them are done."""

    begin: Callable[[str, int], None]
    advance: Callable[[int], None]


async def search(config: Configuration, event_id: str, since_ms: int, progress: Progress) -> Answer:
    """Everything about an event since a time. Raises FanlineError."""
    async with reading(connection_arguments(config.kafka)) as reader:
        return await _Search(config, event_id, since_ms, progress, reader).run()


class _Search:
    def __init__(
        self, config: Configuration, event_id: str, since_ms: int, progress: Progress, reader: TopicReader
    ) -> None:
        self._config = config
        self._event_id = event_id
        self._since_ms = since_ms
        self._progress = progress
        self._reader = reader
        self._found = Findings(event_id, {name: lane.topics for name, lane in config.lanes.items()})
        self._names = {name: lane_names(config.kafka.topic_prefix, name) for name in config.lanes}
        self._status, self._control = status_topic(config.kafka.topic_prefix), control_topic(config.kafka.topic_prefix)
        self._searched: list[Searched] = []
        self._deleted: list[Deletion] = []

    async def run(self) -> Answer:
        counts = await self._reader.partitions(self._topics())
        await self._search_records(counts)
        ends = await self._search_results(counts)
        facts = await self._facts(counts)
        await self._search_more(ends)
        stories = self._found.stories(facts)
        if any(each.standing is Standing.NO_RESULT for story in stories for each in story.lanes):
            await self._search_hidden(ends)
            stories = self._found.stories(facts)
        return Answer(self._event_id, stories, self._searched, self._deleted)

    def _topics(self) -> set[str]:
        sources = {topic for lane in self._config.lanes.values() for topic in lane.topics}
        own = {topic for names in self._names.values() for topic in (names.replay, names.dead_letters, names.journal)}
        return own | sources | {self._config.results.topic, self._status, self._control}

    # -- what the topics hold

    async def _search_records(self, counts: Mapping[str, int]) -> None:
        """The event itself: in the sources, on its way again, and given up."""
        sources = {topic: "source" for lane in self._config.lanes.values() for topic in lane.topics}
        replays = {names.replay: name for name, names in self._names.items()}
        dead = {names.dead_letters for names in self._names.values()}
        wanted = {**sources, **dict.fromkeys(replays, "replays"), **dict.fromkeys(sorted(dead), "dead letters")}
        spans = await self._spans(counts, wanted, self._since_ms)
        self._progress.begin("searching the events", sum(span.size for span in spans.values()))
        async with aclosing(self._reader.scan(spans, self._progress.advance, deleted=self._note_deleted)) as scanned:
            async for tp, records in scanned:
                for record in records:
                    if tp.topic in replays:
                        self._found.take_replay(replays[tp.topic], record)
                    elif tp.topic in dead:
                        self._found.take_dead_letter(record)
                    else:
                        self._found.take_source(record)

    async def _search_results(self, counts: Mapping[str, int]) -> dict[TopicPartition, int]:
        """The results that stand there now; where each partition ended."""
        topic, since_ms, only = self._config.results.topic, self._since_ms, None
        if self._found.records and topic in counts:
            # A result lies where its event's key says, and is younger than its record.
            only = self._found.result_partitions(counts[topic])
            oldest = min(one.position.timestamp_ms or 0 for one in self._found.records.values())
            since_ms = max(since_ms, oldest - _SKEW_MS)
        spans = await self._spans(counts, {topic: "results"}, since_ms, only)
        self._progress.begin("searching the results", sum(span.size for span in spans.values()))
        await self._read_results(spans, self._progress.advance)
        return {tp: span.end for tp, span in spans.items()}

    async def _spans(
        self, counts: Mapping[str, int], wanted: Mapping[str, str], since_ms: int, only: Collection[int] | None = None
    ) -> dict[TopicPartition, Span]:
        """What is to be read of topics, which is noted down."""
        spans: dict[TopicPartition, Span] = {}
        for topic, what in wanted.items():
            numbers = [n for n in range(counts.get(topic, 0)) if only is None or n in only]
            own = await self._reader.spans([TopicPartition(topic, n) for n in numbers], since_ms)
            offsets = sum(span.size for span in own.values())
            missing = topic not in counts
            self._searched.append(Searched(topic, what, numbers, instant_text(since_ms), offsets, missing))
            spans |= own
        return spans

    async def _search_more(self, ends: dict[TopicPartition, int]) -> None:
        """The results that came since; ``ends`` moves on."""
        spans = await self._reader.spans(ends)
        await self._read_results({tp: Span(ends[tp], span.end) for tp, span in spans.items()})
        ends.update({tp: max(ends[tp], span.end) for tp, span in spans.items()})

    async def _search_hidden(self, ends: dict[TopicPartition, int]) -> None:
        """Again and again, until all that was written by now can be seen."""
        deadline = time.monotonic() + _HIDDEN_FOR_S
        marks = await self._reader.high_watermarks(ends)
        while any(ends[tp] < mark for tp, mark in marks.items()) and time.monotonic() < deadline:
            await asyncio.sleep(_AGAIN_S)
            await self._search_more(ends)

    async def _read_results(
        self, spans: Mapping[TopicPartition, Span], advanced: Callable[[int], None] = ignored
    ) -> None:
        async with aclosing(self._reader.scan(spans, advanced, deleted=self._note_deleted)) as scanned:
            async for _, records in scanned:
                for record in records:
                    self._found.take_result(record)

    def _note_deleted(self, tp: TopicPartition, gone: Span) -> None:
        self._deleted.append(Deletion(tp.topic, tp.partition, gone.first, gone.end))

    # -- how the lanes are

    async def _facts(self, counts: Mapping[str, int]) -> dict[str, LaneFacts]:
        """Of the lanes in which something has no result yet."""
        wanted = {name: self._found.open_in(name) for name in self._config.lanes}
        wanted = {name: places for name, places in wanted.items() if places}
        if not wanted:
            return {}
        now_ms = int(time.time() * 1000)
        reports = await read_reports(self._reader, self._status, now_ms) if self._status in counts else []
        connection = connection_arguments(self._config.kafka)
        orders = await read_orders(connection, self._control) if self._control in counts else Orders()
        client = client_for(connection)
        try:
            await client.bootstrap()
            return {
                name: await self._facts_of(
                    name,
                    {TopicPartition(*place) for place in places},
                    client,
                    [report for report in living(reports, now_ms) if report.lane == name],
                    orders,
                    counts,
                )
                for name, places in wanted.items()
            }
        finally:
            await client.close()

    async def _facts_of(
        self,
        name: str,
        tps: Collection[TopicPartition],
        client: AIOKafkaClient,
        reports: list[LaneReport],
        orders: Orders,
        counts: Mapping[str, int],
    ) -> LaneFacts:
        lane, names = self._config.lanes[name], self._names[name]
        pause = orders.pause_of(name, lane.account)
        try:
            committed = await settled_offsets(
                client, connection_arguments(self._config.kafka), names, tps, within_s=_OFFSETS_WITHIN_S
            )
        except (TimeoutError, TransactorLostError, JournalUnreadableError):
            raise ReadingError(f"group {names.group}: nobody tells its offsets; look at the brokers") from None
        return LaneFacts(
            lane=name,
            start=_start_text(lane.start),
            skipped_published=self._config.results.skipped,
            committed=committed,
            journal=await self._journal(names, {tp.partition for tp in tps}, counts),
            reports=reports,
            pause=None if pause is None else pause.describe(),
        )

    async def _journal(self, names: LaneNames, partitions: set[int], counts: Mapping[str, int]) -> Journal | None:
        own = sorted(n for n in partitions if n < counts.get(names.journal, 0))
        try:
            return await read_journal(connection_arguments(self._config.kafka), names.journal, own=own)
        except (JournalUnreadableError, KafkaError):
            return None  # the lane itself holds for it, and says so


def _start_text(start: Start) -> str:
    return start.policy if start.time_ms is None else instant_text(start.time_ms) or start.policy
