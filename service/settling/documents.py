"""What a settled item leaves behind: its result and, where it is dead, the whole record on the dead-letter topic."""

from collections.abc import Callable, Sequence

import msgspec

from contracts.deadletters import Position, dead_letter_headers
from contracts.ids import ResultIds, hashed_key
from contracts.outcomes import DEAD, Outcome
from contracts.results import ResultEncoder
from contracts.usual_results import UsualResult, UsualResults
from service.intake.item import Item, name_items
from service.settling.batches import PartitionWrite, Record
from service.settling.partitioner import partitions

RESULT_HEADERS: list[tuple[str, bytes | None]] = [("content-type", b"application/cloudevents+json; charset=UTF-8")]


class DocumentPolicy(msgspec.Struct, frozen=True):
    """Where documents go, and which are written."""

    lane: str
    results_topic: str
    results_partitions: Callable[[], int]  # as the broker has them now
    dead_letter_topic: str
    publish_skipped: bool = True
    hash_keys: bool = False


class Documents:
    """Builds the records of a settling transaction."""

    def __init__(self, policy: DocumentPolicy, encoder: ResultEncoder, ids: ResultIds) -> None:
        self._policy = policy
        self._encoder = encoder
        self._usual = UsualResults(encoder)
        self._ids = ids

    @property
    def results_topic(self) -> str:
        """Where results go."""
        return self._policy.results_topic

    def partitions_of(self, items: Sequence[Item]) -> list[int]:
        """The results partition of each: quicker for thousands than for hundreds."""
        records = [item.record for item in items]
        return partitions(
            [record.key for record in records],
            [record.partition for record in records],
            self._policy.results_partitions(),
        )

    def writes(self, items: Sequence[Item], now_ms: int, numbers: Sequence[int] | None = None) -> list[PartitionWrite]:
        """Results and dead letters of ``items``, by partition, in the order of ``items``; ``numbers`` are what
        :meth:`partitions_of` says of them, where it has been asked already."""
        name_items([item for item in items if item.result_id is None], self._ids)
        numbers = self.partitions_of(items) if numbers is None else numbers
        if self._policy.publish_skipped:
            writes = self._results(items, numbers, now_ms)
        else:
            published = [pair for pair in zip(items, numbers, strict=True) if pair[0].outcome is not Outcome.SKIPPED]
            writes = self._results([item for item, _ in published], [number for _, number in published], now_ms)
        dead: dict[int, list[Record]] = {}
        for item in items:
            if item.outcome in DEAD:
                dead.setdefault(self._dead_letter_partition(item), []).append(self._dead_letter(item, now_ms))
        writes.extend(
            PartitionWrite(self._policy.dead_letter_topic, partition, records) for partition, records in dead.items()
        )
        return writes

    def _results(self, items: Sequence[Item], numbers: Sequence[int], now_ms: int) -> list[PartitionWrite]:
        hash_keys = self._policy.hash_keys
        by_partition: dict[int, list[Record]] = {}
        values = self._usual.encode_all([_usual(item) for item in items], now_ms)
        for item, number, value in zip(items, numbers, values, strict=True):
            if value is None:
                value = self._result(item, now_ms)
            key = item.record.key
            if hash_keys and key is not None:
                key = hashed_key(key)
            record: Record = (now_ms, key, value, RESULT_HEADERS)
            group = by_partition.get(number)
            if group is None:
                by_partition[number] = [record]
            else:
                group.append(record)
        return [
            PartitionWrite(self._policy.results_topic, partition, records)
            for partition, records in by_partition.items()
        ]

    def _result(self, item: Item, now_ms: int) -> bytes:
        tp = item.partition.tp
        assert item.outcome is not None
        assert item.result_id is not None
        return self._encoder.encode(
            item.result_id,
            item.event or item.envelope or item.undecodable,
            item.outcome,
            item.reason,
            item.detail,
            [*item.operations],
            attempts_of(item),
            item.batch_id,
            item.coalesced_into,
            tp.topic,
            tp.partition,
            item.offset,
            item.record.timestamp,
            None if item.replay is None else item.replay.result_replay(),
            item.outcome in DEAD,
            item.received_ms,
            now_ms,
        )

    def _dead_letter_partition(self, item: Item) -> int:
        """The partition of the first source record: partition n of the replay topic is that of the source too."""
        return item.partition.tp.partition

    def _dead_letter(self, item: Item, now_ms: int) -> Record:
        record, tp = item.record, item.partition.tp
        timestamp = record.timestamp if record.timestamp >= 0 else None
        assert item.outcome is not None
        assert item.result_id is not None
        headers = dead_letter_headers(
            record.headers,
            lane=self._policy.lane,
            outcome=item.outcome,
            reason=item.reason,
            detail=item.detail,
            result_id=item.result_id,
            read=Position(tp.topic, tp.partition, item.offset, timestamp),
            attempts=attempts_of(item),
            failed_at_ms=now_ms,
            status=status_of(item),
            is_replay=item.partition.is_replay,
        )
        return now_ms, record.key, record.value, headers


def _usual(item: Item) -> UsualResult | None:
    """What the result of an item is made of, if it may be a usual one."""
    event, operations, result_id = item.event or item.envelope, item.operations, item.result_id
    if event is None or result_id is None or len(operations) != 1 or item.replay is not None:
        return None
    operation, read = operations[0], item.record
    if (
        item.outcome is not operation.outcome
        or item.reason is not operation.reason
        or item.detail is not None
        or item.coalesced_into is not None
    ):
        return None
    return (
        result_id,
        event,
        operation,
        item.batch_id,
        read.topic,
        read.partition,
        item.offset,
        read.timestamp,
        item.received_ms,
    )


def attempts_of(item: Item) -> int:
    """The largest of its operations' attempts."""
    operations = item.operations
    if len(operations) == 1:
        return operations[0].attempts
    return max((operation.attempts for operation in operations), default=0)


def status_of(item: Item) -> int | None:
    """The HTTP status of the operation that gave the item its outcome."""
    for operation in item.operations:
        if operation.outcome is item.outcome and operation.reason is item.reason:
            return operation.status
    return None
