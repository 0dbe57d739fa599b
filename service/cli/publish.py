"""``fanline publish``."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Annotated, BinaryIO

import typer
from msgspec import Struct

from service.app import KINDS
from service.cli.failures import CommandError, ExitCode
from service.cli.files import FileArgument, name_of, opened_twice, size_of
from service.cli.options import ConfigOption, JsonOption
from service.cli.output import Bar, counted, print_json, quiet_libraries
from service.cli.validate import fault_text
from service.config import Configuration, load
from service.config.checks import own_topics
from service.kafka.administration import read_topics
from service.kafka.connection import connection_arguments
from service.kafka.probing import connected
from service.kafka.rights import Need, Right
from service.kafka.topics import DEFAULT_MAX_MESSAGE_BYTES
from service.publishing.keys import KeyOf, NoKey, key_at, own_key
from service.publishing.publishing import BATCH_OVERHEAD, publisher
from service.publishing.validating import Fault, Line, read_lines


def publish(
    file: FileArgument,
    config: ConfigOption,
    topic: Annotated[str, typer.Option("--topic", "-t", metavar="TOPIC", help="The topic; it must exist.")],
    key_field: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Where in the event the record's key stands, e.g. `data.identifiers.np6`. Default: "
            "`data.contact_id` of contacts, `data.target` of notifications.",
        ),
    ] = None,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Publish the valid events although others are invalid.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Publish events from a file to a topic, after all of them have been validated.

    If one line is invalid, nothing is published, unless `--skip-invalid`. Events go out with all in-sync replicas
    acknowledging, without duplicates by retries, and those of one key in the order of the file. Publishing a file
    again publishes its events again.

    Exits with 1 if a line is invalid or the broker does not take an event.
    """
    quiet_libraries()
    configuration = load(config, KINDS)
    refuse_own_topic(configuration, topic)
    key_of = _key_of(key_field)
    with opened_twice(file) as stream:
        job = _Job(stream, name_of(file), key_of, asyncio.run(message_limit(configuration, topic)))
        valid, invalid = job.validate(quiet=as_json)
        published = 0
        if valid and (skip_invalid or not invalid):
            published = asyncio.run(job.publish(configuration, topic, valid))
    if as_json:
        print_json({"file": name_of(file), "topic": topic, "published": published, "invalid": invalid})
    else:
        typer.echo(f"{topic}: {counted(published, 'event')} published, {counted(invalid, 'invalid line')}", err=True)
        if invalid and not skip_invalid:
            typer.echo("Nothing was published. Mend these lines, or leave them out with --skip-invalid.", err=True)
    raise typer.Exit(ExitCode.FAILED if invalid else ExitCode.DONE)


def _key_of(path: str | None) -> KeyOf:
    if path is None:
        return own_key
    try:
        return key_at(path)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--key-field") from None


def refuse_own_topic(config: Configuration, topic: str) -> None:
    """Raises CommandError for a topic that is not for events of others."""
    if topic in own_topics(config.kafka.topic_prefix, config.results.topic, config.lanes):
        raise CommandError(f"--topic {topic}: Fanline itself writes this topic", ExitCode.USAGE)


async def message_limit(config: Configuration, topic: str) -> int:
    """The topic's ``max.message.bytes``. Raises CommandError if it does not exist."""
    async with connected(connection_arguments(config.kafka)) as connection:
        seen, found = await read_topics(connection, [topic])
    if seen.hidden([topic]):
        raise CommandError(str(Need("topic", topic, Right.WRITE).finding))
    if topic not in found:
        raise CommandError(f"--topic {topic}: does not exist")
    return found[topic].number("max.message.bytes") or DEFAULT_MAX_MESSAGE_BYTES


class _Ready(Struct, frozen=True):
    """An event with its key."""

    key: bytes
    value: bytes


class _Job:
    """A file that is read twice: to look for faults, then to publish."""

    def __init__(self, stream: BinaryIO, name: str, key_of: KeyOf, max_message_bytes: int) -> None:
        self._stream = stream
        self._name = name
        self._key_of = key_of
        self._limit = max_message_bytes

    def validate(self, *, quiet: bool) -> tuple[int, int]:
        """How many lines are valid and invalid; prints each fault, unless ``quiet``."""
        valid = invalid = 0
        with Bar("validating", size_of(self._stream)) as bar:
            for ready in self._lines(bar.over(self._stream)):
                if isinstance(ready, _Ready):
                    valid += 1
                    continue
                invalid += 1
                if not quiet:
                    bar.line(fault_text(self._name, ready))
        return valid, invalid

    async def publish(self, config: Configuration, topic: str, total: int) -> int:
        """Publish the valid lines; how many were acknowledged. Raises PublishError."""
        self._stream.seek(0)
        with Bar("publishing", total) as bar:
            async with publisher(
                connection_arguments(config.kafka), topic, max_message_bytes=self._limit, acknowledged=bar.advance
            ) as sink:
                for ready in self._lines(self._stream):
                    if isinstance(ready, _Ready):
                        await sink.send(ready.key, ready.value)
                await sink.finish()
        return sink.published

    def _lines(self, stream: Iterable[bytes]) -> Iterator[_Ready | Fault]:
        for line in read_lines(stream):
            if isinstance(line, Line):
                yield self._ready(line)
            elif line is not None:
                yield line

    def _ready(self, line: Line) -> _Ready | Fault:
        key = self._key_of(line)
        if isinstance(key, NoKey):
            return Fault(line.line, key.problem)
        if len(key) + len(line.value) + BATCH_OVERHEAD > self._limit:
            return Fault(line.line, f"too large for the topic, whose max.message.bytes is {self._limit}")
        return _Ready(key, line.value)
