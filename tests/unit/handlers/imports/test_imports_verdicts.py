"""What comes of an import's calls that were no success, whichever platform it is: the table, over every status."""

from typing import Any

import pytest

from handlers.base import Answer, Failure, FailureKind, Hold, HoldScope, Retry, RetryCause
from handlers.imports.verdicts import Divide, Failed, MayBeOpen, judge_refused_create, judge_refused_poll

TEXT = "its words"
LANE, ACCOUNT = HoldScope.LANE, HoldScope.ACCOUNT


def expected(status: int, *, create: bool) -> Any:
    """What a status means, written down apart from the code; a hold's words are compared by what they name."""
    if status in (429, 503, 409):
        return Retry(RetryCause.THROTTLED, TEXT)
    if status == 408 or 500 <= status < 600 or 200 <= status < 300:
        return MayBeOpen(TEXT) if create else Retry(RetryCause.SERVER_ERROR, TEXT)
    if status in (404, 410):
        return Hold(LANE, TEXT) if create else Failed(TEXT)
    if status in (401, 403, 405, 411, 415) or not 400 <= status < 500:
        return Hold(ACCOUNT if status == 401 else LANE, "")
    return Divide(status == 413, TEXT) if create else Hold(LANE, TEXT)


@pytest.mark.parametrize("create", [True, False])
def test_over_every_status(create: bool) -> None:
    """Each is judged as the table has it, with the platform's words; what people read names the status."""
    judge = judge_refused_create if create else judge_refused_poll
    for status in range(100, 601):
        verdict, wanted = judge(Answer(status, {}, b""), TEXT), expected(status, create=create)
        assert type(verdict) is type(wanted), status
        if isinstance(verdict, Hold):
            assert (verdict.scope, str(status) in verdict.reason) == (wanted.scope, True)
            assert wanted.reason in verdict.reason
        elif isinstance(verdict, Failed):
            assert str(status) in verdict.detail
            assert verdict.detail.endswith(f": {TEXT}")
            assert not verdict.divides, "it is no row's fault that the platform has forgotten it"
        else:
            assert verdict == wanted


def test_a_platform_without_words() -> None:
    """Then nothing stands behind ours; what forbids says so."""
    for status in (403, 404):
        verdict = judge_refused_create(Answer(status, {}, b""), None)
        assert isinstance(verdict, Hold)
        assert verdict.reason.endswith(f"({status})")
    forbidden = judge_refused_poll(Answer(403, {}, b""), TEXT)
    assert isinstance(forbidden, Hold)
    assert forbidden.reason.endswith(f"(403): {TEXT}")


@pytest.mark.parametrize("create", [True, False])
def test_a_call_without_an_answer(create: bool) -> None:
    """What was not sent is sent again; a bad certificate holds; what was sent may have opened an import."""
    judge = judge_refused_create if create else judge_refused_poll
    assert judge(Failure(FailureKind.NOT_SENT, "x"), None) == Retry(RetryCause.NOT_SENT, "x")
    held = judge(Failure(FailureKind.BAD_CERTIFICATE, "unknown CA"), None)
    assert isinstance(held, Hold)
    assert (held.scope, held.reason.endswith(": unknown CA")) == (LANE, True)
    for kind, cause in [(FailureKind.TIMED_OUT, RetryCause.TIMED_OUT), (FailureKind.RESET, RetryCause.RESET)]:
        assert judge(Failure(kind, "x"), None) == (MayBeOpen("x") if create else Retry(cause, "x"))
