"""``fanline results``."""

import asyncio
import unicodedata
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Annotated

import msgspec
import typer
from aiokafka.structs import TopicPartition

from contracts.outcomes import PAIRS, Outcome
from contracts.reader import ResultReader
from contracts.results import Operation, ResultError, SyncResult
from contracts.timestamps import rfc3339_ms
from service.app import KINDS
from service.cli.failures import CommandError, ExitCode
from service.cli.instants import since_ms
from service.cli.options import ConfigOption
from service.cli.output import Bar, counted, quiet_libraries
from service.cli.signals import until_signal
from service.config import Configuration, load
from service.kafka.connection import connection_arguments
from service.lookup.results import ResultFilter, event_id_of
from service.lookup.scanning import Record, Span, TopicReader, reading

_SINCE = "1h"
_OUTCOME_WIDTH = max(
    len(outcome) + (len(reason) + 2 if reason else 0) for outcome, reasons in PAIRS.items() for reason in reasons
)
_EVENT_WIDTH = 24
_ROW = "{:24}  {:{lane}}  {:{outcome}}  {:{event}}  {}"


def results(
    config: ConfigOption,
    event_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Results of the event with this CloudEvents id.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Results of events with this record key (hashed, where results.key is hash)."),
    ] = None,
    lane: Annotated[str | None, typer.Option(metavar="LANE", help="Results of this lane.")] = None,
    outcome: Annotated[
        Outcome | None,
        typer.Option(metavar="OUTCOME", help=f"Results with this outcome: {', '.join(Outcome)}."),
    ] = None,
    since: Annotated[
        str,
        typer.Option(
            metavar="AGO|TIME",
            help="Where to begin: so long ago, such as 90s, 2h or 7d, or a time such as 2026-11-22T08:00:00Z.",
        ),
    ] = _SINCE,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new results until Ctrl-C.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Each result as published, a JSON document a line (NDJSON), for programs.")
    ] = False,
) -> None:
    """What became of events: the results, the newest last, each once.

    Reads the results topic as a reader of committed records, from `--since` on. Several conditions must all hold. No
    key and no personal data is shown. For all that is known of one event, also of one without result: `fanline
    explain`.
    """
    quiet_libraries()
    configuration, begin_ms = load(config, KINDS), since_ms(since)
    if lane is not None and lane not in configuration.lanes:
        # Not refused: a lane that was taken out of the file has left results.
        typer.echo(f"note: there is no lane {lane} in {config}; it has: {_known(configuration)}", err=True)
    wanted = ResultFilter(
        event_id=event_id,
        key=None if key is None else key.encode(),
        lane=lane,
        outcome=outcome,
        hashed_keys=configuration.results.key == "hash",
    )
    printing = _Printing(wanted, begin_ms, as_json=as_json, lanes=configuration.lanes)
    work = _read(configuration, printing, begin_ms, follow=follow)
    if follow:
        asyncio.run(until_signal(work))
    else:
        asyncio.run(work)
        printing.conclude()


def _known(configuration: Configuration) -> str:
    return ", ".join(sorted(configuration.lanes))


async def _read(configuration: Configuration, printing: "_Printing", begin_ms: int, *, follow: bool) -> None:
    topic = configuration.results.topic
    async with reading(connection_arguments(configuration.kafka)) as reader:
        count = (await reader.partitions([topic])).get(topic)
        if count is None:
            raise CommandError(
                f"{topic}: does not exist, or may not be seen by this user of Kafka; "
                "`fanline topics ensure` creates it",
                ExitCode.FAILED,
            )
        spans = await reader.spans([TopicPartition(topic, n) for n in range(count)], begin_ms)
        total = sum(span.size for span in spans.values())
        typer.echo(f"{topic} since {rfc3339_ms(begin_ms)}: {counted(total, 'offset')} to read", err=True)
        printing.begin()
        with Bar("reading results", total) as bar:
            printing.bar = bar
            await printing.all_of(reader.merge(spans, bar.advance, _say_deleted))
        printing.bar = None
        if follow:
            await printing.all_of(_followed(reader, spans))


def _followed(reader: TopicReader, spans: dict[TopicPartition, Span]) -> AsyncGenerator[Record, None]:
    return reader.follow({tp: span.end for tp, span in spans.items()}, _say_deleted)


def _say_deleted(tp: TopicPartition, gone: Span) -> None:
    where = f"{tp.topic}-{tp.partition} offsets {gone.first} to {gone.end - 1}"
    typer.echo(f"note: retention deleted {where} before they were read: their results are not shown", err=True)


class _Printing:
    """Prints those results that are wanted, each once, as they come."""

    def __init__(self, wanted: ResultFilter, begin_ms: int, *, as_json: bool, lanes: Iterable[str]) -> None:
        self._wanted = wanted
        self._begin_ms = begin_ms
        self._as_json = as_json
        self._lane_width = max(len("lane"), *map(len, lanes))
        self._once = ResultReader()
        self._encode = msgspec.json.Encoder().encode
        self.bar: Bar | None = None
        self._shown = self._foreign = 0

    def begin(self) -> None:
        """The head of the table."""
        if not self._as_json:
            self._line(self._row("completed at", "lane", "outcome", "event", "operations"))

    async def all_of(self, records: AsyncGenerator[Record, None]) -> None:
        async with aclosing(records) as open_records:
            async for record in open_records:
                self.show(record)

    def show(self, record: Record) -> None:
        """Print the result in a record, if it is one that is wanted."""
        if record.timestamp < self._begin_ms or not self._wanted.takes_key(record.key):
            return
        try:
            result = self._once.read(record.value or b"")
        except ResultError:
            self._foreign += 1
            return
        if result is None or not self._wanted.takes(result):
            return
        self._shown += 1
        self._line(self._encode(result).decode() if self._as_json else self._told(result))

    def conclude(self) -> None:
        """How many there were, on standard error."""
        typer.echo(counted(self._shown, "result"), err=True)
        if self._foreign:
            typer.echo(f"passed over: {counted(self._foreign, 'record')} of the topic that are no results", err=True)

    def _told(self, result: SyncResult) -> str:
        data = result.data
        outcome = data.outcome.value if data.reason is None else f"{data.outcome.value}: {data.reason.value}"
        event, origin = event_id_of(result), data.origin
        named = printable(event) if event is not None else f"{origin.topic}-{origin.partition} offset {origin.offset}"
        told = ", ".join(operation_text(operation) for operation in data.operations)
        if data.dry_run:
            told = f"(dry run) {told}"
        return self._row(data.completed_at, data.lane, outcome, named, told or printable(data.detail or "")).rstrip()

    def _row(self, *cells: str) -> str:
        return _ROW.format(*cells, lane=self._lane_width, outcome=_OUTCOME_WIDTH, event=_EVENT_WIDTH)

    def _line(self, text: str) -> None:
        if self.bar is not None:
            self.bar.line(text)
        else:
            typer.echo(text)


def operation_text(operation: Operation) -> str:
    """``segment.join 501 HTTP 204``, and why it was not delivered."""
    words = [operation.kind, operation.entity or ""]
    if operation.outcome is not None and operation.outcome is not Outcome.DELIVERED:
        words.append(operation.outcome.value if operation.reason is None else operation.reason.value)
    if operation.status is not None:
        words.append(f"HTTP {operation.status}")
    return printable(" ".join(word for word in words if word))


def printable(text: str) -> str:
    """Others chose this text: nothing in it may steer the terminal."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(one) in _UNPRINTABLE else one for one in text)


_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
