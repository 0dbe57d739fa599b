"""The states of a lane: every pair of them is walked."""

from itertools import product

import pytest

from service.lifecycle import FOLLOWS, LaneState, StateBoard

ALLOWED = {
    LaneState.STANDBY: "standby running holding paused draining stopped",
    LaneState.RUNNING: "standby running full holding paused draining stopped",
    LaneState.FULL: "standby running full holding paused draining stopped",
    LaneState.HOLDING: "standby running full holding paused draining stopped",
    LaneState.PAUSED: "standby running full holding paused draining stopped",
    LaneState.DRAINING: "draining standby stopped",
    LaneState.STOPPED: "stopped",
}


def board_in(state: LaneState) -> StateBoard:
    """A board that was led to the state by allowed steps."""
    board = StateBoard(1000)
    if state not in (LaneState.STANDBY, LaneState.FULL):
        board.set(state, "why", 2000)
    elif state is LaneState.FULL:
        board.set(LaneState.RUNNING, None, 1500)
        board.set(state, "why", 2000)
    return board


@pytest.mark.parametrize(("before", "after"), list(product(LaneState, LaneState)))
def test_every_pair(before: LaneState, after: LaneState) -> None:
    """Only what the table allows; the refused one changes nothing."""
    board = board_in(before)
    reason, since_ms = board.reason, board.since_ms
    if after.value in ALLOWED[before].split():
        assert board.set(after, "another", 3000)
        assert (board.state, board.reason) == (after, "another")
        assert board.since_ms == (since_ms if before is after else 3000)
    else:
        with pytest.raises(ValueError, match=f"from {before} to {after}"):
            board.set(after, "another", 3000)
        assert (board.state, board.reason, board.since_ms) == (before, reason, since_ms)


def test_the_table_is_the_documented_one() -> None:
    """Each state has a row; nothing leads out of stopped."""
    assert {state: {after.value for after in follows} for state, follows in FOLLOWS.items()} == {
        state: set(text.split()) for state, text in ALLOWED.items()
    }


def test_a_lane_begins_on_standby_and_says_why() -> None:
    """The reason is for a person."""
    board = StateBoard(1000)
    assert (board.state, board.reason, board.since_ms) == (LaneState.STANDBY, "waiting for partitions", 1000)


def test_the_same_again_is_no_change() -> None:
    """Whoever asks each quarter of a second tells of nothing; another reason is told, and keeps the time."""
    board = StateBoard(1000)
    assert board.set(LaneState.HOLDING, "a", 2000)
    assert not board.set(LaneState.HOLDING, "a", 3000)
    assert board.set(LaneState.HOLDING, "b", 4000)
    assert board.since_ms == 2000
