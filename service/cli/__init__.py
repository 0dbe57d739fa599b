"""The commands. Each module holds one of them, or one group; here they get their names.

A module is imported when its command is called: what starts often, a lane's process, does not wait for the others.
"""

from importlib import import_module
from typing import Any

import typer
from typer.main import get_group

from service.cli.failures import Commands

# In the order of the help, groups last; each command's module and what it is there: a function, or a group of commands.
_PLACES = {
    "run": ("run", "run"),
    "demo": ("demo", "demo"),
    "status": ("status", "status"),
    "results": ("results", "results"),
    "audit": ("audit", "audit_command"),
    "explain": ("explain", "explain"),
    "check": ("check", "check"),
    "validate": ("validate", "validate"),
    "publish": ("publish", "publish"),
    "kafka": ("kafka", "kafka"),
    "sandbox": ("sandbox", "sandbox"),
    "lanes": ("lanes", "app"),
    "topics": ("topics", "app"),
    "contracts": ("contracts", "app"),
    "np6": ("np6", "app"),
    "apsis": ("apsis", "app"),
    "copernica": ("copernica", "app"),
}


class _Everything(Commands):
    """All commands, each imported when it is looked at; who names one that does not exist is told of all."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_PLACES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        for name in [cmd_name] if cmd_name in _PLACES else _PLACES:
            if name not in self.commands:
                self.add_command(_imported(name), name)
        return super().get_command(ctx, cmd_name)


def _application(cls: type[Commands]) -> typer.Typer:
    made = typer.Typer(
        cls=cls,
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # they show the values of frames, secrets among them
        add_completion=False,
        rich_markup_mode="markdown",
        help="Fanline carries contact and notification events from Kafka to marketing platforms, and tells of each "
        "event what became of it.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong use, configuration or an unreadable secret.",
    )

    @made.callback()
    def _commands() -> None:
        # Without it an application of a single command would hide the command's name.
        pass

    return made


def _imported(name: str) -> Any:
    """The command as the whole application would have it."""
    module, attribute = _PLACES[name]
    found = getattr(import_module(f"service.cli.{module}"), attribute)
    alone = _application(Commands)
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=name)
    else:
        alone.command(name)(found)
    return get_group(alone).commands[name]


app = _application(_Everything)

__all__ = ["app"]
