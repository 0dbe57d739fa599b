"""The plan of an event for np6.segments."""

from typing import Any

import msgspec
import pytest

from contracts.events import ContactChanged, Event
from contracts.outcomes import Outcome, Reason
from contracts.results import Operation
from handlers.base import Answer, Confirm, ExpressionError, Refusal, Request, Settle
from handlers.np6.segments import MAX_OPERATIONS, SegmentsConfig, SegmentsHandler

EVENT = Event(id="e1", source="crm", type="contact.changed.v1", data=ContactChanged(contact_id="c1", change="updated"))


class Gives:
    """An expression that gives a value, or raises it, and counts how often it was asked."""

    def __init__(self, value: Any, place: str | None = None) -> None:
        self.value = value
        self.asked = 0
        if place is not None:
            self.place = place

    def __call__(self, event: Event, key: bytes | None) -> Any:
        assert (event, key) == (EVENT, b"k")
        self.asked += 1
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def plan(target: Any = "T1", join: Any = None, leave: Any = None) -> Any:
    handler = SegmentsHandler(Gives(target), Gives(join), Gives(leave))
    return handler.plan(EVENT, b"k")


def calls(operations: Any) -> list[tuple[str, str | None, str | None]]:
    assert not isinstance(operations, Refusal)
    return [(operation.kind, operation.target, operation.entity) for operation in operations]


def test_one_join() -> None:
    """An int is one segment."""
    assert plan(join=501) == (Operation("segment.join", "T1", "501"),)


def test_leaves_come_before_joins_each_in_list_order_without_duplicates() -> None:
    """The order of the calls is that of the lists, leaves first, each segment once."""
    operations = plan(join=[5, 3, 5, 3, 4], leave=[9, 8, 9])
    assert calls(operations) == [
        ("segment.leave", "T1", "9"),
        ("segment.leave", "T1", "8"),
        ("segment.join", "T1", "5"),
        ("segment.join", "T1", "3"),
        ("segment.join", "T1", "4"),
    ]


@pytest.mark.parametrize(("join", "leave"), [(None, None), ([], []), (None, []), ([], None)])
@pytest.mark.parametrize("target", ["T1", None, "", 7, ExpressionError("target")])
def test_nothing_to_do_comes_first(join: Any, leave: Any, target: Any) -> None:
    """Without a segment nobody asks for the target, however wrong it is."""
    assert plan(target, join, leave) == Refusal(Outcome.SKIPPED, Reason.NOTHING_TO_DO)


@pytest.mark.parametrize("target", ["T1", None, "", ExpressionError("target")])
@pytest.mark.parametrize(("join", "leave"), [(501, 501), ([1, 2], [3, 2]), ([7], 7)])
def test_a_contradiction_comes_before_the_target(target: Any, join: Any, leave: Any) -> None:
    """A segment in both lists is invalid, whatever the target."""
    refusal = plan(target, join, leave)
    assert (refusal.outcome, refusal.reason) == (Outcome.INVALID, Reason.CONTRADICTORY)


@pytest.mark.parametrize("target", [None, "", ".", "..", "a/../b", "\ud800"])
def test_a_target_that_is_missing_or_cannot_be_sent_safely(target: Any) -> None:
    """Null, empty, and what would climb the path are unresolved; nothing is sent."""
    refusal = plan(target, join=1)
    assert (refusal.outcome, refusal.reason) == (Outcome.INVALID, Reason.UNRESOLVED)


@pytest.mark.parametrize("target", [7, 7.5, True, [], {}, b"T1"])
def test_a_target_of_a_wrong_type(target: Any) -> None:
    """A target is a string: a number is not turned into one."""
    with pytest.raises(ExpressionError, match="target"):
        plan(target, join=1)


@pytest.mark.parametrize("value", ["501", 501.0, True, [True], ["501"], [1, None], [1.0], {}, {"a": 1}, [[1]]])
@pytest.mark.parametrize("name", ["join", "leave"])
def test_segments_of_a_wrong_type(name: str, value: Any) -> None:
    """Only an int, a list of ints or null will do; the message has the key and not the value."""
    with pytest.raises(ExpressionError, match=f"^{name}: ") as caught:
        plan(**{name: value})
    assert "501" not in str(caught.value)


@pytest.mark.parametrize("segment", [2**31, -(2**31) - 1, 10**30])
def test_a_segment_beyond_int32(segment: int) -> None:
    """Segments are int32."""
    with pytest.raises(ExpressionError, match="int32"):
        plan(join=[1, segment])


@pytest.mark.parametrize("segment", [2**31 - 1, -(2**31), 0])
def test_a_segment_at_the_bounds_of_int32(segment: int) -> None:
    """The bounds themselves are segments."""
    assert calls(plan(join=segment)) == [("segment.join", "T1", str(segment))]


def test_the_error_names_the_place_in_the_configuration() -> None:
    """An expression that knows its place is named by it."""
    handler = SegmentsHandler(Gives("T"), Gives("x", place="lanes.vip.join"), Gives(None))
    with pytest.raises(ExpressionError, match=r"^lanes\.vip\.join: "):
        handler.plan(EVENT, b"k")
    handler = SegmentsHandler(Gives(None, place="lanes.vip.target"), Gives(1), Gives(None))
    refusal = handler.plan(EVENT, b"k")
    assert isinstance(refusal, Refusal)
    assert refusal.detail == "lanes.vip.target: gives null"


WRONG_SEGMENTS = "must give an int, a list of ints or null"


@pytest.mark.parametrize("place", [None, "lanes.vip.x"])
@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("target", 7, "must give a string or null"),
        ("target", None, "gives null"),
        ("target", "", "gives an empty string"),
        ("target", "..", "cannot stand in a path"),
        ("join", "x", WRONG_SEGMENTS),
        ("leave", ["x"], WRONG_SEGMENTS),
        ("join", [1, True], WRONG_SEGMENTS),
        ("leave", 2**31, "gives a segment beyond int32"),
    ],
)
def test_each_fault_of_an_expression_names_it(name: str, value: Any, fault: str, place: str | None) -> None:
    """By its place in the file if it knows that, by its key else; whether the lane dies of it or the event."""
    gives = {"target": Gives("T"), "join": Gives(1), "leave": Gives(None)} | {name: Gives(value, place)}
    try:
        refusal = SegmentsHandler(**gives).plan(EVENT, b"k")
    except ExpressionError as error:
        told = str(error)
    else:
        assert isinstance(refusal, Refusal)
        told = refusal.detail or ""
    assert told == f"{place or name}: {fault}"


def test_a_contradiction_names_some_of_its_segments() -> None:
    """In their order, and few however many there are."""
    assert plan(join=[9, 8, 7], leave=[7, 9]).detail.endswith("segment 7, 9")
    assert plan(join=list(range(60)), leave=list(range(60))).detail.endswith("segment 0, 1, 2, 3, 4")


def test_a_pair_of_equal_segments_is_one() -> None:
    """The shortest list with a duplicate."""
    assert calls(plan(join=[5, 5], leave=(7, 7))) == [("segment.leave", "T1", "7"), ("segment.join", "T1", "5")]


@pytest.mark.parametrize("operation", [Operation("segment.join", None, "1"), Operation("segment.join", "T", None)])
def test_an_operation_of_somebody_else_is_not_carried_out(operation: Operation) -> None:
    """Nothing is asked of a target or a segment called None."""
    with pytest.raises(ValueError, match="this handler planned"):
        SegmentsHandler(Gives("T"), Gives(1), Gives(None)).request(operation)


def test_an_expression_error_goes_on() -> None:
    """What an expression raises is the caller's to judge."""
    with pytest.raises(ExpressionError, match="no such overload"):
        plan(join=ExpressionError("no such overload"))


def test_the_bound_of_operations() -> None:
    """A thousand operations are carried out, one more is refused and says why."""
    half = MAX_OPERATIONS // 2
    assert len(plan(join=list(range(half)), leave=list(range(half, 2 * half)))) == MAX_OPERATIONS
    refusal = plan(join=list(range(half + 1)), leave=list(range(half + 1, 2 * half + 1)))
    assert (refusal.outcome, refusal.reason) == (Outcome.INVALID, Reason.CONTRACT)
    assert "1001" in refusal.detail
    assert "1000" in refusal.detail


def test_duplicates_do_not_count_against_the_bound() -> None:
    """The bound is on what would be called."""
    assert len(plan(join=[1] * (MAX_OPERATIONS + 1))) == 1


def test_the_plan_leaves_the_event_alone() -> None:
    """The list of an event is neither changed nor handed on."""
    segments = [3, 3, 1]
    plan(join=segments)
    assert segments == [3, 3, 1]


def test_each_expression_is_asked_once() -> None:
    """Expressions cost; none is evaluated twice."""
    target, join, leave = Gives("T"), Gives([1, 2]), Gives(3)
    SegmentsHandler(target, join, leave).plan(EVENT, b"k")
    assert (target.asked, join.asked, leave.asked) == (1, 1, 1)


def test_merges_only_equal_assignments_of_one_target() -> None:
    """Kind, target and segment must all be equal."""
    handler = SegmentsHandler(Gives("T"), Gives(1), Gives(None))
    join = Operation("segment.join", "T", "1")
    assert handler.merges_with(join, Operation("segment.join", "T", "1", attempts=3))
    assert not handler.merges_with(join, Operation("segment.leave", "T", "1"))
    assert not handler.merges_with(join, Operation("segment.join", "U", "1"))
    assert not handler.merges_with(join, Operation("segment.join", "T", "2"))


def test_requests_and_judges_by_kind() -> None:
    """A join is a POST, a leave a DELETE, their confirmation a GET; the wanted state follows the kind."""
    handler = SegmentsHandler(Gives("T"), Gives(1), Gives(None))
    join, leave = Operation("segment.join", "T", "1"), Operation("segment.leave", "T", "1")
    assert handler.request(join) == Request("POST", "/targets/T/segments/1", (("Content-Length", "0"),))
    assert handler.request(leave) == Request("DELETE", "/targets/T/segments/1")
    assert handler.confirmation(join).path == "/targets/T/segments"
    missing = Answer(404, {}, b"")
    assert handler.judge(leave, missing) == Confirm()
    assert handler.judge(join, missing) != Confirm()
    there = Answer(200, {}, b"[1]")
    delivered = Settle(Outcome.DELIVERED)
    assert handler.judge_confirmation(join, there) == delivered != handler.judge_confirmation(leave, there)
    elsewhere = Answer(200, {}, b"[2]")
    assert handler.judge_confirmation(leave, elsewhere) == delivered != handler.judge_confirmation(join, elsewhere)


def test_conflicts_unconfirmed() -> None:
    """confirm_conflicts reaches the judges."""
    join = Operation("segment.join", "T", "1")
    conflict = Answer(409, {}, b"")
    confirming = SegmentsHandler(Gives("T"), Gives(1), Gives(None), True)
    trusting = SegmentsHandler(Gives("T"), Gives(1), Gives(None), False)
    left = Operation("segment.leave", "T", "1")
    assert confirming.judge(join, conflict) == confirming.judge(left, conflict) == Confirm()
    assert trusting.judge(left, conflict) != Confirm()
    assert SegmentsHandler(Gives("T"), Gives(1), Gives(None)).judge(join, conflict) == Confirm()
    assert trusting.judge(join, conflict) != Confirm()


def test_the_configuration() -> None:
    """join and leave may be left out, but not both; nothing unknown is taken."""
    config = msgspec.convert({"target": "data.identifiers.np6", "join": "501"}, SegmentsConfig)
    assert (config.leave, config.confirm_conflicts) == ("null", True)
    with pytest.raises(msgspec.ValidationError, match="at least one"):
        msgspec.convert({"target": "key"}, SegmentsConfig)
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"target": "key", "join": "1", "joins": "1"}, SegmentsConfig)
