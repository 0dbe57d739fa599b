"""The table of blame for segments, row by row over every status."""

from collections.abc import Callable, Iterable
from functools import partial

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
    """Equal, but for a hold's wording, which has a test of its own."""
    if isinstance(verdict, Hold) and isinstance(expected, Hold):
        return verdict.scope is expected.scope
    return verdict == expected


def answer(status: int) -> Answer:
    return Answer(status, HEADERS, BODY)


def expected_of_a_join(status: int) -> Verdict | None:
    if status == 404:
        return rejected(Reason.NOT_FOUND)
    if status == 409:
        return Confirm()
    if status == 413:
        return rejected(Reason.TOO_LARGE)
    return rejected(Reason.REFUSED) if status in REFUSED else expected_of_every_call(status)


def expected_of_a_confirmation(status: int) -> Verdict | None:
    if status == 404:
        return rejected(Reason.NOT_FOUND)
    return rejected(Reason.UNCONFIRMED) if status in {409, 413} | REFUSED else expected_of_every_call(status)


def judged_otherwise(
    judge: Callable[[Answer], Verdict], expected: Callable[[int], Verdict | None], statuses: Iterable[int]
) -> list[int]:
    """The statuses of which the judge says something else."""
    return [
        status for status in statuses if (wanted := expected(status)) is None or not same(judge(answer(status)), wanted)
    ]


STATUSES = range(100, 600)


def test_join_over_every_status() -> None:
    """A join: 404 not found, 409 is for the reading call to decide, 413 too large, other 4xx refused."""
    judge = partial(verdicts.judge_join, confirm_conflicts=True)
    assert judged_otherwise(judge, expected_of_a_join, STATUSES) == []


def test_leave_over_every_status() -> None:
    """A leave is judged like a join, but that a 404 is for the reading call to decide."""
    judge = partial(verdicts.judge_leave, confirm_conflicts=True)
    assert judged_otherwise(judge, lambda s: Confirm() if s == 404 else expected_of_a_join(s), STATUSES) == []


@pytest.mark.parametrize("judge", [verdicts.judge_join, verdicts.judge_leave])
def test_only_conflicts_differ_when_they_are_not_confirmed(judge: Callable[..., Verdict]) -> None:
    """confirm_conflicts: false says that a 409 counts as delivered, and nothing of a leave's 404."""
    unconfirmed = partial(judge, confirm_conflicts=False)
    assert unconfirmed(answer(409)) == Settle(Outcome.DELIVERED)
    others = [status for status in STATUSES if status != 409]
    assert judged_otherwise(unconfirmed, lambda status: judge(answer(status), confirm_conflicts=True), others) == []


def test_confirmation_over_every_failing_status() -> None:
    """The reading call: 404 and 410 not found; what the platform refuses there leaves it unconfirmed."""
    judge = partial(verdicts.judge_confirmation, segment=501, member=True)
    failing = [status for status in STATUSES if not 200 <= status < 300]
    assert judged_otherwise(judge, expected_of_a_confirmation, failing) == []


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


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (0, "no answer that HTTP knows (0): base_url is wrong"),
        (99, "no answer that HTTP knows (99): base_url is wrong"),
        (300, "the platform redirects (300), which is never followed: base_url is wrong"),
        (399, "the platform redirects (399), which is never followed: base_url is wrong"),
        (405, "the platform does not take our request (405): base_url or the request is wrong"),
        (600, "no answer that HTTP knows (600): base_url is wrong"),
        (999, "no answer that HTTP knows (999): base_url is wrong"),
    ],
)
@pytest.mark.parametrize("judge", range(3))
def test_a_hold_says_what_is_wrong(judge: int, status: int, reason: str) -> None:
    """It is what an operator reads in the status; what is no HTTP does not come from the platform at all."""
    assert JUDGES[judge](answer(status)) == Hold(HoldScope.LANE, reason)


@pytest.mark.parametrize("judge", JUDGES)
def test_refused_credentials_hold_the_account_and_say_so(judge: Callable[[Answer], Verdict]) -> None:
    """The reason names the status, for 401 is what the secret has to be mended for."""
    assert judge(answer(401)) == Hold(HoldScope.ACCOUNT, "credentials refused (401)")


@pytest.mark.parametrize("status", [200, 204])
@pytest.mark.parametrize("body", [b"", b"\xff", b"[" * 70_000, BODY])
def test_a_success_needs_no_body(status: int, body: bytes) -> None:
    """Any 2xx to a join or leave is delivered, even with a body that is unreadable or too large."""
    reply = Answer(status, {}, body, truncated=True)
    assert verdicts.judge_join(reply, confirm_conflicts=True) == Settle(Outcome.DELIVERED)
    assert verdicts.judge_leave(reply, confirm_conflicts=True) == Settle(Outcome.DELIVERED)


@pytest.mark.parametrize(
    ("body", "member", "state"),
    [
        (b"[7, 501]", True, None),
        (b"[7]", True, "is not in the segment"),
        (b"[]", True, "is not in the segment"),
        (b"[7]", False, None),
        (b"[]", False, None),
        (b"[501]", False, "is still in the segment"),
    ],
)
def test_the_list_decides(body: bytes, member: bool, state: str | None) -> None:
    """The wanted state is delivered; the other one is rejected as unconfirmed, with the request's id, and said."""
    verdict = verdicts.judge_confirmation(Answer(200, HEADERS, body), segment=501, member=member)
    detail = f"the platform reports a conflict and the target {state}"
    unconfirmed = Settle(Outcome.REJECTED, Reason.UNCONFIRMED, detail, "req-1")
    assert verdict == (Settle(Outcome.DELIVERED) if state is None else unconfirmed)


@pytest.mark.parametrize("member", [True, False])
@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"[1", b"<html>", b'["501"]'])
def test_an_unreadable_list_decides_nothing(body: bytes, member: bool) -> None:
    """A 2xx without a list is read again; it neither delivers nor rejects, not even a leave."""
    verdict = verdicts.judge_confirmation(Answer(200, {}, body), segment=501, member=member)
    assert verdict == Retry(RetryCause.SERVER_ERROR, "the list of the target's segments is unreadable")


@pytest.mark.parametrize("member", [True, False])
def test_a_list_that_was_cut_proves_nothing(member: bool) -> None:
    """A list too long to be read whole stays so: rejected as unconfirmed at once."""
    reply = Answer(200, HEADERS, b"[1, 2]", truncated=True)
    detail = "the list of the target's segments is too long to read"
    unconfirmed = Settle(Outcome.REJECTED, Reason.UNCONFIRMED, detail, "req-1")
    assert verdicts.judge_confirmation(reply, segment=501, member=member) == unconfirmed


@pytest.mark.parametrize("judge", JUDGES)
def test_every_end_is_a_pair_that_exists(judge: Callable[[Answer], Verdict]) -> None:
    """No judge makes up a pair of outcome and reason."""
    ends = [verdict for status in STATUSES if isinstance(verdict := judge(answer(status)), Settle)]
    assert ends
    assert [end for end in ends if end.reason not in PAIRS[end.outcome]] == []


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
