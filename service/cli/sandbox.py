"""``fanline sandbox``."""

import asyncio
import os
from typing import Annotated

import typer

from handlers.apsis.sandbox import ApsisSandbox
from handlers.copernica.sandbox import CopernicaSandbox
from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox import SandboxServer, serve
from service.cli.failures import CommandError
from service.cli.signals import until_signal
from service.config.checks import host_port_problem, is_loopback

DEFAULT_LISTEN = "127.0.0.1:8090"


def sandbox(
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.")
    ] = DEFAULT_LISTEN,
) -> None:
    """Run the platforms, imitated, until Ctrl-C: for trials and for tests of your own.

    Every account exists, every key is right and every target known, unless told otherwise over HTTP below
    `/__sandbox__`: prescribed answers, outages, faults by chance. Every call is recorded.
    """
    if problem := host_port_problem(listen, lowest=0):
        raise typer.BadParameter(problem, param_hint="--listen")
    if not is_loopback(listen.rpartition(":")[0].strip("[]")):
        typer.echo("warning: whoever reaches this address can change the sandbox and read its calls", err=True)
    try:
        asyncio.run(
            until_signal(
                serve(listen, ready=_tell, np6=Np6Sandbox(), apsis=ApsisSandbox(), copernica=CopernicaSandbox())
            )
        )
    except OSError as error:
        raise CommandError(f"--listen {listen}: {os.strerror(error.errno or 0)}; choose another address") from None


def _tell(server: SandboxServer) -> None:
    control = f"{server.url}/__sandbox__"
    np6, apsis = server.base_url("np6", "np6-main"), server.base_url("apsis", "apsis-eu")
    copernica = server.base_url("copernica", "copernica")
    typer.echo(
        f"""The sandbox listens at {server.url}

An account's base_url is {server.url}/<platform>/<account>, for instance
  accounts:
    np6-main: {{platform: np6, base_url: "{np6}", api_key: {{env: NP6_API_KEY}}}}
    apsis-eu: {{platform: apsis, base_url: "{apsis}", client_id: {{env: APSIS_CLIENT_ID}},
               client_secret: {{env: APSIS_CLIENT_SECRET}}, upload_hosts: [s3.eu-west-1.amazonaws.com]}}
    copernica: {{platform: copernica, base_url: "{copernica}",
                token_url: "{copernica}/token", access_token: {{env: COPERNICA_TOKEN}}}}
with any key that is not empty.

Prescribe answers: the next two calls for target T1 get a 500, then things go on as usual
  curl {control}/prescribe -d '{{"answers": [500, 500], "match": {{"target": "T1"}}}}'
A 429 that asks for 2 seconds of patience, for whichever call comes next
  curl {control}/prescribe -d '{{"answers": [{{"status": 429, "headers": {{"Retry-After": "2"}}}}]}}'
An account that is dead for ten seconds
  curl {control}/mode -d '{{"mode": "unavailable", "account": "np6-main", "for_s": 10}}'
What has been called
  curl {control}/calls
"""
    )
    typer.echo("Ctrl-C ends it.", err=True)
