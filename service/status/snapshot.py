"""Builds the status of a process from its lanes."""

import asyncio
from collections.abc import Mapping
from math import inf

from contracts.outcomes import DEAD, Outcome
from contracts.timestamps import instant_text, rfc3339_ms
from service.app import VERSION, Application
from service.clock import Clock
from service.config import config_fingerprint
from service.delivery.breaker import Breaker
from service.imports.way import ImportWay
from service.intake.assignment import READING_BACK
from service.intake.item import Item
from service.lane import Lane
from service.lifecycle import LaneState
from service.status.document import (
    BreakerStatus,
    ImportStatus,
    LaneReport,
    LaneStatus,
    PartitionStatus,
    SlotStatus,
    StatusDocument,
)
from service.status.longest import longest_waiting
from service.status.reading import Reading, Readings
from service.status.waiting import Waits
from service.telemetry import Telemetry
from service.telemetry import metrics as m


class Status:
    """Answers what one process is doing. One for as long as the application runs."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self._readings: dict[str, Readings] = {}
        self._fingerprints = {name: config_fingerprint(app.config.lanes[name]) for name in app.lanes}

    async def readings(self) -> dict[str, list[Reading]]:
        """Where each lane stands in its partitions."""
        now = self.app.clock.monotonic()
        found = {}
        for name in self.app.lanes:
            found[name] = await self._readings_of(name).read(now)
            await _others_go_on()
        return found

    def _readings_of(self, name: str) -> Readings:
        """Of the lane that runs now: one that stood still has been replaced."""
        lane, readings = self.app.lanes[name], self._readings.get(name)
        if readings is None or readings.lane is not lane:
            readings = self._readings[name] = Readings(lane)
        return readings

    async def document(self) -> StatusDocument:
        """What ``/status`` answers."""
        readings = await self.readings()
        lanes = []
        for name in self.app.lanes:
            lanes.append(self._lane(name, readings[name]))
            await _others_go_on()
        return StatusDocument(instance=self.app.instance, version=VERSION, lanes=lanes)

    async def reports(self, interval_s: float) -> list[LaneReport]:
        """What the status topic is told; ``interval_s`` is how often."""
        readings = await self.readings()
        reports = []
        for name in self.app.lanes:
            status = self._lane(name, readings[name])
            await _others_go_on()
            reports.append(self._report(status, interval_s))
            await _others_go_on()
        return reports

    def _report(self, status: LaneStatus, interval_s: float) -> LaneReport:
        lane, clock = self.app.lanes[status.lane], self.app.clock
        return LaneReport(
            **{name: getattr(status, name) for name in LaneStatus.__struct_fields__},
            instance=self.app.instance,
            version=VERSION,
            time=rfc3339_ms(clock.wall_ms()),
            interval_s=interval_s,
            waiting=longest_waiting(lane, clock.monotonic(), clock.wall_ms()),
        )

    def _lane(self, name: str, readings: list[Reading]) -> LaneStatus:
        lane, config, clock = self.app.lanes[name], self.app.config.lanes[name], self.app.clock
        # Once for all partitions: it looks through all that is under way.
        waits = Waits(lane, clock.monotonic())
        return LaneStatus(
            lane=name,
            handler=config.handler,
            account=config.account,
            state=lane.board.state.value,
            reason=lane.board.reason,
            since=rfc3339_ms(lane.board.since_ms),
            config=self._fingerprints[name],
            partitions=[_partition(lane, reading, waits, clock) for reading in readings],
            in_flight=lane.dispatcher.in_flight,
            retrying=lane.dispatcher.retrying,
            breaker=_breaker(lane.account.breaker, clock),
            slots=slots_of(lane),
            open_imports=open_imports_of(lane),
            journal_open=0 if lane.bulks is None else lane.bulks.deliveries.count,
            dead_letters=dead_letters_of(self.app.telemetry, name),
            concurrency_limit=None if (limit := lane.account.limiter.concurrency_limit) == inf else int(limit),
        )


async def _others_go_on() -> None:
    """Each step takes up to 10 ms of a lane with 300 partitions. It looks at one moment: what it is told of the step
    before is a few milliseconds older."""
    await asyncio.sleep(0)


def slots_of(lane: Lane) -> SlotStatus | None:
    """The slots that this process has; None for a lane that needs none."""
    if not isinstance(lane.bulks, ImportWay):
        return None
    slots = lane.bulks.slots
    return SlotStatus(owned=len(slots.owned), free=slots.free)


def open_imports_of(lane: Lane) -> list[ImportStatus]:
    """The imports that this process has open."""
    if not isinstance(lane.bulks, ImportWay):
        return []
    return [ImportStatus(one.id, one.state, one.rows, one.age_s, one.slot) for one in lane.bulks.open_imports()]


def settled_of(telemetry: Telemetry, lane: str) -> Mapping[Outcome, int]:
    """How many events the lane has settled in this process, by outcome."""
    events = telemetry.metrics[m.EVENTS]
    return {outcome: int(events.counter(lane, outcome.value).value) for outcome in Outcome}


def dead_letters_of(telemetry: Telemetry, lane: str) -> int:
    """How many dead letters the lane has written in this process: each is in a transaction with its result."""
    settled = settled_of(telemetry, lane)
    return sum(settled[outcome] for outcome in DEAD)


def age_s(item: Item, now_ms: int) -> float:
    """The age of an event, by its record's timestamp."""
    timestamp = item.record.timestamp
    return max(0, now_ms - (timestamp if timestamp >= 0 else item.received_ms)) / 1000


def _partition(lane: Lane, reading: Reading, waits: Waits, clock: Clock) -> PartitionStatus:
    oldest = reading.oldest
    return PartitionStatus(
        topic=reading.tp.topic,
        partition=reading.tp.partition,
        position=reading.position,
        committed=reading.committed,
        end=reading.end,
        lag=reading.lag,
        unfinished=reading.unfinished,
        oldest_unfinished_s=None if oldest is None else age_s(oldest, clock.wall_ms()),
        waits_for=_reading_waits_for(lane, reading) if oldest is None else waits.of(oldest).words,
    )


def _reading_waits_for(lane: Lane, reading: Reading) -> str | None:
    """What reading waits for where nothing is unfinished; None where nothing keeps it."""
    assignment = lane.assignment
    state = assignment.partitions.get(reading.tp) if assignment is not None else None
    if state is not None and state.reading_back:
        return READING_BACK
    if state is not None and isinstance(lane.bulks, ImportWay) and lane.bulks.reads_later(state):
        return "the records of an open import are read again first"
    if lane.board.state in (LaneState.RUNNING, LaneState.DRAINING) or reading.lag == 0:
        return None
    return lane.board.reason


def _breaker(breaker: Breaker, clock: Clock) -> BreakerStatus:
    until = breaker.until
    if until is None:
        return BreakerStatus(breaker.state.value, None)
    left_ms = int((until - clock.monotonic()) * 1000)
    return BreakerStatus(breaker.state.value, instant_text(clock.wall_ms() + left_ms))
