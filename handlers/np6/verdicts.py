"""Whose fault is what NP6 answered to a segments call, and what now. Pure: the whole table is here.

``handlers.statuses`` sorts each status into a row; the judges say what a row means for a join, a leave and the reading
call that settles a conflict. A body counts for its text alone: a success needs none.
"""

from typing import assert_never

from contracts.outcomes import Outcome, Reason
from handlers.base import (
    Answer,
    Confirm,
    Failure,
    FailureKind,
    Forbidden,
    Hold,
    HoldScope,
    Reply,
    Retry,
    RetryCause,
    Settle,
    Verdict,
)
from handlers.np6.wire import platform_text, segment_list
from handlers.statuses import Row, misdirected, request_id, row_of

_DONE = Settle(Outcome.DELIVERED)
_CONFIRM = Confirm()


def judge_join(reply: Reply, *, confirm_conflicts: bool) -> Verdict:
    """What the answer to a join means. A 409 says that the target is there already, or is said to."""
    if isinstance(reply, Failure):
        return _judge_failure(reply)
    row = row_of(reply.status)
    if row is Row.DONE:
        return _DONE
    if row is Row.CONFLICT:
        return _CONFIRM if confirm_conflicts else _DONE
    return _judge_row(row, reply)


def judge_leave(reply: Reply, *, confirm_conflicts: bool) -> Verdict:
    """What the answer to a leave means.

    A 404 says either that the target is not in the segment, which is what was wanted, or that one of the two
    is unknown. It is confirmed even if conflicts are not: taken for delivered it would hide unknown targets,
    taken for not found it would make dead letters of leaves that are done.
    """
    if isinstance(reply, Failure):
        return _judge_failure(reply)
    row = row_of(reply.status)
    if row is Row.DONE:
        return _DONE
    if row is Row.NOT_FOUND:
        return _CONFIRM
    if row is Row.CONFLICT:
        return _CONFIRM if confirm_conflicts else _DONE
    return _judge_row(row, reply)


def judge_confirmation(reply: Reply, *, segment: int, member: bool) -> Verdict:
    """What the list of the target's segments says after a conflict; ``member`` is the wanted state.

    What the platform refuses here leaves the operation unconfirmed. A 2xx that holds no list decides nothing:
    it is read again like a 5xx. One too long to be read whole will be so again: unconfirmed.
    """
    if isinstance(reply, Failure):
        return _judge_failure(reply)
    row = row_of(reply.status)
    if row is Row.DONE:
        return _judge_list(reply, segment=segment, member=member)
    if row in (Row.CONFLICT, Row.TOO_LARGE, Row.REFUSED):
        return _rejected(Reason.UNCONFIRMED, reply)
    return _judge_row(row, reply)


def _judge_list(answer: Answer, *, segment: int, member: bool) -> Verdict:
    if answer.truncated:
        return _rejected(Reason.UNCONFIRMED, answer, "the list of the target's segments is too long to read")
    segments = segment_list(answer.body)
    if segments is None:
        return Retry(RetryCause.SERVER_ERROR, "the list of the target's segments is unreadable")
    if (segment in segments) is member:
        return _DONE
    state = "is not in the segment" if member else "is still in the segment"
    return _rejected(Reason.UNCONFIRMED, answer, f"the platform reports a conflict and the target {state}")


def _judge_failure(failure: Failure) -> Verdict:
    match failure.kind:
        case FailureKind.NOT_SENT:
            return Retry(RetryCause.NOT_SENT, failure.detail)
        case FailureKind.TIMED_OUT:
            return Retry(RetryCause.TIMED_OUT, failure.detail)
        case FailureKind.RESET:
            return Retry(RetryCause.RESET, failure.detail)
        case FailureKind.BAD_CERTIFICATE:
            return Hold(HoldScope.LANE, f"bad certificate: {failure.detail}")
        case _:
            assert_never(failure.kind)


def _judge_row(row: Row, answer: Answer) -> Verdict:
    """What a row means for every call; where calls differ their judges have decided before."""
    match row:
        case Row.DONE:
            return _DONE
        case Row.THROTTLED:
            return Retry(RetryCause.THROTTLED, platform_text(answer.body))
        case Row.BROKEN:
            return Retry(RetryCause.SERVER_ERROR, platform_text(answer.body), request_id(answer))
        case Row.CREDENTIALS:
            return Hold(HoldScope.ACCOUNT, f"credentials refused ({answer.status})")
        case Row.FORBIDDEN:
            return Forbidden(platform_text(answer.body), request_id(answer))
        case Row.NOT_FOUND | Row.GONE:
            return _rejected(Reason.NOT_FOUND, answer)
        case Row.CONFLICT:
            return _CONFIRM
        case Row.TOO_LARGE:
            return _rejected(Reason.TOO_LARGE, answer)
        case Row.REFUSED:
            return _rejected(Reason.REFUSED, answer)
        case Row.MISDIRECTED:
            return Hold(HoldScope.LANE, misdirected(answer.status))
        case _:
            assert_never(row)


def _rejected(reason: Reason, answer: Answer, detail: str | None = None) -> Settle:
    return Settle(Outcome.REJECTED, reason, detail or platform_text(answer.body), request_id(answer))
