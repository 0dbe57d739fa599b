"""What waits behind its own key beyond a bound is not held in memory, but read again when its turn comes.

A contact with 10,000 events must not fill the lane's buffer, nor make its partition's commit too long to be written:
the others would stand still behind it. So where reading would have to pause, the ends of the longest queues leave
memory, and so do later records of these keys as they are read. When a key's queue is nearly empty the next few are
read again, by a consumer of its own, for the lane's own reading goes on meanwhile.

Invariant: a key's records are planned in the order of their offsets, whether they came once or twice. One that is read
again lies in front of the lane's reading position, and behind all of its key that are in memory.

The rejected ways: a bound per key without reading again (its partition would pause, and all others in it); as many
holes in the metadata as the key has records (4,096 bytes hold about a thousand); sending the reading position back (the
others would wait for all that is passed again).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IllegalStateError, KafkaError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from service.batching.batcher import Batcher
from service.clock import until_next
from service.dedupe.readback import ReadBack, Records, Stretch
from service.errors import FanlineError
from service.intake.assignment import Assignment, PartitionState
from service.offsets.deferred import MOST_KEYS, key_digest

# Of the buffer: a key whose waiting records take more is hot, and half of that it keeps.
_HOT_SHARE = 1 / 16
# A key with more waiting records is hot where the commit's metadata is what is short.
_HOT_RECORDS = 256
# So many of a hot key wait in memory at most; fewer where there are several.
_KEPT_RECORDS = 64
_LEAST_KEPT = 4
_LOOK_S = 0.1
# Where nothing is deferred; what is from now on is told.
_IDLE_LOOK_S = 1.0
_RETRY_S = 0.5
# How soon the queues are looked through again: soon where that helped, for it costs what the buffer holds.
_RELIEF_AGAIN_S = 0.1
_RELIEF_IN_VAIN_S = 1.0


class DeferHooks(msgspec.Struct, frozen=True):
    """What the lane does."""

    assignment: Callable[[], Assignment | None]
    batcher: Callable[[], Batcher]
    paused: Callable[[], bool]
    dropped: Callable[[int], None]  # so many bytes are held no longer
    take_back: Callable[[PartitionState, Sequence[ConsumerRecord[bytes, bytes]]], None]
    gone: Callable[[], None]  # retention was faster
    kafka_error: Callable[[str], None]


class _EndedError(FanlineError):
    """The assignment's time is over in the middle of reading."""


class Budget:
    """How many of a key may be taken back: records, and bytes of which the first record is free."""

    __slots__ = ("bytes", "records")

    def __init__(self, records: int, max_bytes: float) -> None:
        self.records = records
        self.bytes = max_bytes

    def spend(self, size: int) -> bool:
        """Whether one more fits."""
        if self.records <= 0 or self.bytes <= 0:
            return False
        self.records -= 1
        self.bytes -= size
        return True


class Deferring:
    """The deferred keys of one lane. ``run`` brings their records back; the rest is called by the lane's reading."""

    def __init__(
        self, buffer_bytes: int, connection: Mapping[str, Any], client: AIOKafkaClient, hooks: DeferHooks
    ) -> None:
        self._buffer_bytes = buffer_bytes
        self._connection = connection
        self._client = client
        self._hooks = hooks
        self._relief_at = 0.0
        self._told = asyncio.Event()

    # -- out of memory

    def relieve(self, assignment: Assignment, now: float) -> bool:
        """Memory is full: the ends of the queues that take much of it leave; whether there were any."""
        if now < self._relief_at:
            return False
        self._relief_at = now + _RELIEF_IN_VAIN_S
        queues = self._hooks.batcher().queues()
        sizes = ((sum(item.size for item, _ in queue), key) for key, queue in queues if len(queue) > 1)
        hot = sorted((entry for entry in sizes if entry[0] > self._buffer_bytes * _HOT_SHARE), reverse=True)
        return self._cut_all(assignment, [key for _, key in hot], now)

    def make_room(self, assignment: Assignment, state: PartitionState, more: int, now: float) -> bool:
        """The partition's metadata would become too long: the ends of the longest queues leave, if that makes room for
        ``more`` records; whether it did."""
        if now < self._relief_at:
            return False
        self._relief_at = now + _RELIEF_IN_VAIN_S
        hot: dict[bytes, int] = {}
        for key, queue in self._hooks.batcher().queues():
            if len(queue) > _HOT_RECORDS:
                here = sum(item.partition is state for item, _ in queue)
                if here > _HOT_RECORDS:
                    hot[key] = here - _KEPT_RECORDS
        if not hot or not state.ledger.room_without(sum(hot.values()), more, len(hot)):
            return False
        return self._cut_all(assignment, list(hot), now) and state.ledger.room(more)

    def _cut_all(self, assignment: Assignment, keys: Sequence[bytes], now: float) -> bool:
        helped = sum(self._cut(assignment, key) for key in keys) > 0
        if helped:
            self._relief_at = now + _RELIEF_AGAIN_S
        return helped

    def _cut(self, assignment: Assignment, key: bytes) -> bool:
        """All but the first of a key's queue leave memory; whether it could be."""
        digest, batcher = key_digest(key), self._hooks.batcher()
        queue = batcher.queue(key)
        number = queue[0].partition.tp.partition
        states = [state for tp, state in assignment.partitions.items() if tp.partition == number]
        if any(len(state.ledger.deferred) >= MOST_KEYS and digest not in state.ledger.deferred for state in states):
            return False
        keep, budget = 0, self._budget(max(len(state.ledger.deferred) for state in states) + 1)
        for place, item in enumerate(queue):
            # What was begun before a restart has an open entry in the journal, which belongs to it.
            if budget.spend(item.size) or item.entry is not None:
                keep = place + 1
        dropped: dict[TopicPartition, list[int]] = {}
        freed = 0
        for item in batcher.cut(key, keep):
            dropped.setdefault(item.partition.tp, []).append(item.offset)
            del item.partition.items[item.offset]
            freed += item.size
        for state in states:
            offsets = dropped.get(state.tp, [])
            state.ledger.defer(offsets, {digest: offsets[0] if offsets else state.ledger.position})
        self._hooks.dropped(freed)
        self._told.set()
        return freed > 0

    def _budget(self, keys: int) -> Budget:
        """What one of so many hot keys may have in memory."""
        return Budget(max(_LEAST_KEPT, _KEPT_RECORDS // keys), self._buffer_bytes * _HOT_SHARE / 2)

    # -- and back

    async def run(self) -> None:
        """Bring back what was deferred, as its turn comes, until cancelled."""
        while True:
            await self._next_look()
            assignment = self._hooks.assignment()
            if assignment is None or not self._may_read(assignment) or not self._wanting(assignment):
                continue
            try:
                async with ReadBack(self._connection, self._client, all_or_none=True) as reading:
                    while self._may_read(assignment) and _any_deferred(assignment):
                        wanting = self._wanting(assignment)
                        if wanting:
                            await self._recall(reading, assignment, wanting)
                        await asyncio.sleep(_LOOK_S)
            except _EndedError:
                continue
            except OffsetOutOfRangeError:
                # Deleted between the look at where the partition begins and the reading.
                self._hooks.gone()
            except (KafkaError, IllegalStateError) as error:
                self._hooks.kafka_error(type(error).__name__)
                await asyncio.sleep(_RETRY_S)

    async def _next_look(self) -> None:
        """Soon where something is deferred; else once something is, or what an earlier owner has deferred may be."""
        assignment = self._hooks.assignment()
        if assignment is not None and _any_deferred(assignment):
            await asyncio.sleep(_LOOK_S)
            return
        self._told.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(until_next(_IDLE_LOOK_S, asyncio.get_running_loop().time())):
                await self._told.wait()

    def _may_read(self, assignment: Assignment) -> bool:
        return assignment.ready and assignment.may_start() and not self._hooks.paused()

    def _wanting(self, assignment: Assignment) -> dict[TopicPartition, dict[bytes, Budget]]:
        """The keys that have nearly nothing left in memory, where all in front of what is deferred has been read."""
        if not _any_deferred(assignment):
            return {}
        waiting = {key_digest(key): len(queue) for key, queue in self._hooks.batcher().queues()}
        wanting: dict[TopicPartition, dict[bytes, Budget]] = {}
        for tp, state in assignment.partitions.items():
            deferred = state.ledger.deferred
            for digest, first in deferred.items():
                budget = self._budget(len(deferred))
                if first <= state.ledger.position and waiting.get(digest, 0) <= budget.records // 4:
                    wanting.setdefault(tp, {})[digest] = budget
        return wanting

    async def _recall(
        self, reading: ReadBack, assignment: Assignment, wanting: Mapping[TopicPartition, dict[bytes, Budget]]
    ) -> None:
        """Read the next records of these keys again. Raises _EndedError and KafkaError."""
        ledgers = {tp: assignment.partitions[tp].ledger for tp in wanting}
        stretches = {
            tp: Stretch(min(ledgers[tp].deferred[digest] for digest in keys), ledgers[tp].position)
            for tp, keys in wanting.items()
        }
        first = await reading.first_offsets(stretches)
        if any(first[tp] > stretch.at for tp, stretch in stretches.items()):
            self._hooks.gone()
            raise _EndedError

        def take(tp: TopicPartition, records: Records) -> None:
            if not self._may_read(assignment):
                raise _EndedError
            self._take(assignment.partitions[tp], records, wanting[tp])
            # With nobody left who wants more it is enough; else up to where the lane reads by now.
            stretches[tp].end = ledgers[tp].position if wanting[tp] else stretches[tp].at

        def done(tp: TopicPartition) -> None:
            if assignment.active:
                ledger, end = ledgers[tp], stretches[tp].end
                ledger.recall([], dict.fromkeys(wanting[tp], None if end >= ledger.position else end))

        await reading.read(stretches, take, done)

    def _take(self, state: PartitionState, records: Records, wanted: dict[bytes, Budget]) -> None:
        """Of some records those that are wanted; a key that has got enough is wanted no longer."""
        deferred, taken = state.ledger.deferred, []
        moved: dict[bytes, int | None] = {}
        for record in records:
            digest = None if record.key is None else key_digest(record.key)
            budget = None if digest is None else wanted.get(digest)
            if digest is None or budget is None or record.offset < deferred[digest]:
                continue
            if budget.spend(_size(record)):
                taken.append(record)
            else:
                moved[digest] = record.offset
                del wanted[digest]
        for digest in wanted:
            moved[digest] = max(records[-1].offset + 1, deferred[digest])
        state.ledger.recall([record.offset for record in taken], moved)
        self._hooks.take_back(state, taken)


def _any_deferred(assignment: Assignment) -> bool:
    return any(state.ledger.deferred for state in assignment.partitions.values())


def _size(record: ConsumerRecord[bytes, bytes]) -> int:
    return 2 * (len(record.value or b"") + len(record.key or b""))
