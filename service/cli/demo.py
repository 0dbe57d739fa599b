"""``fanline demo``."""

import asyncio
import shutil
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from service.cli.failures import CommandError, ExitCode
from service.cli.output import console, quiet_libraries
from service.config.checks import host_port_problem
from service.demo import Demo, Options


def demo(
    events: Annotated[
        int,
        typer.Option(
            "--events",
            "-n",
            min=1,
            max=1_000_000,
            metavar="N",
            help="How many about contacts; half as many notifications come with them.",
        ),
    ] = 5_000,
    faults: Annotated[
        bool,
        typer.Option(
            "--faults",
            help="The platforms fail as platforms do: errors, resets, lost answers, slow ones, requests for patience, "
            "receivers that are refused, and an outage of some seconds.",
        ),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep everything running afterwards, to look around, until Ctrl-C.")
    ] = False,
    kafka: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Use this Kafka, without encryption and passwords, instead of starting one. The demo's topics have "
            "names of their own there and are deleted at the end, unless `--keep`.",
        ),
    ] = None,
) -> None:
    """See it work: Kafka, the platforms imitated, events of two kinds, six lanes, and a count of what became of each.

    Needs nothing but this machine; the first start downloads Apache Kafka (43 MB) into the user's cache. At the end
    the topics are read back: exit code 0 means that each event has exactly one result in each lane and that no workflow
    was executed twice, 1 that it is not so.
    """
    quiet_libraries()
    if kafka is not None and (problem := host_port_problem(kafka, lowest=1)):
        raise typer.BadParameter(problem, param_hint="--kafka")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        proven = runner.run(_run(Options(events=events, faults=faults, keep=keep, kafka=kafka)))
    raise typer.Exit(ExitCode.DONE if proven else ExitCode.FAILED)


async def _run(options: Options) -> bool:
    demo = Demo(options, console(), program=_program())
    running = asyncio.ensure_future(demo.run())
    interrupted = False

    def stop() -> None:
        nonlocal interrupted
        if not demo.enough() or interrupted:
            running.cancel()
        interrupted = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await running
    except asyncio.CancelledError:
        if not interrupted:
            raise
        raise CommandError("interrupted; everything that the demo started has been ended") from None
    return demo.proven


def _program() -> str:
    """How to call us from this shell."""
    called = Path(sys.argv[0])
    if called.name != "fanline":
        return "python -m service"
    found = shutil.which("fanline")
    if found is not None and Path(found).resolve() == called.resolve():
        return "fanline"
    here = Path.cwd()
    return str(called.relative_to(here) if called.is_relative_to(here) else called)
