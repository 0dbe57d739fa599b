"""``fanline np6 notifications``."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from contracts.timestamps import rfc3339_ms
from handlers.np6 import client
from handlers.np6.notifications import Happening, Window, event_bytes, instant_ms
from service.cli.called import AccountOption, Called, printable
from service.cli.failures import CommandError, ExitCode
from service.cli.files import name_of, opened
from service.cli.np6.naming import called, target_of
from service.cli.np6.reading import Asked, NotificationReading, StoppedError, Tally, TargetError
from service.cli.options import ConfigOption
from service.cli.output import Bar, counted, print_json, quiet_libraries
from service.cli.publish import message_limit, refuse_own_topic
from service.kafka.connection import connection_arguments
from service.publishing.publishing import BATCH_OVERHEAD, publisher

DEFAULT_TOPIC = "notifications"

# So many problems are kept for the JSON document; all are counted.
_KEPT_PROBLEMS = 100

Emit = Callable[[Happening], Awaitable[None]]


class Sort(StrEnum):
    """The order that the platform is asked for."""

    ASC = "asc"
    DESC = "desc"


class Summary(Struct):
    """What became of a run."""

    account: str
    read: Tally
    topic: str | None = None
    published: int | None = None
    problems: int = 0
    told: list[str] = []  # the first of them
    stopped: str | None = None


def notifications(
    config: ConfigOption,
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="TARGET…", help="NP6's ids of targets, e.g. 000PKXK4.")
    ] = None,
    targets_file: Annotated[
        Path | None,
        typer.Option("--targets", metavar="FILE", help="More targets, one a line; `-` reads standard input."),
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what happened then or later, e.g. 2026-11-01T00:00:00Z.")
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Only what happened before then.")] = None,
    sort: Annotated[Sort, typer.Option(help="The order of each target's rows.")] = Sort.ASC,
    publish: Annotated[bool, typer.Option("--publish", help="Publish the events instead of printing them.")] = False,
    topic: Annotated[
        str | None, typer.Option("--topic", "-t", help=f"Where to. Default: {DEFAULT_TOPIC}.", show_default=False)
    ] = None,
    account: AccountOption = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Events as NDJSON, one a line, as `fanline validate` and `fanline publish` take them. With "
            "`--publish`: the counts as one JSON document.",
        ),
    ] = False,
) -> None:
    """Read what happened to the notifications that targets were shown: impressions, activations, redirections and
    dismissals, each an event `notification.occurred.v1`.

    The id of an event is made of what happened: read or published again it is the same, so that a lane with `dedupe`
    takes it once. A time without a zone is UTC, a date alone its first moment.

    Exits with 1 if a target or a row cannot be read. What came before has been printed or published all the same.
    """
    quiet_libraries()
    asked = Asked(_window(start, end), _bound(start), _bound(end), sort.value)
    if topic is not None and not publish:
        raise typer.BadParameter("has no meaning without --publish", param_hint="--topic")
    wanted = _targets(targets or [], targets_file)
    source = called(config, account)
    run = _Run(source, asked, wanted, quiet=publish and as_json)
    if publish:
        topic = topic or DEFAULT_TOPIC
        refuse_own_topic(source.config, topic)
        summary = asyncio.run(run.publish(topic, asyncio.run(message_limit(source.config, topic))))
    else:
        summary = asyncio.run(run.print(as_json=as_json))
    _print_summary(summary, as_json=as_json and publish)
    raise typer.Exit(ExitCode.FAILED if summary.problems else ExitCode.DONE)


class _Run:
    """Reads all targets, and hands on what is found."""

    def __init__(self, source: Called, asked: Asked, targets: list[str], *, quiet: bool) -> None:
        self._source = source
        self._asked = asked
        self._targets = targets
        self._quiet = quiet
        self._summary = Summary(source.name, Tally())

    async def print(self, *, as_json: bool) -> Summary:
        """Print the events as they come."""

        async def emit(happening: Happening) -> None:
            bar.line(event_bytes(happening, self._source.name).decode() if as_json else _line(happening))

        with self._bar() as bar:
            await self._read(emit, bar)
        return self._summary

    async def publish(self, topic: str, max_message_bytes: int) -> Summary:
        """Publish the events as they come, those of a target in its order. Raises PublishError."""
        self._summary.topic = topic
        arguments = connection_arguments(self._source.config.kafka)

        async def emit(happening: Happening) -> None:
            key, value = happening.target.encode(), event_bytes(happening, self._source.name)
            if len(key) + len(value) + BATCH_OVERHEAD > max_message_bytes:
                limit = f"the topic, whose max.message.bytes is {max_message_bytes}"
                self._problem(f"target {happening.target}, notification {happening.key}: too large for {limit}")
                return
            await sink.send(key, value)

        with self._bar() as bar:
            async with publisher(
                arguments, topic, max_message_bytes=max_message_bytes, acknowledged=lambda _: None
            ) as sink:
                await self._read(emit, bar)
                await sink.finish()
        self._summary.published = sink.published
        return self._summary

    async def _read(self, emit: Emit, bar: Bar) -> None:
        async with NotificationReading(self._source, self._asked, self._problem, self._notice) as reading:
            self._summary.read = reading.tally
            try:
                for target in self._targets:
                    await self._read_target(reading, target, emit)
                    bar.advance(1)
            except StoppedError as error:
                left = len(self._targets) - reading.tally.targets + 1
                self._summary.stopped = f"{error}. {counted(left, 'target')} not read to the end"
                self._problem(self._summary.stopped)

    async def _read_target(self, reading: NotificationReading, target: str, emit: Emit) -> None:
        try:
            async with aclosing(reading.of(target)) as found:
                async for happening in found:
                    await emit(happening)
        except TargetError as error:
            self._problem(str(error))

    def _bar(self) -> Bar:
        return Bar("reading notifications", len(self._targets))

    def _problem(self, text: str) -> None:
        self._summary.problems += 1
        if len(self._summary.told) < _KEPT_PROBLEMS:
            self._summary.told.append(text)
        if not self._quiet:
            self._notice(text)

    def _notice(self, text: str) -> None:
        typer.echo(text, err=True)


def _window(start: str | None, end: str | None) -> Window:
    window = Window(_moment(start, "--start"), _moment(end, "--end"))
    if window.start_ms is not None and window.end_ms is not None and window.start_ms >= window.end_ms:
        raise typer.BadParameter("must lie behind --start", param_hint="--end")
    return window


def _moment(text: str | None, hint: str) -> int | None:
    if text is None:
        return None
    ms = instant_ms(f"{text}T00:00:00" if len(text) == len("2026-11-01") else text)
    if ms is None:
        raise typer.BadParameter("expected a time such as 2026-11-01T08:30:00Z", param_hint=hint)
    return ms


def _bound(text: str | None) -> str | None:
    """As the platform is told: in UTC, with milliseconds."""
    ms = _moment(text, "")
    return None if ms is None else rfc3339_ms(ms)


def _targets(given: Iterable[str], file: Path | None) -> list[str]:
    """All targets, each once, in the order given. Raises BadParameter, CommandError."""
    wanted = dict.fromkeys(target_of(target) for target in given)
    if file is not None:
        wanted.update(dict.fromkeys(_lines(file)))
    if not wanted:
        raise typer.BadParameter("give at least one, or --targets FILE", param_hint="TARGET…")
    return list(wanted)


def _lines(file: Path) -> Iterable[str]:
    with opened(file) as stream:
        for number, raw in enumerate(stream, start=1):
            try:
                target = raw.decode().strip()
            except UnicodeDecodeError:
                target = "."
            if target and not client.addressable(target):
                raise CommandError(f"{name_of(file)}:{number}: no target id", ExitCode.USAGE)
            if target:
                yield target


def _line(happening: Happening) -> str:
    label = "" if happening.label is None else f"  {printable(happening.label)}"
    return f"{happening.at}  {happening.action:<11}  {printable(happening.target):<12}  {happening.key:>11}{label}"


def _print_summary(summary: Summary, *, as_json: bool) -> None:
    if as_json:
        print_json(summary)
        return
    read = summary.read
    told = f"{counted(read.targets, 'target')} ({read.without:,} without notifications), {counted(read.rows, 'row')}, "
    told += f"{counted(read.events, 'event')}, {counted(read.outside, 'happening')} outside the window"
    if summary.problems:
        told += f", {counted(summary.problems, 'problem')}"
    typer.echo(told, err=True)
    if summary.published is not None:
        typer.echo(f"{summary.topic}: {counted(summary.published, 'event')} published", err=True)
