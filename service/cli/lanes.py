"""``fanline lanes …``: an operator's hand on lanes that run."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from contracts.control import AccountKey, Action, GuardKey, Key, LaneKey, Order, Release, Switch
from contracts.timestamps import instant_text
from service.app import KINDS
from service.cli import positions
from service.cli.failures import CommandError, ExitCode
from service.cli.operating import ReasonOption, checked_lane, checked_reason, now_ms
from service.cli.options import ConfigOption, JsonOption
from service.cli.output import print_json, print_table, quiet_libraries
from service.config import Configuration, load
from service.control.ordering import give_orders, read_orders, who_orders
from service.control.orders import Orders, Pause
from service.kafka.connection import connection_arguments
from service.kafka.names import control_topic

app = typer.Typer(
    no_args_is_help=True,
    help="Pause and resume lanes, let them go on behind lost records, move and copy where they read.",
)

LaneArgument = Annotated[
    str | None, typer.Argument(metavar="LANE", help="The lane, by its name in the configuration.", show_default=False)
]
AccountOption = Annotated[
    str | None,
    typer.Option(
        "--account", metavar="ACCOUNT", help="All lanes on this account instead of one lane.", show_default=False
    ),
]


@app.command("list")
def list_(config: ConfigOption, as_json: JsonOption = False) -> None:
    """The lanes of the configuration, and which of them an operator has paused.

    What each lane is doing in each process tells `fanline status`.
    """
    quiet_libraries()
    configuration = load(config, KINDS)
    orders = asyncio.run(_orders(configuration))
    pauses = {name: orders.pause_of(name, lane.account) for name, lane in configuration.lanes.items()}
    if as_json:
        print_json({"lanes": [_line(configuration, name, pause) for name, pause in pauses.items()]})
        return
    rows = []
    for name, lane in configuration.lanes.items():
        pause = pauses[name]
        rows.append([name, lane.handler, lane.account, "" if pause is None else pause.describe()])
    print_table(["lane", "handler", "account", "order"], rows)


@app.command("pause")
def pause(config: ConfigOption, reason: ReasonOption, lane: LaneArgument = None, account: AccountOption = None) -> None:
    """Pause a lane, or all lanes of an account, in every process.

    Within a second no call that changes the platform starts. Calls that run are brought to their end and their results
    are published; what only asks the platform goes on. Nothing is lost: the lane reads on where it stopped. A pause
    survives restarts, and time in it does not count against a lane's `deadline`.
    """
    quiet_libraries()
    configuration, why = load(config, KINDS), checked_reason(reason)
    key = _key(configuration, lane, account)
    _give(configuration, {key: Switch(Action.PAUSE, who_orders(), why, now_ms())})
    typer.echo(f"{_named(key)}: paused. No new call starts in any process; calls that run are brought to their end.")


@app.command("resume")
def resume(
    config: ConfigOption, reason: ReasonOption, lane: LaneArgument = None, account: AccountOption = None
) -> None:
    """Let a lane, or all lanes of an account, go on.

    It also ends what a lane holds for by itself: its guard begins anew, and credentials, rights or an address that
    the platform refused are tried at once. Lanes paused one by one stay so when their account is resumed.
    """
    quiet_libraries()
    configuration, why = load(config, KINDS), checked_reason(reason)
    key, by, at_ms = _key(configuration, lane, account), who_orders(), now_ms()
    orders: dict[Key, Order] = {key: Switch(Action.RESUME, by, why, at_ms)}
    released = [lane] if lane is not None else [n for n, of in configuration.lanes.items() if of.account == account]
    orders |= {GuardKey(name): Release(by, why, at_ms) for name in released}
    _give(configuration, orders)
    typer.echo(f"{_named(key)}: resumed.")
    after = asyncio.run(_orders(configuration))
    for name in released:
        if (still := after.pause_of(name, configuration.lanes[name].account)) is not None:
            typer.echo(f"lane {name} is still {still.describe()}")


def _key(config: Configuration, lane: str | None, account: str | None) -> Key:
    """Whom the order is for. Raises CommandError."""
    if (lane is None) == (account is None):
        raise CommandError("give one lane, or --account ACCOUNT for all lanes of an account", ExitCode.USAGE)
    if lane is not None:
        return LaneKey(checked_lane(config, lane))
    assert account is not None
    if account not in config.accounts:
        known = ", ".join(sorted(config.accounts))
        raise CommandError(f"--account {account}: there is no such account; the file has: {known}", ExitCode.USAGE)
    return AccountKey(account)


def _named(key: Key) -> str:
    return f"account {key.account}" if isinstance(key, AccountKey) else f"lane {key.lane}"


def _give(config: Configuration, orders: Mapping[Key, Order]) -> None:
    topic = control_topic(config.kafka.topic_prefix)
    asyncio.run(give_orders(connection_arguments(config.kafka), topic, orders))


async def _orders(config: Configuration) -> Orders:
    return await read_orders(connection_arguments(config.kafka), control_topic(config.kafka.topic_prefix))


def _line(config: Configuration, name: str, pause: Pause | None) -> dict[str, Any]:
    lane = config.lanes[name]
    told = None
    if pause is not None:
        told = {"account": pause.account, "by": pause.by, "why": pause.why, "at": instant_text(pause.at_ms)}
    return {"lane": name, "handler": lane.handler, "account": lane.account, "paused": told}


app.command("accept-loss")(positions.accept_loss)
app.command("seek")(positions.seek)
app.command("copy")(positions.copy)
