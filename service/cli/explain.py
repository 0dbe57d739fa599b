"""``fanline explain``."""

import asyncio
import time
from typing import Annotated

import typer

from contracts.deadletters import Position
from contracts.timestamps import instant_text, parse_rfc3339_ms
from service.app import KINDS
from service.cli.failures import ExitCode
from service.cli.instants import since_ms
from service.cli.options import ConfigOption, JsonOption
from service.cli.output import Bar, counted, print_json, quiet_libraries
from service.cli.results import operation_text, printable
from service.config import load
from service.lookup.search import Answer, Deletion, Progress, Searched, search
from service.lookup.standing import Explanation, Standing

_SINCE = "7d"


def explain(
    event_id: Annotated[str, typer.Argument(metavar="EVENT_ID", help="The event's CloudEvents `id`.")],
    config: ConfigOption,
    since: Annotated[
        str,
        typer.Option(
            metavar="AGO|TIME",
            help="How far back to search: so long ago, such as 2h or 7d, or a time such as 2026-11-22T08:00:00Z. A "
            "shorter time is a shorter search.",
        ),
    ] = _SINCE,
    as_json: JsonOption = False,
) -> None:
    """What became of an event in every lane, or what it waits for.

    Searches the lanes' source topics for the event's id, as far back as `--since` and the topics' retention go, then
    replays, dead letters and results. Of a record without result it tells what the process that has its partition says
    of it (each process tells every 5 seconds), and how far the lane has come. An event that was published more than
    once, or to several topics, is told of record by record. No key and no personal data is shown.

    Exits with 1 if nothing is found, and says what was searched.
    """
    quiet_libraries()
    configuration, begin_ms = load(config, KINDS), since_ms(since)
    bars = _Bars()
    try:
        answer = asyncio.run(
            search(configuration, event_id, begin_ms, Progress(begin=bars.begin, advance=bars.advance))
        )
    finally:
        bars.close()
    if as_json:
        print_json(answer)
    else:
        for line in _told(answer):
            typer.echo(line)
    raise typer.Exit(ExitCode.DONE if answer.is_known else ExitCode.FAILED)


class _Bars:
    """One progress bar after the other."""

    def __init__(self) -> None:
        self._bar: Bar | None = None

    def begin(self, title: str, total: int) -> None:
        self.close()
        self._bar = Bar(title, total).__enter__()

    def advance(self, amount: int) -> None:
        if self._bar is not None:
            self._bar.advance(amount)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _told(answer: Answer) -> list[str]:
    return [*(_known(answer) if answer.is_known else _unknown(answer)), *map(_deleted, answer.deleted)]


def _known(answer: Answer) -> list[str]:
    now_ms = int(time.time() * 1000)
    lines = [f"event {printable(answer.event_id)}: {counted(len(answer.stories), 'record')}"]
    for story in answer.stories:
        lines += ["", _record(story.record, now_ms)]
        if not story.found:
            lines.append("  its record is no longer there, or lies before --since")
        if not story.readable:
            lines.append("  this record cannot be read; it holds the id somewhere")
        width = max([len(each.lane) for each in story.lanes], default=0)
        for each in story.lanes:
            lines += _lane(each, width, now_ms)
        if not story.lanes:
            lines.append("  no lane of this configuration reads this topic")
    return lines


def _record(record: Position, now_ms: int) -> str:
    text = f"{record.topic}-{record.partition} offset {record.offset}"
    at = instant_text(record.timestamp_ms)
    return text if at is None else f"{text}, published {at} ({_ago(now_ms - (record.timestamp_ms or 0))})"


def _lane(told: Explanation, width: int, now_ms: int) -> list[str]:
    indent = " " * (width + 4)
    text = printable(told.text)
    if told.instance is not None and told.as_of is not None:
        since_then_ms = now_ms - (parse_rfc3339_ms(told.as_of) or now_ms)
        text += f" (process {told.instance}, {_ago(since_then_ms)})"
    lines = [f"  {told.lane:{width}}  {text}"]
    lines += [indent + line for line in _details(told)]
    for replay in told.replays:
        again = f"replayed: {printable(replay.text)}"
        lines += [indent + again, *(indent + "  " + line for line in _details(replay))]
    return lines


def _details(told: Explanation) -> list[str]:
    lines = []
    if told.result is not None:
        data = told.result.data
        if data.detail is not None:
            lines.append(printable(data.detail))
        for operation in data.operations:
            line = operation_text(operation)
            if operation.target is not None:
                line += f" (target {printable(operation.target)})"
            if operation.detail is not None and operation.detail != data.detail:
                line += f": {printable(operation.detail)}"
            lines.append(line)
        if data.coalesced_into is not None:
            lines.append(f"its row was sent with that of result {data.coalesced_into}")
    dead = told.dead_letter
    if dead is not None:
        replays = f", replayed {dead.told.replays} times before" if dead.told.replays else ""
        lines.append(f"dead letter: {dead.topic}-{dead.partition} offset {dead.offset}{replays}")
    elif told.standing is Standing.ENDED and told.result is not None and told.result.data.dead_letter:
        lines.append("its dead letter is not found: older than its topic keeps, or than --since")
    return lines


def _unknown(answer: Answer) -> list[str]:
    lines = [f"event {printable(answer.event_id)}: nothing is found. Searched:"]
    lines += [f"  {_where(each)}" for each in answer.searched]
    lines.append(
        "It was never published there, it is older than these topics keep or than --since, or its id could not be read."
    )
    return lines


def _where(each: Searched) -> str:
    if each.missing:
        return f"{each.topic} ({each.what}): does not exist, or may not be seen by this user of Kafka"
    partitions = counted(len(each.partitions), "partition")
    return f"{each.topic} ({each.what}): {partitions}, {counted(each.offsets, 'offset')} since {each.since}"


def _deleted(each: Deletion) -> str:
    where = f"{each.topic}-{each.partition} offsets {each.from_offset} to {each.to_offset - 1}"
    return f"Retention deleted {where} before they were read: what they told of the event is not known."


def _ago(ms: int) -> str:
    seconds = max(0, ms) / 1000
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.1f} s ago"
