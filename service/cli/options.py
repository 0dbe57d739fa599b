"""Options that several commands have, written once."""

from pathlib import Path
from typing import Annotated

import typer

from service.config.quantities import duration_s

ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", metavar="FILE", help="The configuration: one YAML file.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document instead of text, for programs.")]
DrainOption = Annotated[
    str,
    typer.Option(
        "--drain",
        metavar="DURATION",
        help="How long calls under way may take to end when the process stops or gives partitions away. What is still "
        "open then stays unfinished and is done again.",
    ),
]


def duration(text: str) -> float:
    """Seconds of an option such as ``25s``."""
    try:
        return duration_s(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
