"""Whose fault is what NP6, or the FTP server that it takes files from, answered to an import's calls. Pure.

A 1 or 2 of a state is that of the last execution, whoever began it: whether it is ours is known by who asks.
"""

from typing import Any

import msgspec

from handlers.base import Answer, Failure, FailureKind, Hold, HoldScope, Reply, Retry, RetryCause
from handlers.imports.putting import Begun, Free, LookVerdict, PutVerdict, WithdrawVerdict
from handlers.imports.verdicts import (
    Completed,
    CreateVerdict,
    Divide,
    Failed,
    MayBeOpen,
    Opened,
    Pending,
    PollVerdict,
    Uploaded,
    judge_refused_create,
    judge_refused_poll,
)
from handlers.np6.wire import platform_text
from handlers.statuses import Row, row_of

_RUNS, _COMPLETED, _ERROR = 0, 1, 2
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def execution_state(body: bytes) -> int | None:
    """The state of the last execution; None if the body tells none."""
    try:
        state = _decode(body).get("state")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return state if isinstance(state, int) and not isinstance(state, bool) else None


# -- files that are put to the platform itself


def judge_look(reply: Reply) -> LookVerdict:
    """Whether an execution runs. What is answered before any is not documented: 404, or nothing."""
    if isinstance(reply, Answer):
        row = row_of(reply.status)
        if row in (Row.NOT_FOUND, Row.GONE):
            return Free()
        if row is Row.DONE and not reply.truncated:
            if reply.body.strip() in (b"", b"null", b"{}", b"[]"):
                return Free()
            match execution_state(reply.body):
                case 0:
                    return Retry(RetryCause.THROTTLED, "an execution of the import runs already")
                case 1 | 2:
                    return Free()
            return Retry(RetryCause.SERVER_ERROR, "the import's state is unreadable")
    verdict = judge_refused_poll(reply, _text(reply))
    assert isinstance(verdict, Retry | Hold), "what else there is was judged before"
    return verdict


def judge_put(reply: Reply) -> PutVerdict:
    """What became of the file. Nothing is begun by it, so that it is put again whatever came of the first time."""
    if isinstance(reply, Answer) and row_of(reply.status) is Row.DONE:
        return Uploaded()
    verdict = judge_refused_create(reply, _text(reply))
    if isinstance(verdict, MayBeOpen):
        cause = RetryCause.SERVER_ERROR if isinstance(reply, Answer) else _CAUSES[reply.kind]
        return Retry(cause, verdict.detail)
    assert isinstance(verdict, Divide | Retry | Hold), "nothing is opened by a file"
    return verdict


def judge_start(reply: Reply, import_id: str) -> CreateVerdict:
    """What became of the execution."""
    if isinstance(reply, Answer) and row_of(reply.status) is Row.DONE:
        return Opened(import_id)
    return judge_refused_create(reply, _text(reply))


def judge_state(reply: Reply) -> PollVerdict:
    """How far the last execution is. 1 says no more than that the file was worked through."""
    if isinstance(reply, Failure) or row_of(reply.status) is not Row.DONE:
        return judge_refused_poll(reply, _text(reply))
    state = None if reply.truncated else execution_state(reply.body)
    if state == _RUNS:
        return Pending("processing", has_file=True)
    if state == _COMPLETED:
        return Completed()
    if state == _ERROR:
        return Failed("the platform says of the execution: error")
    return Retry(RetryCause.SERVER_ERROR, "the import's state is unreadable")


# -- files that are laid into a folder of an FTP server (``service.uploading.ftp`` has its codes as statuses)


def judge_ftp_look(reply: Reply) -> LookVerdict:
    """Whether a file of that name lies in the folder."""
    there = _is_there(reply)
    if there is None:
        return _ftp_refused(reply)
    return Retry(RetryCause.THROTTLED, "a file of that name lies in the folder still") if there else Free()


def judge_ftp_put(reply: Reply) -> PutVerdict:
    """What became of the file under its first name."""
    return Uploaded() if _is_there(reply) else _ftp_refused(reply)


def judge_ftp_start(reply: Reply, import_id: str) -> CreateVerdict:
    """What became of the name."""
    if _is_there(reply):
        return Opened(import_id)
    if isinstance(reply, Failure) and reply.kind in (FailureKind.TIMED_OUT, FailureKind.RESET):
        return MayBeOpen(reply.detail)
    return _ftp_refused(reply)


def judge_ftp_withdraw(reply: Reply) -> WithdrawVerdict:
    """Whether the file had its first name still, and has none now. What is said of no file is no proof: it was given
    the name that the platform waits for, an earlier try has taken it away, or the server takes nothing away."""
    if isinstance(reply, Answer) and row_of(reply.status) in (Row.NOT_FOUND, Row.MISDIRECTED):
        return Begun()
    return Free() if _is_there(reply) else _ftp_refused(reply)


def judge_ftp_poll(reply: Reply) -> PollVerdict:
    """The file is gone from the folder once it was picked up."""
    there = _is_there(reply)
    if there is None:
        return _ftp_refused(reply)
    return Pending("waits in the folder", has_file=True) if there else Completed()


def _is_there(reply: Reply) -> bool | None:
    """None: neither done nor unknown."""
    if isinstance(reply, Answer):
        return {Row.DONE: True, Row.NOT_FOUND: False}.get(row_of(reply.status))
    return None


def _ftp_refused(reply: Reply) -> Retry | Hold:
    """What a server's refusal means where nothing took effect. Nothing of it is an event's fault."""
    if isinstance(reply, Failure):
        if reply.kind is FailureKind.BAD_CERTIFICATE:
            return Hold(HoldScope.LANE, f"bad certificate of the FTP server: {reply.detail}")
        return Retry(_CAUSES[reply.kind], reply.detail)
    line = " ".join(reply.body.decode("utf-8", "replace").split())
    match row_of(reply.status):
        case Row.THROTTLED | Row.CONFLICT:
            return Retry(RetryCause.THROTTLED, line)
        case Row.BROKEN:
            return Retry(RetryCause.SERVER_ERROR, line)
        case Row.CREDENTIALS:
            return Hold(HoldScope.LANE, "the FTP server refuses our username and password (via.ftp)")
    return Hold(HoldScope.LANE, f"the FTP server refuses: {line}")


# -- in common

_CAUSES = {
    FailureKind.NOT_SENT: RetryCause.NOT_SENT,
    FailureKind.TIMED_OUT: RetryCause.TIMED_OUT,
    FailureKind.RESET: RetryCause.RESET,
}


def _text(reply: Reply) -> str | None:
    return platform_text(reply.body) if isinstance(reply, Answer) else None
