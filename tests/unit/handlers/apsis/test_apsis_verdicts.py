"""Whose fault each answer of Apsis One and of its storage is: the table, row by row."""

from typing import Any

import msgspec
import pytest

from handlers.apsis.verdicts import judge_create, judge_poll, judge_upload
from handlers.base import Answer, Failure, FailureKind, Hold, HoldScope, Retry, RetryCause
from handlers.imports.verdicts import (
    Completed,
    Divide,
    Failed,
    Lapsed,
    MayBeOpen,
    Opened,
    Pending,
    Unclear,
    Unnamed,
    Uploaded,
)
from tests.support.vendor import vendor_bytes


def answer(status: int, body: Any = b"", **more: Any) -> Answer:
    return Answer(status, {}, body if isinstance(body, bytes) else msgspec.json.encode(body), **more)


def storage(status: int, code: str) -> Answer:
    return answer(status, f"<Error><Code>{code}</Code><Message>private</Message></Error>".encode())


NOT_SENT = Failure(FailureKind.NOT_SENT, "refused")
TIMED_OUT = Failure(FailureKind.TIMED_OUT, "no answer")
RESET = Failure(FailureKind.RESET, "reset")
BAD_CERTIFICATE = Failure(FailureKind.BAD_CERTIFICATE, "unknown CA")
LANE, ACCOUNT = HoldScope.LANE, HoldScope.ACCOUNT


def kind_of(verdict: Any) -> Any:
    """What a verdict is, in short."""
    match verdict:
        case Hold():
            return verdict.scope
        case Retry():
            return verdict.cause
        case Divide():
            return "too large" if verdict.too_large else "divide"
    return type(verdict)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (NOT_SENT, RetryCause.NOT_SENT),
        (BAD_CERTIFICATE, LANE),
        (TIMED_OUT, MayBeOpen),
        (RESET, MayBeOpen),
        *((answer(status), MayBeOpen) for status in (408, 500, 501, 502, 504, 599)),
        *((answer(status), RetryCause.THROTTLED) for status in (409, 429, 503)),
        (answer(401), ACCOUNT),
        *((answer(status), LANE) for status in (403, 404, 405, 410, 411, 415, 301, 307, 101)),
        (answer(400), "divide"),
        (answer(422), "divide"),
        (answer(418), "divide"),
        (answer(413), "too large"),
        (answer(200), Unnamed),
        (answer(201, {"import_id": ""}), Unnamed),
        (answer(200, vendor_bytes("apsis-import-answer.json"), truncated=True), Unnamed),
        (answer(202, vendor_bytes("apsis-import-answer.json")), Opened),
    ],
)
def test_a_create(reply: Any, expected: Any) -> None:
    """What may have opened an import is told from what has not."""
    assert kind_of(judge_create(reply)) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (NOT_SENT, RetryCause.NOT_SENT),
        (BAD_CERTIFICATE, LANE),
        (TIMED_OUT, Unclear),
        (RESET, Unclear),
        *((answer(status), Unclear) for status in (408, 500, 502, 504)),
        *((answer(status), RetryCause.THROTTLED) for status in (409, 429, 503)),
        *((answer(status), Uploaded) for status in (200, 201, 204)),
        (storage(400, "EntityTooLarge"), "too large"),
        (storage(400, "EntityTooSmall"), "too large"),
        (answer(413), "too large"),
        *((answer(status), LANE) for status in (301, 307, 400, 401, 403, 404, 405, 410, 411, 415, 422)),
    ],
)
def test_an_upload(reply: Any, expected: Any) -> None:
    """What may have arrived is told from what has not; the form is nobody's row."""
    verdict = judge_upload(reply, expired=False)
    assert kind_of(verdict) == expected
    assert "private" not in repr(verdict)


@pytest.mark.parametrize("reply", [storage(403, "AccessDenied"), answer(403), answer(401), NOT_SENT])
def test_an_upload_behind_the_addresss_time(reply: Any) -> None:
    """The import is created anew."""
    assert isinstance(judge_upload(reply, expired=True), Lapsed)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (NOT_SENT, RetryCause.NOT_SENT),
        (TIMED_OUT, RetryCause.TIMED_OUT),
        (RESET, RetryCause.RESET),
        (BAD_CERTIFICATE, LANE),
        *((answer(status), RetryCause.SERVER_ERROR) for status in (408, 500, 502)),
        *((answer(status), RetryCause.THROTTLED) for status in (409, 429, 503)),
        (answer(401), ACCOUNT),
        *((answer(status), LANE) for status in (301, 400, 403, 405, 413, 415, 422)),
        (answer(404), Failed),
        (answer(410), Failed),
        (answer(200), RetryCause.SERVER_ERROR),
        (answer(200, b"{}", truncated=True), RetryCause.SERVER_ERROR),
    ],
)
def test_a_poll_that_tells_nothing(reply: Any, expected: Any) -> None:
    """It is asked again, but for an import that the platform does not know."""
    assert kind_of(judge_poll(reply)) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("queued", Pending("queued", has_file=True)),
        ("in_progress", Pending("in_progress", has_file=True)),
        ("waiting_for_file", Pending("waiting_for_file", has_file=False)),
        ("resting", Pending("unknown")),
        ("completed", Completed()),
        ("error", Failed("the platform says of the import: error")),
    ],
)
def test_a_status(status: str, expected: Any) -> None:
    """A word that nobody knows is not final."""
    assert judge_poll(answer(200, {"result": {"status": status}})) == expected


def test_a_completed_import_tells_its_counts() -> None:
    """Those that the platform gives."""
    assert judge_poll(answer(200, vendor_bytes("apsis-import-status.json"))) == Completed(found=9, failed=1)


def test_the_platforms_own_words_are_kept() -> None:
    """Title and detail of an error."""
    said = judge_create(answer(422, {"title": "Bad", "detail": "no such\ncolumn"}))
    assert isinstance(said, Divide)
    assert said.detail == "Bad: no such column"
