"""Asks for records: the one loop that does, whether partitions are paused or not."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from handlers.imports.rows import ImportHandler
from service.clock import until_next
from service.intake.assignment import PartitionState
from service.intake.unparsable import find_unparsable
from service.lane.core import Core
from service.lane.regulating import MAX_RECORDS, Regulating, pause_s
from service.lane.taking import Taking
from service.turns import Portion, Turns, pieces, take_in_turns

_POLL_S = 0.2
# Where nothing is unfinished: what comes wakes the lane, and nothing else has to be looked at.
_IDLE_POLL_S = 1.0
_FULL_POLL_S = 0.02
# Of a lane of imports, full or not: it may be either for minutes at a time, and its next records go into a file in as
# many.
_IMPORTS_POLL_S = 0.5
_ONE_BY_ONE_S = 5.0
_HOLES_S = 0.25
# Planned without a pause, unless the lane's expressions take long: half a millisecond together, some for one of a
# megabyte. Half as many cost a twentieth more.
_TAKEN_AT_ONCE = 64
_BYTES_AT_ONCE = 128 * 1024
_RETRY_S = 0.5


class Polling:
    """Never waits for a delivery: the group gives up a member that does not ask."""

    def __init__(
        self,
        core: Core,
        taking: Taking,
        regulating: Regulating,
        *,
        gone: Callable[[], None],
        displaced: Callable[[], Awaitable[bool]],
    ) -> None:
        """``gone``: the next offset of a partition is there no more; ``displaced``: whether another process has taken
        this one's place, so that nothing is to be polled for any more."""
        self._observer = core.means.observer
        self._client = core.means.client
        self._clock = core.means.clock
        self._turns = Turns(core.means.clock)
        self._portion = Portion(core.means.clock, _TAKEN_AT_ONCE)
        self._group = core.group
        self._buffer = core.buffer
        self._troubles = core.troubles
        self._taking = taking
        self._regulating = regulating
        self._gone = gone
        self._displaced = displaced
        self._is_of_imports = isinstance(core.means.handler, ImportHandler)

    async def run(self) -> None:
        """Poll until cancelled. The consumer has started."""
        consumer = self._group.consumer
        assert consumer is not None
        holes_at = 0.0
        while True:
            timeout_ms = max(1, round(self._wait_s() * 1000))
            try:
                batches = await consumer.getmany(timeout_ms=timeout_ms, max_records=MAX_RECORDS)
            except UnicodeDecodeError:
                await self._pass_unparsable()
                continue
            except NoOffsetForPartitionError:
                await self._until_sought()
                continue
            except OffsetOutOfRangeError:
                self._gone()
                continue
            except KafkaError as error:
                self._observer.kafka_error(type(error).__name__)
                self._troubles.denials.note(error, self._clock.monotonic())
                # What the client does not know by name: another process may have this one's instance id.
                if type(error) is KafkaError and await self._displaced():
                    return
                await asyncio.sleep(_RETRY_S)
                continue
            if batches:
                await self._take(batches)
            self._regulating.regulate()
            now = self._clock.monotonic()
            if now >= holes_at:
                holes_at = now + _HOLES_S
                await self._pass_holes(consumer)
            # Records that are at hand are returned without a pause: everybody else gets a turn here, and a longer one
            # where much has been read that is not settled.
            await asyncio.sleep(pause_s(self._buffer.held_bytes) if batches else 0)

    def _wait_s(self) -> float:
        """Dispatch what is due; how long nothing else will be, or could be read again."""
        now = self._clock.monotonic()
        due_s = self._buffer.batcher.due(now)
        busy_s = until_next(_IMPORTS_POLL_S, now) if self._is_of_imports else _POLL_S
        if self._buffer.full:
            return busy_s if self._is_of_imports else _FULL_POLL_S
        if due_s is not None:
            return min(busy_s, due_s)
        assignment = self._group.assignment
        return until_next(_IDLE_POLL_S, now) if assignment is not None and assignment.is_idle() else busy_s

    async def _until_sought(self) -> None:
        """Records were asked for before their offsets were known; they are sought as soon as they are. Each time the
        client asks the coordinator anew: it is not let to for a while."""
        until = self._clock.monotonic() + _POLL_S
        while True:
            await asyncio.sleep(_FULL_POLL_S)
            assignment = self._group.assignment
            if self._clock.monotonic() >= until or (assignment is not None and assignment.ready):
                return

    async def _take(self, batches: Mapping[TopicPartition, Sequence[ConsumerRecord[bytes, bytes]]]) -> None:
        """Take what one call has handed out. Behind it nothing of that is held here: the next may be minutes away."""
        assignment = self._group.assignment
        if assignment is None or not assignment.ready or not assignment.may_start():
            return
        for tp, records in batches.items():
            state = assignment.partitions.get(tp)
            if state is not None:
                await self._take_in_turns(state, records)

    async def _take_in_turns(self, state: PartitionState, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        """Take records that were handed out. Those that are left when the partitions go are read by their next owner:
        the ledger does not know of them."""
        sizes = [len(record.value or b"") for record in records]
        if sum(sizes) > _BYTES_AT_ONCE:
            # To look at their checksums and to cut them out has taken milliseconds already.
            await asyncio.sleep(0)
        parts = pieces(records, sizes, self._portion.count, _BYTES_AT_ONCE)
        take = partial(self._portion.work, work=partial(self._taking.take, state))
        await take_in_turns(self._turns, parts, take, state.assignment.may_start)

    async def _pass_holes(self, consumer: AIOKafkaConsumer) -> None:
        """Commit markers and aborted records are passed by without being handed out: move the ledgers with them.

        Every record before a partition's position has been taken: it moves only when records are handed out here.
        """
        assignment = self._group.assignment
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
                self._taking.pass_gone(state)

    # -- records that the client cannot parse

    async def _pass_unparsable(self) -> None:
        """One partition holds a record that the client cannot parse: settle it as such, and read on behind it.

        Whatever the failed call had taken from other partitions is lost with it, so all are read from the ledger on.
        """
        assignment, consumer = self._group.assignment, self._group.consumer
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
                    self._taking.take(state, [record])
        except TimeoutError:
            return
        except UnicodeDecodeError:
            pass
        if not state.assignment.may_start():
            return
        self._taking.take_unparsable(state, offset)
        consumer.seek(tp, offset + 1)
