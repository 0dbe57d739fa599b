"""``fanline audit``."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated

import msgspec
import typer
from aiokafka.structs import TopicPartition

from service.app import KINDS
from service.auditing.auditing import Bounds, Progress, audit
from service.auditing.showing import audit_lines, audit_table
from service.auditing.tally import LaneAudit
from service.cli.failures import CommandError, ExitCode
from service.cli.instants import since_ms
from service.cli.options import ConfigOption, JsonOption
from service.cli.output import Bar, console, counted, print_json, quiet_libraries
from service.config import Configuration, load


def audit_command(
    config: ConfigOption,
    lane: Annotated[
        list[str] | None, typer.Option("--lane", "-l", metavar="LANE", help="Only this lane; may be repeated.")
    ] = None,
    begin: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="WHERE",
            help="Compare from here on instead of from the lane's recorded start: so long ago, such as 2h, a time such "
            "as 2026-11-22T08:00:00Z, or TOPIC:PARTITION:OFFSET (may be given for several partitions).",
        ),
    ] = None,
    end: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="WHERE", help="Compare up to before here, told alike; else to now."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail also where results may have been deleted already (unknown).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Proves that each event has exactly one result: joins the source topics with results and dead letters.

    Everything is read from Kafka anew, as a reader of committed records; nothing that the service counts is believed.
    The lanes may be running: what they have not finished is pending. Exit code 1 if anything is missing, duplicate or
    contradictory (two outcomes, or a dead letter without its result, or the other way round).
    """
    quiet_libraries()
    configuration = load(config, KINDS)
    lanes = _lanes(configuration, lane)
    topics = {topic for name in lanes for topic in configuration.lanes[name].topics}
    bounds = _bounds(begin, "--from", topics), _bounds(end, "--to", topics)
    _check_order(*bounds)
    with Progressing() as progressing:
        found = asyncio.run(audit(configuration, lanes, *bounds, progressing.progress))
    if as_json:
        print_json({"lanes": {name: msgspec.to_builtins(one) for name, one in found.items()}})
    else:
        print_audit(found)
    unknown = {name: one.unknown for name, one in found.items() if one.unknown} if strict else {}
    for name, count in unknown.items():
        events = counted(count, "finished event")
        typer.echo(f"--strict: {name}: {events} without a result, which may have been deleted already", err=True)
    if unknown or not all(one.proven for one in found.values()):
        raise typer.Exit(ExitCode.FAILED)


class Progressing:
    """A bar for each thing that is read."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self.progress = Progress(self._begin, self._advance)

    def _begin(self, title: str, total: int) -> None:
        self._close()
        self._bar = Bar(title, total).__enter__()

    def _advance(self, amount: int) -> None:
        if self._bar is not None:
            self._bar.advance(amount)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> "Progressing":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


def print_audit(found: Mapping[str, LaneAudit]) -> None:
    """The counts, and what they prove of each lane."""
    out = console()
    out.print(audit_table(found))
    for line in audit_lines(found):
        out.print(line, markup=False, soft_wrap=True)


def _lanes(config: Configuration, wanted: Sequence[str] | None) -> list[str]:
    for name in wanted or ():
        if name not in config.lanes:
            raise CommandError(
                f"--lane {name}: there is no such lane; the file has: {', '.join(sorted(config.lanes))}", ExitCode.USAGE
            )
    return list(dict.fromkeys(wanted)) if wanted else list(config.lanes)


def _bounds(texts: Sequence[str] | None, option: str, topics: Collection[str]) -> Bounds:
    at_ms: int | None = None
    offsets: dict[TopicPartition, int] = {}
    for text in texts or ():
        topic, _, rest = text.partition(":")
        partition, _, offset = rest.partition(":")
        if partition.isdecimal() and offset.isdecimal():
            if topic not in topics:
                raise typer.BadParameter(
                    f"{topic}: no source topic of these lanes; they have: {', '.join(sorted(topics))}",
                    param_hint=option,
                )
            offsets[TopicPartition(topic, int(partition))] = int(offset)
        elif at_ms is None:
            at_ms = since_ms(text, option)
        else:
            raise typer.BadParameter("one time at the most", param_hint=option)
    return Bounds(at_ms, offsets)


def _check_order(begin: Bounds, end: Bounds) -> None:
    """Between ends that are told alike: nothing is proven of nothing."""
    if begin.at_ms is not None and end.at_ms is not None and begin.at_ms >= end.at_ms:
        raise typer.BadParameter("the time has to be later than that of --from", param_hint="--to")
    for tp, offset in begin.offsets.items():
        if end.offsets.get(tp, offset + 1) <= offset:
            problem = f"{tp.topic}:{tp.partition}: the offset has to be greater than that of --from"
            raise typer.BadParameter(problem, param_hint="--to")
