"""What a fetch has brought, before the client hands it out: records are made as ours and many at a time, which costs a
quarter, and large compressed batches are unpacked in a thread.

The client unpacks a batch as a whole, on the event loop, when its first record is asked for: 16 MiB of zstd take 60 ms,
in which every lane of the process waits. Here what a fetch has brought is taken back from the client for as long as a
thread works on it, so that nobody reads it meanwhile; the partition is fetched no further, for its fetch goes on.
Whatever happens meanwhile (a seek, a rebalance), the client itself looks whether the records are still wanted.

Of one fetch the first two large batches are unpacked so; when the second is begun a thread takes the third, and so on.
Whoever comes to it before the thread is done waits for what is left of its work.

Rejected: to unpack all that has been fetched. It can inflate a hundredfold, and the client, which goes from batch to
batch, holds one at a time.
"""

import asyncio
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException

from service.kafka.records import Record, records_of

# So many bytes in so few batches: one of them is large. Smaller ones are unpacked within some milliseconds.
_LARGE_BYTES = 64 * 1024
_FEW_BATCHES = 8
# Of one fetch of a partition: what they inflate to is held at the same time.
_MOST_BATCHES = 2
_RECORD_BATCH_MAGIC = 2
# A thread of its own: whoever waits for a batch must not stand in line behind anybody else's work.
_AHEAD = ThreadPoolExecutor(1, thread_name_prefix="unpacking")


class _Records(PartitionRecords):
    """What the client unpacks, many records at a time. The rules are the client's own (``_unpack_records``): it goes
    from batch to batch and passes by what is no record of the partition; ``next_fetch_offset`` lies behind the last
    record that was handed out, and behind a batch once it is known to be at its end. An error ends it, so that the
    client fetches anew from there on."""

    # The records of the batch that has been begun.
    _begun: Iterator[Any] | None = None
    # Where the one behind that begins.
    _next_offset = 0
    _has_failed = False

    def __next__(self) -> Record:
        found = self.some(1)
        if not found:
            raise StopIteration
        return found[0]

    def some(self, most: int | None) -> list[Record]:
        """The next records, in order: ``most`` of them, or all that are left."""
        found: list[Record] = []
        try:
            while (begun := self._begin()) is not None:
                left = None if most is None else most - len(found)
                part = records_of(self._tp, islice(begun, left))
                if part:
                    self.next_fetch_offset = part[-1].offset + 1
                    found = found + part if found else part
                if len(part) == left:
                    return found
                self._begun, self.next_fetch_offset = None, self._next_offset
        except BaseException:
            self._begun, self._has_failed = None, True
            raise
        return found

    def _begin(self) -> Iterator[Any] | None:
        """The records that are left of a batch; None behind the last one."""
        while self._begun is None and not self._has_failed and self._records.has_next():
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"Invalid CRC - {self._tp}")
            if self._is_passed_by(batch):
                self.next_fetch_offset = batch.next_offset
                continue
            self._next_offset = batch.next_offset
            known = self.next_fetch_offset
            # An iterator of the standard library's: the batch's own must not be asked for twice.
            self._begun = islice(batch, None)
            if _magic_of(batch) != _RECORD_BATCH_MAGIC or batch.base_offset < known:
                # The first batch of a fetch begins where it may: what was asked for lies within it.
                self._begun = (record for record in self._begun if record.offset >= known)
        return self._begun

    def _is_passed_by(self, batch: Any) -> bool:
        """Whether a batch is a marker, or of a transaction that was aborted."""
        if self._isolation_level == READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)  # type: ignore[no-untyped-call] # the client's
            if batch.is_control_batch and self._contains_abort_marker(batch):  # type: ignore[no-untyped-call] # as well
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return True
        return bool(batch.is_control_batch)


def _all_of(of: "weakref.ref[Any]", max_records: int | None = None) -> list[Record]:
    """In place of the client's ``FetchResult.getall``: the same without a step for each record."""
    result: Any = of()
    if not result.check_assignment(result._topic_partition) or not result.has_more():
        return []
    found: list[Record] = result._partition_records.some(max_records)
    result._update_position()
    if max_records is None or len(found) < max_records:
        result._partition_records = None
    return found


class _Unpacked:
    """A batch whose checksum has been looked at, which the client would do now: too late, for it is unpacked."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Any:
        return iter(self._batch)

    def validate_crc(self) -> bool:
        return True


class _Batches:
    """Stands for the client's ``MemoryRecords``: the batches that it holds, in order."""

    def __init__(self, records: Any) -> None:
        self._batches: deque[Any] = deque()
        while records.has_next():
            self._batches.append(records.next_batch())
        self._are_few = len(self._batches) <= _FEW_BATCHES
        # The first of the batches, where the thread has it.
        self._ahead: Future[Any] | None = None

    def has_next(self) -> bool:
        return bool(self._batches)

    def next_batch(self) -> Any:
        batch, ahead = self._batches.popleft(), self._ahead
        if ahead is not None and not ahead.cancel():
            batch = ahead.result()
        first = self._batches[0] if self._batches and self._are_few else None
        is_next = first is not None and type(first) is not _Unpacked and _is_packed(first)
        self._ahead = _AHEAD.submit(_unpacked, first) if is_next else None
        return batch

    def large(self) -> list[int]:
        """The places of batches that may be large."""
        if not self._are_few:
            return []
        packed = [place for place, batch in enumerate(self._batches) if _is_packed(batch)]
        return packed[:_MOST_BATCHES]

    def unpack(self, places: list[int]) -> None:
        """Blocks."""
        for place in places:
            self._batches[place] = _unpacked(self._batches[place])


def _unpacked(batch: Any) -> Any:
    """Blocks. What cannot be unpacked stays as it is: the client finds that out where it always has."""
    with suppress(Exception):
        if batch.validate_crc():
            iter(batch)
            return _Unpacked(batch)
    return batch


def unpack_aside(consumer: AIOKafkaConsumer) -> None:
    """To be called once the consumer has started, before it reads anything."""
    fetcher: Any = consumer._fetcher
    fetch = fetcher._proc_fetch_request

    async def fetch_and_unpack(assignment: Any, node_id: int, request: Any) -> bool:
        has_new = bool(await fetch(assignment, node_id, request))
        # Nothing has run since the client put the records there.
        if has_new:
            _make_ours(fetcher._records)
        if has_new and (taken := _take_large(fetcher._records)):
            try:
                await asyncio.to_thread(_unpack, taken)
            except asyncio.CancelledError:
                # As the client's own: the partitions are another's now, or it closes.
                return False
            for tp, result in taken.items():
                if assignment.active:
                    fetcher._records.setdefault(tp, result)
        return has_new

    fetcher._proc_fetch_request = fetch_and_unpack


def _make_ours(found: dict[Any, Any]) -> None:
    for result in found.values():
        partition = result._partition_records if type(result) is FetchResult else None
        if type(partition) is PartitionRecords:
            partition.__class__ = _Records
            # What holds itself is freed by the collector alone.
            partition._records_iterator = None
            # The client asks for the very class of a result, so that stays as it is.
            result.getall = partial(_all_of, weakref.ref(result))


def _take_large(found: dict[Any, Any]) -> dict[Any, Any]:
    """Take out what is new and may hold large batches. What stays, or comes back, is known by its ``_Batches``."""
    taken: dict[Any, Any] = {}
    for tp, result in list(found.items()):
        partition = result._partition_records if type(result) is FetchResult else None
        if partition is None or type(partition._records) is _Batches:
            continue
        if partition._records.size_in_bytes() < _LARGE_BYTES:
            continue
        partition._records = _Batches(partition._records)
        if partition._records.large():
            taken[tp] = found.pop(tp)
    return taken


def _unpack(taken: dict[Any, Any]) -> None:
    for result in taken.values():
        batches = result._partition_records._records
        batches.unpack(batches.large())


def _is_packed(batch: Any) -> bool:
    return _magic_of(batch) == _RECORD_BATCH_MAGIC and bool(batch.compression_type) and not batch.is_control_batch


def _magic_of(batch: Any) -> int | None:
    """The version of its form; None for batches of older ones, which do not tell."""
    magic: int | None = getattr(batch, "magic", None)
    return magic
