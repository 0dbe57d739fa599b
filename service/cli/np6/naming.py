"""What the commands of NP6 name: their account and a target."""

from pathlib import Path

import typer

from handlers.np6 import client
from service.cli import called as calls
from service.cli.called import Called


def called(config: Path, account: str | None) -> Called:
    """The account of NP6 that the options name. Raises ConfigurationError, SecretError, CommandError."""
    return calls.called(config, account, "np6")


def target_of(text: str, hint: str = "TARGET") -> str:
    """The target, if it can stand in a path. Raises BadParameter."""
    if not client.addressable(text):
        raise typer.BadParameter(f"{text!r} is no target id", param_hint=hint)
    return text
