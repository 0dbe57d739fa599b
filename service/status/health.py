"""Whether a process lives and is ready, and why not: what an orchestrator asks.

``live`` fails where only a restart helps: a lane ended of an error of ours, or stands still again soon after
it was restarted. A lane that the broker refused what it must write is no such case: others go on, and a restart would
stop them too. ``ready`` tells whether every lane has found its place: it works, holds, or stands by.
"""

import msgspec

from service.app import Application
from service.lane import Lane
from service.lifecycle import LaneState

_AT_WORK = frozenset({LaneState.RUNNING, LaneState.FULL, LaneState.HOLDING, LaneState.PAUSED})


class Health(msgspec.Struct):
    """``lanes`` says of each lane how it is; ``ok`` whether that will do."""

    ok: bool
    lanes: dict[str, str]


def live(app: Application) -> Health:
    """Whether no lane has died, and none stands still again after its restart."""
    dead = dict(app.stalled)
    dead |= {name: f"died of an internal error: {lane.died}" for name, lane in app.lanes.items() if lane.died}
    return Health(not dead, dead)


def ready(app: Application) -> Health:
    """Whether every lane is assigned, stands by or holds."""
    told = {name: lane_ready(lane) for name, lane in app.lanes.items()}
    return Health(all(ok for ok, _ in told.values()), {name: words for name, (_, words) in told.items()})


def lane_ready(lane: Lane) -> tuple[bool, str]:
    """Whether the lane has found its place, and what it is doing."""
    state, reason = lane.board.state, lane.board.reason
    words = state.value if reason is None else f"{state.value}: {reason}"
    if lane.stopping:
        return False, words if state is LaneState.STOPPED else f"stopping: {words}"
    if state in _AT_WORK:
        return True, words
    assignment = lane.assignment
    # Between two generations a lane is as ready as before: it has nothing for a moment.
    if assignment is None or (assignment.active and not assignment.ready and assignment.tps):
        return False, f"starting: {reason}"
    return True, words
