"""What a status says, whichever platform answers: a call's end, and the words for what nobody but us can mend."""

import pytest

from handlers.base import Answer, Failure, FailureKind
from handlers.statuses import End, end_of_call, misdirected


@pytest.mark.parametrize(
    ("reply", "end"),
    [
        *((Answer(status, {}, b""), End.DONE) for status in (200, 202, 299)),
        *((Answer(status, {}, b""), End.IN_DOUBT) for status in (408, 500, 502, 599)),
        *((Answer(status, {}, b""), End.REFUSED) for status in (100, 301, 400, 401, 404, 409, 429, 503, 600)),
        (Failure(FailureKind.TIMED_OUT, "x"), End.IN_DOUBT),
        (Failure(FailureKind.RESET, "x"), End.IN_DOUBT),
        (Failure(FailureKind.NOT_SENT, "x"), End.REFUSED),
        (Failure(FailureKind.BAD_CERTIFICATE, "x"), End.REFUSED),
    ],
)
def test_the_end_of_a_call_that_is_not_repeated_blindly(reply: Answer | Failure, end: End) -> None:
    """Refused is only what certainly had no effect; a request that was sent without an answer is in doubt."""
    assert end_of_call(reply) is end


@pytest.mark.parametrize(
    ("statuses", "named"),
    [
        ((300, 301, 399), "redirects"),
        ((400, 405, 499), "does not take our request"),
        ((100, 299, 500, 600), "no answer that HTTP knows"),
    ],
)
def test_what_an_operator_is_told_of_a_wrong_address(statuses: tuple[int, ...], named: str) -> None:
    """A redirect, a request that is not taken and what is no answer are mended in different places."""
    for status in statuses:
        assert named in misdirected(status)
        assert f"({status})" in misdirected(status)
        assert "base_url" in misdirected(status)
