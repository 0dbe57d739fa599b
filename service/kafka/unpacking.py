"""What a fetch has brought, before the client hands it out: records are made as ours, which costs a quarter, and large
compressed batches are unpacked in a thread.

The client unpacks a batch as a whole, on the event loop, when its first record is asked for: 16 MiB of zstd take 60 ms,
in which every lane of the process waits. Here what a fetch has brought is taken back from the client for as long as a
thread works on it, so that nobody reads it meanwhile; the partition is fetched no further, for its fetch goes on.
Whatever happens meanwhile (a seek, a rebalance), the client itself looks whether the records are still wanted.

Rejected: to unpack all that has been fetched. It can inflate a hundredfold, and the client, which goes from batch to
batch, holds one at a time.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords

from service.kafka.records import record_of

# So many bytes in so few batches: one of them is large. Smaller ones are unpacked within some milliseconds.
_LARGE_BYTES = 64 * 1024
_FEW_BATCHES = 8
# Of one fetch of a partition: what they inflate to is held at the same time.
_MOST_BATCHES = 2
_RECORD_BATCH_MAGIC = 2


class _Records(PartitionRecords):
    """What the client unpacks, without a call of ours for each record: who asks for many gets them from the generator
    itself, which stands between two of them as before."""

    def __iter__(self) -> Any:
        return iter(()) if self._records_iterator is None else self._records_iterator


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

    def has_next(self) -> bool:
        return bool(self._batches)

    def next_batch(self) -> Any:
        return self._batches.popleft()

    def large(self) -> list[int]:
        """The places of batches that may be large."""
        if len(self._batches) > _FEW_BATCHES:
            return []
        packed = [place for place, batch in enumerate(self._batches) if _is_packed(batch)]
        return packed[:_MOST_BATCHES]

    def unpack(self, places: list[int]) -> None:
        """Blocks. What cannot be unpacked stays as it is: the client finds that out where it always has."""
        for place in places:
            batch = self._batches[place]
            with suppress(Exception):
                if batch.validate_crc():
                    iter(batch)
                    self._batches[place] = _Unpacked(batch)


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
        if type(result) is FetchResult and result._partition_records is not None:
            result._partition_records._consumer_record = record_of
            result._partition_records.__class__ = _Records


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
    return batch.magic == _RECORD_BATCH_MAGIC and bool(batch.compression_type) and not batch.is_control_batch
