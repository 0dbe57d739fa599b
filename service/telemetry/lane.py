"""What lanes and accounts tell, as metrics and as log lines."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import structlog

from contracts.outcomes import DEAD, PAIRS, Outcome, Reason
from service.batching.batcher import Cause
from service.clock import Clock, SystemClock
from service.delivery.chain import Unit
from service.intake.item import Item, outcomes_of
from service.lane.observer import BatchLine
from service.lifecycle import PACED, WAITING_FOR_SLOT, LaneState

from . import metrics as m
from .events import LogEvent
from .metrics import Metrics
from .redaction import SecretStrings
from .throttle import Throttle

_TROUBLE = frozenset({LaneState.HOLDING, LaneState.STOPPED})


class Telemetry:
    """The telemetry of one process. ``secrets`` are never printed: whoever reads a secret adds it."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.metrics = Metrics()
        self.secrets = SecretStrings()
        self.clock: Clock = clock or SystemClock()


class LaneTelemetry:
    """A lane's observer (``service.lane.observer``). Its instruments are bound once: per event it costs a
    fraction of a microsecond. Only batches, changes and faults are logged, and of equal faults one in ten
    seconds.
    """

    def __init__(self, telemetry: Telemetry, lane: str) -> None:
        metrics, self._lane = telemetry.metrics, lane
        self._clock = telemetry.clock
        self._log = structlog.get_logger(lane=lane)
        self._throttle = Throttle()
        self._operations_family = metrics[m.OPERATIONS]
        self._events = {outcome: metrics[m.EVENTS].counter(lane, outcome.value) for outcome in Outcome}
        self._operations: dict[tuple[str, Outcome | None], Any] = {}
        self._batch_events = {cause: metrics[m.BATCH_EVENTS].histogram(lane, cause.value) for cause in Cause}
        self._retries_family = metrics[m.RETRIES]
        self._dead_letters = {
            reason: metrics[m.DEAD_LETTERS].counter(lane, reason.value)
            for outcome in Outcome
            if outcome in DEAD
            for reason in PAIRS[outcome]
            if reason is not None
        }
        self._replays = metrics[m.REPLAYS].counter(lane)
        self._lost_records = metrics[m.LOST_RECORDS].counter(lane)
        self._end_to_end = metrics[m.END_TO_END_SECONDS].histogram(lane)
        self._settle = metrics[m.SETTLE_SECONDS].histogram(lane)
        self._states = {state: metrics[m.LANE_STATE].gauge(lane, state.value) for state in LaneState}
        self.lag_records = metrics[m.LAG_RECORDS].gauge(lane)
        self.useful_lag_records = metrics[m.USEFUL_LAG_RECORDS].gauge(lane)
        self.oldest_unfinished_seconds = metrics[m.OLDEST_UNFINISHED_SECONDS].gauge(lane)
        self.in_flight = metrics[m.IN_FLIGHT].gauge(lane)
        self._show_state(LaneState.STANDBY)

    # -- per batch and per event

    def batch_dispatched(self, cause: Cause, events: int) -> None:
        """A batch was closed."""
        self._batch_events[cause].observe(events)

    def batch_ended(self, batch: BatchLine, seconds: float) -> None:
        """The canonical line of a batch."""
        self._log.info(
            LogEvent.BATCH,
            batch_id=batch.id,
            cause=batch.cause,
            events=batch.events,
            operations=batch.operations,
            outcomes={outcome.value: count for outcome, count in batch.outcomes.items()},
            seconds=round(seconds, 4),
        )

    def unit_ended(self, unit: Unit) -> None:
        """A call reached its end, for one or more equal operations."""
        self._count_operations(unit.operation.kind, unit.operation.outcome, len(unit.members))

    def operations_ended(self, kind: str, outcome: Outcome, count: int) -> None:
        """So many operations of one batch reached the same end."""
        self._count_operations(kind, outcome, count)

    def _count_operations(self, kind: str, outcome: Outcome | None, count: int) -> None:
        key = (kind, outcome)
        counter = self._operations.get(key)
        if counter is None:
            text = outcome.value if outcome is not None else "none"
            counter = self._operations[key] = self._operations_family.counter(self._lane, kind, text)
        counter.inc(count)

    def retried(self, cause: str) -> None:
        """An operation waits for another try."""
        self._retries_family.counter(self._lane, str(cause)).inc()

    def settled(self, items: Sequence[Item], seconds: float, now_ms: int) -> None:
        """A settling transaction was committed."""
        self._settle.observe(seconds)
        for outcome, count in outcomes_of(items).items():
            self._events[outcome].inc(count)
            if outcome in DEAD:
                self._count_dead(items, outcome)
        timestamps = np.fromiter([item.record.timestamp for item in items], np.float64, len(items))
        self._end_to_end.observe_many(np.maximum(0.0, now_ms - timestamps[timestamps >= 0]) / 1000)
        replays = len(items) - [item.replay for item in items].count(None)
        if replays:
            self._replays.inc(replays)

    def _count_dead(self, items: Sequence[Item], outcome: Outcome) -> None:
        for item in items:
            if item.outcome is outcome and item.reason is not None:
                self._dead_letters[item.reason].inc()

    # -- changes

    def state_changed(self, state: LaneState, reason: str | None) -> None:
        """The lane's state or reason is another."""
        self._show_state(state)
        trouble = state in _TROUBLE and reason not in (None, WAITING_FOR_SLOT, PACED)
        log = self._log.warning if trouble else self._log.info
        log(LogEvent.LANE_STATE, state=state, reason=reason)

    def _show_state(self, state: LaneState) -> None:
        for other, gauge in self._states.items():
            gauge.set(1.0 if other is state else 0.0)

    def assigned(self, partitions: int, fresh: int, seconds: float, steps_s: Mapping[str, float]) -> None:
        """The lane reads ``partitions``, of which ``fresh`` have no committed offset, after so many ``seconds``;
        ``steps_s`` says where they went, each step by its name with ``_s``."""
        self._log.info(LogEvent.ASSIGNED, partitions=partitions, fresh=fresh, seconds=round(seconds, 3), **steps_s)

    def read_back(self, partitions: int, seconds: float) -> None:
        """The dedupe windows of ``partitions`` had to be read back, which took so many seconds."""
        self._log.info(LogEvent.READ_BACK, partitions=partitions, seconds=round(seconds, 3))

    def revoked(self, unfinished: int, seconds: float) -> None:
        """The lane gave its partitions back; ``unfinished`` events are left to their next owner."""
        self._log.info(LogEvent.REVOKED, unfinished=unfinished, seconds=round(seconds, 3))

    # -- faults

    def fenced(self) -> None:
        """A settlement came from a generation of the group that has ended."""
        self._log.warning(LogEvent.FENCED)

    def place_taken_back(self) -> None:
        """The lane joins its group again in the place of another member under its instance id."""
        self._log.warning(LogEvent.PLACE_TAKEN_BACK)

    def transaction_lost(self, why: str) -> None:
        """The outcome of a settlement is unknown."""
        self._warn(("lost", why), LogEvent.TRANSACTION_LOST, why=why)

    def records_lost(self, topic: str, partition: int, first: int, end: int) -> None:
        """The offsets from ``first`` to before ``end`` are gone."""
        self._lost_records.inc(end - first)
        self._log.error(LogEvent.RECORDS_LOST, topic=topic, partition=partition, first=first, end=end)

    def offset_behind(self, topic: str, partition: int, told: int | None, settled: int) -> None:
        """The group's offset lies behind what the lane has settled, or is undecided: it goes on from ``settled``."""
        self._log.error(LogEvent.OFFSET_BEHIND, topic=topic, partition=partition, told=told, settled=settled)

    def dedupe_shortened(self, topic: str, partition: int) -> None:
        """The dedupe windows took more memory than the lane's buffer."""
        self._warn(("dedupe", topic), LogEvent.DEDUPE_SHORTENED, topic=topic, partition=partition)

    def metadata_ignored(self, topic: str, partition: int, fault: str) -> None:
        """What finished beyond the commit is not known."""
        self._log.warning(LogEvent.METADATA_IGNORED, topic=topic, partition=partition, fault=fault)

    def unparsable(self, topic: str, partition: int, offset: int) -> None:
        """The client cannot parse a record."""
        self._warn(("unparsable", topic), LogEvent.UNPARSABLE, topic=topic, partition=partition, offset=offset)

    def handler_fault(self, kind: str, stack: Sequence[str], reason: Reason) -> None:
        """Our own code failed."""
        place = stack[-1] if stack else ""
        held_back = self._throttle.passes((kind, place), self._clock.monotonic())
        if held_back is not None:
            self._log.error(LogEvent.HANDLER_FAULT, kind=kind, stack=list(stack), reason=reason, held_back=held_back)

    def kafka_error(self, kind: str) -> None:
        """The Kafka client failed."""
        self._warn(("kafka", kind), LogEvent.KAFKA_ERROR, kind=kind)

    def _warn(self, key: tuple[str, str], event: LogEvent, **values: object) -> None:
        held_back = self._throttle.passes(key, self._clock.monotonic())
        if held_back is not None:
            self._log.warning(event, held_back=held_back, **values)


class AccountTelemetry:
    """An account's observer. ``lane`` is empty where the account does not know for which lane it sends."""

    def __init__(self, telemetry: Telemetry, account: str, lane: str = "") -> None:
        metrics, self._account, self._lane = telemetry.metrics, account, lane
        self._requests_family = metrics[m.REQUESTS]
        self._requests: dict[str, Any] = {}
        self._seconds = metrics[m.REQUEST_SECONDS].histogram(lane, account)
        self._breaker_open = metrics[m.BREAKER_OPEN].gauge(lane, account)
        self._remaining = metrics[m.RATE_LIMIT_REMAINING].gauge(lane, account)
        self._concurrency = metrics[m.CONCURRENCY_LIMIT].gauge(lane, account)

    def request_ended(self, status: str, seconds: float) -> None:
        """``status`` is the HTTP status, or the failure's kind."""
        counter = self._requests.get(status)
        if counter is None:
            counter = self._requests_family.counter(self._lane, self._account, status)
            self._requests[status] = counter
        counter.inc()
        self._seconds.observe(seconds)

    def show(self, *, breaker_open: bool, remaining: int | None, concurrency_limit: float | None) -> None:
        """Set the account's gauges; called before a scrape."""
        self._breaker_open.set(float(breaker_open))
        self._remaining.set(remaining)
        self._concurrency.set(concurrency_limit)
