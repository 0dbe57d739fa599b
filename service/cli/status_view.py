"""The tables of ``fanline status``: lanes, why they are not running, and what their oldest events wait for."""

from collections.abc import Iterable, Sequence

import msgspec
from rich.table import Table
from rich.text import Text

from service.cli.output import console
from service.status import LaneStatus
from service.status.document import PartitionStatus, Waiting

_STYLES = {
    "running": "green",
    "full": "yellow",
    "holding": "bold red",
    "paused": "yellow",
    "stopped": "red",
    "silent": "bold red",
}
# Imports of one lane that are told one by one.
_MOST_IMPORTS = 5


class Row(msgspec.Struct, frozen=True):
    """A lane in a process. ``silent_s`` is how long the process has told nothing, if that is too long."""

    instance: str
    lane: LaneStatus
    waiting: Sequence[Waiting] = ()
    silent_s: float | None = None

    @property
    def state(self) -> str:
        return "silent" if self.silent_s is not None else self.lane.state


def print_rows(rows: Sequence[Row]) -> None:
    """All of it, the tables first."""
    out = console()
    out.print(_lanes(rows))
    for row in rows:
        for line in _told(row):
            out.print(line, soft_wrap=True)
    blocked = [(row, part) for row in rows for part in row.lane.partitions if part.unfinished or part.lag]
    if blocked:
        out.print()
        out.print(_partitions(blocked))


def _lanes(rows: Iterable[Row]) -> Table:
    table = _table("lane", "instance", "state")
    # Short, so that 100 columns hold it: events read and not settled, calls under way, calls to be tried again.
    for name in ("parts", "lag", "open", "oldest", "calls", "retry", "breaker", "journal", "dead"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        lane = row.lane
        lags = [part.lag for part in lane.partitions]
        known = [lag for lag in lags if lag is not None]
        ages = [part.oldest_unfinished_s for part in lane.partitions if part.oldest_unfinished_s is not None]
        table.add_row(
            Text(lane.lane, style="bold"),
            row.instance,
            Text(row.state, style=_STYLES.get(row.state, "dim")),
            str(len(lane.partitions)),
            f"{sum(known):,}" if lags and len(known) == len(lags) else "?",
            f"{sum(part.unfinished for part in lane.partitions):,}",
            duration(max(ages)) if ages else "",
            f"{lane.in_flight:,}",
            f"{lane.retrying:,}",
            lane.breaker.state,
            f"{lane.journal_open:,}",
            f"{lane.dead_letters:,}",
        )
    return table


def _told(row: Row) -> Iterable[Text]:
    """Why a lane is not running and since when, until when its breaker is open, and its imports."""
    lane, name = row.lane, f"{row.lane.lane} {row.instance} "
    style = _STYLES.get(row.state, "dim")
    if row.silent_s is not None:
        words = f"silent: nothing heard for {duration(row.silent_s)}; it was {lane.state} then"
        why = "" if lane.reason is None else f": {lane.reason}"
        yield Text.assemble((name, "bold"), (words + why, style))
    elif lane.reason is not None:
        until = "" if lane.breaker.until is None else f"; next try at {lane.breaker.until}"
        yield Text.assemble((name, "bold"), (f"{lane.state}: {lane.reason}", style), f" (since {lane.since}{until})")
    if lane.slots is not None:
        yield Text.assemble((name, "bold"), f"import slots: {lane.slots.owned} owned, {lane.slots.free} free")
    for one in lane.open_imports[:_MOST_IMPORTS]:
        slot = "" if one.slot is None else f", slot {one.slot}"
        told = f"import {one.id or '(no id yet)'}: {one.state}, {one.rows:,} rows, for {duration(one.age_s)}{slot}"
        yield Text.assemble((name, "bold"), told)
    if (more := len(lane.open_imports) - _MOST_IMPORTS) > 0:
        yield Text.assemble((name, "bold"), f"and {more} more imports")


def _partitions(blocked: Iterable[tuple[Row, PartitionStatus]]) -> Table:
    table = _table("lane", "instance", "partition")
    for name in ("lag", "open", "oldest", "offset"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("waits for", overflow="fold")
    for row, part in blocked:
        table.add_row(
            row.lane.lane,
            row.instance,
            f"{part.topic}-{part.partition}",
            "?" if part.lag is None else f"{part.lag:,}",
            f"{part.unfinished:,}",
            "" if part.oldest_unfinished_s is None else duration(part.oldest_unfinished_s),
            _blocking(row, part),
            Text(part.waits_for or ""),
        )
    return table


def _blocking(row: Row, part: PartitionStatus) -> str:
    """The offset of the oldest unfinished event, where the process tells it."""
    offsets = [one.offset for one in row.waiting if (one.topic, one.partition) == (part.topic, part.partition)]
    return f"{min(offsets)}" if offsets else ""


def duration(seconds: float) -> str:
    """``3.4 s``, ``12 m``, ``5 h``, ``3 d``: as much as one needs to know."""
    for bound, unit, size in ((60.0, "s", 1), (3600.0, "m", 60), (172_800.0, "h", 3600)):
        if seconds < bound:
            return f"{seconds:.1f} s" if unit == "s" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table
