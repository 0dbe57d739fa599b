"""A lane: reads its partitions, plans, batches, delivers and settles, and gives its partitions back in order.

Here its parts are wired, started and stopped. ``assigning`` takes partitions over and gives them back, ``preparing``
finds where they begin; ``polling`` asks for records, ``taking`` takes them, ``regulating`` says which partitions are
read, ``deferring`` lets hot keys wait; ``delivering`` sends batches on their way; ``state`` says what it is doing.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError, KafkaError

from contracts.outcomes import Reason
from handlers.base import BatchHandler
from handlers.imports.rows import ImportHandler
from service.batching.batcher import Batcher
from service.clock import until_next
from service.dedupe.deduper import Deduper
from service.delivery.bulk_dispatcher import BulkDispatcher
from service.delivery.dispatcher import Dispatcher
from service.delivery.held_time import HeldTimes
from service.errors import RefusedError
from service.imports.dispatcher import ImportDispatcher
from service.imports.way import ImportWay
from service.intake.assignment import Assignment
from service.intake.item import Item
from service.intake.planner import Planner, stack_of
from service.journal.deliveries import OpenDeliveries
from service.journal.held_time import HeldTimeWriter
from service.kafka.clients import end_within
from service.lane.assigning import Assigning, Rebalances
from service.lane.buffer import Buffer
from service.lane.bulks import BulkWay
from service.lane.core import Core
from service.lane.deferring import DeferHooks, Deferring
from service.lane.delivering import Delivering
from service.lane.group import Group
from service.lane.polling import Polling
from service.lane.preparing import Preparing
from service.lane.regulating import Regulating
from service.lane.setup import LaneMeans, LaneSetup
from service.lane.state import StateKeeper
from service.lane.taking import Taking
from service.lane.troubles import Troubles
from service.lifecycle import StateBoard
from service.settling.settler import SettleHooks, Settler
from service.transport.account import Account

_TICK_S = 0.25
# Where nothing is unfinished, and of a lane of imports, whose steps are seconds apart.
_QUIET_TICK_S = 0.5
_VIEW_CHECK_S = 60.0
_CLOSE_S = 5.0
_REACHED_AGAIN_S = 1.0
# Also without a deadline, or with a shorter one: it may be set, or raised, later.
_HELD_TIME_KEPT_MS = 7 * 24 * 3_600_000

_size_of = attrgetter("size")


class Lane:
    """One lane. ``run`` works until ``stop`` has been called and everything has been given back."""

    def __init__(self, setup: LaneSetup, means: LaneMeans) -> None:
        self.setup = setup
        self._means = means
        self._observer = means.observer
        self._client = means.client
        self._clock = means.clock
        self._stopped_for: str | None = None
        # The kind of the error of ours that the lane ended of.
        self.died: str | None = None
        # The lane ends without a drain, for it stands still: another one takes its place.
        self.abandoned = False
        self._stopping = asyncio.Event()
        journaled = isinstance(means.handler, BatchHandler | ImportHandler)
        deliveries = OpenDeliveries(setup.names.journal) if journaled else None
        core = self.core = self._core(deliveries)
        self.delivering = Delivering(core, deliveries, changed=self.refresh_state)
        self.taking = Taking(core, self.bulks)
        self._deferring = self._new_deferring()
        self._regulating = Regulating(core, self.delivering, self._deferring, changed=self.refresh_state)
        preparing = Preparing(core, self.bulks, regulate=self._regulating.regulate)
        self._assigning = assigning = Assigning(
            core, self.delivering, preparing, changed=self.refresh_state, died=self._died, halt=self._halt
        )
        self._polling = Polling(
            core, self.taking, self._regulating, gone=assigning.prepare_again, displaced=assigning.displaced
        )
        self._held_time_writer = HeldTimeWriter(
            means.committer,
            core.settler,
            core.held_times,
            core.hooks,
            lambda: self.assignment,
            means.clock,
            setup.names.journal,
        )
        self._state = StateKeeper(core, self.delivering, held_time_changed=self._held_time_writer.changed)

    def _core(self, deliveries: OpenDeliveries | None) -> Core:
        setup, means = self.setup, self._means
        group = Group(setup, means)
        hooks = SettleHooks(
            settled=self._settled,
            fenced=self._fenced,
            refused=self._refused,
            lost=self._lost,
            recovered=self._recovered,
        )
        return Core(
            setup=setup,
            means=means,
            group=group,
            buffer=Buffer(setup.buffer_bytes, setup.batch, lambda batch, cause: self.delivering.dispatch(batch, cause)),
            troubles=Troubles(),
            planner=Planner(means.handler, means.where, setup.planning, self._handler_fault),
            held_times=HeldTimes(max((setup.planning.deadline_s or 0) * 1000, _HELD_TIME_KEPT_MS)),
            deduper=Deduper(setup.dedupe, means.connection, means.client, means.clock) if setup.dedupe else None,
            settler=Settler(
                means.committer,
                means.documents,
                setup.settle,
                hooks,
                means.clock,
                group.settled,
                deliveries,
                journal=setup.names.journal,
            ),
            hooks=hooks,
        )

    def _new_deferring(self) -> Deferring:
        buffer = self.core.buffer

        def dropped(held_bytes: int) -> None:
            buffer.held_bytes -= held_bytes

        hooks = DeferHooks(
            assignment=lambda: self.assignment,
            batcher=lambda: buffer.batcher,
            paused=lambda: self.dispatcher.paused is not None,
            dropped=dropped,
            take_back=self.taking.take_back,
            gone=lambda: self._assigning.prepare_again(),
            kafka_error=self._observer.kafka_error,
        )
        return Deferring(self.setup.buffer_bytes, self._means.connection, self._client, hooks)

    # -- life

    async def run(self) -> None:
        """Work until ``stop``, or until the broker refuses what the lane must write."""
        try:
            consumer = await self._connected()
            if consumer is None:
                return
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(part) for part in self._parts()]
                consumer.subscribe(self.setup.subscribed, listener=Rebalances(self._assigning))
                await self._stopping.wait()
                if self._stopped_for is None and not self.abandoned:
                    await self._assigning.give_back()
                for task in tasks:
                    task.cancel()
        finally:
            await self._close()

    async def _connected(self) -> AIOKafkaConsumer | None:
        """The lane's consumer; None: the lane was to stop before the brokers could be reached.

        The process has asked them before it began, so they are away for a while: that holds the lane, and would be no
        reason to end the others of the process.
        """
        while not self._stopping.is_set():
            try:
                await self._client.bootstrap()
                for topic in self.setup.written:
                    await self._client.add_topic(topic)
                consumer = await self.core.group.start()
            except KafkaConnectionError as error:
                self._observer.kafka_error(type(error).__name__)
                self.core.troubles.kafka = "the brokers cannot be reached"
                self.refresh_state()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_REACHED_AGAIN_S):
                        await self._stopping.wait()
                continue
            self.core.troubles.kafka = None
            return consumer
        return None

    def _parts(self) -> list[Coroutine[Any, Any, None]]:
        """What runs for as long as the lane does."""
        parts = [
            self.settler.run(),
            self.dispatcher.run(),
            self._polling.run(),
            self._tick(),
            self._deferring.run(),
            self._held_time_writer.run(),
        ]
        return parts if self.bulks is None else [*parts, self.bulks.journal.run()]

    def stop(self) -> None:
        """Drain and end."""
        self._stopping.set()

    def abandon(self) -> None:
        """End at once. What was called and is not settled is left to whoever takes the partitions over."""
        if self.assignment is not None:
            self.assignment.end()
        self.abandoned = True
        self._stopping.set()

    async def _close(self) -> None:
        self._assigning.end()
        self._state.stopped(self._stopped_for)
        try:
            await self._closed(self.core.group.stop(within_s=_CLOSE_S))
        finally:  # also where this was cancelled meanwhile: what is left open would stay so
            await self._closed(end_within(self._client.close(), _CLOSE_S))

    async def _closed(self, closing: Coroutine[Any, Any, None]) -> None:
        try:
            await closing
        except (TimeoutError, KafkaError) as error:
            self._observer.kafka_error(type(error).__name__)

    def _halt(self, reason: str) -> None:
        """Stop for good: going on would lose or hide something."""
        if self.assignment is not None:
            self.assignment.end()
        self._stopped_for = reason
        self._state.stopped(reason)
        self._stopping.set()

    def _died(self, error: BaseException) -> None:
        """A task of ours that nobody awaits has ended of an error."""
        self._observer.handler_fault(type(error).__name__, stack_of(error.__traceback__), Reason.HANDLER_ERROR)
        self.died = type(error).__name__
        self._halt(f"internal error: {self.died}")

    async def _tick(self) -> None:
        """What has to be looked at from time to time: the state's reason, and whether the group's view still holds."""
        next_view = self._clock.monotonic() + _VIEW_CHECK_S
        self._assigning.wake()
        for topic in self.setup.subscribed:
            self._client.add_topic(topic)
        while True:
            await asyncio.sleep(self._tick_s())
            self._assigning.look_at_the_clock()
            self.orders_changed()
            if self.core.deduper is not None:
                for tp in self.core.deduper.bound():
                    self._observer.dedupe_shortened(tp.topic, tp.partition)
            self.refresh_state()
            if self._clock.monotonic() >= next_view:
                next_view += _VIEW_CHECK_S
                self.core.group.compare_views()

    def _tick_s(self) -> float:
        assignment = self.assignment
        if isinstance(self._means.handler, ImportHandler) or (assignment is not None and assignment.is_idle()):
            return until_next(_QUIET_TICK_S, self._clock.monotonic())
        return _TICK_S

    def refresh_state(self) -> None:
        """Work out what the lane is doing now, and why."""
        self._state.refresh()

    # -- settling

    def _settled(self, items: Sequence[Item], seconds: float) -> None:
        self.core.buffer.held_bytes -= sum(map(_size_of, items))
        self._observer.settled(items, seconds, self._clock.wall_ms())

    def _fenced(self, assignment: Assignment) -> None:
        if assignment.active:
            self._observer.fenced()
            assignment.end()
            self.refresh_state()

    def _refused(self, error: RefusedError) -> None:
        self._halt(f"the broker refused: {error}")

    def _lost(self, why: str) -> None:
        self.core.troubles.kafka = why
        self._observer.transaction_lost(why)
        self.refresh_state()

    def _recovered(self) -> None:
        self.core.troubles.kafka = None
        self.refresh_state()

    def _handler_fault(self, kind: str, stack: Sequence[str]) -> None:
        self._observer.handler_fault(kind, stack, Reason.HANDLER_ERROR)

    # -- an operator's orders

    def orders_changed(self) -> None:
        """A pause, a silence of the brokers or a time without orders may have begun or ended: calls stop, or go on, at
        once."""
        pause = self._means.control.pause()
        reason = pause.describe() if pause is not None else self.core.group.silent() or self._means.control.missing()
        if reason == self.dispatcher.paused:
            return
        if reason is None:
            self.dispatcher.unpause()
        else:
            self.dispatcher.pause(reason)
        self._regulating.regulate()
        self.refresh_state()

    def released(self) -> None:
        """What the lane held for has been mended."""
        self.dispatcher.resume()

    def loss_accepted(self) -> None:
        """What the lane lost may have been given up: look again."""
        self._assigning.loss_accepted()

    # -- what status asks

    @property
    def account(self) -> Account:
        """The account that the lane delivers to."""
        return self._means.account

    @property
    def board(self) -> StateBoard:
        """The lane's state, its reason, and since when."""
        return self._state.board

    @property
    def assignment(self) -> Assignment | None:
        """The newest assignment, also once it has ended."""
        return self.core.group.assignment

    @property
    def dispatcher(self) -> Dispatcher | BulkDispatcher | ImportDispatcher:
        """What makes the calls."""
        return self.delivering.dispatcher

    @property
    def bulks(self) -> BulkWay | ImportWay | None:
        """What a lane has whose requests carry several events."""
        return self.delivering.bulks

    @property
    def settler(self) -> Settler:
        """The lane's one way out."""
        return self.core.settler

    @property
    def batcher(self) -> Batcher:
        """The batches that are open now; another one after each rebalance."""
        return self.core.buffer.batcher

    @property
    def consumer(self) -> AIOKafkaConsumer | None:
        """The consumer, once it has started."""
        return self.core.group.consumer

    @property
    def kafka_trouble(self) -> str | None:
        """Why nothing can be settled at this moment."""
        return self.core.troubles.kafka

    def stands_for(self, now: float) -> str | None:
        """Why nothing of the lane has to move; None where that is asked of each event."""
        assignment, hold = self.assignment, self.dispatcher.hold
        if assignment is None or not assignment.active or not assignment.ready or assignment.draining:
            return self.board.reason or self.board.state.value
        if (paused := self.dispatcher.paused) is not None:
            return paused
        # What an operator has to mend must not be forgotten by a restart.
        if hold is not None and hold.tries_at is None:
            return hold.reason
        return self.core.troubles.reason(now)

    @property
    def is_full(self) -> bool:
        """Whether nothing is read because too much of what was read is not settled."""
        return self.core.buffer.is_full()

    @property
    def stopping(self) -> bool:
        """Whether the lane goes down, by order or by itself."""
        return self._stopping.is_set()
