"""``fanline lanes accept-loss``, ``seek`` and ``copy``: where a lane reads, and what it has lost."""

import asyncio
import re
from typing import Annotated

import typer
from aiokafka.structs import TopicPartition

from contracts.timestamps import parse_rfc3339_ms
from service.app import KINDS
from service.cli.failures import CommandError, ExitCode
from service.cli.operating import ReasonOption, checked_lane, checked_reason, now_ms
from service.cli.options import ConfigOption, JsonOption
from service.cli.output import counted, print_json, print_table, quiet_libraries
from service.config import Configuration, load
from service.config.checks import LANE_NAME
from service.control import moving
from service.control.desk import desk
from service.control.losing import LostRange, lost_ranges, orders_for
from service.control.moving import Copied, Move, Target
from service.control.ordering import give_orders, who_orders
from service.kafka.connection import connection_arguments
from service.kafka.names import control_topic, lane_names

LaneArgument = Annotated[
    str, typer.Argument(metavar="LANE", help="The lane, by its name in the configuration.", show_default=False)
]


def accept_loss(lane: LaneArgument, config: ConfigOption, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Let a lane that holds with `lost: …` go on without what it lost.

    Records that retention removed before they were read are gone: the ranges that are missing now are given up, and
    the lane goes on at the first record that exists. Where the group's offsets are lost, it reads from that record on,
    and delivers again what it had delivered already; `fanline lanes seek` moves it elsewhere first.

    What was given up, by whom and when, stands in the lane's journal for ever, and the audit counts it as lost.
    """
    quiet_libraries()
    configuration, why = load(config, KINDS), checked_reason(reason)
    checked_lane(configuration, lane)
    ranges = asyncio.run(_accept(configuration, lane, why))
    if as_json:
        print_json({"lane": lane, "accepted": ranges})
        return
    if not ranges:
        typer.echo(f"lane {lane}: nothing is lost. No order was given.")
        return
    rows = [[each.topic, str(each.partition), str(each.from_offset), _last(each), _what(each)] for each in ranges]
    print_table(["topic", "partition", "from offset", "to offset", "lost"], rows, right=["from offset", "to offset"])
    typer.echo(f"lane {lane}: given up. It goes on within a second, or when a process runs it.")


async def _accept(config: Configuration, lane: str, why: str) -> list[LostRange]:
    arguments = connection_arguments(config.kafka)
    async with desk(arguments) as at:
        ranges = await lost_ranges(at, lane_names(config.kafka.topic_prefix, lane), config.lanes[lane].topics)
    if ranges:
        orders = orders_for(lane, ranges, by=who_orders(), why=why, at_ms=now_ms())
        await give_orders(arguments, control_topic(config.kafka.topic_prefix), orders)
    return ranges


def _last(lost: LostRange) -> str:
    return str(lost.to_offset - 1) if lost.to_offset > lost.from_offset else "-"


def _what(lost: LostRange) -> str:
    return f"the group's offset; read again from {lost.to_offset}" if lost.offsets_lost else "records"


def seek(
    lane: LaneArgument,
    config: ConfigOption,
    reason: ReasonOption,
    to: Annotated[
        list[str],
        typer.Option(
            "--to",
            metavar="WHERE",
            help="`earliest`, `latest`, a time such as 2026-11-22T08:00:00Z, or one partition's TOPIC:PARTITION:OFFSET "
            "(may be repeated; other partitions stay where they are).",
            show_default=False,
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Move where a lane reads its source topics. Refused while a process runs the lane.

    Forward, the events that are passed over are never delivered: the audit counts them as lost. Backward, events are
    delivered again, and have results again with the same ids. The replay topic is not moved.
    """
    quiet_libraries()
    configuration, why = load(config, KINDS), checked_reason(reason)
    checked_lane(configuration, lane)
    target = target_of(to)
    moves = asyncio.run(_seek(configuration, lane, target, why))
    if as_json:
        print_json({"lane": lane, "moves": moves})
        return
    rows = [
        [m.topic, str(m.partition), "-" if m.before is None else str(m.before), str(m.after), _way(m)] for m in moves
    ]
    print_table(["topic", "partition", "before", "now", ""], rows, right=["before", "now"])
    typer.echo(f"lane {lane}: moved. It reads from there when a process runs it.")


async def _seek(config: Configuration, lane: str, target: Target, why: str) -> list[Move]:
    names = lane_names(config.kafka.topic_prefix, lane)
    async with desk(connection_arguments(config.kafka), transactions=_transactions(config)) as at:
        return await moving.seek(
            at, names, config.lanes[lane].topics, target, by=who_orders(), why=why, now_ms=now_ms()
        )


def _transactions(config: Configuration) -> bool:
    return config.kafka.delivery == "exactly_once"


def _row(move: Move) -> list[str]:
    before = "-" if move.before is None else str(move.before)
    return [move.topic, str(move.partition), before, str(move.after), _way(move)]


def _way(move: Move) -> str:
    if move.before is None or move.before == move.after:
        return ""
    passed = counted(abs(move.after - move.before), "offset")
    return f"{passed} passed over" if move.after > move.before else f"{passed} back"


def target_of(to: list[str]) -> Target:
    """What ``--to`` means. Raises CommandError."""
    if len(to) == 1:
        if to[0] in ("earliest", "latest"):
            return Target(to[0])  # type: ignore[arg-type] # one of the two words
        if (time_ms := parse_rfc3339_ms(to[0])) is not None:
            return Target("time", time_ms)
    offsets: dict[TopicPartition, int] = {}
    for text in to:
        place = re.fullmatch(r"([A-Za-z0-9._-]+):(\d{1,9}):(\d{1,18})", text)
        if place is None or re.match(r"\d{4}-\d\d-\d\dT", text):  # a time without a zone looks like a place
            expected = "earliest, latest, a time with its zone (2026-11-22T08:00:00Z), or TOPIC:PARTITION:OFFSET"
            raise CommandError(f"--to {text}: expected {expected}", ExitCode.USAGE)
        offsets[TopicPartition(place[1], int(place[2]))] = int(place[3])
    return Target("offset", offsets=offsets)


def copy(
    old: Annotated[
        str, typer.Argument(metavar="OLD", help="The lane that stopped; it may be gone from the configuration.")
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The lane that goes on from there.")],
    config: ConfigOption,
    reason: ReasonOption,
    as_json: JsonOption = False,
) -> None:
    """Begin a lane where another one stopped: a lane's name is its identity, and this is how it gets another one.

    Copies the offsets, with what had been finished beyond them, and what the journal says of beginnings, losses and
    held time. If OLD is gone from the configuration, NEW takes over what OLD had begun and may not repeat; else that
    stays OLD's. Dead letters, replays and their log stay with OLD. Refused while a process runs either lane, or if NEW
    has begun elsewhere.
    """
    quiet_libraries()
    configuration, why = load(config, KINDS), checked_reason(reason)
    checked_lane(configuration, new)
    if re.match(LANE_NAME, old) is None or old.endswith("\n") or old == new:
        raise CommandError(f"{old}: not the name of another lane", ExitCode.USAGE)
    copied = asyncio.run(_copy(configuration, old, new, why))
    if as_json:
        print_json({"old": old, "new": new, "copied": copied})
        return
    rows = [[move.topic, str(move.partition), str(move.after)] for move in copied.moves]
    print_table(["topic", "partition", "offset"], rows, right=["offset"])
    for place in copied.not_copied:
        typer.echo(f"not copied: {place}, which {new} does not read")
    begun = f"; {counted(copied.deliveries, 'delivery')} that {old} had begun" if copied.deliveries else ""
    typer.echo(f"lane {new} begins where {old} stopped: {counted(len(copied.moves), 'partition')}{begun}.")


async def _copy(config: Configuration, old: str, new: str, why: str) -> Copied:
    prefix = config.kafka.topic_prefix
    async with desk(connection_arguments(config.kafka), transactions=_transactions(config)) as at:
        return await moving.copy(
            at,
            lane_names(prefix, old),
            lane_names(prefix, new),
            config.lanes[new].topics,
            deliveries=old not in config.lanes,
            by=who_orders(),
            why=why,
            now_ms=now_ms(),
        )
