"""What a lane tells: counters for machines, lines for people. Implemented by ``service.telemetry``."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from contracts.outcomes import Outcome, Reason
from service.batching.batcher import Cause
from service.delivery.chain import Unit
from service.intake.item import Item
from service.lifecycle import LaneState


class BatchLine:
    """One batch on its way; ``remaining`` counts its items that have not ended. Told once, when none remains."""

    __slots__ = ("began", "cause", "events", "id", "operations", "outcomes", "remaining")

    def __init__(self, batch_id: str, cause: Cause, events: int, operations: int, began: float) -> None:
        self.id = batch_id
        self.cause = cause
        self.events = events
        self.operations = operations
        self.began = began
        self.remaining = events
        self.outcomes: dict[Outcome, int] = {}


class LaneObserver(Protocol):
    """Where a lane's telemetry goes. Every method is quick and never raises."""

    def batch_dispatched(self, cause: Cause, events: int) -> None: ...

    def batch_ended(self, batch: BatchLine, seconds: float) -> None: ...

    def unit_ended(self, unit: Unit) -> None: ...

    def operations_ended(self, kind: str, outcome: Outcome, count: int) -> None: ...

    def retried(self, cause: str) -> None: ...

    def settled(self, items: Sequence[Item], seconds: float, now_ms: int) -> None: ...

    def state_changed(self, state: LaneState, reason: str | None) -> None: ...

    def assigned(self, partitions: int, fresh: int, seconds: float, steps_s: Mapping[str, float]) -> None: ...

    def read_back(self, partitions: int, seconds: float) -> None: ...

    def revoked(self, unfinished: int, seconds: float) -> None: ...

    def fenced(self) -> None: ...

    def place_taken_back(self) -> None: ...

    def transaction_lost(self, why: str) -> None: ...

    def records_lost(self, topic: str, partition: int, first: int, end: int) -> None: ...

    def offset_behind(self, topic: str, partition: int, told: int | None, settled: int) -> None: ...

    def dedupe_shortened(self, topic: str, partition: int) -> None: ...

    def metadata_ignored(self, topic: str, partition: int, fault: str) -> None: ...

    def unparsable(self, topic: str, partition: int, offset: int) -> None: ...

    def handler_fault(self, kind: str, stack: Sequence[str], reason: Reason) -> None: ...

    def kafka_error(self, kind: str) -> None: ...
