"""What an orchestrator is told in each state that a lane can be in."""

from types import SimpleNamespace
from typing import Any

import pytest

from service.lifecycle import LaneState
from service.status.health import lane_ready, live, ready

READING = SimpleNamespace(active=True, ready=False, tps={"tp"})
WORKING = SimpleNamespace(active=True, ready=True, tps={"tp"})
EMPTY = SimpleNamespace(active=True, ready=False, tps=set())
OVER = SimpleNamespace(active=False, ready=True, tps={"tp"})


def lane(
    state: LaneState,
    reason: str | None = None,
    *,
    assignment: Any = WORKING,
    stopping: bool = False,
    died: str | None = None,
) -> Any:
    board = SimpleNamespace(state=state, reason=reason)
    return SimpleNamespace(board=board, assignment=assignment, stopping=stopping, died=died)


@pytest.mark.parametrize("state", [LaneState.RUNNING, LaneState.FULL, LaneState.HOLDING, LaneState.PAUSED])
def test_a_lane_that_has_its_place_is_ready(state: LaneState) -> None:
    """Holding is ready: a restart or a turned-away update would not help."""
    assert lane_ready(lane(state, "why")) == (True, f"{state.value}: why")


@pytest.mark.parametrize(
    ("assignment", "is_ready"),
    [(None, False), (READING, False), (EMPTY, True), (OVER, True), (WORKING, True)],
    ids=["never assigned", "reading offsets", "standing by", "between generations", "assigned"],
)
def test_standby_is_ready_unless_it_is_the_beginning(assignment: Any, is_ready: bool) -> None:
    """At the start, and until offsets are known, it is not."""
    assert lane_ready(lane(LaneState.STANDBY, "why", assignment=assignment))[0] is is_ready


def test_giving_partitions_back_is_ready_unless_the_process_stops() -> None:
    """A rebalance turns nobody away; a shutdown does."""
    assert lane_ready(lane(LaneState.DRAINING, "giving partitions back"))[0]
    told = lane_ready(lane(LaneState.DRAINING, "giving partitions back", stopping=True))
    assert told == (False, "stopping: draining: giving partitions back")


def test_lanes_that_have_their_places_are_ready_together() -> None:
    """Whatever each of them does there."""
    app: Any = SimpleNamespace(lanes={"a": lane(LaneState.RUNNING), "b": lane(LaneState.HOLDING, "why")}, stalled={})
    health = ready(app)
    assert health.ok is True
    assert health.lanes == {"a": "running", "b": "holding: why"}


def test_a_stopped_lane_is_not_ready_and_one_is_enough() -> None:
    """The reason is told, and what the others do."""
    app: Any = SimpleNamespace(
        lanes={
            "a": lane(LaneState.STOPPED, "the broker refused: topic x", stopping=True),
            "b": lane(LaneState.RUNNING),
        },
        stalled={},
    )
    health = ready(app)
    assert not health.ok
    assert health.lanes == {"a": "stopped: the broker refused: topic x", "b": "running"}
    assert live(app).ok


def test_only_a_lane_that_died_of_our_fault_needs_a_restart() -> None:
    """It is named with the kind of the error, not its message."""
    app: Any = SimpleNamespace(
        lanes={"a": lane(LaneState.STOPPED, stopping=True, died="KeyError"), "b": lane(LaneState.RUNNING)},
        stalled={},
    )
    health = live(app)
    assert not health.ok
    assert health.lanes == {"a": "died of an internal error: KeyError"}


def test_a_lane_that_stands_still_again_needs_a_new_process() -> None:
    """It is named with what it stands at."""
    app: Any = SimpleNamespace(lanes={"a": lane(LaneState.RUNNING)}, stalled={"a": "stands still again: x-0 offset 7"})
    health = live(app)
    assert not health.ok
    assert health.lanes == {"a": "stands still again: x-0 offset 7"}
