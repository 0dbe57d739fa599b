"""``fanline copernica …``: the platform's calls that no lane makes."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from handlers.base import Answer
from handlers.copernica import client
from handlers.copernica.wire import ImportStatus, import_id, status_of
from handlers.statuses import End, end_of_call
from service.cli.called import AccountOption, Called, called, is_success, printable
from service.cli.failures import CommandError, ExitCode
from service.cli.options import ConfigOption, JsonOption
from service.cli.output import print_json, print_table
from service.transport.access import version_of

_MAX_FILE_BYTES = 1024 * 1024
_CREATE = "create"

app = typer.Typer(
    no_args_is_help=True,
    help="Call Copernica by hand, with an account of the configuration: its token, timeouts, certificates and proxy.",
)


@app.callback()
def _commands() -> None:
    # Without it an application of a single command would hide the command's name.
    pass


@app.command("import")
def import_(
    what: Annotated[str, typer.Argument(metavar="ID|create", help="The platform's number of an import; or `create`.")],
    config: ConfigOption,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="With `create`: its parameters, a JSON object as the platform has it."),
    ] = None,
    account: AccountOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far an import is, or create one from a `location`.

    `create FILE` sends the parameters in FILE as they stand: `database`, `name`, `action`, `keyFields` and the
    `location` that the platform reads the rows from. It is sent once: without an answer nobody can tell whether there
    is an import. `removeMissing` is refused here, because it deletes profiles.

    Exits with 1 if the platform does not know the import, refuses it, or does not answer.
    """
    if what == _CREATE:
        if file is None:
            raise typer.BadParameter("is needed with `create`", param_hint="FILE")
        parameters = _parameters(file)
        _create(called(config, account, "copernica"), parameters, as_json=as_json)
        return
    if file is not None:
        raise typer.BadParameter("has a meaning with `create` alone", param_hint="FILE")
    try:
        client.import_status(what, 4)
    except ValueError:
        raise typer.BadParameter(f"{what!r} is neither an import's number nor `create`", param_hint="ID") from None
    _show(called(config, account, "copernica"), what, as_json=as_json)


def _show(asked: Called, number: str, *, as_json: bool) -> None:
    reply = asyncio.run(asked.ask(client.import_status(number, version_of(asked.account))))
    if not isinstance(reply, Answer) or not is_success(reply):
        raise CommandError(asked.trouble(reply))
    status = None if reply.truncated else status_of(reply.body)
    if status is None:
        raise CommandError(f"account {asked.name}: the platform answered {reply.status} and no import's status")
    if status.error is not None:
        status = msgspec.structs.replace(status, error=asked.masked(status.error))
    if as_json:
        print_json({"account": asked.name, "import": number, "status": status})
    else:
        columns = ["import", "status", "lines", "processed", "error"]
        print_table(columns, [_row(number, status)], right=["lines", "processed"])


def _create(asked: Called, parameters: bytes, *, as_json: bool) -> None:
    doubt = "an import may have been created: look for it in the platform before you try again"
    try:
        reply = asyncio.run(asked.ask(client.create_import(parameters, version_of(asked.account))))
    except KeyboardInterrupt:
        raise CommandError(f"Interrupted. In doubt: {doubt}.") from None
    end = end_of_call(reply)
    if isinstance(reply, Answer) and 300 <= reply.status < 400:
        end = End.IN_DOUBT  # a redirect came after the effect, as older versions answered
    match end:
        case End.REFUSED:
            raise CommandError(f"{asked.trouble(reply)}. Nothing was created.")
        case End.IN_DOUBT:
            raise CommandError(f"{asked.trouble(reply, advise=False)}. In doubt: {doubt}.")
    number = import_id(reply.headers) if isinstance(reply, Answer) else None
    if number is None:
        typer.echo("The import was created, but the answer does not say its number.", err=True)
    if as_json:
        print_json({"account": asked.name, "import": number})
    elif number is not None:
        typer.echo("Created.", err=True)
        typer.echo(number)


def _parameters(file: Path) -> bytes:
    """What is sent: the file as it is. Raises CommandError for what the platform could not take."""
    try:
        with open(file, "rb") as stream:
            content = stream.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CommandError(f"{file}: {os.strerror(error.errno or 0)}", ExitCode.USAGE) from None
    if len(content) > _MAX_FILE_BYTES:
        raise CommandError(f"{file}: is larger than 1 MiB; rows come from a location", ExitCode.USAGE)
    try:
        parameters = msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CommandError(f"{file}: is no JSON object: {error}", ExitCode.USAGE) from None
    for name in ("database", "action"):
        if name not in parameters:
            raise CommandError(f"{file}: {name} is required", ExitCode.USAGE)
    if not isinstance(parameters.get("location"), str):
        raise CommandError(f"{file}: location is required: where the platform reads the rows", ExitCode.USAGE)
    if parameters.get("removeMissing"):
        raise CommandError(f"{file}: removeMissing deletes every profile that is not among the rows", ExitCode.USAGE)
    return content


def _row(number: str, status: ImportStatus) -> list[str]:
    counts = ["-" if count is None else f"{count:,}" for count in (status.total, status.processed)]
    return [number, printable(status.status or "-"), *counts, status.error or "-"]
