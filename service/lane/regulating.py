"""Decides which partitions are read at this moment."""

from collections.abc import Callable

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import IllegalStateError

from service.imports.way import ImportWay
from service.intake.assignment import Assignment
from service.lane.core import Core
from service.lane.deferring import Deferring
from service.lane.delivering import Delivering

# What one call for records returns at most: a partition is read while it has room for so many.
MAX_RECORDS = 1000
# What is read long before its turn has left the processor's caches by then: a tenth of the CPU time of a backlog of
# workflows, and a third of the memory.
_AHEAD_BYTES = 16 * 1024 * 1024
_AHEAD_PAUSE_S = 0.02


def pause_s(held_bytes: int) -> float:
    """How long reading pauses behind records that were read. It goes on however much is held, 50,000 records a second
    at the most then: with a slow platform that much may have to be in flight. Where it ends, the buffer says."""
    return _AHEAD_PAUSE_S if held_bytes >= _AHEAD_BYTES else 0.0


class Regulating:
    """Nothing here awaits."""

    def __init__(
        self, core: Core, delivering: Delivering, deferring: Deferring, *, changed: Callable[[], None]
    ) -> None:
        """``changed``: the lane's state may be another."""
        self._clock = core.means.clock
        self._group = core.group
        self._buffer = core.buffer
        self._delivering = delivering
        self._deferring = deferring
        self._changed = changed

    def regulate(self) -> None:
        """Stop reading while the buffer is full, or an operator has paused the lane; of one partition, while its
        finished offsets would not fit into its commit."""
        assignment, consumer = self._group.assignment, self._group.consumer
        if assignment is None or consumer is None or not assignment.ready or not assignment.active:
            return
        now = self._clock.monotonic()
        if self._buffer.is_full():
            self._deferring.relieve(assignment, now)
        full = self._buffer.is_full()
        try:
            stopped = full or self._delivering.dispatcher.paused is not None
            if stopped != self._buffer.stopped:
                self._buffer.stopped = stopped
                if stopped:
                    consumer.pause(*assignment.tps)
                else:
                    consumer.resume(*(tp for tp in assignment.tps if not assignment.partitions[tp].reading_back))
            if full != self._buffer.full:
                self._buffer.full = full
                self._changed()
            if not stopped:
                self._pause_crowded(assignment, consumer, now)
        except IllegalStateError:
            # A rebalance is taking the partitions away at this moment.
            return

    def _pause_crowded(self, assignment: Assignment, consumer: AIOKafkaConsumer, now: float) -> None:
        bulks = self._delivering.bulks
        unread = bulks.unread_slots() if isinstance(bulks, ImportWay) else frozenset()
        for tp, state in assignment.partitions.items():
            room = state.ledger.room(MAX_RECORDS) or self._deferring.make_room(assignment, state, MAX_RECORDS, now)
            if unread and isinstance(bulks, ImportWay) and bulks.slots.of_partition(tp.partition) in unread:
                # The records of what is open come first, however much waits already: the slot waits for them.
                room = room and bool(state.interrupted)
            else:
                # The next import of its slot may hold no more.
                room = room and not self._buffer.batcher.crowded(tp.partition)
            if room == state.crowded:
                state.crowded = not room
                if room and not state.reading_back:
                    consumer.resume(tp)
                else:
                    consumer.pause(tp)
