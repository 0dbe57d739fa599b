"""``fanline status``."""

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from contracts.timestamps import rfc3339_ms
from service.app import KINDS
from service.cli.failures import CommandError, ExitCode
from service.cli.options import JsonOption
from service.cli.output import console, counted, print_json, quiet_libraries
from service.cli.status_view import Row, print_rows
from service.config import Configuration, load
from service.kafka.connection import connection_arguments
from service.kafka.names import status_topic
from service.status import StatusDocument
from service.status.asking import ask_status
from service.status.fleet import LOOK_BACK_S, Fleet, Heard, fleet_of, read_reports


def status(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", metavar="FILE", help="All processes that run with this configuration, through Kafka."
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", metavar="URL", help="One process alone, asked at its `http.listen`, e.g. http://127.0.0.1:8080."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What every lane of every process is doing, and what it waits for.

    State and reason, lag, what is in flight and retried, the account's breaker, deliveries begun in the journal, open
    imports, and for each partition with unfinished events what the oldest of them waits for.

    Each process tells its state every 5 seconds; one that has been silent for 30 seconds is shown as such.
    """
    quiet_libraries()
    if url is not None:
        _one_process(url, as_json=as_json)
    elif config is not None:
        _all_processes(load(config, KINDS), as_json=as_json)
    else:
        raise CommandError("give --config for all processes, or --url for one", ExitCode.USAGE)


def _one_process(url: str, *, as_json: bool) -> None:
    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter("expected http:// or https:// and an address", param_hint="--url")
    document: StatusDocument = asyncio.run(ask_status(url))
    if as_json:
        print_json(document)
        return
    console().print(Text.assemble("instance ", (document.instance, "bold"), f", version {document.version}"))
    print_rows([Row(document.instance, lane) for lane in document.lanes])


def _all_processes(config: Configuration, *, as_json: bool) -> None:
    now_ms = time.time_ns() // 1_000_000
    topic = status_topic(config.kafka.topic_prefix)
    reports = asyncio.run(read_reports(connection_arguments(config.kafka), topic, now_ms))
    fleet = fleet_of(reports, list(config.lanes), now_ms)
    if as_json:
        print_json(
            {"time": rfc3339_ms(now_ms), "lanes": [_document(heard) for heard in fleet.heard], "unheard": fleet.unheard}
        )
        return
    _print(fleet)


def _print(fleet: Fleet) -> None:
    out = console()
    instances = {heard.report.instance for heard in fleet.heard}
    silent = {heard.report.instance for heard in fleet.heard if heard.silent}
    versions = sorted({heard.report.version for heard in fleet.heard})
    told = counted(len(instances), "instance") + (f", {len(silent)} of them silent" if silent else "")
    out.print(Text(told + (f", version {', '.join(versions)}" if versions else "")))
    if fleet.heard:
        print_rows([_row(heard) for heard in fleet.heard])
    for lane in fleet.unheard:
        words = f"no process has told of it in the last {LOOK_BACK_S / 60:.0f} minutes: nobody runs it"
        out.print(Text.assemble((f"{lane} ", "bold"), (words, "bold red")), soft_wrap=True)


def _row(heard: Heard) -> Row:
    report = heard.report
    return Row(report.instance, report, report.waiting, heard.age_s if heard.silent else None)


def _document(heard: Heard) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(heard.report)
    return {**document, "age_s": round(heard.age_s, 3), "silent": heard.silent}
