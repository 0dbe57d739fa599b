"""Shows the lanes until all of them are through."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from service.app import Application
from service.demo.screen import LaneView, Rate, live_table, plain_line
from service.errors import FanlineError
from service.lifecycle import LaneState
from service.status import LaneStatus, Status, settled_of

_STARTS_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.2
_LINE_EVERY_S = 2.0
# So long nothing may move: longer than any hold that the demo's own faults cause.
_STALLED_AFTER_S = 60.0

Draw = Callable[[str, Sequence[LaneView]], None]


class StalledError(FanlineError):
    """The lanes do not come to an end. The message says how they are."""


async def until_running(app: Application) -> None:
    """Return once every lane runs. Raises StalledError."""
    boards = {name: lane.board for name, lane in app.lanes.items()}
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while waiting := [name for name, board in boards.items() if board.state is not LaneState.RUNNING]:
        if time.monotonic() > deadline:
            told = "; ".join(f"{name} is {boards[name].state}: {boards[name].reason}" for name in waiting)
            raise StalledError(f"not every lane runs after {_STARTS_WITHIN_S:.0f} s: {told}")
        await asyncio.sleep(_LOOK_EVERY_S / 10)


async def watch(
    app: Application, console: Console, *, events: int, of_lane: Mapping[str, int], published: Callable[[], int]
) -> None:
    """Return once ``events`` have been published and every lane has settled its own. Raises StalledError."""
    status, rates = Status(app), {name: Rate() for name in app.lanes}
    moved_at, moved = time.monotonic(), (0, 0)
    with _drawing(console) as draw:
        while True:
            lanes = [_view(app, lane, rates[lane.lane]) for lane in (await status.document()).lanes]
            title = f"{published():,} of {events:,} events published"
            draw(title, lanes)
            settled = all(lane.total >= of_lane[lane.status.lane] and not lane.unfinished for lane in lanes)
            if published() == events and settled:
                return
            now_moved = (published(), sum(lane.total for lane in lanes))
            if now_moved != moved:
                moved, moved_at = now_moved, time.monotonic()
            elif time.monotonic() - moved_at > _STALLED_AFTER_S:
                raise StalledError(f"nothing has moved for {_STALLED_AFTER_S:.0f} s: {plain_line(title, lanes)}")
            await asyncio.sleep(_LOOK_EVERY_S)


def _view(app: Application, lane: LaneStatus, rate: Rate) -> LaneView:
    settled = settled_of(app.telemetry, lane.lane)
    return LaneView(lane, settled, rate.per_s(sum(settled.values()), time.monotonic()))


@contextmanager
def _drawing(console: Console) -> Iterator[Draw]:
    """How the lanes are shown: a table that stays where it is, or a line now and then."""
    if not console.is_terminal:
        yield _lines(console)
        return
    with Live(console=console, auto_refresh=False, transient=False) as live:
        yield lambda title, lanes: live.update(live_table(title, lanes), refresh=True)


def _lines(console: Console) -> Draw:
    next_at = 0.0

    def draw(title: str, lanes: Sequence[LaneView]) -> None:
        nonlocal next_at
        if time.monotonic() >= next_at:
            next_at = time.monotonic() + _LINE_EVERY_S
            console.print(plain_line(title, lanes), markup=False, soft_wrap=True)

    return draw
