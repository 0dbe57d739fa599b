"""``fanline contracts export``."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from contracts.export import asyncapi, json_schemas
from service.app import KINDS
from service.cli.failures import CommandError
from service.config import configuration_schema

app = typer.Typer(no_args_is_help=True, help="What goes in and what comes out: `export` writes the schemas.")


@app.callback()
def _group() -> None:
    # Without it a group of a single command would hide the command's name.
    pass


@app.command("export")
def export(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", file_okay=False, help="Where to write; made if missing.", show_default=False),
    ],
) -> None:
    """Write the contracts for tools that do not read Python.

    `asyncapi.json` (AsyncAPI 3: topics, messages, headers), `schemas/*.json` (JSON Schema 2020-12, one for each kind
    of record) and `configuration.schema.json` (for editors: completion and checks while one writes the YAML file).
    Files of these names are replaced.
    """
    documents: dict[Path, Any] = {
        Path("asyncapi.json"): asyncapi(),
        Path("configuration.schema.json"): configuration_schema(KINDS),
    }
    documents |= {Path("schemas", f"{name}.json"): schema for name, schema in json_schemas().items()}
    try:
        for name, document in sorted(documents.items()):
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
            typer.echo(file)
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}") from None
