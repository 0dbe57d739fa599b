"""``fanline check``."""

import asyncio
from typing import Annotated

import typer

from service.app import KINDS, PLATFORMS, Application
from service.checking import check_accounts, check_kafka, check_lanes, remarks
from service.cli.failures import CommandError, ExitCode, faults_text
from service.cli.options import ConfigOption, DrainOption, JsonOption, duration
from service.cli.output import console, counted, print_findings, print_json, quiet_libraries
from service.config import Configuration, ConfigurationError, Fault, check_drain, check_secrets, load, secrets_of
from service.findings import Finding, Severity
from service.kafka.connection import connection_arguments


def check(
    config: ConfigOption,
    online: Annotated[
        bool,
        typer.Option(
            "--online", help="Also ask Kafka (features, topics, sizes, rights) and each account (one reading call)."
        ),
    ] = False,
    drain: DrainOption = "25s",
    as_json: JsonOption = False,
) -> None:
    """Look at a configuration before it is used: every fault at once, with its place, and whether every secret can
    be read.

    With `--online` each finding is an error (a lane would not start, would stop, or a guarantee would not hold), a
    warning or a note, and says what to do. Nothing is changed: of each lane a transactional id ending in
    `fanline-check` is taken, each account is asked for a target that does not exist, and what lanes of imports name
    (section, keyspaces, topics, attributes' versions; the import of NP6) is looked for.

    Exits with 2 if the configuration is refused, with 1 if there is an error.
    """
    quiet_libraries()
    faults, configuration = _read(config, duration(drain))
    if faults or configuration is None:
        if not as_json:
            raise CommandError(faults_text(faults), ExitCode.USAGE)
        print_json({"ok": False, "faults": faults, "findings": []})
        raise typer.Exit(ExitCode.USAGE)
    findings = list(remarks(configuration))
    if online:
        findings += asyncio.run(_online(configuration))
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    if as_json:
        print_json({"ok": not errors, "faults": [], "findings": findings})
    else:
        _print(configuration, findings, errors, online=online)
    raise typer.Exit(ExitCode.FAILED if errors else ExitCode.DONE)


def _read(config: ConfigOption, drain_s: float) -> tuple[list[Fault], Configuration | None]:
    try:
        configuration = load(config, KINDS)
    except ConfigurationError as error:
        return list(error.faults), None
    faults = [*check_drain(configuration, drain_s), *check_secrets(configuration)]
    if not faults:
        connection_arguments(configuration.kafka)  # certificates: raises StartError, which names them
    return faults, configuration


async def _online(config: Configuration) -> list[Finding]:
    application = Application(config)
    handlers = {name: application.handler(lane) for name, lane in config.lanes.items()}
    return [
        *await check_kafka(config),
        *await check_accounts(config, PLATFORMS),
        *await check_lanes(config, PLATFORMS, handlers),
    ]


def _print(config: Configuration, findings: list[Finding], errors: int, *, online: bool) -> None:
    print_findings(findings)
    secrets = len(list(secrets_of(config)))
    lanes, accounts = counted(len(config.lanes), "lane"), counted(len(config.accounts), "account")
    console().print(f"The configuration is in order: {lanes}, {accounts}, {counted(secrets, 'secret')} readable.")
    if online:
        console().print(f"Looked at Kafka and the platforms: {counted(errors, 'error')}.")
