"""From a record to its operations: decode, ``where``, plan. No call is made here, and nothing waits."""

import traceback
from collections.abc import Callable, Sequence
from types import TracebackType

import msgspec
from aiokafka.structs import ConsumerRecord

from contracts.deadletters import read_replay
from contracts.envelope import Undecodable, UndecodableKind, decode
from contracts.events import Event
from contracts.outcomes import Outcome, Reason
from handlers.base import BatchHandler, Expression, ExpressionError, Handler, Piece, Refusal
from handlers.imports.rows import ImportHandler, Row
from service.dedupe.events import repeats
from service.dedupe.window import DedupeWindow
from service.intake.item import Item

_UNDECODABLE: dict[UndecodableKind, tuple[Outcome, Reason]] = {
    UndecodableKind.TOMBSTONE: (Outcome.SKIPPED, Reason.TOMBSTONE),
    UndecodableKind.MALFORMED: (Outcome.INVALID, Reason.MALFORMED),
    UndecodableKind.CONTRACT: (Outcome.INVALID, Reason.CONTRACT),
    UndecodableKind.OTHER_TYPE: (Outcome.INVALID, Reason.CONTRACT),
}

# Called with the kind of an error that is our own fault, and the lines of its stack, without any value.
Report = Callable[[str, Sequence[str]], None]


class PlanningPolicy(msgspec.Struct, frozen=True):
    """What the operator chose about planning."""

    other_types_skipped: bool
    deadline_s: float | None
    deadline_from_time: bool


class Planner:
    """Gives each item either its operations or its outcome."""

    def __init__(
        self,
        handler: Handler | BatchHandler | ImportHandler,
        where: Expression | None,
        policy: PlanningPolicy,
        report: Report,
    ) -> None:
        self._handler = handler
        self._where = where
        self._policy = policy
        self._report = report

    def plan(self, item: Item) -> None:
        """Set ``operations``, or ``outcome`` with reason and detail. Never raises for what a record holds."""
        record = item.record
        event = decode(record.value, record.headers)
        state = item.partition
        if state.is_replay:
            item.replay = read_replay(record.headers)
        window = state.window
        if window is not None and repeats(window, event, record.timestamp, record.offset):
            # Whatever became of the earlier one, and would become of this one.
            item.outcome, item.reason = Outcome.SKIPPED, Reason.DUPLICATE
        if type(event) is not Event:
            self._undecodable(item, event)  # type: ignore[arg-type] # it is the one or the other
            return
        item.event = event
        event.record_ms = record.timestamp
        if item.outcome is not None:
            return
        try:
            if self._where is not None and not self._where(event, record.key):
                item.outcome, item.reason = Outcome.SKIPPED, Reason.WHERE
                return
            planned = self._handler.plan(event, record.key)
            if type(planned) is Piece:
                item.hold_piece(event, planned, timed=self._policy.deadline_from_time)
                return
            if not planned:
                raise ValueError("a plan without operations and without a reason for it")
        except ExpressionError as error:
            item.outcome, item.reason, item.detail = Outcome.INVALID, Reason.UNRESOLVED, str(error)
            return
        except Exception as error:  # noqa: BLE001 - our own fault must not stop the partition; it is reported
            self._report(type(error).__name__, stack_of(error.__traceback__))
            item.outcome, item.reason = Outcome.INVALID, Reason.HANDLER_ERROR
            item.detail = type(error).__name__
            return
        if type(planned) is Refusal:
            item.outcome, item.reason, item.detail = planned.outcome, planned.reason, planned.detail
            return
        if type(planned[0]) is Row:  # type: ignore[index] # a Sequence by contract, and neither of the others here
            item.hold_rows(event, planned, timed=self._policy.deadline_from_time)  # type: ignore[arg-type] # all are rows
            return
        item.operations = planned  # type: ignore[assignment] # a Sequence by contract, and not a Refusal here
        item.remaining = len(item.operations)

    def remember(self, window: DedupeWindow | None, record: ConsumerRecord[bytes, bytes]) -> bool:
        """Whether a record repeats an earlier one. It is not delivered now: it finished beyond an earlier commit, or
        waits for its turn. Later ones may repeat it."""
        if window is None:
            return False
        return repeats(window, decode(record.value, record.headers), record.timestamp, record.offset)

    def expires_at_ms(self, item: Item) -> float | None:
        """When the item's deadline passes, in wall milliseconds; None without one, or where its age is not known."""
        if self._policy.deadline_s is None:
            return None
        began: int | None = item.record.timestamp
        event = item.event or item.envelope
        if self._policy.deadline_from_time and not item.partition.is_replay and event is not None:
            began = event.time_ms
        # Kafka's -1 says that a record has no timestamp.
        return None if began is None or began < 0 else began + self._policy.deadline_s * 1000

    def _undecodable(self, item: Item, fault: Undecodable) -> None:
        item.undecodable = fault
        if item.outcome is not None:
            return
        if fault.kind is UndecodableKind.OTHER_TYPE and self._policy.other_types_skipped:
            item.outcome, item.reason = Outcome.SKIPPED, Reason.OTHER_TYPE
            return
        item.outcome, item.reason = _UNDECODABLE[fault.kind]
        if item.outcome is Outcome.INVALID:
            item.detail = fault.detail


def stack_of(trace: TracebackType | None) -> list[str]:
    """Where an error arose, without its message: a message can quote what the record holds."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]


def unparsable_record(topic: str, partition: int, offset: int) -> ConsumerRecord[bytes, bytes]:
    """Stands for a record that the Kafka client cannot parse: where it lies is all that is known of it."""
    return ConsumerRecord(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=-1,
        timestamp_type=0,
        key=None,
        value=None,
        checksum=None,
        serialized_key_size=-1,
        serialized_value_size=-1,
        headers=(),
    )
