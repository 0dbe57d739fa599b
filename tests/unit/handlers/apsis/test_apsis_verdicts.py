"""Whose fault each answer of Apsis One and of its storage is: the table, row by row."""

from typing import Any

import msgspec
import pytest

from handlers.apsis.verdicts import judge_create, judge_poll, judge_upload
from handlers.apsis.wire import opened_import, status_of
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
    Upload,
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


@pytest.mark.parametrize("has_file", [("queued", True), ("in_progress", True), ("resting", None)])
def test_a_pending_import_tells_how_far_it_is(has_file: tuple[str, bool | None]) -> None:
    """As many profiles as the platform says."""
    status = msgspec.json.decode(vendor_bytes("apsis-import-status.json"))
    status["result"]["status"] = has_file[0]
    told = status_of(msgspec.json.encode(status))
    assert told is not None
    assert told.processed is not None
    verdict = judge_poll(answer(200, status))
    assert isinstance(verdict, Pending)
    assert (verdict.has_file, verdict.processed) == (has_file[1], told.processed)


def test_a_completed_import_tells_its_counts() -> None:
    """Those that the platform gives."""
    assert judge_poll(answer(200, vendor_bytes("apsis-import-status.json"))) == Completed(found=9, failed=1)


def test_a_failed_import_tells_its_counts() -> None:
    """What the platform has counted of a file was there: its events are not sent again as if none had come."""
    status = msgspec.json.decode(vendor_bytes("apsis-import-status.json"))
    status["result"]["status"] = "error"
    told = status_of(msgspec.json.encode(status))
    assert told is not None
    assert told.found != told.processed
    expected = Failed("the platform says of the import: error", told.found, told.processed)
    assert judge_poll(answer(200, status)) == expected


def test_the_platforms_own_words_are_kept() -> None:
    """Title and detail of an error."""
    said = judge_create(answer(422, {"title": "Bad", "detail": "no such\ncolumn"}))
    assert isinstance(said, Divide)
    assert said.detail == "Bad: no such column"
    unreadable = judge_poll(answer(200, b"no status"))
    assert unreadable == Retry(RetryCause.SERVER_ERROR, "the import's status is unreadable")
    cut = judge_poll(answer(200, vendor_bytes("apsis-import-status.json"), truncated=True))
    assert cut == unreadable
    asked = judge_poll(answer(404, {"title": "Gone", "detail": "no import"}))
    assert isinstance(asked, Failed)
    assert asked.detail.endswith(": Gone: no import")


def test_an_opened_import_tells_where_its_file_goes() -> None:
    """Id, address, the form's fields and the address's time, as the platform gave them."""
    body = vendor_bytes("apsis-import-answer.json")
    read = opened_import(body)
    assert read is not None
    assert judge_create(answer(202, body)) == Opened(
        read.import_id, Upload(read.upload_url, read.fields, read.expires_at_ms)
    )
    unnamed = judge_create(answer(204))
    assert isinstance(unnamed, Unnamed)
    assert "204" in unnamed.detail


@pytest.mark.parametrize(
    ("reply", "named"),
    [
        (TIMED_OUT, "no answer"),
        (NOT_SENT, "refused"),
        (BAD_CERTIFICATE, "upload address: unknown CA"),
        (answer(502), "upload address answered 502"),
        (answer(409), "upload address answered 409"),
        (storage(400, "EntityTooLarge"), "upload address answered 400, EntityTooLarge"),
        (storage(400, "MaxMessageLengthExceeded"), "upload address answered 400, MaxMessageLengthExceeded"),
        (answer(413), "upload address answered 413"),
        (answer(307), "upload address: the platform redirects (307)"),
        (storage(403, "AccessDenied"), "(403, AccessDenied)"),
        (answer(404), "(404)"),
    ],
)
def test_what_an_upload_tells_a_person(reply: Any, named: str) -> None:
    """That it is the storage, what it answered, and its own word for the fault where it has one."""
    verdict = judge_upload(reply, expired=False)
    told = verdict.reason if isinstance(verdict, Hold) else getattr(verdict, "detail", None)
    assert told is not None
    assert named in told
    assert "None" not in told
    assert told.count(",") == named.count(",") + (", which is never followed" in told)
