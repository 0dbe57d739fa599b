"""``fanline status``."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from service.app import KINDS
from service.cli.failures import CommandError, ExitCode
from service.cli.options import JsonOption
from service.cli.output import console, print_json
from service.config import load
from service.status import LaneStatus, PartitionStatus, StatusDocument
from service.status.asking import ask_status

_STATE_STYLES = {"running": "green", "full": "yellow", "holding": "bold red", "paused": "yellow", "stopped": "red"}
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}


def status(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Ask the process at this configuration's `http.listen`."),
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Ask the process here, e.g. http://127.0.0.1:8080.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What every lane of a process is doing, and what it waits for.

    State and reason, lag, what is in flight and retried, the account's breaker, and for each partition with unfinished
    events what the oldest of them waits for.
    """
    document = asyncio.run(ask_status(_address(config, url)))
    if as_json:
        print_json(document)
    else:
        _print(document)


def _address(config: Path | None, url: str | None) -> str:
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise typer.BadParameter("expected http:// or https:// and an address", param_hint="--url")
        return url
    if config is None:
        raise CommandError("give --url, or --config of a service with http.listen", ExitCode.USAGE)
    http = load(config, KINDS).http
    if http is None:
        raise CommandError(f"{config} has no http.listen: a process that runs with it cannot be asked", ExitCode.USAGE)
    host, _, port = http.listen.rpartition(":")
    if int(port) == 0:
        raise CommandError(f"{config}: http.listen takes any free port; give --url", ExitCode.USAGE)
    return f"http://{_ANY_HOST.get(host, host)}:{port}"


def _print(document: StatusDocument) -> None:
    out = console()
    out.print(Text.assemble("instance ", (document.instance, "bold"), f", version {document.version}"))
    out.print()
    out.print(_lanes(document.lanes))
    for lane in document.lanes:
        for line in _trouble(lane):
            out.print(line, soft_wrap=True)
    waiting = [(lane, part) for lane in document.lanes for part in lane.partitions if part.unfinished or part.lag]
    if waiting:
        out.print()
        out.print(_partitions(waiting))


def _lanes(lanes: Iterable[LaneStatus]) -> Table:
    table = _table("lane", "state", "account")
    for name in ("partitions", "lag", "unfinished", "in flight", "retrying", "dead letters"):
        table.add_column(name, justify="right")
    for lane in lanes:
        lags = [part.lag for part in lane.partitions]
        known = [lag for lag in lags if lag is not None]
        table.add_row(
            Text(lane.lane, style="bold"),
            Text(lane.state, style=_STATE_STYLES.get(lane.state, "dim")),
            lane.account,
            str(len(lane.partitions)),
            f"{sum(known):,}" if lags and len(known) == len(lags) else "?",
            f"{sum(part.unfinished for part in lane.partitions):,}",
            f"{lane.in_flight:,}",
            f"{lane.retrying:,}",
            f"{lane.dead_letters:,}",
        )
    return table


def _trouble(lane: LaneStatus) -> list[Text]:
    """Why a lane is not running, since when, and until when its breaker is open."""
    if lane.reason is None:
        return []
    until = "" if lane.breaker.until is None else f"; next try at {lane.breaker.until}"
    style = _STATE_STYLES.get(lane.state, "dim")
    return [
        Text.assemble(
            (f"{lane.lane} ", "bold"), (f"{lane.state}: {lane.reason}", style), f" (since {lane.since}{until})"
        )
    ]


def _partitions(waiting: Iterable[tuple[LaneStatus, PartitionStatus]]) -> Table:
    table = _table("lane", "partition")
    for name in ("lag", "unfinished", "oldest"):
        table.add_column(name, justify="right")
    table.add_column("waits for", overflow="fold")
    for lane, part in waiting:
        age = "" if part.oldest_unfinished_s is None else f"{part.oldest_unfinished_s:,.1f} s"
        table.add_row(
            lane.lane,
            f"{part.topic}-{part.partition}",
            "?" if part.lag is None else f"{part.lag:,}",
            f"{part.unfinished:,}",
            age,
            Text(part.waits_for or ""),
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table
