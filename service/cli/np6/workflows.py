"""``fanline np6 workflows``."""

import asyncio
import sys
import uuid
from typing import Annotated, Any

import msgspec
import typer

from handlers.base import Answer, Reply, Request
from handlers.np6 import client
from handlers.np6.execution import end_of_execution, execution_body, item_of
from handlers.statuses import End, end_of_call
from service.cli.called import AccountOption, Called, is_success, printable
from service.cli.failures import CommandError, ExitCode
from service.cli.np6.naming import called, target_of
from service.cli.options import ConfigOption, JsonOption
from service.cli.output import print_json, print_table

_MAX_INT32 = 2**31 - 1

WorkflowArgument = Annotated[
    int, typer.Argument(metavar="ID", help="NP6's id of the workflow.", min=0, max=_MAX_INT32, show_default=False)
]

app = typer.Typer(no_args_is_help=True, help="Workflows: copy one, or execute one for one target.")


@app.command("duplicate")
def duplicate(
    workflow: WorkflowArgument, config: ConfigOption, account: AccountOption = None, as_json: JsonOption = False
) -> None:
    """Make a copy of a workflow, and show it.

    With `--json` it is shown whole, as the platform answered it.

    Exits with 1 if it was not copied, or if nobody can tell: a call without an answer is not made again, because there
    may be a copy already.
    """
    asked = called(config, account)
    doubt = f"a copy of workflow {workflow} may have been made: look for it in the platform before you try again"
    reply = _called_once(asked, client.duplicate_workflow(workflow), doubt)
    _refuse_unknown(asked, reply, f"workflow {workflow}")
    match end_of_call(reply):
        case End.REFUSED:
            raise CommandError(f"{asked.trouble(reply)}. Nothing was copied.")
        case End.IN_DOUBT:
            raise CommandError(f"{asked.trouble(reply, advise=False)}. In doubt: {doubt}.")
    copy = _object(reply)
    if copy is None:
        raise CommandError(
            f"account {asked.name}: the platform has made a copy of workflow {workflow}, but its answer cannot be "
            "read. Look for it in the platform."
        )
    if as_json:
        typer.echo(msgspec.json.format(copy, indent=2).decode())  # its own bytes: nothing is lost or rounded
    else:
        _print_workflow(msgspec.json.decode(copy))


@app.command("execute")
def execute(
    workflow: WorkflowArgument,
    config: ConfigOption,
    receiver: Annotated[
        str, typer.Option("--receiver", metavar="TARGET", help="NP6's id of the target that it is executed for.")
    ],
    node: Annotated[
        str | None, typer.Option(metavar="NODE", help="The node to start at. Default: the workflow's own entry.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="JSON", help="What the workflow is given: a JSON object, e.g. '{\"a\": 1}'.")
    ] = None,
    account: AccountOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Execute a workflow for one target: it may send a real message to a real person.

    Asks first; away from a terminal it needs `--yes`. The execution gets an id, which is shown before the call.

    Exits with 1 if it was not executed, or if nobody can tell: a call without an answer is not made again, because the
    message may be on its way.
    """
    given = _data(data)
    if node is not None and not client.addressable(node):
        raise typer.BadParameter(f"{node!r} is no node", param_hint="--node")
    target = target_of(receiver, "--receiver")
    asked = called(config, account)
    execution = str(uuid.uuid4())
    if not yes:
        _ask(asked, workflow, target, node)
    typer.echo(f"Execution {execution} of workflow {workflow} for target {target} on account {asked.name}", err=True)
    doubt = f"execution {execution} may have been performed: look for it in the platform before you try again"
    body = execution_body(execution, target=target, node=node, data=given)
    reply = _called_once(asked, client.execute_once(workflow, body), doubt)
    _refuse_unknown(asked, reply, f"workflow {workflow} or target {target}")
    match end_of_execution(reply):
        case End.DONE:
            _print_done(reply, asked, workflow, target, execution, as_json=as_json)
        case End.REFUSED:
            raise CommandError(f"{_refusal(asked, reply)}. Nothing was executed.")
        case End.IN_DOUBT:
            raise CommandError(f"{_doubtful(asked, reply)}. In doubt: {doubt}.")


def _called_once(asked: Called, request: Request, doubt: str) -> Reply:
    try:
        return asyncio.run(asked.ask(request))
    except KeyboardInterrupt:
        raise CommandError(f"Interrupted. In doubt: {doubt}.") from None


def _refuse_unknown(asked: Called, reply: Reply, named: str) -> None:
    if isinstance(reply, Answer) and reply.status in (404, 410):
        raise CommandError(f"{asked.trouble(reply)}. It says so of {named}; nothing was done.")


def _refusal(asked: Called, reply: Reply) -> str:
    if isinstance(reply, Answer) and is_success(reply):
        item = item_of(reply)
        said = None if item is None or item.text is None else asked.masked(item.text)
        return f"account {asked.name}: the platform refused the execution{f': {said}' if said else ''}"
    return asked.trouble(reply)


def _doubtful(asked: Called, reply: Reply) -> str:
    if isinstance(reply, Answer) and is_success(reply):
        return f"account {asked.name}: the platform answered {reply.status}, but nothing that says what became of it"
    return asked.trouble(reply, advise=False)


def _data(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text.encode(), type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise typer.BadParameter("expected a JSON object", param_hint="--data") from None


def _ask(asked: Called, workflow: int, target: str, node: str | None) -> None:
    if not _is_terminal():
        raise CommandError("nobody is here to be asked; --yes executes it without asking", ExitCode.USAGE)
    at = "" if node is None else f", from node {node}"
    question = (
        f"Execute workflow {workflow} for target {target}{at}, on account {asked.name} ({asked.account.base_url})?"
    )
    if not typer.confirm(question, err=True):
        raise CommandError("Nothing was executed.")


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _print_done(reply: Reply, asked: Called, workflow: int, target: str, execution: str, *, as_json: bool) -> None:
    if not as_json:
        typer.echo("Executed.", err=True)
        typer.echo(execution)
        return
    answer = msgspec.Raw(reply.body) if isinstance(reply, Answer) else None
    print_json(
        {"account": asked.name, "workflow": workflow, "target": target, "execution": execution, "answer": answer}
    )


def _object(reply: Reply) -> bytes | None:
    """The answer's body, if it is one whole JSON object."""
    if not isinstance(reply, Answer) or reply.truncated:
        return None
    try:
        msgspec.json.decode(reply.body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return reply.body


def _print_workflow(workflow: dict[str, Any]) -> None:
    """The fields that say what it is; of lists how long they are; of all others that they are there."""
    rows = [[name, _shown(value)] for name, value in workflow.items()]
    print_table(["field", "value"], rows)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} of them" if value else "none"
    if isinstance(value, dict):
        return ", ".join(value) if value else "empty"
    text = msgspec.json.encode(value).decode() if not isinstance(value, str) else value
    return printable(text)
