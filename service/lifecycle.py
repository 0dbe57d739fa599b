"""The states of a lane, and which may follow which."""

from enum import StrEnum


class LaneState(StrEnum):
    """What a lane is doing; ``/status``, metrics and logs speak these words.

    standby  -> every other but full                  no partition is assigned, or its offsets are being read
    running  -> every other                           reading, delivering, settling
    full     -> every other                           the buffer is full: intake waits
    holding  -> every other                           somebody else's fault: the reason says whose
    paused   -> every other                           by an operator
    draining -> standby, stopped                      giving partitions back, or going down
    stopped  -> nothing                               it cannot go on: the reason says why
    """

    STANDBY = "standby"
    RUNNING = "running"
    FULL = "full"
    HOLDING = "holding"
    PAUSED = "paused"
    DRAINING = "draining"
    STOPPED = "stopped"


# Why a lane of imports holds whenever its next import waits for the one before: the way it works, and no trouble.
WAITING_FOR_SLOT = "waiting for a slot"
PACED = "rate limit: the platform lets an account create only so many imports a minute"

_ANY = frozenset(LaneState)

FOLLOWS: dict[LaneState, frozenset[LaneState]] = {
    LaneState.STANDBY: _ANY - {LaneState.FULL},
    LaneState.RUNNING: _ANY,
    LaneState.FULL: _ANY,
    LaneState.HOLDING: _ANY,
    LaneState.PAUSED: _ANY,
    LaneState.DRAINING: frozenset({LaneState.DRAINING, LaneState.STANDBY, LaneState.STOPPED}),
    LaneState.STOPPED: frozenset({LaneState.STOPPED}),
}


class StateBoard:
    """A lane's state, its reason, and since when (wall milliseconds). Refuses a transition that is not in the table."""

    def __init__(self, now_ms: int) -> None:
        self.state = LaneState.STANDBY
        self.reason: str | None = "waiting for partitions"
        self.since_ms = now_ms

    def set(self, state: LaneState, reason: str | None, now_ms: int) -> bool:
        """Enter ``state``; whether state or reason changed."""
        if state is self.state and reason == self.reason:
            return False
        if state not in FOLLOWS[self.state]:
            raise ValueError(f"a lane does not go from {self.state} to {state}")
        if state is not self.state:
            self.since_ms = now_ms
        self.state, self.reason = state, reason
        return True
