"""One record in a lane, from its reading to its settlement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiokafka.structs import ConsumerRecord

from contracts.deadletters import ReplayRecord
from contracts.envelope import Undecodable
from contracts.events import Event
from contracts.ids import ResultIds
from contracts.outcomes import Outcome, Reason
from contracts.results import Operation
from handlers.imports.rows import Row
from service.intake.assignment import PartitionState

if TYPE_CHECKING:
    from service.journal.deliveries import OpenEntry

# What a held record costs beside its own bytes: the objects made of it.
OVERHEAD_BYTES = 2048


class Item:
    """A record, its plan and its progress. It belongs to one assignment and dies with it.

    ``outcome`` is None until every operation has reached its end; ``remaining`` counts those that have not.
    """

    __slots__ = (
        "batch_id",
        "bytes",
        "called",
        "coalesced_into",
        "detail",
        "doubted",
        "entry",
        "event",
        "offset",
        "operations",
        "outcome",
        "partition",
        "payload",
        "reason",
        "received_ms",
        "record",
        "remaining",
        "replay",
        "result_id",
        "rows",
        "size",
        "undecodable",
    )

    def __init__(
        self, partition: PartitionState, record: ConsumerRecord[bytes, bytes], offset: int, received_ms: int
    ) -> None:
        self.partition = partition
        self.record = record
        self.offset = offset
        self.received_ms = received_ms
        value = record.value
        key = record.key
        self.bytes = (len(value) if value else 0) + (len(key) if key else 0)
        # The event that is made of the record is about as large again.
        self.size = OVERHEAD_BYTES + 2 * self.bytes
        self.event: Event | None = None
        self.operations: list[Operation] = []
        self.remaining = 0
        self.outcome: Outcome | None = None
        self.reason: Reason | None = None
        self.detail: str | None = None
        self.batch_id: str | None = None
        # Once somebody has needed it before the result is written.
        self.result_id: str | None = None
        self.called = False
        # What a request that carries several events has of this one.
        self.payload = b""
        # Its rows in the file of an import; the result id of the event whose row was sent in the place of its own.
        self.rows: Sequence[Row] = ()
        self.coalesced_into: str | None = None
        # The journal's entry of the delivery that has it; None: nothing of it was begun.
        self.entry: OpenEntry | None = None
        # It may have taken effect already, and is delivered again.
        self.doubted = False
        self.replay: ReplayRecord | None = None
        self.undecodable: Undecodable | None = None


def name_items(items: Sequence[Item], ids: ResultIds) -> None:
    """Give items the ids of their results."""
    names = ids.many([(item.partition.tp, item.offset, item.record.timestamp) for item in items])
    for item, name in zip(items, names, strict=True):
        item.result_id = name
