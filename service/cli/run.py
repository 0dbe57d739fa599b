"""``fanline run``: the service, until a signal."""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvloop

from service.app import KINDS, VERSION, Application
from service.checking import start_problems
from service.cli.failures import CommandError, ExitCode, faults_text, leaves, told_of
from service.cli.options import ConfigOption, DrainOption, duration
from service.config import Configuration, check_drain, check_secrets, load, secrets_of
from service.http import serve
from service.lifecycle import LaneState
from service.status.reporting import reporting
from service.telemetry import LogEvent, Telemetry, configure_logging, log_loop_error
from service.watching import watching

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# What is alive after the start lives on; what a batch leaves behind is freed by counting references. The collector
# has to find cycles alone, and those are few. It looks at 10,000 new objects at a time, for 40,000 were a turn of 20 to
# 35 ms, and 400,000 of 130; and at each of them once: what is left of them then lives as long as its batch, whose end
# frees it. Among all that lives it looks every 18 million new ones.
_GC_THRESHOLDS = (10_000, 1_800, 0)


def run(
    config: ConfigOption,
    lane: Annotated[
        list[str] | None,
        typer.Option(metavar="LANE", help="Run this lane alone; may be repeated. Default: all lanes of the file."),
    ] = None,
    drain: DrainOption = "25s",
) -> None:
    """Run lanes until SIGTERM or Ctrl-C.

    Then no new call is started, those under way end and are settled within `--drain`, and the exit code is 0. A
    second signal ends the process at once; nothing is lost by it, but calls under way may be made again.

    Refuses to start without its topics: `fanline topics ensure` makes them.
    """
    drain_s = duration(drain)
    configuration = load(config, KINDS)
    faults = [*check_drain(configuration, drain_s), *check_secrets(configuration)]
    if faults:
        raise CommandError(faults_text(faults), ExitCode.USAGE)
    lanes = _lanes(configuration, lane, config)
    telemetry = Telemetry()
    for _, secret in secrets_of(configuration):
        telemetry.secrets.add(secret.read())
    configure_logging(configuration.log.level, configuration.log.format, secrets=telemetry.secrets)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_Process(configuration, lanes, drain_s, telemetry).run())
    raise typer.Exit(code)


def _lanes(config: Configuration, wanted: Sequence[str] | None, file: Path) -> list[str]:
    for name in wanted or ():
        if name not in config.lanes:
            known = ", ".join(sorted(config.lanes))
            raise CommandError(f"--lane {name}: there is no such lane in {file}; it has: {known}", ExitCode.USAGE)
    return list(dict.fromkeys(wanted or config.lanes))


def tune_collector() -> None:
    """Have the garbage collector look for cycles seldom, and never among what the start has made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


class _Process:
    """One process of the service: signals, the order of starting, and the exit code."""

    def __init__(self, config: Configuration, lanes: Sequence[str], drain_s: float, telemetry: Telemetry) -> None:
        self._config = config
        self._lanes = lanes
        self._drain_s = drain_s
        self._telemetry = telemetry
        self._stop = asyncio.Event()
        self._log = structlog.get_logger()

    async def run(self) -> ExitCode:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(log_loop_error)
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)
        if not await self._checked_kafka():
            return ExitCode.DONE
        application = Application(self._config, lanes=self._lanes, drain_s=self._drain_s, telemetry=self._telemetry)
        try:
            async with application, _http_server(application) as url:
                self._log.info(
                    LogEvent.STARTED, version=VERSION, instance=application.instance, lanes=list(self._lanes), http=url
                )
                tune_collector()
                async with reporting(application), watching(application):
                    await application.run(self._stop)
        except Exception as error:
            self._log_faults(error)
            raise
        self._log.info(LogEvent.STOPPED)
        return self._code(application)

    def _signalled(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            self._log.warning(LogEvent.STOPPED, signal=number.name, why="a second signal: ended at once")
            os._exit(ExitCode.FAILED)
        self._log.info(LogEvent.STOPPING, signal=number.name, drain_s=self._drain_s)
        self._stop.set()

    async def _checked_kafka(self) -> bool:
        """Whether the lanes can work; False if a signal came first. Raises CommandError with what they lack."""
        checking = asyncio.ensure_future(_refuse_in_vain(self._config, self._lanes))
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([checking, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not checking.done():
                return False
            checking.result()
            return True
        finally:
            for task in (checking, stopped):
                task.cancel()
            await asyncio.gather(checking, stopped, return_exceptions=True)

    def _log_faults(self, error: Exception) -> None:
        for each in leaves(error):
            if told_of(each) is None:
                self._log.critical(LogEvent.CRASHED, exc_info=each)

    def _code(self, application: Application) -> ExitCode:
        """Failed if every lane has stopped by itself. Raises CommandError with their reasons."""
        boards = {name: lane.board for name, lane in application.lanes.items()}
        ended = [name for name, board in boards.items() if board.state is LaneState.STOPPED and board.reason]
        if self._stop.is_set() or len(ended) < len(boards):
            return ExitCode.DONE
        reasons = "".join(f"\n  {name}: {boards[name].reason}" for name in ended)
        raise CommandError(f"every lane has stopped by itself:{reasons}")


async def _refuse_in_vain(config: Configuration, lanes: Sequence[str]) -> None:
    """Raises CommandError if the lanes could not work, or Kafka cannot be reached."""
    if problems := await start_problems(config, lanes):
        raise CommandError("\n".join(problems))


@asynccontextmanager
async def _http_server(application: Application) -> AsyncIterator[str | None]:
    """Health, metrics and status, if the configuration asks for them; where they are served."""
    if application.config.http is None:
        yield None
        return
    async with serve(application, application.config.http.listen) as endpoint:
        yield endpoint.url
