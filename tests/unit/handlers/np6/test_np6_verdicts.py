"""The table of blame for segments, row by row over every status."""

from collections.abc import Callable

import pytest

from contracts.outcomes import PAIRS, Outcome, Reason
from handlers.base import (
    Answer,
    Confirm,
    Failure,
    FailureKind,
    Forbidden,
    Hold,
    HoldScope,
    Retry,
    RetryCause,
    Settle,
    Verdict,
)
from handlers.np6 import verdicts

BODY = b'{"ExceptionMessage": "the platform says"}'
HEADERS = {"x-request-id": "req-1"}

THROTTLED = {429, 503}
MISDIRECTED = {405, 411, 415} | set(range(300, 400)) | set(range(100, 200))
BROKEN = {408} | (set(range(500, 600)) - {503})
SPECIAL = {401, 403, 404, 409, 410, 413}
REFUSED = set(range(400, 500)) - THROTTLED - MISDIRECTED - BROKEN - SPECIAL


def rejected(reason: Reason) -> Settle:
    return Settle(Outcome.REJECTED, reason, "the platform says", "req-1")


def expected_of_every_call(status: int) -> Verdict | None:
    """What a status means whatever the call was; None where calls differ. Written down apart from the code."""
    if 200 <= status < 300:
        return Settle(Outcome.DELIVERED)
    if status in THROTTLED:
        return Retry(RetryCause.THROTTLED, "the platform says")
    if status in BROKEN:
        return Retry(RetryCause.SERVER_ERROR, "the platform says", "req-1")
    if status == 401:
        return Hold(HoldScope.ACCOUNT, "")
    if status == 403:
        return Forbidden("the platform says", "req-1")
    if status == 410:
        return rejected(Reason.NOT_FOUND)
    if status in MISDIRECTED:
        return Hold(HoldScope.LANE, "")
    return None


def same(verdict: Verdict, expected: Verdict) -> bool:
    """Equal, but for a hold's wording, of which only the scope is promised."""
    if isinstance(verdict, Hold) and isinstance(expected, Hold):
        return verdict.scope is expected.scope and verdict.reason != ""
    return verdict == expected


def answer(status: int) -> Answer:
    return Answer(status, HEADERS, BODY)


@pytest.mark.parametrize("status", range(100, 600))
def test_join_over_every_status(status: int) -> None:
    """A join: 404 not found, 409 is for the reading call to decide, 413 too large, other 4xx refused."""
    expected = expected_of_every_call(status)
    if status == 404:
        expected = rejected(Reason.NOT_FOUND)
    elif status == 409:
        expected = Confirm()
    elif status == 413:
        expected = rejected(Reason.TOO_LARGE)
    elif status in REFUSED:
        expected = rejected(Reason.REFUSED)
    assert expected is not None
    assert same(verdicts.judge_join(answer(status), confirm_conflicts=True), expected)


@pytest.mark.parametrize("status", range(100, 600))
def test_leave_over_every_status(status: int) -> None:
    """A leave is judged like a join, but that a 404 is for the reading call to decide."""
    leave = verdicts.judge_leave(answer(status), confirm_conflicts=True)
    join = verdicts.judge_join(answer(status), confirm_conflicts=True)
    assert same(leave, Confirm() if status == 404 else join)


@pytest.mark.parametrize("status", range(100, 600))
def test_only_conflicts_differ_when_they_are_not_confirmed(status: int) -> None:
    """confirm_conflicts: false says that a 409 counts as delivered, and nothing of a leave's 404."""
    for judge in (verdicts.judge_join, verdicts.judge_leave):
        confirmed = judge(answer(status), confirm_conflicts=True)
        unconfirmed = judge(answer(status), confirm_conflicts=False)
        assert same(unconfirmed, Settle(Outcome.DELIVERED) if status == 409 else confirmed)


@pytest.mark.parametrize("status", [*range(100, 200), *range(300, 600)])
def test_confirmation_over_every_failing_status(status: int) -> None:
    """The reading call: 404 and 410 not found; what the platform refuses there leaves it unconfirmed."""
    expected = expected_of_every_call(status)
    if status == 404:
        expected = rejected(Reason.NOT_FOUND)
    elif status in {409, 413} | REFUSED:
        expected = rejected(Reason.UNCONFIRMED)
    assert expected is not None
    assert same(verdicts.judge_confirmation(answer(status), segment=501, member=True), expected)


def test_the_rows_of_the_test_cover_every_status() -> None:
    """No status is in two rows of this test and none in none."""
    rows = [set(range(200, 300)), THROTTLED, MISDIRECTED, BROKEN, SPECIAL, REFUSED]
    assert sum(map(len, rows)) == 500
    assert set().union(*rows) == set(range(100, 600))


JUDGES: list[Callable[[Answer | Failure], Verdict]] = [
    lambda reply: verdicts.judge_join(reply, confirm_conflicts=True),
    lambda reply: verdicts.judge_leave(reply, confirm_conflicts=False),
    lambda reply: verdicts.judge_confirmation(reply, segment=1, member=True),
]


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (FailureKind.NOT_SENT, Retry(RetryCause.NOT_SENT, "no route")),
        (FailureKind.TIMED_OUT, Retry(RetryCause.TIMED_OUT, "no route")),
        (FailureKind.RESET, Retry(RetryCause.RESET, "no route")),
        (FailureKind.BAD_CERTIFICATE, Hold(HoldScope.LANE, "bad certificate: no route")),
    ],
)
def test_no_answer(judge: Callable[[Failure], Verdict], kind: FailureKind, expected: Verdict) -> None:
    """Without an answer the call is repeated, for both calls may be; a bad certificate holds the lane."""
    assert judge(Failure(kind, "no route")) == expected


@pytest.mark.parametrize("status", [0, 99, 600, 999])
def test_what_is_no_http_holds_the_lane(status: int) -> None:
    """A status that HTTP does not know does not come from the platform: the address is wrong."""
    assert isinstance(verdicts.judge_join(answer(status), confirm_conflicts=True), Hold)


@pytest.mark.parametrize("status", [200, 204])
@pytest.mark.parametrize("body", [b"", b"\xff", b"[" * 70_000, BODY])
def test_a_success_needs_no_body(status: int, body: bytes) -> None:
    """Any 2xx to a join or leave is delivered, even with a body that is unreadable or too large."""
    reply = Answer(status, {}, body, truncated=True)
    assert verdicts.judge_join(reply, confirm_conflicts=True) == Settle(Outcome.DELIVERED)
    assert verdicts.judge_leave(reply, confirm_conflicts=True) == Settle(Outcome.DELIVERED)


@pytest.mark.parametrize(
    ("body", "member", "outcome"),
    [
        (b"[7, 501]", True, Outcome.DELIVERED),
        (b"[7]", True, Outcome.REJECTED),
        (b"[]", True, Outcome.REJECTED),
        (b"[7]", False, Outcome.DELIVERED),
        (b"[]", False, Outcome.DELIVERED),
        (b"[501]", False, Outcome.REJECTED),
    ],
)
def test_the_list_decides(body: bytes, member: bool, outcome: Outcome) -> None:
    """The wanted state is delivered; the other one is rejected as unconfirmed, with the request's id."""
    verdict = verdicts.judge_confirmation(Answer(200, HEADERS, body), segment=501, member=member)
    assert isinstance(verdict, Settle)
    assert verdict.outcome is outcome
    if outcome is Outcome.REJECTED:
        assert verdict.reason is Reason.UNCONFIRMED
        assert verdict.reference == "req-1"
        assert verdict.detail


@pytest.mark.parametrize("member", [True, False])
@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"[1", b"<html>", b'["501"]'])
def test_an_unreadable_list_decides_nothing(body: bytes, member: bool) -> None:
    """A 2xx without a list is read again; it neither delivers nor rejects, not even a leave."""
    verdict = verdicts.judge_confirmation(Answer(200, {}, body), segment=501, member=member)
    assert isinstance(verdict, Retry)
    assert verdict.cause is RetryCause.SERVER_ERROR


@pytest.mark.parametrize("member", [True, False])
def test_a_list_that_was_cut_proves_nothing(member: bool) -> None:
    """A list too long to be read whole stays so: rejected as unconfirmed at once."""
    reply = Answer(200, {}, b"[1, 2]", truncated=True)
    verdict = verdicts.judge_confirmation(reply, segment=501, member=member)
    assert isinstance(verdict, Settle)
    assert (verdict.outcome, verdict.reason) == (Outcome.REJECTED, Reason.UNCONFIRMED)


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("status", range(100, 600))
def test_every_end_is_a_pair_that_exists(judge: Callable[[Answer], Verdict], status: int) -> None:
    """No judge makes up a pair of outcome and reason."""
    verdict = judge(answer(status))
    if isinstance(verdict, Settle):
        assert verdict.reason in PAIRS[verdict.outcome]


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        ("abc-1", "abc-1"),
        ("", None),
        ("a\udcff", None),
        ("é", None),
        ("a\x01", None),
        ("x" * 500, "x" * 200),
    ],
)
def test_the_reference_is_plain_and_bounded(value: str, reference: str | None) -> None:
    """What a header holds is copied only if it is plain text, and not without end."""
    assert verdicts.request_id(Answer(404, {"x-request-id": value}, b"")) == reference


def test_a_body_that_is_not_understood_is_not_copied() -> None:
    """A rejected operation without the platform's words has no detail."""
    verdict = verdicts.judge_join(Answer(400, {}, b"secret@example.org"), confirm_conflicts=True)
    assert verdict == Settle(Outcome.REJECTED, Reason.REFUSED, None, None)
