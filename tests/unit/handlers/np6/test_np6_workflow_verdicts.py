"""The table of blame for workflow executions, row by row over every status and every shape of an answer."""

from typing import Any

import pytest

from contracts.outcomes import Outcome, Reason
from handlers.base import (
    Answer,
    Failure,
    FailureKind,
    Forbidden,
    Hold,
    HoldScope,
    InDoubt,
    Retry,
    RetryCause,
    Settle,
    Split,
)
from handlers.np6.verdicts import misdirected
from handlers.np6.workflow_verdicts import judge_executions

IDS = ["x-1", "x-2", "x-3"]
BODY = b'{"ExceptionMessage": "the platform says"}'
HEADERS = {"x-request-id": "req-1"}
THROTTLED = {429, 503}
MISDIRECTED = {405, 411, 415} | set(range(300, 400)) | set(range(100, 200))
BROKEN = {408} | (set(range(500, 600)) - {503})


def judge(status: int, body: bytes = BODY, *, only: str | None = "42", truncated: bool = False) -> Any:
    return judge_executions(Answer(status, HEADERS, body, truncated), IDS, only=only)


def expected(status: int) -> Any:
    """What a refusal of the whole request means for the lane of workflow 42. Written down apart from the code."""
    if status in THROTTLED:
        return Retry(RetryCause.THROTTLED, "the platform says", "req-1")
    if status in BROKEN:
        return InDoubt("the platform says", "req-1")
    if status == 403:
        return Forbidden("the platform says", "req-1")
    if status == 401:
        return Hold(HoldScope.ACCOUNT, "credentials refused (401)")
    if status in (404, 410):
        return Hold(HoldScope.LANE, f"workflow 42 is unknown ({status}): `workflow` is wrong")
    if status in MISDIRECTED:
        return Hold(HoldScope.LANE, misdirected(status))
    return Split(Reason.TOO_LARGE if status == 413 else Reason.REFUSED, "the platform says", "req-1")


@pytest.mark.parametrize("status", [range(100, 200), range(300, 400), range(400, 500), range(500, 600)])
def test_over_every_status(status: range) -> None:
    """A 5xx is in doubt and never tried again, 429 and 503 are, 400 and its like split, an address holds."""
    assert {one: judge(one) for one in status} == {one: expected(one) for one in status}


def test_a_failure_without_words_names_its_status() -> None:
    """Who judges what is in doubt has at least the status to go by."""
    assert judge(502, b"<html>") == InDoubt("HTTP 502", "req-1")


@pytest.mark.parametrize("status", [404, 410])
def test_an_unknown_workflow_that_an_expression_chose_is_the_items_fault(status: int) -> None:
    """Each of its executions is not found; the lane goes on with other workflows."""
    unknown = Settle(Outcome.REJECTED, Reason.NOT_FOUND, "the platform says", "req-1")
    assert judge(status, only=None) == [unknown] * 3


@pytest.mark.parametrize("status", [200, 201, 202, 207, 299])
def test_any_2xx_is_read_item_by_item(status: int) -> None:
    """A success in the status says nothing of the items."""
    body = b'[{"type":"success","flow":{}},{"type":"error"},{"type":"queued"}]'
    assert judge(status, body) == [
        Settle(Outcome.DELIVERED, None, None, "x-1"),
        Settle(Outcome.REJECTED, Reason.REFUSED, None, "req-1"),
        InDoubt("an item of the answer is neither a success nor an error", "x-3"),
    ]


@pytest.mark.parametrize("item", [b"{}", b"null", b"7", b'"success"', b'{"type":null}', b'{"type":["success"]}'])
def test_an_item_of_unknown_form_is_in_doubt(item: bytes) -> None:
    """What is not understood is not taken for a success, nor for a refusal; its neighbours are what they say."""
    first, second, third = judge(200, b'[{"type":"success"},' + item + b',{"type":"success"}]')
    assert first == Settle(Outcome.DELIVERED, None, None, "x-1")
    assert second == InDoubt("an item of the answer is neither a success nor an error", "x-2")
    assert third == Settle(Outcome.DELIVERED, None, None, "x-3")


def test_a_short_answer_leaves_the_rest_in_doubt() -> None:
    """Items are in the order of the request; what is missing may have been executed."""
    first, second, third = judge(200, b'[{"type":"success"}]')
    assert first == Settle(Outcome.DELIVERED, None, None, "x-1")
    assert (second, third) == tuple(InDoubt("1 items in the answer to 3", id_) for id_ in ("x-2", "x-3"))


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"[" + b",".join([b'{"type":"success"}'] * 4) + b"]", "4 items in the answer to 3"),
        *((body, "the answer is unreadable") for body in (b"", b"{}", b"\xff", b"[")),
    ],
)
def test_an_answer_that_cannot_be_told_apart_leaves_all_in_doubt(body: bytes, detail: str) -> None:
    """More items than were sent, no list, no JSON: nobody knows whose is what."""
    assert judge(200, body) == InDoubt(detail, "req-1")


def test_an_answer_with_as_many_items_as_were_sent_is_told_apart() -> None:
    """The last item too has its own end."""
    assert judge(200, b"[" + b",".join([b'{"type":"success"}'] * 3) + b"]") == [
        Settle(Outcome.DELIVERED, None, None, id_) for id_ in IDS
    ]


def test_an_answer_too_long_to_be_read_leaves_all_in_doubt() -> None:
    """Also where what was read of it would be a whole list."""
    verdict = judge(200, b'[{"type":"success"}]', truncated=True)
    assert verdict == InDoubt("the answer is too long to be read", "req-1")


@pytest.mark.parametrize("kind", FailureKind)
def test_without_an_answer(kind: FailureKind) -> None:
    """Not sent: nothing took effect. Time-out and reset: it may have."""
    verdict = judge_executions(Failure(kind, "why"), IDS, only="42")
    match kind:
        case FailureKind.NOT_SENT:
            assert verdict == Retry(RetryCause.NOT_SENT, "why")
        case FailureKind.TIMED_OUT | FailureKind.RESET:
            assert verdict == InDoubt("why")
        case FailureKind.BAD_CERTIFICATE:
            assert verdict == Hold(HoldScope.LANE, "bad certificate: why")


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (b'{"type":"error","flow":"no  such\\nthing"}', "no such thing"),
        (b'{"type":"error","Message":"m","flow":"f"}', "m"),
        (b'{"type":"error","flow":{"errorType":"E","errorData":[{"value":"v"}]}}', "E: v"),
        (b'{"type":"error","flow":{"secret":"x"}}', None),
        (b'{"type":"error","flow":[1]}', None),
    ],
)
def test_the_platforms_words_of_an_error(item: bytes, text: str | None) -> None:
    """They are taken from known fields alone: what is not understood is never copied."""
    first = judge(200, b"[" + item + b"]")[0]
    assert first == Settle(Outcome.REJECTED, Reason.REFUSED, text, "req-1")


def test_an_error_without_a_request_id_names_its_execution() -> None:
    """Something to ask the vendor for is always there."""
    (end,) = judge_executions(Answer(200, {}, b'[{"type":"error"}]'), ["x-1"], only=None)  # type: ignore[misc]
    assert end == Settle(Outcome.REJECTED, Reason.REFUSED, None, "x-1")
