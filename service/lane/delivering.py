"""Sends batches on their way, one event or several in a request, and follows them to their end."""

from collections.abc import Callable, Sequence
from functools import partial

from contracts.ids import ResultIds, batch_id
from contracts.outcomes import Outcome, Reason
from handlers.base import BatchHandler
from handlers.imports.rows import ImportHandler
from service.batching.batcher import Cause, OpenBatch
from service.delivery.bulk_dispatcher import BulkDispatcher, BulkHooks
from service.delivery.chain import Chain, chains_of
from service.delivery.dispatcher import DeliveryHooks, Dispatcher
from service.delivery.guard import Guard
from service.delivery.lane_delivery import DeliveryMeans, LoadHooks
from service.imports.batching import ImportBatcher
from service.imports.carrying import ImportMeans
from service.imports.dispatcher import ImportDispatcher
from service.imports.opening import JournalSlots
from service.imports.others import OthersRecords
from service.imports.way import ImportWay, WayHooks
from service.intake.item import Item, outcomes_of
from service.intake.planner import stack_of
from service.journal.deliveries import OpenDeliveries
from service.journal.writer import JournalWriter
from service.lane.bulks import BulkWay
from service.lane.core import Core
from service.lane.observer import BatchLine


class Delivering:
    """``bulks`` is there where requests carry several events; ``dispatcher`` always is."""

    def __init__(self, core: Core, deliveries: OpenDeliveries | None, *, changed: Callable[[], None]) -> None:
        """``deliveries``: those that were begun, where the lane keeps a journal of them; ``changed``: the lane's state
        may be another."""
        self._core = core
        self._setup = core.setup
        self._observer = core.means.observer
        self._clock = core.means.clock
        self._buffer = core.buffer
        self._settler = core.settler
        self._changed = changed
        self._batches: dict[str, BatchLine] = {}
        self.bulks: BulkWay | ImportWay | None = None
        self.dispatcher: Dispatcher | BulkDispatcher | ImportDispatcher
        self._deliver: Callable[[str, list[Item]], None]
        handler = core.means.handler
        if isinstance(handler, BatchHandler | ImportHandler):
            assert deliveries is not None
            if isinstance(handler, ImportHandler):
                self.bulks = self._import_way(handler, deliveries)
            else:
                self.bulks = self._bulk_way(handler, deliveries)
            self.dispatcher = self.bulks.dispatcher
            self._deliver = self.bulks.deliver
        else:
            hooks = DeliveryHooks(
                item_ended=self._item_ended, chain_ended=self._chain_ended, unit_ended=self._observer.unit_ended
            )
            dispatcher = self.dispatcher = Dispatcher(handler, self._means(), self._load_hooks(), hooks)
            self._deliver = lambda _, items: dispatcher.dispatch(chains_of(items, handler))

    def forget(self) -> None:
        """Drop what is of assignments that have ended."""
        self.dispatcher.forget()
        if self.bulks is not None:
            self.bulks.forget()
        self._batches.clear()

    # -- building

    def _bulk_way(self, handler: BatchHandler, deliveries: OpenDeliveries) -> BulkWay:
        journal = self._journal(handler.name, deliveries)
        return BulkWay(
            self._setup.name, handler, self._means(), self._load_hooks(), self._bulk_hooks(), deliveries, journal
        )

    def _import_way(self, handler: ImportHandler, deliveries: OpenDeliveries) -> ImportWay:
        core, policy = self._core, self._setup.imports
        assert policy is not None
        imports = ImportMeans(
            handler,
            policy,
            core.means.uploads,
            self._journal(handler.name, deliveries),
            deliveries,
            ResultIds(self._setup.name),
            OthersRecords(
                core.means.connection, core.means.client, core.planner, self._setup.names.replay, self._clock
            ),
            JournalSlots(core.means.connection, core.means.client, self._setup.names.journal),
            core.means.way,
        )
        hooks = WayHooks(self._import_batcher, lambda: core.group.view, self._settler.add, self._buffer.full_bytes)
        way = ImportWay(imports, self._means(), self._load_hooks(), self._bulk_hooks(), hooks)
        self._buffer.batch_by(partial(ImportBatcher, means=way.batching))
        return way

    def _import_batcher(self) -> ImportBatcher:
        batcher = self._buffer.batcher
        assert isinstance(batcher, ImportBatcher)
        return batcher

    def _journal(self, kind: str, deliveries: OpenDeliveries) -> JournalWriter:
        core, group = self._core, self._core.group
        means = core.means
        return JournalWriter(
            means.committer, core.settler, deliveries, core.hooks, lambda: group.assignment, self._clock, kind
        )

    def _bulk_hooks(self) -> BulkHooks:
        return BulkHooks(
            ended=self._items_ended, released=self._keys_released, operations_ended=self._observer.operations_ended
        )

    def _means(self) -> DeliveryMeans:
        setup, means = self._setup, self._core.means
        return DeliveryMeans(
            account=means.account,
            policy=setup.delivery,
            guard=Guard(setup.guard) if setup.guard is not None else None,
            requests=means.requests,
            clock=means.clock,
            random=means.random,
        )

    def _load_hooks(self) -> LoadHooks:
        return LoadHooks(
            retried=self._observer.retried,
            hold_changed=self._changed,
            expires_at_ms=self._expires_at_ms if self._setup.planning.deadline_s is not None else None,
            fault=self._fault,
        )

    # -- a batch begins

    def dispatch(self, batch: OpenBatch, cause: Cause) -> None:
        """A batch has been closed."""
        items = batch.items
        name = batch_id(self._setup.name, [(*state.tp, offset) for state, offset in batch.starts().items()])
        line = BatchLine(name, cause, len(items), batch.operations(), self._clock.monotonic())
        self._batches[name] = line
        for item in items:
            item.batch_id = name
        self._observer.batch_dispatched(cause, len(items))
        if not self._setup.dry_run:
            self._deliver(name, items)
        elif isinstance(self.bulks, ImportWay):
            # 50,000 at once would keep everybody else waiting.
            self.bulks.report(name, items)
        else:
            self._report_only(items)

    def _report_only(self, items: list[Item]) -> None:
        """A dry run: everything but the calls."""
        for item in items:
            for operation in item.operations:
                operation.outcome = Outcome.DELIVERED
            item.remaining = 0
            item.outcome = Outcome.DELIVERED
        self._items_ended(items)
        self._buffer.batcher.release_items(items, self._clock.monotonic())

    # -- and ends

    def _item_ended(self, item: Item) -> None:
        if not item.partition.assignment.active:
            return
        self._settler.add(item)
        line = self._batches.get(item.batch_id or "")
        if line is not None and item.outcome is not None:
            line.remaining -= 1
            line.outcomes[item.outcome] = line.outcomes.get(item.outcome, 0) + 1
            if not line.remaining:
                self._tell(line)

    def _items_ended(self, items: Sequence[Item]) -> None:
        """Records of one batch have reached their ends."""
        if not items[0].partition.assignment.active:
            return
        self._settler.add_all(items)
        line = self._batches.get(items[0].batch_id or "")
        if line is not None:
            line.remaining -= len(items)
            for outcome, count in outcomes_of(items).items():
                line.outcomes[outcome] = line.outcomes.get(outcome, 0) + count
            if not line.remaining:
                self._tell(line)

    def _tell(self, line: BatchLine) -> None:
        del self._batches[line.id]
        self._observer.batch_ended(line, self._clock.monotonic() - line.began)

    def _keys_released(self, keys: set[bytes | None]) -> None:
        self._buffer.batcher.release_all(keys, self._clock.monotonic())

    def _chain_ended(self, chain: Chain) -> None:
        if chain.items[0].partition.assignment.active:
            self._buffer.batcher.release(chain.key, self._clock.monotonic())

    def _expires_at_ms(self, item: Item) -> float | None:
        expires, deadline_s = self._core.planner.expires_at_ms(item), self._setup.planning.deadline_s
        if expires is None or deadline_s is None:
            return None
        began = expires - deadline_s * 1000
        return expires + self._core.held_times.since(item.partition.tp.partition, began, self._clock.wall_ms())

    def _fault(self, error: BaseException) -> None:
        self._observer.handler_fault(type(error).__name__, stack_of(error.__traceback__), Reason.EXHAUSTED)
