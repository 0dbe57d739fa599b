"""Whose fault is what Copernica answered, and what now. Pure.

A create carries the rows: where it got no answer they may be imported, and the import is not known by an id.
"""

from handlers.base import Answer, Failure, FailureKind, Hold, HoldScope, Reply, Retry, RetryCause
from handlers.copernica.wire import import_id, platform_text, refuses_token, status_of
from handlers.imports.verdicts import (
    Completed,
    CreateVerdict,
    Failed,
    MayBeOpen,
    Opened,
    Pending,
    PollVerdict,
    Unnamed,
    judge_refused_create,
    judge_refused_poll,
)
from handlers.statuses import Row, row_of

# What a 400 says of the lane's configuration, in the platform's words as they were met.
_OURS = ("database", "key field", "keyfield", "collection")


def judge_create(reply: Reply, *, repeatable: bool) -> CreateVerdict:
    """What the answer to a create means. ``repeatable``: the action may be carried out twice without harm."""
    if isinstance(reply, Failure):
        verdict = judge_refused_create(reply, None)
        if isinstance(verdict, MayBeOpen) and repeatable:
            cause = RetryCause.TIMED_OUT if reply.kind is FailureKind.TIMED_OUT else RetryCause.RESET
            return Retry(cause, reply.detail)
        return verdict
    text = platform_text(reply.body)
    row = row_of(reply.status)
    if row is Row.DONE:
        created = import_id(reply.headers)
        return Opened(created) if created else Unnamed(f"the platform answered {reply.status} without an import's id")
    if refuses_token(reply.status, reply.body):
        return Hold(HoldScope.ACCOUNT, f"credentials refused ({reply.status})")
    if row is Row.BROKEN or 300 <= reply.status < 400:
        # A redirect came after the effect, as older versions answered: it is never followed.
        return Retry(RetryCause.SERVER_ERROR, text) if repeatable else MayBeOpen(text)
    if row is Row.REFUSED and text is not None and _is_ours(text):
        return Hold(HoldScope.LANE, f"the platform refuses the lane's configuration ({reply.status}): {text}")
    return judge_refused_create(reply, text)


def judge_poll(reply: Reply, rows: int) -> PollVerdict:
    """What an import's status means: its words are not documented, so its error and its line counts tell."""
    if isinstance(reply, Answer) and refuses_token(reply.status, reply.body):
        return Hold(HoldScope.ACCOUNT, f"credentials refused ({reply.status})")
    if isinstance(reply, Failure) or row_of(reply.status) is not Row.DONE:
        return judge_refused_poll(reply, platform_text(reply.body) if isinstance(reply, Answer) else None)
    status = None if reply.truncated else status_of(reply.body)
    if status is None:
        return Retry(RetryCause.SERVER_ERROR, "the import's status is unreadable")
    if status.error is not None:
        return Failed(f"the platform says of the import: {status.error}", status.total, status.processed)
    # "0 of 0" is an import that has not begun; fewer lines than rows one that the platform has not read whole.
    if status.total is not None and status.total == status.processed and status.total >= max(rows, 1):
        return Completed(found=status.total, failed=0)
    return Pending(status.status or "unknown", has_file=True, processed=status.processed)


def _is_ours(text: str) -> bool:
    lowered = text.lower()
    return any(word in lowered for word in _OURS)
