"""What all of an operator's commands ask for: a lane that there is, and why."""

import time
from typing import Annotated

import typer

from service.cli.failures import CommandError, ExitCode
from service.config import Configuration

_LONGEST_REASON = 500

ReasonOption = Annotated[
    str,
    typer.Option(
        "--reason",
        metavar="TEXT",
        help="Why, for whoever looks next; it is shown with your user and host name. No personal data.",
        show_default=False,
    ),
]


def checked_lane(config: Configuration, lane: str) -> str:
    """The lane. Raises CommandError if the configuration has none of that name."""
    if lane not in config.lanes:
        known = ", ".join(sorted(config.lanes))
        raise CommandError(f"{lane}: there is no such lane; the file has: {known}", ExitCode.USAGE)
    return lane


def checked_reason(reason: str) -> str:
    """The reason on one line. Raises CommandError."""
    text = " ".join(reason.split())
    if not text or not text.isprintable() or len(text) > _LONGEST_REASON:
        raise CommandError(f"--reason: a text of 1 to {_LONGEST_REASON} printable characters", ExitCode.USAGE)
    return text


def now_ms() -> int:
    """Wall time in milliseconds."""
    return time.time_ns() // 1_000_000
