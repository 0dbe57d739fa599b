"""What a person sees of the demo: a table that lives on a terminal, plain lines elsewhere."""

from collections import deque
from collections.abc import Mapping, Sequence

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from contracts.outcomes import DEAD, Outcome
from service.demo.aftermath import DeadLetters
from service.status import LaneStatus

_STATE_STYLES = {"running": "green", "full": "yellow", "holding": "bold red", "paused": "yellow", "stopped": "red"}
_RATE_OVER_S = 2.0
# What waits for less is on its way.
_WORTH_TELLING_S = 1.0


class LaneView(msgspec.Struct):
    """One lane at one moment. ``settled`` is by outcome."""

    status: LaneStatus
    settled: Mapping[Outcome, int]
    per_s: float

    @property
    def total(self) -> int:
        return sum(self.settled.values())

    @property
    def lag(self) -> int | None:
        """None if it is not known of every partition."""
        lags = [part.lag for part in self.status.partitions]
        known = [lag for lag in lags if lag is not None]
        return sum(known) if lags and len(known) == len(lags) else None

    @property
    def unfinished(self) -> int:
        return sum(part.unfinished for part in self.status.partitions)

    @property
    def oldest(self) -> tuple[float, str] | None:
        """How old the oldest unfinished event is, and what it waits for."""
        ages = [
            (part.oldest_unfinished_s, part.waits_for or "")
            for part in self.status.partitions
            if part.oldest_unfinished_s is not None
        ]
        return max(ages, default=None)


class Rate:
    """How many a second, over the last two seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def per_s(self, count: int, now: float) -> float:
        """``now`` is monotonic, in seconds."""
        self._seen.append((now, count))
        while len(self._seen) > 2 and now - self._seen[0][0] > _RATE_OVER_S:
            self._seen.popleft()
        since, before = self._seen[0]
        return (count - before) / (now - since) if now > since else 0.0


def live_table(title: str, lanes: Sequence[LaneView]) -> RenderableType:
    """The lanes as they are now."""
    table = _table()
    table.add_column("lane", no_wrap=True)
    table.add_column("state", min_width=8, no_wrap=True)
    for name, width in (("lag", 6), ("in flight", 9), ("retrying", 8), ("settled", 7), ("per s", 6)):
        table.add_column(name, justify="right", min_width=width, no_wrap=True)
    for lane in lanes:
        status = lane.status
        table.add_row(
            Text(status.lane, style="bold"),
            Text(status.state, style=_STATE_STYLES.get(status.state, "dim")),
            _number(lane.lag),
            _number(status.in_flight),
            _number(status.retrying),
            _number(lane.total),
            _number(round(lane.per_s)),
        )
    notes = [note for lane in lanes for note in _notes(lane)]
    return Group(Text(title, style="bold"), Text(), table, Text(), *notes)


def plain_line(title: str, lanes: Sequence[LaneView]) -> str:
    """The same on a line."""
    return " | ".join([title, *(_plain(lane) for lane in lanes)])


def dead_letter_table(of_lanes: Mapping[str, DeadLetters]) -> Table:
    """Dead letters by reason."""
    table = _table()
    for name in ("lane", "dead letters because"):
        table.add_column(name, no_wrap=True)
    table.add_column("count", justify="right")
    for lane, dead in of_lanes.items():
        for (outcome, reason), number in sorted(dead.counts.items()):
            table.add_row(Text(lane, style="bold"), f"{outcome}: {reason}", _number(number))
    return table


def _table() -> Table:
    """Narrow enough for 80 columns."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


def _notes(lane: LaneView) -> list[Text]:
    """Outcomes, why the lane is not running, and what its oldest event waits for."""
    status = lane.status
    told = Text(" · ").join(
        Text(f"{name} {count:,}", style="red" if name in DEAD else "") for name, count in lane.settled.items() if count
    )
    lines = [Text.assemble((f"{status.lane}: ", "bold"), told or "nothing settled yet")]
    if status.reason is not None:
        lines.append(Text(f"  why {status.state}: {status.reason}", style=_STATE_STYLES.get(status.state, "dim")))
    if lane.oldest is not None and lane.oldest[0] > _WORTH_TELLING_S:
        age_s, waits_for = lane.oldest
        lines.append(Text(f"  oldest event, {age_s:.1f} s: {waits_for}", style="dim"))
    return lines


def _plain(lane: LaneView) -> str:
    status = lane.status
    state = status.state if status.reason is None else f"{status.state} ({status.reason})"
    lag = "?" if lane.lag is None else f"{lane.lag:,}"
    return f"{status.lane}: {state}, lag {lag}, in flight {status.in_flight}, settled {lane.total:,}"


def _number(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
