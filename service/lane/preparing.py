"""Prepares an assignment's partitions for reading: offsets, orders, journal, ledgers, and only then the seek."""

import asyncio
from collections.abc import Callable, Mapping

from aiokafka.structs import TopicPartition

from service.errors import TopicTooNarrowError, TransactorLostError
from service.imports.way import ImportWay
from service.intake.assignment import Assignment, PartitionState
from service.intake.losses import Judged, judge
from service.intake.starts import Begin, begins
from service.journal.reading import Journal, Starts, read_journal
from service.journal.recovery import Recovered
from service.journal.settled import refuse_undecided, settled_writes, trusted
from service.kafka.offsets import CommittedOffset, ToldOffsets
from service.lane.bulks import BulkWay
from service.lane.core import Core
from service.lane.denials import unseen
from service.lane.starting import start_writes
from service.lane.takeover import Takeover
from service.offsets.ledger import PartitionLedger
from service.offsets.metadata import decode_all as decode_metadata
from service.settling.transactor import Committed

_ORDERS_WITHIN_S = 15.0
# A coordinator that has just become one may know less than all.
_TOLD_WITHIN_S = 5.0


class Preparing:
    """One attempt after the other, until the partitions can be read."""

    def __init__(self, core: Core, bulks: BulkWay | ImportWay | None, *, regulate: Callable[[], None]) -> None:
        """``regulate`` begins to read what may be read."""
        self._setup = core.setup
        self._means = core.means
        self._clock = core.means.clock
        self._client = core.means.client
        self._observer = core.means.observer
        self._group = core.group
        self._buffer = core.buffer
        self._troubles = core.troubles
        self._held_times = core.held_times
        self._deduper = core.deduper
        self._settler = core.settler
        self._hooks = core.hooks
        self._bulks = bulks
        self._regulate = regulate

    async def prepare(self, assignment: Assignment, takeover: Takeover) -> None:
        """One attempt; ``takeover`` measures its steps.

        Raises KafkaError, TransactorLostError and TopicTooNarrowError, after which another one may succeed, and
        FencedError, RefusedError and JournalUnreadableError."""
        names, done = self._setup.names, takeover.done
        async with self._settler.lock:
            await self._settler.reopen(lambda: assignment.active)
        done("fenced")
        if not assignment.active:
            return
        told = await self._group.committed(assignment)
        assignment.committed = told.offsets
        done("offsets")
        # Nothing is called before every order that has been given is known: also not after this process stood still.
        await self._orders_known()
        done("orders")
        consumer = self._group.consumer
        assert consumer is not None
        journal = await self._journal(assignment, told.offsets)
        done("journal")
        self._troubles.narrow = None
        if not assignment.active:
            # Whoever has the partitions by now may have settled more than the offsets say that were read before.
            return
        committed = assignment.committed = self._trusted(assignment, told, journal, takeover)
        self._held_times.read(journal.held_times, self._clock.wall_ms())
        found = await begins(consumer, assignment.tps, committed, self._setup.start, names.replay, journal.starts)
        done("places")
        if not assignment.active:
            return
        hold = self._setup.hold_on_gap
        judged = judge(found, self._means.control.accepted, journal.starts, hold=hold, now_ms=self._clock.wall_ms())
        if judged.gap is not None:
            self._troubles.gap = judged.gap
            self._hooks.recovered()
            return
        recovered = Recovered()
        if self._bulks is not None and (journal.deliveries or isinstance(self._bulks, ImportWay)):
            # Aside: there may be thousands of them.
            recovered = await asyncio.to_thread(self._bulks.recover, journal.deliveries, judged.begins)
        await self._commit_beginnings(assignment, judged, journal, recovered)
        done("begun")
        if assignment.active:
            self._begin(assignment, judged.begins, journal.starts)
            if self._bulks is not None:
                self._bulks.begin(assignment, recovered)
            self._regulate()
            fresh = sum(begin.fresh for begin in judged.begins.values())
            self._observer.assigned(len(found), fresh, takeover.seconds, takeover.steps_s)
            self._hooks.recovered()

    def _trusted(
        self,
        assignment: Assignment,
        told: ToldOffsets,
        journal: Journal,
        takeover: Takeover,
    ) -> dict[TopicPartition, CommittedOffset]:
        """The group's offsets, where the journal does not know better. Raises TransactorLostError while one is missing
        that a coordinator may tell yet."""
        found = trusted(told, journal.settled, assignment.tps)
        refuse_undecided(found)
        if found.untold and takeover.seconds < _TOLD_WITHIN_S:
            tp = min(found.untold)
            raise TransactorLostError(f"no committed offset of {tp.topic}-{tp.partition}, which has been settled")
        for tp, group in found.behind.items():
            told_offset = None if group is None else group.offset
            self._observer.offset_behind(tp.topic, tp.partition, told_offset, found.offsets[tp].offset)
        assignment.behind = frozenset(found.behind)
        return found.offsets

    async def _orders_known(self) -> None:
        """Raises TransactorLostError if the control topic cannot be read to its end in time."""
        try:
            async with asyncio.timeout(_ORDERS_WITHIN_S):
                await self._means.control.read_to_end()
        except TimeoutError as error:
            raise TransactorLostError(
                f"the control topic could not be read within {_ORDERS_WITHIN_S:g} s; "
                "does our user of Kafka have the right Read on it?"
            ) from error

    async def _journal(self, assignment: Assignment, committed: Mapping[TopicPartition, CommittedOffset]) -> Journal:
        """What the journal says; of the beginnings of other partitions it is asked only where an offset is missing.

        Raises TopicTooNarrowError while a topic of the lane has too few partitions for those that it was given, and
        TransactorLostError while it is not seen.
        """
        names, cluster = self._setup.names, self._client.cluster
        width = 1 + max((tp.partition for tp in assignment.tps), default=-1)
        for topic in (names.journal, names.dead_letters):
            count = len(cluster.partitions_for_topic(topic) or ())
            if count < width:
                self._client.force_metadata_update()
                few = f"topic {topic} has {count} partitions, the sources have {width}: add some"
                if count:
                    raise TopicTooNarrowError(few)
                raise TransactorLostError(unseen(topic, cluster.unauthorized_topics, few))
        own = {tp.partition for tp in assignment.tps}
        begun = all(tp in committed or tp.topic == names.replay for tp in assignment.tps)
        others = () if begun else range(len(cluster.partitions_for_topic(names.journal) or ()))
        return await read_journal(self._means.connection, names.journal, own=own, others=others)

    async def _commit_beginnings(
        self, assignment: Assignment, judged: Judged, journal: Journal, recovered: Recovered
    ) -> None:
        """Where partitions are begun, or go on behind a loss, with what the journal says of it, in one transaction;
        after this process stood still, all offsets once more: that proves that they are still its own; and those
        that the group had behind what was settled."""
        stale = recovered.stale_partitions
        proven = {
            tp: begin
            for tp, begin in judged.begins.items()
            if assignment.doubtful
            or begin.fresh
            or tp in judged.passed
            or tp in assignment.behind
            or tp.partition in stale
        }
        if not proven:
            return
        names, counts, now_ms = self._setup.names, self._group.view.topics, self._clock.wall_ms()
        start, replay, passed = self._setup.start, names.replay, judged.passed
        removals = () if self._bulks is None else await self._bulks.removals(recovered)
        writes = start_writes(
            names.journal, proven, start, counts, now_ms, replay, passed=passed, earlier=journal.starts
        )
        offsets = {tp: Committed(begin.offset, begin.metadata) for tp, begin in proven.items()}
        after = [*removals, *settled_writes(names.journal, offsets, now_ms)]
        async with self._settler.lock:
            await self._means.committer.commit(writes, offsets, assignment.membership, after=after)
        for tp, lost in judged.passed.items():
            self._observer.records_lost(tp.topic, tp.partition, lost.from_offset, lost.to_offset)

    def _begin(self, assignment: Assignment, found: dict[TopicPartition, Begin], starts: Starts) -> None:
        consumer = self._group.consumer
        assert consumer is not None
        for tp, begin in found.items():
            finished, deferred, fault = decode_metadata(begin.offset, begin.metadata)
            if fault is not None:
                self._observer.metadata_ignored(tp.topic, tp.partition, fault)
            ledger = PartitionLedger(begin.offset, finished, deferred)
            is_replay = tp.topic == self._setup.names.replay
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
        self._buffer.stopped = True
