"""The way of delivery of an import lane: slots, journal, dispatcher, and what an earlier owner left open."""

from collections.abc import Callable, Hashable, Mapping, Sequence

import msgspec
from aiokafka.structs import TopicPartition

from contracts.journal import Delivery
from contracts.outcomes import Outcome, Reason
from handlers.imports.putting import PutsFirst
from handlers.imports.rows import StreamsRows
from service.delivery.bulk_dispatcher import BulkHooks
from service.delivery.lane_delivery import DeliveryMeans, LoadHooks
from service.imports.batching import BatchingMeans, ImportBatcher
from service.imports.carrying import ImportHooks, ImportMeans
from service.imports.dispatcher import ImportDispatcher
from service.imports.ending import DELIVERED
from service.imports.growth import Reading
from service.imports.opening import CROWDED
from service.imports.pace import Now
from service.imports.putting import PuttingDispatcher
from service.imports.recovery import Found, LeftOpen, RecoveredImports, recover_imports
from service.imports.runs import ImportDelivery, ImportRun, Stage
from service.imports.slots import SlotTable, owned_slots
from service.imports.streaming import StreamingDispatcher
from service.intake.assignment import Assignment, PartitionState
from service.intake.assignor import View
from service.intake.item import Item
from service.intake.starts import Begin
from service.journal.recovery import Recovered
from service.lifecycle import PACED, WAITING_FOR_SLOT
from service.settling.batches import PartitionWrite

_INTERRUPTED = "begun before a restart or a takeover: whether it took effect is not known"


class OpenImport(msgspec.Struct, frozen=True):
    """An import for a person: the platform's id, empty where nobody knows it; the platform's word for its state, or
    how far we have come; rows; how old; the slot that it takes."""

    id: str
    state: str
    rows: int
    age_s: float
    slot: int


class WayHooks(msgspec.Struct, frozen=True):
    """What the lane has beside: the batcher of now, the view on which the assignment stands, the settlement of events
    that have their outcome, and the bytes of its buffer while that is full."""

    batcher: Callable[[], ImportBatcher]
    view: Callable[[], View]
    settle: Callable[[Item], None]
    full_bytes: Callable[[], int | None]


def dispatcher_of(imports: ImportMeans) -> type[ImportDispatcher]:
    """Which of them carries imports of this kind."""
    if isinstance(imports.handler, PutsFirst):
        return PuttingDispatcher
    streams = isinstance(imports.handler, StreamsRows) and imports.way is not None
    return StreamingDispatcher if streams else ImportDispatcher


class ImportWay:
    """What a lane of imports has beside all lanes."""

    def __init__(
        self,
        imports: ImportMeans,
        means: DeliveryMeans,
        load_hooks: LoadHooks,
        bulk: BulkHooks,
        hooks: WayHooks,
    ) -> None:
        self._handler = imports.handler
        self._policy = imports.policy
        self._account = means.account
        self._clock = means.clock
        self._hooks = hooks
        self._bulk = bulk
        self.deliveries = imports.deliveries
        self.journal = imports.journal
        self.slots = SlotTable()
        self.dispatcher = dispatcher_of(imports)(
            imports,
            means,
            load_hooks,
            bulk,
            ImportHooks(self._released, self._go_on, self._again, self._finished, self.slots),
        )
        # What was found in the journal, by the delivery's id.
        self._found: dict[str, ImportRun] = {}
        self.batching = BatchingMeans(self._slot_of, self._may_open, imports.policy.max_file_bytes, self._reading)
        self._assignment: Assignment | None = None

    def deliver(self, batch_id: str, items: list[Item]) -> None:
        """Take a batch: its slot is free."""
        self._begin(self._new_run(batch_id, items))

    def report(self, batch_id: str, items: list[Item]) -> None:
        """A dry run: the batch is at its end, and nothing is called."""
        run = self._new_run(batch_id, items)
        run.ends, run.is_dry = DELIVERED, True
        self._begin(run)

    def _new_run(self, batch_id: str, items: list[Item]) -> ImportRun:
        partition = items[0].partition
        return ImportRun(batch_id, items, self._slot_of(partition.tp.partition), partition.assignment)

    def _begin(self, run: ImportRun) -> None:
        self.slots.take(run.slot, run.key)
        self.dispatcher.begin([run])

    def forget(self) -> None:
        """Drop what is of assignments that have ended."""
        self.dispatcher.forget()
        self.deliveries.forget()
        self.journal.forget()
        self._found.clear()
        self._assignment = None

    # -- slots

    def _slot_of(self, partition: int) -> int:
        return self.slots.of_partition(partition) if self.slots.count else 0

    def _may_open(self, slot: int) -> bool:
        """Whether an import of this slot could be opened now. While it could not, its batch grows."""
        if (
            self.dispatcher.crowded
            or not self.slots.is_free(slot)
            or self.dispatcher.paused is not None
            or self.dispatcher.hold is not None
        ):
            return False
        return self._account.holding() is None and not self._paced_s(slot)

    def _paced_s(self, slot: int) -> float:
        return self.dispatcher.pace.wait_s(slot, Now.of(self._clock))

    def _reading(self, slot: int) -> Reading:
        """What stops the slot's partitions from being read. A replay topic is read when there are replays."""
        states = () if self._assignment is None else self._assignment.partitions.values()
        if not any(state.crowded for state in states):
            return Reading(self._hooks.full_bytes(), None, len(self.slots.owned))
        own = [state for state in states if self._slot_of(state.tp.partition) == slot]
        fed = [state for state in own if state.ledger.unfinished or not state.is_replay]
        stopped = bool(fed) and all(state.crowded for state in fed)
        unfinished = sum(state.ledger.unfinished for state in fed) if stopped else None
        return Reading(self._hooks.full_bytes(), unfinished, len(self.slots.owned))

    def waits_for(self) -> str | None:
        """Why what is due is not created: no slot is free, or the account's next import is not due yet; else None."""
        due = self._hooks.batcher().slots_due(self._clock.monotonic())
        if self.dispatcher.crowded or any(not self.slots.is_free(slot) for slot in due):
            return WAITING_FOR_SLOT
        creating = (run.slot for run in self.dispatcher.runs if run.stage is Stage.CREATE and run.delivery is None)
        return PACED if any(self._paced_s(slot) for slot in (*due, *creating)) else None

    def slot_waits_for(self, partition: int) -> str | None:
        """Why no import of the partition's slot can be opened now, in words; None if its slot is free."""
        slot = self._slot_of(partition)
        if self.dispatcher.crowded:
            return CROWDED
        if self.slots.is_free(slot):
            wait_s = self._paced_s(slot)
            return f"{PACED}; the next may be in {wait_s:.1f} s" if wait_s else None
        if slot not in self.slots.owned:
            return "another process has it"
        keys = self.slots.taken_by(slot)
        return next((self._described(run) for run in self.dispatcher.runs if run.key in keys), "an import has it")

    def _described(self, run: ImportRun) -> str:
        if run.is_lapsing:
            left_s = max(0.0, (run.lapses_at_ms - self._clock.wall_ms()) / 1000)
            why = ", for records of it are gone" if run.others_gone else ""
            return f"an import that may be open counts as such for {left_s:.1f} s more{why}"
        name = None if run.delivery is None else run.delivery.record.reference
        if name is None:
            return "an import is being created"
        if run.waits_since is not None:
            return f"import {name} waits for {run.unread} more of its records to be read again"
        return f"import {name} is open ({run.how_far})"

    def open_imports(self) -> list[OpenImport]:
        """What is open on the platform, or may be."""
        now_ms = self._clock.wall_ms()
        found = []
        for run in self.dispatcher.runs:
            if (delivery := run.delivery) is None:
                continue
            state = "unknown" if run.is_lapsing else run.led(run.word or delivery.record.state.value)
            name = delivery.record.reference or ""
            age_s = max(0, now_ms - delivery.record.begun_at_ms) / 1000
            found.append(OpenImport(name, state, delivery.opened.rows, age_s, run.slot))
        return found

    def led_imports(self) -> int:
        """How many imports are open, where one of several processes counts with the one that leads it."""
        return sum(run.delivery is not None and run.share.leads for run in self.dispatcher.runs)

    # -- what becomes of runs

    def _released(self, keys: Sequence[Hashable]) -> None:
        self._hooks.batcher().free(keys)

    def _go_on(self) -> bool:
        return self._hooks.batcher().go_on(self._clock.monotonic())

    def _again(self, run: ImportRun) -> None:
        """Events of an import that was found go back to where they would be if it had never been, with ``_go_on``."""
        planned, run.planned = run.planned, {}

        def restored(item: Item) -> bool:
            item.called = False
            item.batch_id = None
            item.outcome, item.reason, item.detail = planned.get(id(item), (None, None, None))
            if item.outcome is not None:
                self._hooks.settle(item)
            return item.outcome is None

        self._hooks.batcher().take_back(run.items, restored)

    def _finished(self, run: ImportRun) -> None:
        self.slots.give_back(run.key)

    # -- what an earlier owner left open

    def recover(
        self, deliveries: Mapping[tuple[int, str], Delivery], begins: Mapping[TopicPartition, Begin]
    ) -> Recovered:
        """Which imports are open. Raises JournalUnreadableError."""
        return recover_imports(
            deliveries,
            begins,
            self._handler.name,
            carries_rows=self._handler.carries_rows,
            repeatable=self._handler.repeatable,
        )

    async def removals(self, recovered: Recovered) -> Sequence[PartitionWrite]:
        """Nothing: an import's entry goes when the platform calls it final."""
        return []

    def begin(self, assignment: Assignment, recovered: Recovered) -> None:
        """The assignment's partitions are read from now on."""
        view = self._hooks.view()
        count = view.slots or self._policy.slots
        self.slots.begin(count, owned_slots(assignment.tps, view.topics, count))
        self.dispatcher.pace.begin(self.slots.owned, assignment.membership.generation, Now.of(self._clock))
        self._found.clear()
        self._assignment = assignment
        if not isinstance(recovered, RecoveredImports):
            return
        self.deliveries.found(recovered.entries)
        for tp, offsets in recovered.interrupted.items():
            assignment.partitions[tp].interrupted = offsets
        self.dispatcher.begin([self._run_of(left, assignment) for left in recovered.imports])

    def _run_of(self, left: LeftOpen, assignment: Assignment) -> ImportRun:
        delivery = ImportDelivery.found(left.delivery_id, left.record, left.entries, assignment)
        taken = left.slots(self.slots.count)
        stage = Stage.POLL if left.found is Found.ASKED else Stage.LAPSE
        run = ImportRun.found(delivery, min(taken), stage, left.unread, left.share)
        run.lapses_at_ms = left.lapses_at_ms(self._policy)
        run.detached = left.found is not Found.ASKED
        for slot in taken:
            self.slots.take(slot, run.key)
        self._found[left.delivery_id] = run
        return run

    def take_interrupted(self, item: Item) -> bool:
        """A record that was read, and whose import was begun; whether it goes on there, and not as any other."""
        entry = item.partition.interrupted.pop(item.offset)
        run = self._found[entry.delivery_id]
        if run.stage is Stage.LAPSE:
            return self._of_lapsing(run, item)
        if run not in self.dispatcher.runs and run.ends is None:
            # What it was opened for came to nothing while the record was still to be read.
            return False
        item.entry = entry
        run.attach(item)
        if run.ends is not None and run not in self.dispatcher.runs:
            assert run.delivery is not None
            run.parts[0].items.clear()
            ends = self.dispatcher.ending.masked(run.ends, [item])
            self.dispatcher.ending.end([item], ends, run.delivery.record.reference)
        elif not run.planned[id(item)][0]:
            self._hooks.batcher().claim(item)
        return True

    def _of_lapsing(self, run: ImportRun, item: Item) -> bool:
        """One may be open of which nobody knows the id: with the event, or without."""
        if self._handler.carries_rows and not self._handler.repeatable:
            item.outcome, item.reason, item.detail = Outcome.IN_DOUBT, Reason.INTERRUPTED, _INTERRUPTED
            item.batch_id, item.called, item.remaining = run.id, True, 0
            for operation in item.operations:
                operation.outcome, operation.reason, operation.detail = item.outcome, item.reason, item.detail
                operation.attempts = 1
                self._bulk.operations_ended(operation.kind, item.outcome, 1)
        return False

    def unread_slots(self) -> frozenset[int]:
        """The slots of which an import is open whose records are not all read again. Read beside those, other records
        could fill the next batch, and the import would wait for its own in vain."""
        waiting = [run.delivery.entries for run in self.dispatcher.runs if run.unread and run.delivery is not None]
        return frozenset(self._slot_of(partition) for entries in waiting for partition in entries)

    def reads_later(self, state: PartitionState) -> bool:
        """Whether a partition is not read because of :meth:`unread_slots`."""
        return not state.interrupted and self._slot_of(state.tp.partition) in self.unread_slots()

    def finished_before(self, state: PartitionState, offset: int) -> None:
        """The record was settled in front of the restart."""
        self._passed(state, offset)

    def pass_gone(self, state: PartitionState) -> list[int]:
        """Records of imports that reading has passed without finding them."""
        position = state.ledger.position
        gone = sorted(offset for offset in state.interrupted if offset < position)
        for offset in gone:
            self._passed(state, offset)
        return gone

    def _passed(self, state: PartitionState, offset: int) -> None:
        entry = state.interrupted.pop(offset)
        run = self._found[entry.delivery_id]
        run.unread -= 1
        if run in self.dispatcher.runs:
            # Its entry goes with the import, whatever is left of its records.
            entry.left -= 1
        else:
            self.deliveries.gone(entry, 1)
