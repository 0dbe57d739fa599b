"""Takes records that were read: into the ledger, through the plan, and into a batch or straight to their end."""

from collections.abc import Sequence

from aiokafka.structs import ConsumerRecord

from contracts.outcomes import Outcome, Reason
from contracts.results import Operation
from handlers.imports.rows import ImportHandler
from service.imports.way import ImportWay
from service.intake.assignment import PartitionState
from service.intake.item import item_of
from service.intake.planner import unparsable_record
from service.lane.bulks import BulkWay
from service.lane.core import Core
from service.offsets.deferred import is_deferred


class Taking:
    """Nothing here awaits."""

    def __init__(self, core: Core, bulks: BulkWay | ImportWay | None) -> None:
        self._observer = core.means.observer
        self._clock = core.means.clock
        handler = core.means.handler
        self._batch_of = _anywhere if isinstance(handler, ImportHandler) else handler.batch_of
        self._buffer = core.buffer
        self._planner = core.planner
        self._settler = core.settler
        self._bulks = bulks

    def take(self, state: PartitionState, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        """Records as they are read."""
        first, count = records[0].offset, len(records)
        unusual = state.interrupted or state.ledger.deferred or records[-1].offset - first != count - 1
        if not unusual and state.ledger.read_run(first, count):
            self._take_new(state, records)
        else:
            self._take_each(state, records)

    def _take_new(self, state: PartitionState, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        """Records of which none was begun, finished or deferred before."""
        now, now_ms = self._clock.monotonic(), self._clock.wall_ms()
        new = [item_of(state, record, record.offset, now_ms) for record in records]
        state.items.update(zip([record.offset for record in records], new, strict=True))
        plan, batcher = self._planner.plan, self._buffer.batcher
        held, ended = 0, False
        for item in new:
            plan(item)
            held += item.size
            ended = ended or item.outcome is not None
        self._buffer.held_bytes += held
        if not ended:
            batcher.add_all(new, self._batch_of, now)
            return
        for item in new:
            if item.outcome is None:
                batcher.add(item, self._batch_of(item.operations[0]), now)
            else:
                self._settler.add(item)
                batcher.ended_early(item.record.key)

    def _take_each(self, state: PartitionState, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        now, now_ms = self._clock.monotonic(), self._clock.wall_ms()
        read, items = state.ledger.read, state.items
        plan, batcher = self._planner.plan, self._buffer.batcher
        batch_of, add, ended = self._batch_of, batcher.add, self._settler.add
        interrupted, deferred = state.interrupted, state.ledger.deferred
        held = 0
        passed: list[int] = []
        for record in records:
            offset = record.offset
            if not read(offset):
                if interrupted and offset in interrupted and not is_deferred(deferred, record.key, offset):
                    self._finished_before(state, offset)
                self._planner.remember(state.window, record)
                continue
            # One that repeats another is at its end: when its turn came, the other might be forgotten.
            if (
                deferred
                and is_deferred(deferred, record.key, offset)
                and not self._planner.remember(state.window, record)
            ):
                passed.append(offset)
                continue
            item = item_of(state, record, offset, now_ms)
            items[offset] = item
            plan(item)
            held += item.size
            if interrupted and offset in interrupted and self._bulks is not None and self._bulks.take_interrupted(item):
                continue
            if item.outcome is not None:
                ended(item)
                batcher.ended_early(record.key)
            else:
                add(item, batch_of(item.operations[0]), now)
        self._buffer.held_bytes += held
        if passed:
            state.ledger.defer(passed, {})
        if interrupted:
            self.pass_gone(state)

    def take_back(self, state: PartitionState, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        """Records that were deferred, read again."""
        now, now_ms = self._clock.monotonic(), self._clock.wall_ms()
        for record in records:
            item = state.items[record.offset] = item_of(state, record, record.offset, now_ms)
            self._planner.plan(item)
            self._buffer.held_bytes += item.size
            if record.offset in state.interrupted and self._bulks is not None and self._bulks.take_interrupted(item):
                continue
            if item.outcome is not None:
                self._settler.add(item)
                self._buffer.batcher.ended_early(record.key)
            else:
                self._buffer.batcher.add(item, self._batch_of(item.operations[0]), now)

    def take_unparsable(self, state: PartitionState, offset: int) -> None:
        """A record that the Kafka client cannot parse: it is at its end."""
        tp = state.tp
        item = item_of(state, unparsable_record(tp.topic, tp.partition, offset), offset, self._clock.wall_ms())
        if state.ledger.read(offset):
            item.outcome, item.reason = Outcome.INVALID, Reason.MALFORMED
            item.detail = "the Kafka client cannot parse this record: a header key is not UTF-8"
            state.items[offset] = item
            self._buffer.held_bytes += item.size
            self._observer.unparsable(tp.topic, tp.partition, offset)
            self._settler.add(item)

    def pass_gone(self, state: PartitionState) -> None:
        """Records that were begun and that are gone from their topic: nobody will learn what became of them. While
        keys are deferred reading passes records that are still to come."""
        if self._bulks is not None and not state.ledger.deferred:
            for offset in self._bulks.pass_gone(state):
                self._observer.records_lost(state.tp.topic, state.tp.partition, offset, offset + 1)

    def _finished_before(self, state: PartitionState, offset: int) -> None:
        """A record that an open entry names was settled beyond the commit: the entry waits for its others."""
        if self._bulks is not None:
            self._bulks.finished_before(state, offset)


def _anywhere(operation: Operation) -> None:
    """Imports' batches ask the rows."""
