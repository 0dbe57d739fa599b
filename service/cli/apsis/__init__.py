"""``fanline apsis …``: the platform's calls that no lane makes."""

import asyncio
from typing import Annotated

import typer

from handlers.apsis import client
from handlers.apsis.imports import ApsisImportsConfig
from handlers.apsis.wire import ImportStatus, status_of
from handlers.base import Answer
from handlers.statuses import Row, row_of
from service.cli.called import AccountOption, Called, called, is_success
from service.cli.failures import CommandError, ExitCode
from service.cli.options import ConfigOption, JsonOption
from service.cli.output import print_json, print_table

app = typer.Typer(
    no_args_is_help=True,
    help="Call Apsis One by hand, with an account of the configuration: its secrets, timeouts, certificates and proxy.",
)


@app.callback()
def _commands() -> None:
    # Without it an application of a single command would hide the command's name.
    pass


@app.command("import")
def import_(
    import_id: Annotated[str, typer.Argument(metavar="ID", help="The platform's id of the import.")],
    config: ConfigOption,
    section: Annotated[
        str | None,
        typer.Option(
            "--section",
            "-s",
            metavar="NAME",
            help="The section that it imports to. May be left out where the account's lanes have one.",
            show_default=False,
        ),
    ] = None,
    account: AccountOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far an import is.

    The platform counts the profiles that failed and never says which.

    Exits with 1 if the platform does not know the import or does not answer.
    """
    asked = called(config, account, "apsis")
    section = section or _section(asked)
    try:
        request = client.import_status(section, import_id)
    except ValueError:
        raise typer.BadParameter("a section's name and an import's id are no paths", param_hint="ID") from None
    reply = asyncio.run(asked.ask(request))
    if isinstance(reply, Answer) and row_of(reply.status) in (Row.NOT_FOUND, Row.GONE):
        unknown = f"the platform knows no import {import_id} in {section} ({reply.status})"
        raise CommandError(f"account {asked.name}: {unknown}")
    if not isinstance(reply, Answer) or not is_success(reply):
        raise CommandError(asked.trouble(reply))
    status = None if reply.truncated else status_of(reply.body)
    if status is None:
        raise CommandError(
            f"account {asked.name}: the platform answered {reply.status} and no import's status; "
            f"see accounts.{asked.name}.base_url"
        )
    if as_json:
        print_json({"account": asked.name, "section": section, "import": import_id, "status": status})
    else:
        print_table(["import", "state", "found", "processed", "failed"], [_row(import_id, status)], right=_COUNTS)


def _section(asked: Called) -> str:
    """The one section of the account's lanes. Raises CommandError."""
    lanes = [lane for lane in asked.config.lanes.values() if lane.account == asked.name]
    sections = {lane.options.section for lane in lanes if isinstance(lane.options, ApsisImportsConfig)}
    if len(sections) == 1:
        return sections.pop()
    known = f"; the file has: {', '.join(sorted(sections))}" if sections else ""
    raise CommandError(f"say which section, with --section{known}", ExitCode.USAGE)


_COUNTS = ["found", "processed", "failed"]


def _row(import_id: str, status: ImportStatus) -> list[str]:
    counts = ["-" if count is None else f"{count:,}" for count in (status.found, status.processed, status.failed)]
    return [import_id, status.state.value, *counts]
