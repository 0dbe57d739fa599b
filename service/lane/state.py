"""What the lane is doing now, and why: for people, for the account's shares, and for deadlines."""

from collections.abc import Callable

from service.imports.way import ImportWay
from service.intake.assignment import READING_BACK
from service.lane.core import Core
from service.lane.delivering import Delivering
from service.lane.denials import unseen
from service.lifecycle import LaneState, StateBoard


class StateKeeper:
    """Keeps the lane's board. It is refreshed whenever something may have changed, and several times a second."""

    def __init__(self, core: Core, delivering: Delivering, *, held_time_changed: Callable[[], None]) -> None:
        """``held_time_changed``: what the journal says of the time in which the lane was held is not all any more."""
        self._setup = core.setup
        self._account = core.means.account
        self._control = core.means.control
        self._client = core.means.client
        self._observer = core.means.observer
        self._clock = core.means.clock
        self._group = core.group
        self._buffer = core.buffer
        self._troubles = core.troubles
        self._held_times = core.held_times
        self._delivering = delivering
        self._held_time_changed = held_time_changed
        self.board = StateBoard(self._clock.wall_ms())

    def stopped(self, reason: str | None) -> None:
        """The lane goes on no more."""
        self._set(LaneState.STOPPED, reason)

    def refresh(self) -> None:
        """Work it out anew."""
        if self.board.state is LaneState.STOPPED:
            return
        # The account's limits are shared as the lane's partitions are.
        self._account.take_share(self._setup.name, self._group.part)
        state, reason = self._state_now()
        if self.board.state is LaneState.DRAINING and state is not LaneState.DRAINING:
            self._set(LaneState.STANDBY, "gave its partitions back")
        self._set(state, reason)
        self._note_held_time()

    def _set(self, state: LaneState, reason: str | None) -> None:
        if self.board.set(state, reason, self._clock.wall_ms()):
            self._observer.state_changed(state, reason)

    def _state_now(self) -> tuple[LaneState, str | None]:
        assignment, troubles, dispatcher = self._group.assignment, self._troubles, self._delivering.dispatcher
        if self._group.draining:
            return LaneState.DRAINING, "giving partitions back"
        if (paused := dispatcher.paused) is not None and self._control.pause() is None:
            return LaneState.HOLDING, f"kafka: {paused}"
        if paused is not None:
            trouble = troubles.gap if troubles.kafka is None else f"kafka: {troubles.kafka}"
            return LaneState.PAUSED, paused if trouble is None else f"{paused}; {trouble}"
        if troubles.kafka is not None:
            return LaneState.HOLDING, f"kafka: {troubles.kafka}"
        if troubles.place is not None:
            return LaneState.HOLDING, f"kafka: {troubles.place}"
        if (reason := troubles.beginning) is not None:
            return LaneState.HOLDING, reason
        if (told := troubles.denials.reason(self._clock.monotonic())) is not None:
            return LaneState.HOLDING, f"kafka: {told}"
        if assignment is None or not assignment.active:
            return LaneState.STANDBY, "waiting for partitions"
        if missing := self._group.view.missing:
            told = f"topic {missing[0]} has no metadata"
            return LaneState.HOLDING, unseen(missing[0], self._client.cluster.unauthorized_topics, told)
        if not assignment.tps:
            return LaneState.STANDBY, "other members have all partitions"
        if dispatcher.hold is not None:
            return LaneState.HOLDING, dispatcher.hold.reason
        if not self._setup.dry_run and (reason := self._account.holding()) is not None:
            return LaneState.HOLDING, reason
        if not assignment.ready:
            return LaneState.STANDBY, "reading offsets"
        bulks = self._delivering.bulks
        if isinstance(bulks, ImportWay) and (reason := bulks.waits_for()) is not None:
            return LaneState.HOLDING, reason
        if self._buffer.full:
            return LaneState.FULL, f"the buffer of {self._buffer.max_bytes} bytes is full"
        if (waiting := assignment.reading_back) and waiting == sum(
            not s.is_replay for s in assignment.partitions.values()
        ):
            return LaneState.STANDBY, READING_BACK
        return LaneState.RUNNING, f"{READING_BACK} of {waiting} partitions" if waiting else None

    def _note_held_time(self) -> None:
        """What is held goes on through a rebalance: until the offsets are known nothing says that its cause is gone."""
        now_ms, assignment, held = self._clock.wall_ms(), self._group.assignment, self._held_times
        if (pause := self._control.pause()) is not None:
            held.begin(now_ms, pause.at_ms if pause.at_ms >= 0 else None)
        elif self._counts_as_held():
            held.begin(now_ms)
        elif assignment is None or assignment.ready or not assignment.active:
            held.end(now_ms)
        if held.changed:
            held.changed = False
            self._held_time_changed()

    def _counts_as_held(self) -> bool:
        """Whether this time is taken off the age of events: not for an outage or a rate limit of the platform."""
        if self._troubles.beginning is not None:
            return True
        return self._delivering.dispatcher.hold is not None or self._account.refused is not None
