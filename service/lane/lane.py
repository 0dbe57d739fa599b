"""A lane: reads its partitions, plans, batches, delivers and settles, and gives its partitions back in order.

The order of steps at an assignment is the one that was measured to be safe: pause and capture the membership before
the first await; open the transactor, which ends what a predecessor left open; read stable offsets; only then seek and
resume. Work carries the assignment that it was read under and is dropped with it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from contracts.ids import batch_id
from contracts.outcomes import Outcome, Reason
from handlers.base import BatchHandler, Expression, Handler
from service.batching.batcher import Batcher, BatchPolicy, Cause, OpenBatch
from service.clock import Clock
from service.dedupe.deduper import DedupePolicy, Deduper
from service.delivery.bulk_dispatcher import BulkDispatcher, BulkHooks
from service.delivery.chain import Chain, chains_of, close
from service.delivery.dispatcher import DeliveryHooks, Dispatcher
from service.delivery.guard import Guard, GuardPolicy
from service.delivery.held_time import HeldTimes
from service.delivery.lane_delivery import DeliveryPolicy
from service.delivery.shares import part_of
from service.errors import FencedError, JournalUnreadableError, RefusedError, TopicTooNarrowError, TransactorLostError
from service.intake.assignment import READING_BACK, Assignment, PartitionState
from service.intake.assignor import LaneAssignor, assignor_for
from service.intake.item import Item
from service.intake.losses import Judged, judge
from service.intake.planner import Planner, PlanningPolicy, stack_of, unparsable_record
from service.intake.starts import Begin, begins
from service.intake.unparsable import find_unparsable
from service.journal.deliveries import OpenDeliveries
from service.journal.held_time import HeldTimeWriter
from service.journal.reading import Journal, Starts, read_journal
from service.journal.recovery import Recovered
from service.kafka.closing import end_within
from service.kafka.names import LaneNames
from service.kafka.offsets import CommittedOffset, read_committed_offsets
from service.kafka.private import membership, on_heartbeat, request_rejoin
from service.lane.bulks import BulkWay
from service.lane.control import LaneControl
from service.lane.deferring import DeferHooks, Deferring
from service.lane.denials import Denials, denial_of, unseen
from service.lane.observer import BatchLine, LaneObserver
from service.lane.silence import Silence
from service.lane.starting import start_writes
from service.lifecycle import LaneState, StateBoard
from service.offsets.deferred import is_deferred
from service.offsets.ledger import PartitionLedger
from service.offsets.metadata import decode_all as decode_metadata
from service.settling.documents import Documents
from service.settling.settler import Committer, SettleHooks, SettlePolicy, Settler
from service.settling.transactor import Committed
from service.transport.account import Account, AccountObserver
from service.turns import Turns, pieces, take_in_turns

_POLL_S = 0.2
_FULL_POLL_S = 0.02
_ONE_BY_ONE_S = 5.0
_MAX_RECORDS = 500
# Planned without a pause: a fraction of a millisecond each, some for one of a megabyte.
_TAKEN_AT_ONCE = 32
_BYTES_AT_ONCE = 128 * 1024
_TICK_S = 0.25
_VIEW_CHECK_S = 60.0
_RETRY_S = 0.5
_CLOSE_S = 5.0
# Longer than a transaction that is pending on the offsets may take.
_OFFSETS_WITHIN_S = 60.0
_ORDERS_WITHIN_S = 15.0
# Of the session timeout: heartbeats go out each fifth of it, so that the last one may be older by that.
_LEASE = 0.8
# Intake begins again once the buffer has this much room, so that it does not stop and start with each record.
_REFILL = 0.8
# Also without a deadline, or with a shorter one: it may be set, or raised, later.
_HELD_TIME_KEPT_MS = 7 * 24 * 3_600_000


class LaneSetup(msgspec.Struct, frozen=True):
    """Everything a lane is told at start; times in seconds."""

    name: str
    names: LaneNames
    topics: tuple[str, ...]
    written: tuple[str, ...]  # the topics that it writes, whose leaders it has to know
    start: Any
    hold_on_gap: bool
    batch: BatchPolicy
    delivery: DeliveryPolicy
    planning: PlanningPolicy
    guard: GuardPolicy | None
    dedupe: DedupePolicy | None
    settle: SettlePolicy
    buffer_bytes: int
    dry_run: bool
    drain_s: float
    instance_id: str | None
    session_timeout_s: float
    rebalance_timeout_s: float


class Lane:
    """One lane. ``run`` works until ``stop`` has been called and everything has been given back."""

    def __init__(
        self,
        setup: LaneSetup,
        *,
        handler: Handler | BatchHandler,
        where: Expression | None,
        account: Account,
        documents: Documents,
        committer: Committer,
        client: AIOKafkaClient,
        connection: dict[str, Any],
        observer: LaneObserver,
        requests: AccountObserver,
        control: LaneControl,
        clock: Clock,
        random: Random,
    ) -> None:
        self.setup = setup
        self.account = account
        self.handler = handler
        self._documents = documents
        self._committer = committer
        self._deliver: Callable[[str, list[Item]], None]
        self._client = client
        self._connection = connection
        self._observer = observer
        self._control = control
        self._clock = clock
        self._turns = Turns(clock)
        self.board = StateBoard(clock.wall_ms())
        self.held_times = HeldTimes(max((setup.planning.deadline_s or 0) * 1000, _HELD_TIME_KEPT_MS))
        self._deduper = Deduper(setup.dedupe, connection, client, clock) if setup.dedupe is not None else None
        self._planner = Planner(handler, where, setup.planning, self._handler_fault)
        self._assignor: type[LaneAssignor] = assignor_for(setup.name, setup.instance_id)
        self._guard = Guard(setup.guard) if setup.guard is not None else None
        self._batcher = self._new_batcher()
        self._deferring = Deferring(
            setup.buffer_bytes,
            connection,
            client,
            DeferHooks(
                assignment=lambda: self.assignment,
                batcher=lambda: self._batcher,
                paused=lambda: self.dispatcher.paused is not None,
                dropped=self._dropped,
                take_back=self._take_back,
                gone=self._prepare_again,
                kafka_error=observer.kafka_error,
            ),
        )
        self._batches: dict[str, BatchLine] = {}
        self._held_bytes = 0
        self._paused_full = False
        self._intake_stopped = False
        self._kafka_lost: str | None = None
        self._denials = Denials()
        self._gap: str | None = None
        self._narrow: str | None = None
        self._draining = False
        self._awake_at = clock.monotonic()
        self._silence = Silence(setup.session_timeout_s, clock.monotonic())
        self._stopped_for: str | None = None
        # The kind of the error of ours that the lane ended of.
        self.died: str | None = None
        self._stopping = asyncio.Event()
        self._consumer: AIOKafkaConsumer | None = None
        self._preparing: asyncio.Task[None] | None = None
        self.assignment: Assignment | None = None
        settle_hooks = SettleHooks(
            settled=self._settled,
            fenced=self._fenced,
            refused=self._refused,
            lost=self._lost,
            recovered=self._recovered,
        )
        # Where requests carry several events: the deliveries that were begun, and the way they are made.
        deliveries = OpenDeliveries(setup.names.journal) if isinstance(handler, BatchHandler) else None
        self.settler = Settler(committer, documents, setup.settle, settle_hooks, clock, self._committed_of, deliveries)
        self._held_time_writer = HeldTimeWriter(
            committer, self.settler, self.held_times, settle_hooks, lambda: self.assignment, clock, setup.names.journal
        )
        expires_at_ms = self._expires_at_ms if setup.planning.deadline_s is not None else None
        self.bulks: BulkWay | None = None
        self.dispatcher: Dispatcher | BulkDispatcher
        if deliveries is not None and isinstance(handler, BatchHandler):
            self.bulks = BulkWay(
                setup.name,
                handler,
                account,
                setup.delivery,
                self._guard,
                BulkHooks(
                    ended=self._items_ended,
                    released=self._keys_released,
                    operations_ended=observer.operations_ended,
                    retried=observer.retried,
                    hold_changed=self.refresh_state,
                    expires_at_ms=expires_at_ms,
                    fault=self._delivery_fault,
                ),
                deliveries,
                self.settler,
                committer,
                settle_hooks,
                lambda: self.assignment,
                requests,
                clock,
                random,
            )
            self.dispatcher = self.bulks.dispatcher
            self._deliver = self.bulks.deliver
            return
        assert not isinstance(handler, BatchHandler)
        self.dispatcher = dispatcher = Dispatcher(
            handler,
            account,
            setup.delivery,
            self._guard,
            DeliveryHooks(
                item_ended=self._item_ended,
                chain_ended=self._chain_ended,
                unit_ended=observer.unit_ended,
                retried=observer.retried,
                hold_changed=self.refresh_state,
                expires_at_ms=expires_at_ms,
                fault=self._delivery_fault,
            ),
            requests,
            clock,
            random,
        )
        self._deliver = lambda _, items: dispatcher.dispatch(chains_of(items, handler))

    # -- life

    async def run(self) -> None:
        """Work until ``stop``, or until the broker refuses what the lane must write."""
        await self._client.bootstrap()
        for topic in self.setup.written:
            await self._client.add_topic(topic)
        consumer = self._new_consumer()
        await consumer.start()
        # Kept only now: a consumer whose start was cancelled waits for ever.
        self._consumer = consumer
        on_heartbeat(consumer, self._silence.heard, self._clock.monotonic)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self.settler.run()),
                    group.create_task(self.dispatcher.run()),
                    group.create_task(self._poll()),
                    group.create_task(self._tick()),
                    group.create_task(self._deferring.run()),
                    group.create_task(self._held_time_writer.run()),
                ]
                if self.bulks is not None:
                    tasks.append(group.create_task(self.bulks.journal.run()))
                consumer.subscribe([*self.setup.topics, self.setup.names.replay], listener=_Listener(self))
                await self._stopping.wait()
                if self._stopped_for is None:
                    await self._give_back()
                for task in tasks:
                    task.cancel()
        finally:
            await self._close()

    def stop(self) -> None:
        """Drain and end."""
        self._stopping.set()

    async def _close(self) -> None:
        if self.assignment is not None:
            self.assignment.end()
        if self._preparing is not None:
            self._preparing.cancel()
        self._set_state(LaneState.STOPPED, self._stopped_for)
        for closing in (self._consumer.stop() if self._consumer else None, self._client.close()):
            if closing is None:
                continue
            try:
                await end_within(closing, _CLOSE_S)
            except (TimeoutError, KafkaError) as error:
                self._observer.kafka_error(type(error).__name__)

    def _new_consumer(self) -> AIOKafkaConsumer:
        setup = self.setup
        instance = f"{setup.instance_id}-{setup.name}" if setup.instance_id is not None else None
        return AIOKafkaConsumer(
            **self._connection,
            group_id=setup.names.group,
            group_instance_id=instance,
            partition_assignment_strategy=(self._assignor,),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=int(setup.session_timeout_s * 1000),
            heartbeat_interval_ms=max(100, min(3000, int(setup.session_timeout_s * 1000 / 5))),
            rebalance_timeout_ms=int(setup.rebalance_timeout_s * 1000),
            max_partition_fetch_bytes=1024 * 1024,
            fetch_max_bytes=16 * 1024 * 1024,
        )

    def _new_batcher(self) -> Batcher:
        return Batcher(self.setup.batch, self._dispatch)

    # -- assignment

    def partitions_assigned(self, tps: frozenset[TopicPartition]) -> None:
        """A new generation. Nothing here awaits: records are handed out as soon as the caller does."""
        assert self._consumer is not None
        self._silence.heard(self._clock.monotonic())
        self._take_over(Assignment(membership(self._consumer, self.setup.names.group), tps, awake=self._awake))

    def _take_over(self, assignment: Assignment) -> None:
        assert self._consumer is not None
        self._consumer.pause(*assignment.tps)
        if self.assignment is not None:
            self.assignment.end()
        self.assignment = assignment
        self.held_times.own({tp.partition for tp in assignment.tps}, self._clock.wall_ms())
        self._reset()
        if self._preparing is not None:
            self._preparing.cancel()
        self._start_preparing(assignment)
        self.refresh_state()

    def _start_preparing(self, assignment: Assignment) -> None:
        self._preparing = asyncio.get_running_loop().create_task(self._prepare(assignment))
        self._preparing.add_done_callback(self._prepared)

    async def partitions_revoked(self) -> None:
        """Drain and let go. The old generation may still commit until all members have joined again."""
        await self._give_back()

    async def _give_back(self) -> None:
        assignment = self.assignment
        if assignment is None or not assignment.active:
            return
        began = self._clock.monotonic()
        assignment.draining = True
        self._draining = True
        self.refresh_state()
        try:
            async with asyncio.timeout(self.setup.drain_s):
                # What has not been called yet is left to the next owner; what has been is brought home.
                await self.dispatcher.quiet()
                await self.settler.drained()
        except TimeoutError:
            pass
        finally:
            self._draining = False
            unfinished = sum(len(state.items) for state in assignment.partitions.values())
            assignment.end()
            self._observer.revoked(unfinished, self._clock.monotonic() - began)

    def _reset(self) -> None:
        """Nothing of an earlier assignment goes on."""
        self.settler.forget()
        self.dispatcher.forget()
        if self.bulks is not None:
            self.bulks.forget()
        self._batcher = self._new_batcher()
        self._batches.clear()
        self._held_bytes = 0
        self._paused_full = False
        self._intake_stopped = False
        self._gap = self._narrow = None

    def _prepared(self, task: asyncio.Task[None]) -> None:
        """A preparation that died of our own fault takes the lane down: an error in a callback would be lost."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._observer.handler_fault(type(error).__name__, stack_of(error.__traceback__), Reason.HANDLER_ERROR)
            self.died = type(error).__name__
            self._halt(f"internal error: {self.died}")

    async def _prepare(self, assignment: Assignment) -> None:
        """Offsets, ledgers, seek, resume; tried again for as long as the assignment lasts."""
        while assignment.active and not assignment.ready and self._gap is None:
            try:
                await self._prepare_once(assignment)
            except FencedError:
                self._fenced(assignment)
            except (KafkaError, TransactorLostError) as error:
                self._lost(denial_of(error) or str(error) or type(error).__name__)
                await asyncio.sleep(_RETRY_S)
            except TopicTooNarrowError as error:
                self._narrow = str(error)
                self._recovered()
                await asyncio.sleep(_RETRY_S)
            except JournalUnreadableError as error:
                self._gap = str(error)
            except RefusedError as error:
                self._refused(error)
                return
        self.refresh_state()
        await self._read_back(assignment)

    async def _read_back(self, assignment: Assignment) -> None:
        """Partitions that still lack their dedupe window begin as soon as it has been read back."""

        def ready(state: PartitionState) -> None:
            if assignment.active and not self._intake_stopped and self._consumer is not None:
                self._consumer.resume(state.tp)
            self.refresh_state()

        while self._deduper is not None and assignment.active and assignment.reading_back:
            try:
                await self._deduper.read_back(assignment, ready)
            except (KafkaError, IllegalStateError) as error:
                self._observer.kafka_error(type(error).__name__)
                await asyncio.sleep(_RETRY_S)

    async def _prepare_once(self, assignment: Assignment) -> None:
        names = self.setup.names
        async with self.settler.lock:
            await self.settler.reopen(lambda: assignment.active)
        if not assignment.active:
            return
        committed = assignment.committed = await self._committed_of(assignment)
        # Nothing is called before every order that has been given is known: also not after this process stood still.
        await self._orders_known()
        assert self._consumer is not None
        journal = await self._journal(assignment, committed)
        self._narrow = None
        if assignment.active:
            self.held_times.read(journal.held_times, self._clock.wall_ms())
        found = await begins(self._consumer, assignment.tps, committed, self.setup.start, names.replay, journal.starts)
        if not assignment.active:
            return
        hold = self.setup.hold_on_gap
        judged = judge(found, self._control.accepted, journal.starts, hold=hold, now_ms=self._clock.wall_ms())
        if judged.gap is not None:
            self._gap = judged.gap
            return
        recovered = Recovered() if self.bulks is None else self.bulks.recover(journal.deliveries, judged.begins)
        await self._commit_beginnings(assignment, judged, journal, recovered)
        if assignment.active:
            self._begin(assignment, judged.begins, journal.starts)
            if self.bulks is not None:
                self.bulks.begin(assignment, recovered)
            self._regulate()
            self._observer.assigned(len(found), sum(begin.fresh for begin in judged.begins.values()))
            self._recovered()

    async def _commit_beginnings(
        self, assignment: Assignment, judged: Judged, journal: Journal, recovered: Recovered
    ) -> None:
        """Where partitions are begun, or go on behind a loss, with what the journal says of it, in one transaction;
        after this process stood still, all offsets once more: that proves that they are still its own."""
        proven = {
            tp: begin
            for tp, begin in judged.begins.items()
            if assignment.doubtful or begin.fresh or tp in judged.passed or tp.partition in recovered.stale_partitions
        }
        if not proven:
            return
        names, counts, now_ms = self.setup.names, self._assignor.view.topics, self._clock.wall_ms()
        start, replay, passed = self.setup.start, names.replay, judged.passed
        removals = () if self.bulks is None else self.bulks.removals(recovered)
        writes = start_writes(
            names.journal, proven, start, counts, now_ms, replay, passed=passed, earlier=journal.starts
        )
        offsets = {tp: Committed(begin.offset, begin.metadata) for tp, begin in proven.items()}
        async with self.settler.lock:
            await self._committer.commit(writes, offsets, assignment.membership, after=removals)
        for tp, lost in judged.passed.items():
            self._observer.records_lost(tp.topic, tp.partition, lost.from_offset, lost.to_offset)

    async def _journal(self, assignment: Assignment, committed: Mapping[TopicPartition, CommittedOffset]) -> Journal:
        """What the journal says; of the beginnings of other partitions it is asked only where an offset is missing.

        Raises TopicTooNarrowError while a topic of the lane has too few partitions for those that it was given, and
        TransactorLostError while it is not seen.
        """
        names = self.setup.names
        width = 1 + max((tp.partition for tp in assignment.tps), default=-1)
        for topic in (names.journal, names.dead_letters):
            count = len(self._client.cluster.partitions_for_topic(topic) or ())
            if count < width:
                self._client.force_metadata_update()
                few = f"topic {topic} has {count} partitions, the sources have {width}: add some"
                if count:
                    raise TopicTooNarrowError(few)
                raise TransactorLostError(unseen(topic, self._client.cluster.unauthorized_topics, few))
        own = {tp.partition for tp in assignment.tps}
        begun = all(tp in committed or tp.topic == names.replay for tp in assignment.tps)
        others = () if begun else range(len(self._client.cluster.partitions_for_topic(names.journal) or ()))
        return await read_journal(self._connection, names.journal, own=own, others=others)

    def _begin(self, assignment: Assignment, found: dict[TopicPartition, Begin], starts: Starts) -> None:
        consumer = self._consumer
        assert consumer is not None
        for tp, begin in found.items():
            finished, deferred, fault = decode_metadata(begin.offset, begin.metadata)
            if fault is not None:
                self._observer.metadata_ignored(tp.topic, tp.partition, fault)
            ledger = PartitionLedger(begin.offset, finished, deferred)
            is_replay = tp.topic == self.setup.names.replay
            last = CommittedOffset(begin.offset, begin.metadata)
            state = PartitionState(
                assignment, tp, ledger, committed=begin.offset, last_commit=last, is_replay=is_replay
            )
            assignment.partitions[tp] = state
            consumer.seek(tp, begin.offset)
            if begin.fresh and self._deduper is not None:
                self._deduper.forget(tp)
        if self._deduper is not None:
            self._deduper.begin(assignment, starts)
        assignment.ready = True
        self._intake_stopped = True

    async def _committed_of(self, assignment: Assignment) -> dict[TopicPartition, CommittedOffset]:
        """Raises TransactorLostError if the brokers do not tell them in time, RefusedError."""
        try:
            async with asyncio.timeout(_OFFSETS_WITHIN_S):
                return await read_committed_offsets(self._client, self.setup.names.group, assignment.tps)
        except TimeoutError as error:
            raise TransactorLostError(f"no committed offsets within {_OFFSETS_WITHIN_S:g} s") from error

    async def _orders_known(self) -> None:
        """Raises TransactorLostError if the control topic cannot be read to its end in time."""
        try:
            async with asyncio.timeout(_ORDERS_WITHIN_S):
                await self._control.read_to_end()
        except TimeoutError as error:
            raise TransactorLostError(
                f"the control topic could not be read within {_ORDERS_WITHIN_S:g} s; "
                "does our user of Kafka have the right Read on it?"
            ) from error

    # -- intake

    async def _poll(self) -> None:
        """The one loop that asks for records; it never waits for a delivery."""
        consumer = self._consumer
        assert consumer is not None
        holes_at = 0.0
        while True:
            due_s = self._batcher.due(self._clock.monotonic())
            wait_s = _FULL_POLL_S if self._paused_full else min(_POLL_S, due_s if due_s is not None else _POLL_S)
            try:
                batches = await consumer.getmany(timeout_ms=max(1, int(wait_s * 1000)), max_records=_MAX_RECORDS)
            except UnicodeDecodeError:
                await self._pass_unparsable()
                continue
            except NoOffsetForPartitionError:
                # Asked for before the offsets were known; they are sought as soon as they are. Each time the client
                # asks the coordinator anew.
                await asyncio.sleep(_FULL_POLL_S)
                continue
            except OffsetOutOfRangeError:
                self._prepare_again()
                continue
            except KafkaError as error:
                self._observer.kafka_error(type(error).__name__)
                self._denials.note(error, self._clock.monotonic())
                await asyncio.sleep(_RETRY_S)
                continue
            assignment = self.assignment
            if batches and assignment is not None and assignment.ready and assignment.may_start():
                for tp, records in batches.items():
                    state = assignment.partitions.get(tp)
                    if state is not None:
                        await self._take_in_turns(state, records)
            self._regulate()
            now = self._clock.monotonic()
            if now >= holes_at:
                holes_at = now + _TICK_S
                await self._pass_holes(consumer)
            # Records that are at hand are returned without a pause: everybody else gets a turn here.
            await asyncio.sleep(0)

    async def _pass_holes(self, consumer: AIOKafkaConsumer) -> None:
        """Commit markers and aborted records are passed by without being handed out: move the ledgers with them.

        Every record before a partition's position has been taken: it moves only when records are handed out here.
        """
        assignment = self.assignment
        if assignment is None or not assignment.ready:
            return
        for tp, state in assignment.partitions.items():
            try:
                position = await consumer.position(tp)
            except (IllegalStateError, KafkaError):
                return
            if not assignment.may_start():
                return
            state.ledger.advance(position)
            if state.interrupted:
                self._pass_gone(state)

    async def _take_in_turns(self, state: PartitionState, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        """Take records that were handed out. Those that are left when the partitions go are read by their next owner:
        the ledger does not know of them."""
        sizes = [record.serialized_value_size for record in records]
        parts = pieces(records, sizes, _TAKEN_AT_ONCE, _BYTES_AT_ONCE)
        await take_in_turns(self._turns, parts, lambda part: self._take(state, part), state.assignment.may_start)

    def _take(self, state: PartitionState, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        now, now_ms = self._clock.monotonic(), self._clock.wall_ms()
        read, items = state.ledger.read, state.items
        plan, add = self._planner.plan, self._batcher.add
        batch_of, ended = self.handler.batch_of, self.settler.add
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
            item = Item(state, record, offset, now_ms)
            items[offset] = item
            plan(item)
            held += item.size
            if interrupted and offset in interrupted and self.bulks is not None:
                self.bulks.take_interrupted(item)
            if item.outcome is not None:
                ended(item)
                self._batcher.ended_early(record.key)
            else:
                add(item, batch_of(item.operations[0]), now)
        self._held_bytes += held
        if passed:
            state.ledger.defer(passed, {})
        if interrupted:
            self._pass_gone(state)

    def _take_back(self, state: PartitionState, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        """Records that were deferred, read again."""
        now, now_ms = self._clock.monotonic(), self._clock.wall_ms()
        for record in records:
            item = state.items[record.offset] = Item(state, record, record.offset, now_ms)
            self._planner.plan(item)
            self._held_bytes += item.size
            if record.offset in state.interrupted and self.bulks is not None:
                self.bulks.take_interrupted(item)
            if item.outcome is not None:
                self.settler.add(item)
                self._batcher.ended_early(record.key)
            else:
                self._batcher.add(item, self.handler.batch_of(item.operations[0]), now)

    def _dropped(self, held_bytes: int) -> None:
        self._held_bytes -= held_bytes

    def _finished_before(self, state: PartitionState, offset: int) -> None:
        """A record that an open entry names was settled beyond the commit: the entry waits for its others."""
        if self.bulks is not None:
            self.bulks.finished_before(state, offset)

    def _pass_gone(self, state: PartitionState) -> None:
        """Records that were begun and that are gone from their topic: nobody will learn what became of them. While
        keys are deferred reading passes records that are still to come."""
        if self.bulks is not None and not state.ledger.deferred:
            for offset in self.bulks.pass_gone(state):
                self._observer.records_lost(state.tp.topic, state.tp.partition, offset, offset + 1)

    def _is_full(self) -> bool:
        bound = self.setup.buffer_bytes
        return self._held_bytes >= bound or (self._paused_full and self._held_bytes >= bound * _REFILL)

    def _regulate(self) -> None:
        """Stop reading while the buffer is full, or an operator has paused the lane; of one partition, while its
        finished offsets would not fit into its commit."""
        assignment, consumer = self.assignment, self._consumer
        if assignment is None or consumer is None or not assignment.ready or not assignment.active:
            return
        now = self._clock.monotonic()
        if self._is_full():
            self._deferring.relieve(assignment, now)
        full = self._is_full()
        try:
            stopped = full or self.dispatcher.paused is not None
            if stopped != self._intake_stopped:
                self._intake_stopped = stopped
                if stopped:
                    consumer.pause(*assignment.tps)
                else:
                    consumer.resume(*(tp for tp in assignment.tps if not assignment.partitions[tp].reading_back))
            if full != self._paused_full:
                self._paused_full = full
                self.refresh_state()
            if not stopped:
                for tp, state in assignment.partitions.items():
                    room = state.ledger.room(_MAX_RECORDS) or self._deferring.make_room(
                        assignment, state, _MAX_RECORDS, now
                    )
                    if room == state.crowded:
                        state.crowded = not room
                        if room and not state.reading_back:
                            consumer.resume(tp)
                        else:
                            consumer.pause(tp)
        except IllegalStateError:
            # A rebalance is taking the partitions away at this moment.
            return

    async def _pass_unparsable(self) -> None:
        """One partition holds a record that the client cannot parse: settle it as such, and read on behind it.

        Whatever the failed call had taken from other partitions is lost with it, so all are read from the ledger on.
        """
        assignment, consumer = self.assignment, self._consumer
        assert consumer is not None
        if assignment is None or not assignment.ready or not assignment.may_start():
            await asyncio.sleep(_FULL_POLL_S)
            return
        try:
            for tp, state in assignment.partitions.items():
                consumer.seek(tp, state.ledger.position)
            for tp, state in assignment.partitions.items():
                if state.reading_back:
                    continue
                offset = await find_unparsable(self._client, tp, state.ledger.position)
                if offset is not None:
                    await self._read_up_to(consumer, state, offset)
                if not assignment.may_start():
                    return
        except (KafkaError, IllegalStateError) as error:
            self._observer.kafka_error(type(error).__name__)
        # Until the next call raises again, should nothing have been found.
        await asyncio.sleep(_FULL_POLL_S)

    async def _read_up_to(self, consumer: AIOKafkaConsumer, state: PartitionState, offset: int) -> None:
        """Take the good records in front of the one at ``offset`` one by one, then settle that one and pass it."""
        tp = state.tp
        consumer.resume(tp)
        try:
            async with asyncio.timeout(_ONE_BY_ONE_S):
                while state.assignment.may_start():
                    record = await consumer.getone(tp)
                    self._take(state, [record])
        except TimeoutError:
            return
        except UnicodeDecodeError:
            pass
        if not state.assignment.may_start():
            return
        item = Item(state, unparsable_record(tp.topic, tp.partition, offset), offset, self._clock.wall_ms())
        if state.ledger.read(offset):
            item.outcome, item.reason = Outcome.INVALID, Reason.MALFORMED
            item.detail = "the Kafka client cannot parse this record: a header key is not UTF-8"
            state.items[offset] = item
            self._held_bytes += item.size
            self._observer.unparsable(tp.topic, tp.partition, offset)
            self.settler.add(item)
        consumer.seek(tp, offset + 1)

    def _prepare_again(self) -> None:
        """Look at all partitions again, from the committed offsets on: the next offset is gone from one of them, or
        this process stood still. Under the same membership: a newer one, or none while the group is joined anew,
        would not be fenced."""
        old = self.assignment
        if old is not None and old.active and old.ready and not old.draining:
            self._take_over(Assignment(old.membership, old.tps, awake=self._awake, doubtful=True))

    def _awake(self) -> bool:
        """Whether this process was never silent for so long that its partitions may be another's."""
        return self._clock.monotonic() - self._awake_at < self.setup.session_timeout_s * _LEASE

    # -- delivery

    def _dispatch(self, batch: OpenBatch, cause: Cause) -> None:
        items = batch.items
        starts: dict[TopicPartition, int] = {}
        operations = 0
        for item in items:
            starts.setdefault(item.partition.tp, item.offset)
            operations += len(item.operations)
        # Records of a key that waited come behind newer ones of other keys: the first is not always the lowest.
        if len(items) > 1:
            for item in items:
                if item.offset < starts[item.partition.tp]:
                    starts[item.partition.tp] = item.offset
        name = batch_id(self.setup.name, [(tp.topic, tp.partition, offset) for tp, offset in starts.items()])
        line = BatchLine(name, cause, len(items), operations, self._clock.monotonic())
        self._batches[name] = line
        for item in items:
            item.batch_id = name
        self._observer.batch_dispatched(cause, len(items))
        if self.setup.dry_run:
            self._report_only(items)
        else:
            self._deliver(name, items)

    def _report_only(self, items: list[Item]) -> None:
        """A dry run: everything but the calls."""
        now = self._clock.monotonic()
        for item in items:
            for operation in item.operations:
                operation.outcome = Outcome.DELIVERED
            item.remaining = 0
            close(item)
            self._item_ended(item)
        for key in {item.record.key for item in items}:
            self._batcher.release(key, now)

    def _item_ended(self, item: Item) -> None:
        if not item.partition.assignment.active:
            return
        self.settler.add(item)
        line = self._batches.get(item.batch_id or "")
        if line is not None and item.outcome is not None:
            line.remaining -= 1
            line.outcomes[item.outcome] = line.outcomes.get(item.outcome, 0) + 1
            if not line.remaining:
                del self._batches[line.id]
                self._observer.batch_ended(line, self._clock.monotonic() - line.began)

    def _items_ended(self, items: Sequence[Item]) -> None:
        """Records of one batch have reached their ends."""
        if not items[0].partition.assignment.active:
            return
        self.settler.add_all(items)
        line = self._batches.get(items[0].batch_id or "")
        if line is not None:
            line.remaining -= len(items)
            for outcome, count in Counter(item.outcome for item in items if item.outcome is not None).items():
                line.outcomes[outcome] = line.outcomes.get(outcome, 0) + count
            if not line.remaining:
                del self._batches[line.id]
                self._observer.batch_ended(line, self._clock.monotonic() - line.began)

    def _keys_released(self, keys: set[bytes | None]) -> None:
        now = self._clock.monotonic()
        for key in keys:
            self._batcher.release(key, now)

    def _chain_ended(self, chain: Chain) -> None:
        if chain.items[0].partition.assignment.active:
            self._batcher.release(chain.key, self._clock.monotonic())

    def _expires_at_ms(self, item: Item) -> float | None:
        expires = self._planner.expires_at_ms(item)
        if expires is None or self.setup.planning.deadline_s is None:
            return None
        began = expires - self.setup.planning.deadline_s * 1000
        return expires + self.held_times.since(item.partition.tp.partition, began, self._clock.wall_ms())

    def _handler_fault(self, kind: str, stack: Sequence[str]) -> None:
        self._observer.handler_fault(kind, stack, Reason.HANDLER_ERROR)

    def _delivery_fault(self, error: BaseException) -> None:
        self._observer.handler_fault(type(error).__name__, stack_of(error.__traceback__), Reason.EXHAUSTED)

    # -- settling

    def _settled(self, items: Sequence[Item], seconds: float) -> None:
        self._held_bytes -= sum(item.size for item in items)
        self._observer.settled(items, seconds, self._clock.wall_ms())

    def _fenced(self, assignment: Assignment) -> None:
        if assignment.active:
            self._observer.fenced()
            assignment.end()
            self.refresh_state()

    def _refused(self, error: RefusedError) -> None:
        self._halt(f"the broker refused: {error}")

    def _halt(self, reason: str) -> None:
        """Stop for good: going on would lose or hide something."""
        if self.assignment is not None:
            self.assignment.end()
        self._stopped_for = reason
        self._set_state(LaneState.STOPPED, reason)
        self._stopping.set()

    def _lost(self, why: str) -> None:
        self._kafka_lost = why
        self._observer.transaction_lost(why)
        self.refresh_state()

    def _recovered(self) -> None:
        self._kafka_lost = None
        self.refresh_state()

    # -- an operator's orders

    def orders_changed(self) -> None:
        """A pause, or a silence of the brokers, may have begun or ended: calls stop, or go on, at once."""
        pause = self._control.pause()
        reason = self._silent() if pause is None else pause.describe()
        if reason == self.dispatcher.paused:
            return
        if reason is None:
            self.dispatcher.unpause()
        else:
            self.dispatcher.pause(reason)
        self._regulate()
        self.refresh_state()

    def _silent(self) -> str | None:
        """Why what the lane has read may be another's, though this process runs."""
        assignment = self.assignment
        if assignment is None or not assignment.active or not assignment.tps:
            return None
        return self._silence.reason(self._clock.monotonic())

    def released(self) -> None:
        """What the lane held for has been mended."""
        self.dispatcher.resume()

    def loss_accepted(self) -> None:
        """What the lane lost may have been given up: look again."""
        assignment = self.assignment
        if self._gap is not None and assignment is not None and assignment.active and not assignment.ready:
            self._gap = None
            self._start_preparing(assignment)
            self.refresh_state()

    # -- what status asks

    @property
    def batcher(self) -> Batcher:
        """The batches that are open now; another one after each rebalance."""
        return self._batcher

    @property
    def consumer(self) -> AIOKafkaConsumer | None:
        """The consumer, once it has started."""
        return self._consumer

    @property
    def kafka_trouble(self) -> str | None:
        """Why nothing can be settled at this moment."""
        return self._kafka_lost

    @property
    def stopping(self) -> bool:
        """Whether the lane goes down, by order or by itself."""
        return self._stopping.is_set()

    # -- state

    async def _tick(self) -> None:
        """What has to be looked at from time to time: the state's reason, and whether the group's view still holds."""
        next_view = self._clock.monotonic() + _VIEW_CHECK_S
        self._awake_at = self._clock.monotonic()
        for topic in [*self.setup.topics, self.setup.names.replay]:
            self._client.add_topic(topic)
        while True:
            await asyncio.sleep(_TICK_S)
            if not self._awake():
                self._prepare_again()
            self._awake_at = self._clock.monotonic()
            self.orders_changed()
            if self._deduper is not None:
                for tp in self._deduper.bound():
                    self._observer.dedupe_shortened(tp.topic, tp.partition)
            self.refresh_state()
            if self._clock.monotonic() >= next_view:
                next_view += _VIEW_CHECK_S
                self._compare_views()

    def _compare_views(self) -> None:
        """A static member that restarts with other topics causes no rebalance, and after its leader's restart nobody
        watches the partition counts: each member compares, and raises its revision to have the group deal anew."""
        view = self._assignor.view.topics
        if self._consumer is None or self.assignment is None or not self.assignment.active or not view:
            return
        for topic in [*self.setup.topics, self.setup.names.replay]:
            count = len(self._client.cluster.partitions_for_topic(topic) or ())
            if count and count != view.get(topic):
                data = self._assignor.data
                self._assignor.data = msgspec.structs.replace(data, revision=data.revision + 1)
                request_rejoin(self._consumer)
                return

    def refresh_state(self) -> None:
        """Work out what the lane is doing now, and why."""
        if self.board.state is LaneState.STOPPED:
            return
        self._take_share()
        state, reason = self._state_now()
        if self.board.state is LaneState.DRAINING and state is not LaneState.DRAINING:
            self._set_state(LaneState.STANDBY, "gave its partitions back")
        self._set_state(state, reason)
        self._note_held_time()

    def _take_share(self) -> None:
        """The account's limits are shared as the lane's partitions are."""
        assignment, counts = self.assignment, self._assignor.view.topics
        mine = len(assignment.tps) if assignment is not None and assignment.active else 0
        self.account.take_share(self.setup.name, part_of(mine, sum(counts.values())))

    def _state_now(self) -> tuple[LaneState, str | None]:
        assignment = self.assignment
        if self._draining:
            return LaneState.DRAINING, "giving partitions back"
        if (paused := self.dispatcher.paused) is not None and self._control.pause() is None:
            return LaneState.HOLDING, f"kafka: {paused}"
        if paused is not None:
            trouble = self._gap if self._kafka_lost is None else f"kafka: {self._kafka_lost}"
            return LaneState.PAUSED, paused if trouble is None else f"{paused}; {trouble}"
        if self._kafka_lost is not None:
            return LaneState.HOLDING, f"kafka: {self._kafka_lost}"
        if (reason := self._gap or self._narrow) is not None:
            return LaneState.HOLDING, reason
        if (told := self._denials.reason(self._clock.monotonic())) is not None:
            return LaneState.HOLDING, f"kafka: {told}"
        if assignment is None or not assignment.active:
            return LaneState.STANDBY, "waiting for partitions"
        if missing := self._assignor.view.missing:
            told = f"topic {missing[0]} has no metadata"
            return LaneState.HOLDING, unseen(missing[0], self._client.cluster.unauthorized_topics, told)
        if not assignment.tps:
            return LaneState.STANDBY, "other members have all partitions"
        if self.dispatcher.hold is not None:
            return LaneState.HOLDING, self.dispatcher.hold.reason
        if not self.setup.dry_run and (reason := self.account.holding()) is not None:
            return LaneState.HOLDING, reason
        if not assignment.ready:
            return LaneState.STANDBY, "reading offsets"
        if self._paused_full:
            return LaneState.FULL, f"{self._held_bytes} bytes of records held"
        if (waiting := assignment.reading_back) and waiting == sum(
            not s.is_replay for s in assignment.partitions.values()
        ):
            return LaneState.STANDBY, READING_BACK
        return LaneState.RUNNING, f"{READING_BACK} of {waiting} partitions" if waiting else None

    def _note_held_time(self) -> None:
        """What is held goes on through a rebalance: until the offsets are known nothing says that its cause is gone."""
        now_ms, assignment = self._clock.wall_ms(), self.assignment
        if (pause := self._control.pause()) is not None:
            self.held_times.begin(now_ms, pause.at_ms if pause.at_ms >= 0 else None)
        elif self._counts_as_held():
            self.held_times.begin(now_ms)
        elif assignment is None or assignment.ready or not assignment.active:
            self.held_times.end(now_ms)
        if self.held_times.changed:
            self.held_times.changed = False
            self._held_time_writer.changed()

    def _counts_as_held(self) -> bool:
        """Whether this time is taken off the age of events: not for an outage or a rate limit of the platform."""
        if self._gap is not None or self._narrow is not None:
            return True
        return self.dispatcher.hold is not None or self.account.refused is not None

    def _set_state(self, state: LaneState, reason: str | None) -> None:
        if self.board.set(state, reason, self._clock.wall_ms()):
            self._observer.state_changed(state, reason)


class _Listener(ConsumerRebalanceListener):
    """aiokafka's callbacks. An exception here would be logged and swallowed: nothing in them may raise."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._lane.partitions_assigned(frozenset(assigned))

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._lane.partitions_revoked()
