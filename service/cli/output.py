"""What commands print: tables and findings for people, one JSON document for programs. On standard output."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from service.findings import Finding, Severity, merged

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan", Severity.FINE: "green"}
# Into a file or a pipe nothing is cut at the 80 columns that a terminal is assumed to have.
_PIPE_WIDTH = 200
_DRAW_EVERY_S = 0.1


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


class Bar:
    """A progress bar on standard error, and lines on standard output beside it. Only a terminal shows the bar."""

    def __init__(self, title: str, total: float | None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task(title, total=total)
        self._due = 0.0
        self._next = 0.0

    def advance(self, amount: float) -> None:
        """So much more is done. May be called for each of a million things."""
        if self._progress.disable:
            return
        self._due += amount
        if (now := time.monotonic()) >= self._next:
            self._progress.advance(self._task, self._due)
            self._due, self._next = 0.0, now + _DRAW_EVERY_S

    def show(self, done: float, total: float) -> None:
        """So much of so much is done."""
        self._progress.update(self._task, completed=done, total=total)

    def over(self, stream: Iterable[bytes]) -> Iterator[bytes]:
        """The lines of ``stream``; their bytes are what is done."""
        for line in stream:
            yield line
            self.advance(len(line))

    def line(self, text: str) -> None:
        """A line of output, above the bar where both are on the terminal."""
        if not self._progress.disable and sys.stdout.isatty():
            self._progress.console.print(text, markup=False, soft_wrap=True, highlight=False)
        else:
            typer.echo(text)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away. May be done twice."""
        self._progress.stop()
