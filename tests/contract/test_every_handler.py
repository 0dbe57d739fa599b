"""What every handler must hold, whatever its platform: one suite over all of them.

A new handler is entered in ``CASES``; a test finds those that are not.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, get_args
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import handlers
from contracts.events import ContactChanged, Event, NotificationOccurred, Segments
from contracts.outcomes import PAIRS, Outcome, Reason
from contracts.results import Operation
from handlers.base import (
    Answer,
    BatchHandler,
    BatchVerdict,
    Confirm,
    ExpressionError,
    Failure,
    FailureKind,
    Forbidden,
    Handler,
    Hold,
    InDoubt,
    Member,
    Piece,
    Refusal,
    Reply,
    Request,
    Retry,
    Settle,
    Split,
    Verdict,
)
from handlers.np6.segments import SegmentsHandler
from handlers.np6.workflows import WorkflowsHandler

CONTACT = Event(
    id="e1",
    source="crm",
    type="contact.changed.v1",
    data=ContactChanged(
        contact_id="c1",
        change="updated",
        identifiers={"np6": "000PKXK4"},
        segments=Segments(join=[501, 502], leave=[7]),
    ),
)
NOTIFICATION = Event(
    id="e2",
    source="np6",
    type="notification.occurred.v1",
    data=NotificationOccurred(
        notification_key=1, target="000PKXK4", action="activation", occurred_at="2026-01-01T00:00:00Z"
    ),
)


class Case(msgspec.Struct):
    """A handler as a lane would build it, and the same with expressions that give any value."""

    handler: Handler
    events: Sequence[Event]  # each plans at least one operation
    with_values: Callable[[Sequence[Any]], Handler]
    expressions: int  # how many values with_values takes
    confirms: bool  # whether a conflict is settled by a reading request


def _giving(value: Any) -> Callable[[Event, bytes | None], Any]:
    return lambda event, key: value


def _contact(read: Callable[[ContactChanged], Any], other: Any) -> Callable[[Event, bytes | None], Any]:
    return lambda event, key: read(event.data) if isinstance(event.data, ContactChanged) else other


CASES = {
    "np6.segments": Case(
        handler=SegmentsHandler(
            target=_contact(lambda data: (data.identifiers or {}).get("np6"), "000PKXK4"),
            join=_contact(lambda data: data.segments and data.segments.join, 501),
            leave=_contact(lambda data: data.segments and data.segments.leave, None),
            confirm_conflicts=True,
        ),
        events=[CONTACT, NOTIFICATION],
        with_values=lambda values: SegmentsHandler(*map(_giving, values), confirm_conflicts=False),
        expressions=3,
        confirms=True,
    ),
}


class BatchCase(msgspec.Struct):
    """A handler whose requests carry several events, as a lane would build it, and the same with any values."""

    handler: BatchHandler
    events: Sequence[Event]  # each plans a piece, all of one batch
    with_values: Callable[[Sequence[Any]], BatchHandler]
    expressions: int


def _workflows(values: Sequence[Any]) -> WorkflowsHandler:
    workflow, receiver, data = map(_giving, values)
    return WorkflowsHandler(workflow, receiver, [("data", data)])


BATCH_CASES = {
    "np6.workflows": BatchCase(
        handler=WorkflowsHandler(
            42, _giving("000PKXK4"), [("data", _giving({"a": [1, None]})), ("node", _giving("n"))]
        ),
        events=[CONTACT, NOTIFICATION],
        with_values=_workflows,
        expressions=3,
    ),
}

TEXTS = st.text(max_size=20) | st.sampled_from(["", ".", "..", "a/../b", "%2E%2E", "\ud800", "a\r\nb", "é"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=5)
VALUES = SCALARS | st.lists(SCALARS, max_size=5) | st.lists(st.integers(1, 9), max_size=5)
BODIES = st.binary(max_size=200) | st.sampled_from(
    [b"", b"[]", b"[501]", b'{"Message":"no"}', b'{"Message":{}}', b"[" * 5_000, b"\xff"]
)
HEADERS = st.dictionaries(st.sampled_from(["x-request-id", "retry-after", "location"]), TEXTS)
ANSWERS = st.builds(Answer, st.integers(100, 599), HEADERS, BODIES, st.booleans())
FAILURES = st.builds(Failure, st.sampled_from(FailureKind), st.just("no connection"))

ITEMS = st.sampled_from([b'{"type":"success","flow":"f"}', b'{"type":"error","flow":{"Message":"m"}}', b"{}", b"null"])
ITEM_LISTS = st.lists(ITEMS, max_size=5).map(lambda items: b"[" + b",".join(items) + b"]")
BATCH_ANSWERS = st.builds(Answer, st.sampled_from([200, 201, 204]), HEADERS, BODIES | ITEM_LISTS, st.booleans())

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_batch_case = pytest.mark.parametrize("case", BATCH_CASES.values(), ids=BATCH_CASES)
anything = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def operations_of(case: Case) -> list[Operation]:
    operations: list[Operation] = []
    for event in case.events:
        planned = case.handler.plan(event, b"key")
        assert not isinstance(planned, Refusal)
        operations.extend(planned)
    return operations


def is_safe(request: Request) -> bool:
    """Nothing in the path ends it early or climbs it, even for a server that decodes before it looks."""
    path = request.path
    decoded = unquote(path.partition("?")[0]).replace("\\", "/")
    return (
        path.startswith("/")
        and not path.startswith("//")
        and path.isascii()
        and path.isprintable()
        and " " not in path
        and "#" not in path
        and not {".", ".."} & set(decoded.split("/"))
    )


def test_every_handler_is_in_this_suite() -> None:
    """Whatever in the package plans and judges is a case here, under its own name."""
    found = set()
    for module in pkgutil.walk_packages(handlers.__path__, "handlers."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if kind not in (Handler, BatchHandler) and hasattr(kind, "plan") and hasattr(kind, "batch_of"):
                found.add(kind)
    known = {**CASES, **BATCH_CASES}
    assert {type(case.handler) for case in known.values()} == found
    assert [case.handler.name for case in known.values()] == list(known)
    assert all(case.handler.name.startswith(case.handler.platform + ".") for case in known.values())


@every_case
def test_planning_is_repeatable_and_leaves_the_event_alone(case: Case) -> None:
    """A plan after a restart, or of a replay, is the plan of before; the event is nobody's to change."""
    for event in case.events:
        before = msgspec.json.encode(event)
        first, second = case.handler.plan(event, b"key"), case.handler.plan(event, b"key")
        assert first == second
        assert msgspec.json.encode(event) == before
        assert first is not second, "operations are changed while they are carried out: never shared"


@every_case
def test_operations_are_fresh(case: Case) -> None:
    """An operation begins without outcome and attempts, and its names can stand in a result."""
    for operation in operations_of(case):
        fresh = Operation(operation.kind, operation.target, operation.entity)
        assert operation == fresh
        assert operation.kind.count(".") == 1
        assert operation.target
        assert operation.entity


@every_case
@anything
@given(data=st.data())
def test_planning_takes_any_value(case: Case, data: st.DataObject) -> None:
    """Whatever the expressions give, a plan comes, or ExpressionError; and each request is safe to send."""
    values = [data.draw(VALUES) for _ in range(case.expressions)]
    handler = case.with_values(values)
    try:
        planned = handler.plan(CONTACT, None)
    except ExpressionError:
        return
    if isinstance(planned, Refusal):
        assert planned.outcome in (Outcome.SKIPPED, Outcome.INVALID)
        assert planned.reason in PAIRS[planned.outcome]
        return
    assert planned, "nothing to do is a refusal, not an empty plan"
    for operation in planned:
        assert is_safe(handler.request(operation))
        msgspec.json.encode(operation)


@every_case
def test_requests_are_repeatable_and_carry_no_credentials(case: Case) -> None:
    """A retry sends what the first attempt sent; the account adds the credentials, not the handler."""
    for operation in operations_of(case):
        request = case.handler.request(operation)
        operation.attempts = 3
        assert case.handler.request(operation) == request
        assert is_safe(request)
        names = [name.lower() for name, _ in request.headers]
        assert not {"authorization", "x-key", "cookie", "host"} & set(names)
        assert len(names) == len(set(names))
        if request.method == "POST" and request.body is None:
            assert ("Content-Length", "0") in request.headers


@every_case
def test_confirmations_only_read(case: Case) -> None:
    """What settles a conflict changes nothing."""
    if not case.confirms:
        return
    for operation in operations_of(case):
        request = case.handler.confirmation(operation)
        assert request.method == "GET"
        assert request.body is None
        assert is_safe(request)


@every_case
@anything
@given(reply=ANSWERS | FAILURES)
def test_every_reply_has_a_verdict(case: Case, reply: Reply) -> None:
    """No reply is too odd to be judged; an end is a pair that exists; the same reply is judged alike."""
    for operation in operations_of(case):
        verdict = case.handler.judge(operation, reply)
        check(verdict)
        assert case.handler.judge(operation, reply) == verdict
        assert case.confirms or not isinstance(verdict, Confirm)


@every_case
@anything
@given(reply=ANSWERS | FAILURES)
def test_a_confirmation_is_not_confirmed_again(case: Case, reply: Reply) -> None:
    """The second call decides, or is repeated, or holds: it never asks for a third."""
    for operation in operations_of(case):
        if case.confirms:
            verdict = case.handler.judge_confirmation(operation, reply)
            check(verdict)
            assert not isinstance(verdict, Confirm)


def check(verdict: Verdict) -> None:
    assert isinstance(verdict, get_args(Verdict))
    if isinstance(verdict, Settle):
        assert verdict.outcome in (Outcome.DELIVERED, Outcome.REJECTED, Outcome.IN_DOUBT)
        assert verdict.reason in PAIRS[verdict.outcome]
    if isinstance(verdict, Hold):
        assert verdict.reason
    if isinstance(verdict, Settle | Forbidden):
        msgspec.json.encode([verdict.detail, verdict.reference])


@every_case
@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408, 401])
def test_an_outage_is_not_a_dead_letter(case: Case, status: int) -> None:
    """A platform that is down, slow or refuses our key never ends an operation by itself."""
    for operation in operations_of(case):
        verdict = case.handler.judge(operation, Answer(status, {}, b""))
        assert isinstance(verdict, Retry | Hold)


@every_case
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_holds(case: Case, status: int) -> None:
    """No redirect is followed, and none is the item's fault."""
    for operation in operations_of(case):
        answer = Answer(status, {"location": "http://elsewhere.example"}, b"")
        assert isinstance(case.handler.judge(operation, answer), Hold)


@every_case
def test_operations_merge_only_with_their_equals(case: Case) -> None:
    """Merging spares a call that would say the same again, and no other; equals share a batch."""
    operations = operations_of(case)
    for one in operations:
        for other in operations:
            if case.handler.merges_with(one, other):
                assert case.handler.request(one) == case.handler.request(other)
                assert case.handler.batch_of(one) == case.handler.batch_of(other)
        hash(case.handler.batch_of(one))


@every_case
def test_an_expression_that_fails_is_the_callers_to_judge(case: Case) -> None:
    """ExpressionError goes through the handler as it is."""

    def fails(event: Event, key: bytes | None) -> Any:
        raise ExpressionError("lanes.x.y: no such overload")

    handler = type(case.handler)(*[fails] * case.expressions)
    with pytest.raises(ExpressionError, match=r"lanes\.x\.y"):
        handler.plan(CONTACT, b"key")


def members_of(case: BatchCase, times: int = 1) -> list[Member]:
    members: list[Member] = []
    for event in case.events * times:
        planned = case.handler.plan(event, b"key")
        assert isinstance(planned, Piece)
        members.append(Member(planned.operation, planned.payload, event, f"result-{len(members)}", 1_700_000_000_000))
    return members


@every_batch_case
def test_planning_a_piece_is_repeatable_and_leaves_the_event_alone(case: BatchCase) -> None:
    """A plan after a restart, or of a replay, is the plan of before; the operation is fresh and never shared."""
    for event in case.events:
        before = msgspec.json.encode(event)
        first, second = case.handler.plan(event, b"key"), case.handler.plan(event, b"key")
        assert isinstance(first, Piece)
        assert isinstance(second, Piece)
        assert first == second
        assert first.operation is not second.operation
        assert first.operation == Operation(first.operation.kind, first.operation.target, first.operation.entity)
        assert first.operation.kind.count(".") == 1
        assert msgspec.json.encode(event) == before


@every_batch_case
@anything
@given(data=st.data())
def test_planning_a_piece_takes_any_value(case: BatchCase, data: st.DataObject) -> None:
    """Whatever the expressions give, a piece comes, or a refusal, or ExpressionError; its request is safe to send."""
    handler = case.with_values([data.draw(VALUES) for _ in range(case.expressions)])
    try:
        planned = handler.plan(CONTACT, None)
    except ExpressionError:
        return
    if isinstance(planned, Refusal):
        assert planned.outcome in (Outcome.SKIPPED, Outcome.INVALID)
        assert planned.reason in PAIRS[planned.outcome]
        return
    request = handler.batch_request([Member(planned.operation, planned.payload, CONTACT, "r", 0)], "batch")
    assert is_safe(request)
    msgspec.json.decode(request.body or b"")
    msgspec.json.encode(planned.operation)


@every_batch_case
def test_batch_requests_are_repeatable_and_carry_no_credentials(case: BatchCase) -> None:
    """The same members make the same bytes, whatever was tried before; the account adds the credentials."""
    members = members_of(case)
    request = case.handler.batch_request(members, "batch")
    for member in members:
        member.operation.attempts = 3
    assert case.handler.batch_request(members, "batch") == request
    assert is_safe(request)
    names = [name.lower() for name, _ in request.headers]
    assert not {"authorization", "x-key", "cookie", "host"} & set(names)
    assert "content-type" in names
    assert len({case.handler.batch_of(member.operation) for member in members}) == 1


@every_batch_case
def test_a_request_for_part_of_a_batch_says_of_each_member_what_the_whole_said(case: BatchCase) -> None:
    """Halves of a refused batch carry the same ids: the platform can recognise a repeat."""
    members = members_of(case, 3)
    whole = msgspec.json.decode(case.handler.batch_request(members, "batch").body or b"")
    half = msgspec.json.decode(case.handler.batch_request(members[2:4], "batch").body or b"")
    assert half == whole[2:4]


@every_batch_case
@anything
@given(reply=ANSWERS | FAILURES | BATCH_ANSWERS, times=st.integers(1, 2))
def test_every_reply_to_a_batch_has_a_verdict(case: BatchCase, reply: Reply, times: int) -> None:
    """No reply is too odd to be judged; an end for each member, or one for all; the same reply is judged alike."""
    members = members_of(case, times)
    verdict = case.handler.judge_batch(members, reply)
    check_batch(verdict, len(members))
    assert case.handler.judge_batch(members, reply) == verdict


def check_batch(verdict: BatchVerdict, count: int) -> None:
    if isinstance(verdict, Hold):
        assert verdict.reason
    elif isinstance(verdict, Split):
        assert verdict.reason in (Reason.REFUSED, Reason.TOO_LARGE)
    elif not isinstance(verdict, Retry | Forbidden | InDoubt):
        assert len(verdict) == count
        for end in verdict:
            assert isinstance(end, Settle | InDoubt)
            msgspec.json.encode([end.detail, end.reference])
            if isinstance(end, Settle):
                assert end.outcome in (Outcome.DELIVERED, Outcome.REJECTED)
                assert end.reason in PAIRS[end.outcome]


@every_batch_case
@pytest.mark.parametrize("status", [408, 500, 501, 502, 504, 599])
def test_what_may_have_taken_effect_is_in_doubt(case: BatchCase, status: int) -> None:
    """A batch is never tried again by the handler where the platform may have carried it out."""
    assert isinstance(case.handler.judge_batch(members_of(case), Answer(status, {}, b"")), InDoubt)


@every_batch_case
@pytest.mark.parametrize("kind", [FailureKind.TIMED_OUT, FailureKind.RESET])
def test_a_batch_without_an_answer_is_in_doubt(case: BatchCase, kind: FailureKind) -> None:
    """It was sent: nobody knows."""
    assert isinstance(case.handler.judge_batch(members_of(case), Failure(kind, "no answer")), InDoubt)


@every_batch_case
@pytest.mark.parametrize("status", [429, 503, 401, 301, 302, 307, 405, 411, 415])
def test_what_took_no_effect_is_no_dead_letter(case: BatchCase, status: int) -> None:
    """Throttled, refused credentials, a redirect: the batch waits, nobody's item is at fault."""
    assert isinstance(case.handler.judge_batch(members_of(case), Answer(status, {}, b"")), Retry | Hold)
