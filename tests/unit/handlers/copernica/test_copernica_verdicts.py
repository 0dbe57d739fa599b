"""Whose fault each answer of Copernica is: the table, row by row."""

from typing import Any

import msgspec
import pytest

from handlers.base import Answer, Failure, FailureKind, Hold, HoldScope, Retry, RetryCause
from handlers.copernica.verdicts import judge_create, judge_poll
from handlers.imports.verdicts import Completed, Divide, Failed, MayBeOpen, Opened, Pending, Unnamed


def answer(status: int, message: str | None = None, headers: dict[str, str] | None = None) -> Answer:
    body = b"" if message is None else msgspec.json.encode({"error": {"message": message}})
    return Answer(status, headers or {}, body)


def kind_of(verdict: Any) -> Any:
    match verdict:
        case Hold():
            return verdict.scope
        case Retry():
            return verdict.cause
        case Divide():
            return "too large" if verdict.too_large else "divide"
    return type(verdict)


LANE, ACCOUNT = HoldScope.LANE, HoldScope.ACCOUNT


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Failure(FailureKind.NOT_SENT, "x"), RetryCause.NOT_SENT),
        (Failure(FailureKind.BAD_CERTIFICATE, "x"), LANE),
        (answer(201, headers={"x-created": "5"}), Opened),
        (answer(200), Unnamed),
        (answer(400, "Invalid access token"), ACCOUNT),
        (answer(401), ACCOUNT),
        (answer(400, "Unknown database"), LANE),
        (answer(400, "Key field Email does not exist"), LANE),
        (answer(400, "Row 3 is wrong"), "divide"),
        (answer(400), "divide"),
        (answer(422), "divide"),
        (answer(413), "too large"),
        (answer(429), RetryCause.THROTTLED),
        (answer(503), RetryCause.THROTTLED),
        (answer(409), RetryCause.THROTTLED),
        (answer(403), LANE),
        (answer(404), LANE),
        (answer(405), LANE),
    ],
)
@pytest.mark.parametrize("repeatable", [True, False])
def test_a_create(reply: Any, expected: Any, repeatable: bool) -> None:
    """A 400 is the account's, the configuration's or a row's fault: its message decides."""
    assert kind_of(judge_create(reply, repeatable=repeatable)) == expected


@pytest.mark.parametrize(
    "reply",
    [
        Failure(FailureKind.TIMED_OUT, "x"),
        Failure(FailureKind.RESET, "x"),
        answer(500),
        answer(502),
        answer(408),
        answer(303, headers={"location": "/v3/import/7"}),
    ],
)
def test_a_create_that_may_have_taken_effect(reply: Any) -> None:
    """It is repeated where that does no harm; an ``add`` never is."""
    assert isinstance(judge_create(reply, repeatable=True), Retry)
    assert isinstance(judge_create(reply, repeatable=False), MayBeOpen)


def status(**fields: Any) -> Answer:
    return Answer(200, {}, msgspec.json.encode(fields))


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (status(status="ready for start", totallines="0", processedlines="0"), Pending("ready for start", True, 0)),
        (status(status="running", totallines="9", processedlines="4"), Pending("running", True, 4)),
        (status(status="any word", totallines="9", processedlines="9"), Completed(9, 0)),
        (status(status="x", totallines="8", processedlines="8"), Pending("x", True, 8)),
        (status(status="x", totallines="9", processedlines="9", lasterror="bad file"), None),
        (status(processedlines="3", totallines=False), Pending("unknown", True, 3)),
    ],
)
def test_a_status(reply: Answer, expected: Any) -> None:
    """Its error and its line counts tell, not its words: "0 of 0" has not begun, 8 of 8 is not the file's 9."""
    verdict = judge_poll(reply, 9)
    if expected is None:
        assert verdict == Failed("the platform says of the import: bad file", 9, 9)
    else:
        assert verdict == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Failure(FailureKind.TIMED_OUT, "x"), RetryCause.TIMED_OUT),
        (answer(500), RetryCause.SERVER_ERROR),
        (answer(200), RetryCause.SERVER_ERROR),
        (answer(400, "Invalid access token"), ACCOUNT),
        (answer(400, "x"), LANE),
        (answer(404), Failed),
    ],
)
def test_a_poll_that_tells_nothing(reply: Any, expected: Any) -> None:
    """It is asked again, but for an import that the platform does not know."""
    assert kind_of(judge_poll(reply, 9)) == expected
    said = judge_poll(answer(404, "no such import"), 9)
    assert isinstance(said, Failed)
    assert said.detail.endswith(": no such import")


def test_a_file_of_one_row_ends_too() -> None:
    """One of one is an end, nothing of nothing is none."""
    one, none = (status(status="x", totallines=count, processedlines=count) for count in ("1", "0"))
    assert judge_poll(one, 1) == Completed(1, 0)
    assert judge_poll(none, 0) == Pending("x", True, 0)


def test_a_status_that_cannot_be_read() -> None:
    """Cut off, or no status at all: it is asked for again."""
    whole = status(status="running", totallines="9", processedlines="9")
    unreadable = Retry(RetryCause.SERVER_ERROR, "the import's status is unreadable")
    assert judge_poll(Answer(200, {}, whole.body, truncated=True), 9) == unreadable
    assert judge_poll(answer(200), 9) == unreadable


@pytest.mark.parametrize(
    ("reply", "cause", "said"),
    [
        (Failure(FailureKind.TIMED_OUT, "late"), RetryCause.TIMED_OUT, "late"),
        (Failure(FailureKind.RESET, "gone"), RetryCause.RESET, "gone"),
        (answer(500, "broken"), RetryCause.SERVER_ERROR, "broken"),
        (answer(300, "moved"), RetryCause.SERVER_ERROR, "moved"),
        (answer(399, "moved"), RetryCause.SERVER_ERROR, "moved"),
    ],
)
def test_what_is_known_of_a_create_that_may_have_taken_effect(reply: Any, cause: RetryCause, said: str) -> None:
    """The words of whoever knows, and what is counted."""
    assert judge_create(reply, repeatable=True) == Retry(cause, said)
    assert judge_create(reply, repeatable=False) == MayBeOpen(said)


def test_what_a_create_tells_a_person() -> None:
    """The import's number; else the status, and the platform's words where it has some."""
    assert judge_create(answer(201, headers={"x-created": "5"}), repeatable=True) == Opened("5")
    for reply, named in [
        (answer(202), "202"),
        (answer(401), "(401)"),
        (answer(400, "Unknown database"), "(400): Unknown database"),
        (answer(404, "no such place"), "no such place"),
        (answer(400, "Row 3 is wrong"), "Row 3 is wrong"),
    ]:
        verdict = judge_create(reply, repeatable=False)
        told = verdict.reason if isinstance(verdict, Hold) else getattr(verdict, "detail", None)
        assert told is not None
        assert named in told
    refused = judge_poll(answer(401), 9)
    assert isinstance(refused, Hold)
    assert "(401)" in refused.reason
