"""One workflow execution that a person asks for. Pure: what is sent, and what the answer means."""

from typing import Any

import msgspec

from handlers.base import Answer, Reply
from handlers.np6.wire import ExecutionItem, ItemType, execution_items
from handlers.statuses import End, end_of_call


def execution_body(execution: str, *, target: str, node: str | None, data: dict[str, Any] | None) -> bytes:
    """The object that is sent. ``execution`` is its id; what is None is left out."""
    sent: dict[str, Any] = {"id": execution, "receiver": {"type": "id", "value": target}}
    if node is not None:
        sent["node"] = node
    if data is not None:
        sent["data"] = data
    return msgspec.json.encode(sent)


def end_of_execution(reply: Reply) -> End:
    """What became of an execution. The table is that of batches; a 200 counts by its item alone."""
    end = end_of_call(reply)
    if end is not End.DONE or not isinstance(reply, Answer):
        return end
    item = item_of(reply)
    if item is None or item.type is ItemType.UNKNOWN:
        return End.IN_DOUBT
    return End.DONE if item.type is ItemType.SUCCESS else End.REFUSED


def item_of(answer: Answer) -> ExecutionItem | None:
    """The one item that answers one execution; None if the body is nothing of the kind."""
    items = None if answer.truncated else execution_items(b"[%b]" % answer.body)
    return items[0] if items is not None and len(items) == 1 else None
