"""``fanline np6 imports``."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from handlers.base import Answer, Request
from handlers.np6 import client
from handlers.statuses import End, Row, end_of_call, row_of
from service.cli.called import AccountOption, Called, is_success, printable
from service.cli.failures import CommandError, ExitCode
from service.cli.np6.naming import called
from service.cli.options import ConfigOption, JsonOption
from service.cli.output import counted, print_table

_MAX_INT32 = 2**31 - 1
_MAX_FILE_BYTES = 1024 * 1024

app = typer.Typer(no_args_is_help=True, help="Imports: list them, show one, make one of a definition.")


@app.command("list")
def list_(config: ConfigOption, account: AccountOption = None, as_json: JsonOption = False) -> None:
    """List the account's imports. With `--json` each is shown whole, as the platform answered it."""
    asked = called(config, account)
    body = _read(asked, client.imports(), "imports")
    found = _decoded(asked, body, list[dict[str, Any]])
    if as_json:
        typer.echo(msgspec.json.format(body, indent=2).decode())  # its own bytes: nothing is lost or rounded
        return
    columns = ["id", "name", "binding", "source", "folder", "features"]
    print_table(columns, [_row(one) for one in found], right=["id", "binding"])
    typer.echo(counted(len(found), "import"), err=True)


@app.command("show")
def show(
    import_id: Annotated[
        int, typer.Argument(metavar="ID", help="NP6's id of the import.", min=0, max=_MAX_INT32, show_default=False)
    ],
    config: ConfigOption,
    account: AccountOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one import. With `--json` whole, as the platform answered it.

    Exits with 1 if the platform does not know it.
    """
    asked = called(config, account)
    body = _read(asked, client.import_of(import_id), f"import {import_id}")
    _show(asked, body, as_json=as_json)


@app.command("create")
def create(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The definition: a JSON object as the platform has it.")],
    config: ConfigOption,
    account: AccountOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an import of a definition, and show it.

    A definition whose name an import has already makes none. It is sent once: without an answer nobody can tell whether
    there is an import now.

    Exits with 1 if none was made, or if nobody can tell.
    """
    content, definition = _definition(file)
    asked = called(config, account)
    named = definition["name"]
    for one in _decoded(asked, _read(asked, client.imports(), "imports"), list[dict[str, Any]]):
        if one.get("name") == named:
            raise CommandError(f"account {asked.name}: import {one.get('id')} has this name already; nothing was made")
    doubt = f"an import named {printable(named)} may have been made: `np6 imports list` tells"
    try:
        reply = asyncio.run(asked.ask(client.create_import(content)))
    except KeyboardInterrupt:
        raise CommandError(f"Interrupted. In doubt: {doubt}.") from None
    match end_of_call(reply):
        case End.REFUSED:
            raise CommandError(f"{asked.trouble(reply)}. Nothing was made.")
        case End.IN_DOUBT:
            raise CommandError(f"{asked.trouble(reply, advise=False)}. In doubt: {doubt}.")
    assert isinstance(reply, Answer)
    _show(asked, reply.body, as_json=as_json)


def _read(asked: Called, request: Request, what: str) -> bytes:
    reply = asyncio.run(asked.ask(request))
    if isinstance(reply, Answer) and row_of(reply.status) in (Row.NOT_FOUND, Row.GONE):
        raise CommandError(f"account {asked.name}: the platform knows no {what} ({reply.status})")
    if not isinstance(reply, Answer) or not is_success(reply):
        raise CommandError(asked.trouble(reply))
    if reply.truncated:
        raise CommandError(f"account {asked.name}: the answer is too long to be shown")
    return reply.body


def _decoded(asked: Called, body: bytes, shape: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        place = f"accounts.{asked.name}.base_url"
        raise CommandError(f"account {asked.name}: the platform answered no imports; see {place}") from None


def _definition(file: Path) -> tuple[bytes, dict[str, Any]]:
    """The file as it is, and what it says. Raises CommandError for what is no definition."""
    try:
        with open(file, "rb") as stream:
            content = stream.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CommandError(f"{file}: {os.strerror(error.errno or 0)}", ExitCode.USAGE) from None
    try:
        definition = msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CommandError(f"{file}: is no JSON object: {error}", ExitCode.USAGE) from None
    for name, kind in (("name", str), ("binding", int), ("source", dict)):
        if not isinstance(definition.get(name), kind) or not definition[name]:
            raise CommandError(f"{file}: {name} is required", ExitCode.USAGE)
    return content, definition


def _show(asked: Called, body: bytes, *, as_json: bool) -> None:
    found = _decoded(asked, body, dict[str, Any])
    if as_json:
        typer.echo(msgspec.json.format(body, indent=2).decode())
        return
    rows = [[name, _shown(value)] for name, value in found.items() if name not in ("features", "source")]
    rows += [["source", _source(found)], ["folder", _folder(found)], ["features", _features(found)]]
    print_table(["field", "value"], rows)


def _row(one: dict[str, Any]) -> list[str]:
    fields = [_shown(one.get(name)) for name in ("id", "name", "binding")]
    return [*fields, _source(one), _folder(one), _features(one)]


def _source(one: dict[str, Any]) -> str:
    source = one.get("source")
    return _shown(source.get("type")) if isinstance(source, dict) else "-"


def _folder(one: dict[str, Any]) -> str:
    source = one.get("source")
    return _shown(source.get("folder")) if isinstance(source, dict) else "-"


def _features(one: dict[str, Any]) -> str:
    features = one.get("features")
    if not isinstance(features, list):
        return "-"
    return ", ".join(_shown(feature.get("type")) for feature in features if isinstance(feature, dict)) or "-"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return printable(value if isinstance(value, str) else msgspec.json.encode(value).decode())
