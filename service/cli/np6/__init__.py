"""``fanline np6 …``: the platform's calls that no lane makes. Each module holds one of them, or one group."""

import typer

from service.cli.np6.imports import app as imports_app
from service.cli.np6.notifications import notifications as list_notifications
from service.cli.np6.segments import segments as list_segments
from service.cli.np6.workflows import app as workflows_app

app = typer.Typer(
    no_args_is_help=True,
    help="Call NP6 by hand, with an account of the configuration: its key, timeouts, certificates and proxy.",
)
app.command("segments")(list_segments)
app.command("notifications")(list_notifications)
app.add_typer(workflows_app, name="workflows")
app.add_typer(imports_app, name="imports")

__all__ = ["app"]
