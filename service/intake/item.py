"""One record in a lane, from its reading to its settlement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from aiokafka.structs import ConsumerRecord

from contracts.deadletters import ReplayRecord
from contracts.envelope import Undecodable, decode
from contracts.events import Envelope, Event
from contracts.ids import ResultIds
from contracts.outcomes import Outcome, Reason
from contracts.results import Operation
from handlers.base import Piece
from handlers.imports.rows import Row
from service.intake.assignment import PartitionState

if TYPE_CHECKING:
    from service.journal.deliveries import OpenEntry

ReadRecord = ConsumerRecord[bytes, bytes]
Payload = bytes
# What a held record costs beside its own bytes: the objects made of it.
OVERHEAD_BYTES = 2048
# The same where its event is not held, and what each row has beside its line.
HELD_BYTES = 1024
ROW_BYTES = 512
_ONE_ROW_BYTES = HELD_BYTES + ROW_BYTES


class Item(msgspec.Struct, eq=False, gc=False):
    """A record, its plan and its progress. It belongs to one assignment and dies with it.

    The collector does not know of items, which are the most of what a lane holds: its partition and it hold each other
    until it is settled or its assignment ends (``Assignment.end``), and nothing else that it holds may hold it.

    ``outcome`` is None until every operation has reached its end; ``remaining`` counts those that have not.
    """

    partition: PartitionState
    record: ReadRecord
    offset: int
    received_ms: int
    bytes: int  # of its record
    size: int  # with the objects that are made of it
    event: Event | None = None
    operations: Sequence[Operation] = ()
    remaining: int = 0
    outcome: Outcome | None = None
    reason: Reason | None = None
    detail: str | None = None
    batch_id: str | None = None
    # Once somebody has needed it before the result is written.
    result_id: str | None = None
    called: bool = False
    # What a request that carries several events has of this one.
    payload: Payload = b""
    # What stands for the event of a payload or of rows, which is held no longer.
    envelope: Envelope | None = None
    # Its rows in the file of an import; the result id of the event whose row was sent in the place of its own.
    rows: Sequence[Row] = ()
    coalesced_into: str | None = None
    # The journal's entry of the delivery that has it; None: nothing of it was begun.
    entry: OpenEntry | None = None
    # It may have taken effect already, and is delivered again.
    doubted: bool = False
    replay: ReplayRecord | None = None
    undecodable: Undecodable | None = None

    # Where one is told of by mistake, nothing that it holds is.
    __repr__ = object.__repr__

    def hold_rows(self, event: Event, rows: Sequence[Row], *, timed: bool) -> None:
        """The event was planned as rows, and is held no longer. ``timed``: its own time is asked for later."""
        # A list for each of 60,000 events that wait for their import were all that Python's collector has to look at.
        self.rows = rows = tuple(rows)
        if len(rows) == 1:
            row = rows[0]
            self.operations, self.remaining = (row.operation,), 1
            self.size = _ONE_ROW_BYTES + self.bytes + len(row.line)
        else:
            self.operations, count = tuple([row.operation for row in rows]), len(rows)
            self.remaining = count
            self.size = HELD_BYTES + self.bytes + ROW_BYTES * count + sum([len(row.line) for row in rows])
        self._hold_envelope(event, timed)

    def hold_piece(self, event: Event, piece: Piece, *, timed: bool) -> None:
        """As :meth:`hold_rows`: what is not held until the settlement is freed while it is still in the processor's
        caches, and the next event takes its place there."""
        self.operations, self.remaining = (piece.operation,), 1
        self.payload = payload = piece.payload
        self.size += len(payload)
        self._hold_envelope(event, timed)

    def _hold_envelope(self, event: Event, timed: bool) -> None:
        time_ms = event.time_ms if timed else None
        self.envelope = Envelope(event.id, event.source, event.type, event.tenant, event.traceparent, time_ms)
        self.event = None

    def read_event(self) -> Event | None:
        """The event, decoded again where it is not held; None for a record that is none."""
        if self.event is not None or self.envelope is None:
            return self.event
        event = decode(self.record.value, self.record.headers)
        if not isinstance(event, Event):
            return None
        event.record_ms = self.record.timestamp
        return event


def item_of(partition: PartitionState, record: ReadRecord, offset: int, received_ms: int) -> Item:
    """A record that was read."""
    value, key = record.value, record.key
    size = (len(value) if value else 0) + (len(key) if key else 0)
    # The event that is made of the record is about as large again.
    return Item(partition, record, offset, received_ms, size, OVERHEAD_BYTES + 2 * size)


def name_items(items: Sequence[Item], ids: ResultIds) -> None:
    """Give items the ids of their results."""
    names = ids.many([item.partition.tp for item in items], [(item.offset, item.record.timestamp) for item in items])
    for item, name in zip(items, names, strict=True):
        item.result_id = name


def outcomes_of(items: Sequence[Item]) -> dict[Outcome, int]:
    """How many of the items that ended have each outcome."""
    outcomes = [item.outcome for item in items if item.outcome is not None]
    if outcomes and outcomes.count(outcomes[0]) == len(outcomes):  # nearly always all have one
        return {outcomes[0]: len(outcomes)}
    return Counter(outcomes)
