"""``fanline np6 segments``."""

import asyncio
from typing import Annotated

import typer

from handlers.base import Answer
from handlers.np6 import client
from handlers.np6.wire import segment_list
from handlers.statuses import Row, row_of
from service.cli.called import AccountOption, is_success
from service.cli.failures import CommandError
from service.cli.np6.naming import called, target_of
from service.cli.options import ConfigOption, JsonOption
from service.cli.output import counted, print_json, print_table


def segments(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="NP6's id of the target, e.g. 000PKXK4.")],
    config: ConfigOption,
    account: AccountOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the segments that a target is in.

    Exits with 1 if the platform does not know the target or does not answer.
    """
    asked = called(config, account)
    reply = asyncio.run(asked.ask(client.segments_of(target_of(target))))
    if isinstance(reply, Answer) and row_of(reply.status) in (Row.NOT_FOUND, Row.GONE):
        raise CommandError(f"account {asked.name}: the platform knows no target {target} ({reply.status})")
    if not isinstance(reply, Answer) or not is_success(reply):
        raise CommandError(asked.trouble(reply))
    found = None if reply.truncated else segment_list(reply.body)
    if found is None:
        raise CommandError(
            f"account {asked.name}: the platform answered {reply.status} and no list of segments; "
            f"see accounts.{asked.name}.base_url"
        )
    if as_json:
        print_json({"account": asked.name, "target": target, "segments": sorted(found)})
    else:
        print_table(["segment"], [[str(segment)] for segment in sorted(found)], right=["segment"])
        typer.echo(f"{target} is in {counted(len(found), 'segment')}", err=True)
