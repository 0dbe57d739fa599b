"""The commands. Each module holds one of them, or one group; here they get their names."""

import typer

from service.cli import (
    apsis,
    audit,
    check,
    contracts,
    copernica,
    demo,
    explain,
    kafka,
    lanes,
    np6,
    publish,
    results,
    run,
    sandbox,
    status,
    topics,
    validate,
)
from service.cli.failures import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they show the values of frames, secrets among them
    add_completion=False,
    rich_markup_mode="markdown",
    help="Fanline carries contact and notification events from Kafka to marketing platforms, and tells of each event "
    "what became of it.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong use, configuration or an unreadable secret.",
)
app.command("run")(run.run)
app.command("demo")(demo.demo)
app.command("status")(status.status)
app.add_typer(lanes.app, name="lanes")
app.command("results")(results.results)
app.command("audit")(audit.audit_command)
app.command("explain")(explain.explain)
app.command("check")(check.check)
app.add_typer(topics.app, name="topics")
app.command("validate")(validate.validate)
app.command("publish")(publish.publish)
app.add_typer(contracts.app, name="contracts")
app.add_typer(np6.app, name="np6")
app.add_typer(apsis.app, name="apsis")
app.add_typer(copernica.app, name="copernica")
app.command("kafka")(kafka.kafka)
app.command("sandbox")(sandbox.sandbox)


@app.callback()
def _commands() -> None:
    # Without it an application of a single command would hide the command's name.
    pass


__all__ = ["app"]
