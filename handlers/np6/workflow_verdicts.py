"""Whose fault is what NP6 answered to a batch of workflow executions, and what now. Pure: the whole table is here.

What may have taken effect is never tried again by this table: it is in doubt, and the lane's configuration says
what becomes of it. A success is read item by item, because the platform reports failures inside a 200.
"""

from collections.abc import Sequence
from typing import assert_never

from contracts.outcomes import Outcome, Reason
from handlers.base import (
    Answer,
    BatchVerdict,
    Failure,
    FailureKind,
    Forbidden,
    Hold,
    HoldScope,
    InDoubt,
    Reply,
    Retry,
    RetryCause,
    Settle,
    Split,
)
from handlers.np6.wire import ExecutionItem, ItemType, execution_items, platform_text
from handlers.statuses import Row, misdirected, request_id, row_of

# Looked up once: nearly every item is a success, and an attribute of an enum costs as much as judging it.
_DELIVERED = Outcome.DELIVERED
_SUCCESS = ItemType.SUCCESS


def judge_executions(reply: Reply, ids: Sequence[str], *, only: str | None) -> BatchVerdict:
    """What the answer to the executions with these ids, in this order, means.

    ``only`` is the lane's one workflow; None where an expression chooses it. An unknown workflow is the
    configuration's fault in the first case, and the items' in the second.
    """
    if isinstance(reply, Failure):
        return _judge_failure(reply)
    row = row_of(reply.status)
    if row is Row.DONE:
        return _judge_items(reply, ids)
    return _judge_row(row, reply, len(ids), only)


def _judge_failure(failure: Failure) -> BatchVerdict:
    match failure.kind:
        case FailureKind.NOT_SENT:
            return Retry(RetryCause.NOT_SENT, failure.detail)
        case FailureKind.TIMED_OUT | FailureKind.RESET:
            return InDoubt(failure.detail)
        case FailureKind.BAD_CERTIFICATE:
            return Hold(HoldScope.LANE, f"bad certificate: {failure.detail}")
        case _:
            assert_never(failure.kind)


def _judge_row(row: Row, answer: Answer, count: int, only: str | None) -> BatchVerdict:
    match row:
        case Row.DONE:
            raise ValueError("a success is read item by item")
        case Row.THROTTLED:
            return Retry(RetryCause.THROTTLED, platform_text(answer.body), request_id(answer))
        case Row.BROKEN:
            return InDoubt(platform_text(answer.body) or f"HTTP {answer.status}", request_id(answer))
        case Row.CREDENTIALS:
            return Hold(HoldScope.ACCOUNT, f"credentials refused ({answer.status})")
        case Row.FORBIDDEN:
            return Forbidden(platform_text(answer.body), request_id(answer))
        case Row.NOT_FOUND | Row.GONE:
            if only is not None:
                return Hold(HoldScope.LANE, f"workflow {only} is unknown ({answer.status}): `workflow` is wrong")
            unknown = Settle(Outcome.REJECTED, Reason.NOT_FOUND, platform_text(answer.body), request_id(answer))
            return [unknown] * count
        case Row.TOO_LARGE:
            return Split(Reason.TOO_LARGE, platform_text(answer.body), request_id(answer))
        case Row.CONFLICT | Row.REFUSED:
            return Split(Reason.REFUSED, platform_text(answer.body), request_id(answer))
        case Row.MISDIRECTED:
            return Hold(HoldScope.LANE, misdirected(answer.status))
        case _:
            assert_never(row)


def _judge_items(answer: Answer, ids: Sequence[str]) -> BatchVerdict:
    """Each item of a success by its own word. What is missing is in doubt; with more items than were sent nobody
    knows which is whose."""
    reference = request_id(answer)
    if answer.truncated:
        return InDoubt("the answer is too long to be read", reference)
    items = execution_items(answer.body)
    if items is None:
        return InDoubt("the answer is unreadable", reference)
    if len(items) > len(ids):
        return InDoubt(f"{len(items)} items in the answer to {len(ids)}", reference)
    ends: list[Settle | InDoubt] = [
        Settle(_DELIVERED, None, None, id_) if item.type is _SUCCESS else _judge_item(item, id_, reference)
        for item, id_ in zip(items, ids, strict=False)
    ]
    if len(items) < len(ids):
        detail = f"{len(items)} items in the answer to {len(ids)}"
        ends += [InDoubt(detail, id_) for id_ in ids[len(items) :]]
    return ends


def _judge_item(item: ExecutionItem, id_: str, reference: str | None) -> Settle | InDoubt:
    """An item that is no success."""
    if item.type is ItemType.ERROR:
        return Settle(Outcome.REJECTED, Reason.REFUSED, item.text, reference or id_)
    return InDoubt("an item of the answer is neither a success nor an error", id_)
