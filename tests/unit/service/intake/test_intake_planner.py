"""From a record to its operations or its outcome; and when it expires."""

import gc
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from contracts.events import Envelope, Event
from contracts.outcomes import Outcome, Reason
from contracts.results import Operation
from handlers.base import Expression, ExpressionError, Piece, Refusal
from handlers.imports.rows import Row
from handlers.np6.segments import SegmentsHandler
from service.intake.item import HELD_BYTES, OVERHEAD_BYTES, ROW_BYTES, Item
from service.intake.planner import Planner, PlanningPolicy, unparsable_record
from tests.support.fakes import START_WALL_MS, Source, join

POLICY = PlanningPolicy(other_types_skipped=False, deadline_s=None, deadline_from_time=False)
Plan = Callable[[Event, bytes | None], Any]


def event(**fields: Any) -> bytes:
    body = {"specversion": "1.0", "id": "e-1", "source": "crm", "type": "contact.changed.v1"}
    data = {"contact_id": "c-1", "change": "updated", "identifiers": {"np6": "T1"}}
    return json.dumps(body | {"data": data} | fields).encode()


class Planned(SegmentsHandler):
    """A handler whose plan is given."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(lambda *_: None, lambda *_: None, lambda *_: None)
        self._given = plan

    def plan(self, event: Event, key: bytes | None) -> Sequence[Operation] | Refusal:
        return self._given(event, key)  # type: ignore[no-any-return] # whatever a test returns


class Bench:
    """A planner and what it reported."""

    def __init__(
        self, plan: Plan = lambda *_: [join("T1")], where: Expression | None = None, policy: PlanningPolicy = POLICY
    ) -> None:
        self.reports: list[tuple[str, Sequence[str]]] = []
        self.planner = Planner(Planned(plan), where, policy, lambda kind, stack: self.reports.append((kind, stack)))

    def plan(self, value: bytes | None, **options: Any) -> Item:
        item = Source().item(b"k", value=value, **options)
        self.planner.plan(item)
        return item


def end(item: Item) -> tuple[Outcome | None, Reason | None]:
    return item.outcome, item.reason


def test_an_event_gets_its_operations() -> None:
    """No outcome yet, and as many remain as were planned."""
    item = Bench(lambda *_: [join("T1"), join("T2")]).plan(event())
    assert end(item) == (None, None)
    assert (len(item.operations), item.remaining, item.called) == (2, 2, False)
    assert item.event is not None
    assert item.event.id == "e-1"


def test_a_piece_of_a_batch_is_one_operation_with_its_payload() -> None:
    """The handler gets the event and the record's key; what will be sent counts as memory that the item holds."""
    seen: list[tuple[str, bytes | None]] = []

    def plan(event: Event, key: bytes | None) -> Any:
        seen.append((event.id, key))
        return Piece(join("T1"), b"x" * 1000)

    value = event()
    item, other = Bench(plan).plan(value), Bench().plan(value)
    assert seen == [("e-1", b"k")]
    assert (item.operations, item.remaining, item.payload) == ((join("T1"),), 1, b"x" * 1000)
    assert item.size == other.size + 1000


def test_the_event_of_a_piece_is_held_as_its_envelope() -> None:
    """What its result tells of it stays; the whole of it can be read again, with its record's time."""
    value, planned = event(tenant="t", time="2026-01-01T00:00:00Z"), Piece(join("T1"), b"{}")
    item = Bench(lambda *_: planned).plan(value)
    assert item.event is None
    assert item.envelope == Envelope("e-1", "crm", "contact.changed.v1", "t", None, None)
    read = item.read_event()
    assert read is not None
    assert read.data.identifiers == {"np6": "T1"}  # type: ignore[union-attr] # a contact
    assert read.record_ms == item.record.timestamp
    timed = PlanningPolicy(other_types_skipped=False, deadline_s=60.0, deadline_from_time=True)
    bench = Bench(lambda *_: planned, policy=timed)
    assert bench.planner.expires_at_ms(bench.plan(value)) == 1767225660000


def test_the_rows_of_an_event_are_its_operations() -> None:
    """One each; the lines, which wait for their file, count as memory that the item holds, and the event, which is
    decoded again where it is asked for, does not."""
    rows = [
        Row(Operation("import.row", target, "7"), (target,), b"x" * size)
        for target, size in (("c-1", 300), ("c-2", 40))
    ]
    value = event()
    item, other = Bench(lambda *_: rows).plan(value), Bench().plan(value)
    assert (item.rows, item.operations, item.remaining) == (tuple(rows), tuple(row.operation for row in rows), 2)
    assert item.size == HELD_BYTES + item.bytes + 2 * ROW_BYTES + 340
    assert item.event is None
    assert other.event is not None
    assert item.read_event() == other.event == other.read_event()
    assert other.rows == ()


def test_what_is_held_of_an_event_with_rows_is_what_its_result_tells() -> None:
    """And the event's own time, where its age counts from that."""
    row = Row(Operation("import.row", "c-1", "7"), ("c-1",), b"x")
    for timed, time_ms in ((False, None), (True, 1_700_000_000_000)):
        policy = PlanningPolicy(other_types_skipped=False, deadline_s=60.0, deadline_from_time=timed)
        item = Bench(lambda *_: [row], policy=policy).plan(event(tenant="t", time="2023-11-14T22:13:20Z"))
        assert item.envelope == Envelope("e-1", "crm", "contact.changed.v1", "t", None, time_ms)


def test_the_collector_need_not_look_at_what_waits_for_its_import() -> None:
    """60,000 events wait at a time: to look at a list of each takes it a fifth of a second, at one go."""
    row = Row(Operation("import.row", "c-1", "7"), ("c-1",), b"x")
    item = Bench(lambda *_: [row]).plan(event(tenant="t"))
    gc.collect()
    held = [getattr(item, field) for field in item.__struct_fields__ if field not in ("partition", "record")]
    assert [one for one in (item, *held) if gc.is_tracked(one)] == []


def test_where_skips() -> None:
    """It is asked with the event and the key; the handler is not asked then."""

    def never(*_: object) -> None:
        raise AssertionError("planned what is skipped")

    seen: list[tuple[str, bytes | None]] = []

    def where(event: Event, key: bytes | None) -> bool:
        seen.append((event.id, key))
        return False

    assert end(Bench(never, where).plan(event())) == (Outcome.SKIPPED, Reason.WHERE)
    assert seen == [("e-1", b"k")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, (Outcome.SKIPPED, Reason.TOMBSTONE)),
        (b"", (Outcome.INVALID, Reason.MALFORMED)),
        (b"\xff", (Outcome.INVALID, Reason.MALFORMED)),
        (event(data={"contact_id": "c-1"}), (Outcome.INVALID, Reason.CONTRACT)),
        (event(type="other.v1"), (Outcome.INVALID, Reason.CONTRACT)),
    ],
    ids=["tombstone", "empty", "not UTF-8", "contract", "other type"],
)
def test_what_is_no_event_ends_at_once(value: bytes | None, expected: tuple[Outcome, Reason]) -> None:
    """Without operations; what is invalid says why."""
    item = Bench().plan(value)
    assert end(item) == expected
    assert not item.operations
    assert (item.detail is not None) == (expected[0] is Outcome.INVALID)
    assert item.undecodable is not None


def test_other_types_are_skipped_where_the_lane_says_so() -> None:
    """Only they: what holds no contract stays invalid."""
    bench = Bench(policy=PlanningPolicy(other_types_skipped=True, deadline_s=None, deadline_from_time=False))
    assert end(bench.plan(event(type="other.v1"))) == (Outcome.SKIPPED, Reason.OTHER_TYPE)
    assert end(bench.plan(event(data={}))) == (Outcome.INVALID, Reason.CONTRACT)


def test_a_refusal_is_an_outcome() -> None:
    """With the handler's detail."""
    item = Bench(lambda *_: Refusal(Outcome.INVALID, Reason.CONTRADICTORY, "both")).plan(event())
    assert end(item) == (Outcome.INVALID, Reason.CONTRADICTORY)
    assert item.detail == "both"


def test_an_expression_that_fails_is_unresolved() -> None:
    """In ``where`` and in the plan; the detail names the place."""

    def fails(*_: object) -> bool:
        raise ExpressionError("lane.yaml:12: no such thing")

    for bench in (Bench(fails), Bench(where=fails)):
        item = bench.plan(event())
        assert end(item) == (Outcome.INVALID, Reason.UNRESOLVED)
        assert item.detail == "lane.yaml:12: no such thing"
        assert bench.reports == []


def test_our_own_fault_ends_this_event_alone_and_is_reported_without_its_text() -> None:
    """An error's message can quote the event: kind and stack are enough."""

    def broken(*_: object) -> None:
        raise KeyError("marie@private.example")

    bench = Bench(broken)
    item = bench.plan(event())
    assert end(item) == (Outcome.INVALID, Reason.HANDLER_ERROR)
    assert item.detail == "KeyError"
    ((kind, stack),) = bench.reports
    assert kind == "KeyError"
    assert any("broken" in line for line in stack)
    assert "private.example" not in repr(bench.reports)


@pytest.mark.parametrize("nothing", [[], (), None])
def test_a_plan_of_nothing_is_our_own_fault(nothing: object) -> None:
    """Nothing succeeds by omission, and nothing takes the lane down."""
    bench = Bench(lambda *_: nothing)
    assert end(bench.plan(event())) == (Outcome.INVALID, Reason.HANDLER_ERROR)
    assert len(bench.reports) == 1


def test_a_record_of_the_replay_topic_tells_its_origin() -> None:
    """On a source topic the same headers are not believed."""
    headers = [
        ("fanline-origin-topic", b"contacts"),
        ("fanline-origin-partition", b"0"),
        ("fanline-origin-offset", b"7"),
        ("fanline-replays", b"1"),
    ]
    for replay_topic, expected in (("contacts", True), ("replay", False)):
        item = Source(replay_topic=replay_topic).item(b"k", value=event(), headers=headers)
        Bench().planner.plan(item)
        assert (item.replay is not None) == expected


def test_an_item_counts_its_bytes_and_its_overhead() -> None:
    """What the buffer is bounded by."""
    assert Source().item(b"key", value=b"12345").size == OVERHEAD_BYTES + 16
    assert Source().item(None, value=None).size == OVERHEAD_BYTES


def test_a_record_that_cannot_be_parsed_is_its_place_alone() -> None:
    """No timestamp, no key, no value, no headers; the sizes are those that the client gives what is not there."""
    record = unparsable_record("contacts", 3, 9)
    assert (record.topic, record.partition, record.offset, record.timestamp) == ("contacts", 3, 9, -1)
    assert (record.key, record.value, list(record.headers)) == (None, None, [])
    assert (record.serialized_key_size, record.serialized_value_size) == (-1, -1)


# -- deadlines


@pytest.mark.parametrize(
    ("from_time", "time", "timestamp", "replay", "expected"),
    [
        (False, None, 5_000, False, 15_000),
        (False, "1970-01-01T00:00:01Z", 5_000, False, 15_000),
        (True, "1970-01-01T00:00:01Z", 5_000, False, 11_000),
        (True, None, 5_000, False, 15_000),
        (True, "yesterday", 5_000, False, 15_000),
        (True, "1970-01-01T00:00:01Z", 5_000, True, 15_000),
        (False, None, -1, False, None),
        (True, "1970-01-01T00:00:01Z", -1, False, 11_000),
        (True, None, -1, False, None),
        (False, None, 0, False, 10_000),
    ],
)
def test_when_an_item_expires(
    from_time: bool, time: str | None, timestamp: int, replay: bool, expected: float | None
) -> None:
    """From the record's timestamp, or the event's time; a replay from its own record; never of an unknown age."""
    policy = PlanningPolicy(other_types_skipped=False, deadline_s=10.0, deadline_from_time=from_time)
    bench = Bench(policy=policy)
    fields = {} if time is None else {"time": time}
    item = Source(replay_topic="contacts" if replay else "replay").item(
        b"k", value=event(**fields), timestamp=timestamp
    )
    bench.planner.plan(item)
    assert item.event is not None
    assert bench.planner.expires_at_ms(item) == expected


def test_without_a_deadline_nothing_expires() -> None:
    """Whatever its age."""
    item = Bench().plan(event(), timestamp=0)
    assert Bench().planner.expires_at_ms(item) is None
    assert item.received_ms == START_WALL_MS
