"""What commands print: tables and findings for people, one JSON document for programs. On standard output."""

import logging
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from service.findings import Finding, Severity, merged

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan", Severity.FINE: "green"}
# Into a file or a pipe nothing is cut at the 80 columns that a terminal is assumed to have.
_PIPE_WIDTH = 200


def console() -> Console:
    """Standard output as it is now."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def print_json(document: Any) -> None:
    """One JSON document, indented."""
    typer.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def print_findings(findings: Iterable[Finding]) -> None:
    """A line each: how bad, what, and what to do; those of equal words in one."""
    out = console()
    for finding in merged(findings):
        out.print(f"[{_STYLES[finding.severity]}]{finding.severity:<8}[/] ", end="")
        out.print(str(finding), markup=False, soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """A plain table; the columns named in ``right`` hold numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table, markup=False)


def quiet_libraries() -> None:
    """The Kafka client logs what we tell in words of our own."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def counted(number: int, thing: str) -> str:
    """``1 error``, ``2 errors``, ``10,000 errors``."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
