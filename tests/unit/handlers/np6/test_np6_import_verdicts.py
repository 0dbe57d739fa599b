"""What NP6 and the FTP server answered to an import's calls means, with the words that a person gets."""

from typing import Any

import pytest

from handlers.base import Answer, Failure, FailureKind, Hold, HoldScope, Reply, Retry, RetryCause
from handlers.imports.putting import Begun, Free
from handlers.imports.verdicts import Completed, Divide, Failed, MayBeOpen, Opened, Pending, Uploaded
from handlers.np6 import import_verdicts as verdicts

SAYS = b'{"Message": "so it says"}'
TIMED_OUT, RESET = Failure(FailureKind.TIMED_OUT, "no answer"), Failure(FailureKind.RESET, "gone")
THROTTLED, BROKEN = RetryCause.THROTTLED, RetryCause.SERVER_ERROR
UNREADABLE = Retry(BROKEN, "the import's state is unreadable")


def said(status: int, body: bytes = SAYS) -> Answer:
    return Answer(status, {}, body)


@pytest.mark.parametrize(
    ("body", "state"),
    [
        (b'{"state": 0}', 0),
        (b'{"state": 7}', 7),
        (b'{"state": null}', None),
        (b'{"state": true}', None),
        (b'{"state": "1"}', None),
        (b"{}", None),
        (b"[]", None),
        (b"\xff", None),
        (b"[" * 9_000, None),
    ],
)
def test_the_state_of_an_execution(body: bytes, state: int | None) -> None:
    """A number, or none is told."""
    assert verdicts.execution_state(body) == state


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        *((said(200, body), Free()) for body in (b"", b" null\n", b"{}", b"[]", b'{"state": 1}', b'{"state": 2}')),
        *((said(status), Free()) for status in (404, 410)),
        (said(200, b'{"state": 0}'), Retry(THROTTLED, "an execution of the import runs already")),
        (said(200, b'{"state": 3}'), UNREADABLE),
        (Answer(200, {}, b'{"state": 1}', truncated=True), Retry(BROKEN, None)),
        (said(500), Retry(BROKEN, "so it says")),
        (said(403), Hold(HoldScope.LANE, "the platform forbids it (403): so it says")),
        (RESET, Retry(RetryCause.RESET, "gone")),
    ],
)
def test_whether_an_execution_runs(reply: Reply, verdict: Any) -> None:
    """The last one may have ended well or badly: the import is free then, and before there was any."""
    assert verdicts.judge_look(reply) == verdict


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (said(204), Uploaded()),
        (said(413), Divide(too_large=True, detail="so it says")),
        (said(400), Divide(too_large=False, detail="so it says")),
        (said(500), Retry(BROKEN, "so it says")),
        (TIMED_OUT, Retry(RetryCause.TIMED_OUT, "no answer")),
        (RESET, Retry(RetryCause.RESET, "gone")),
    ],
)
def test_what_became_of_a_file(reply: Reply, verdict: Any) -> None:
    """It begins nothing: without an answer it is put again."""
    assert verdicts.judge_put(reply) == verdict


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (said(204), Opened("23")),
        (said(500), MayBeOpen("so it says")),
        (TIMED_OUT, MayBeOpen("no answer")),
        (said(409), Retry(THROTTLED, "so it says")),
        (said(400), Divide(too_large=False, detail="so it says")),
    ],
)
def test_what_became_of_an_execution(reply: Reply, verdict: Any) -> None:
    """Without an answer one may run."""
    assert verdicts.judge_start(reply, "23") == verdict


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (said(200, b'{"state": 0}'), Pending("processing", has_file=True)),
        (said(200, b'{"state": 1}'), Completed()),
        (said(200, b'{"state": 2}'), Failed("the platform says of the execution: error")),
        (said(200, b'{"state": 3}'), UNREADABLE),
        (Answer(200, {}, b'{"state": 1}', truncated=True), UNREADABLE),
        (said(404), Failed("the platform does not know the import any more (404): so it says", divides=False)),
        (TIMED_OUT, Retry(RetryCause.TIMED_OUT, "no answer")),
    ],
)
def test_how_far_an_execution_is(reply: Reply, verdict: Any) -> None:
    """Of an answer that is cut off nothing is believed."""
    assert verdicts.judge_state(reply) == verdict


@pytest.mark.parametrize(
    ("judged", "there", "gone"),
    [
        (verdicts.judge_ftp_look, Retry(THROTTLED, "a file of that name lies in the folder still"), Free()),
        (verdicts.judge_ftp_put, Uploaded(), Hold(HoldScope.LANE, "the FTP server refuses: no such folder")),
        (
            lambda reply: verdicts.judge_ftp_start(reply, "23"),
            Opened("23"),
            Hold(HoldScope.LANE, "the FTP server refuses: no such folder"),
        ),
        (verdicts.judge_ftp_poll, Pending("waits in the folder", has_file=True), Completed()),
        (verdicts.judge_ftp_withdraw, Free(), Begun()),
    ],
)
def test_what_lies_in_a_folder(judged: Any, there: Any, gone: Any) -> None:
    """And what does not, for each step."""
    assert judged(said(204)) == there
    assert judged(said(404, b"no such\r\n folder")) == gone


STEPS = ["judge_ftp_look", "judge_ftp_put", "judge_ftp_start", "judge_ftp_poll", "judge_ftp_withdraw"]


@pytest.mark.parametrize("step", STEPS)
def test_what_a_folder_s_server_refuses(step: str) -> None:
    """Its own words on one line, in whatever encoding; its login is the lane's. Without an answer a new name alone may
    have taken effect."""

    def judged(reply: Reply) -> Any:
        return getattr(verdicts, step)(reply, *(("23",) if step == "judge_ftp_start" else ()))

    assert judged(said(503, b"too many\r\nusers")) == Retry(THROTTLED, "too many users")
    assert judged(said(409, b"taken")) == Retry(THROTTLED, "taken")
    assert judged(said(500, b"disk caf\xe9")) == Retry(BROKEN, "disk caf\ufffd")
    refused = Hold(HoldScope.LANE, "the FTP server refuses our username and password (via.ftp)")
    assert judged(said(401)) == refused
    no_command = Hold(HoldScope.LANE, "the FTP server refuses: no MLST")
    # A server that takes nothing away: who knows what lies there under which name.
    assert judged(said(405, b"no MLST")) == (Begun() if step == "judge_ftp_withdraw" else no_command)
    bad = Failure(FailureKind.BAD_CERTIFICATE, "unknown CA")
    assert judged(bad) == Hold(HoldScope.LANE, "bad certificate of the FTP server: unknown CA")
    assert judged(Failure(FailureKind.NOT_SENT, "refused")) == Retry(RetryCause.NOT_SENT, "refused")
    if step == "judge_ftp_start":
        assert [judged(TIMED_OUT), judged(RESET)] == [MayBeOpen("no answer"), MayBeOpen("gone")]
    else:
        expected = [Retry(RetryCause.TIMED_OUT, "no answer"), Retry(RetryCause.RESET, "gone")]
        assert [judged(TIMED_OUT), judged(RESET)] == expected
