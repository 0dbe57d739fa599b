"""What NP6 answers, as far as it is read. Everything else in an answer is passed over."""

from enum import Enum, auto
from typing import Any, Literal

import msgspec

# A body that is no JSON of the shape that was asked for; RecursionError is msgspec's for deep nesting.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_segments = msgspec.json.Decoder(list[int])


class ErrorBody(msgspec.Struct):
    """The fields of an error that older clients of the platform know. Any JSON may stand in each of them."""

    exception_message: Any = msgspec.field(default=None, name="ExceptionMessage")
    message: Any = msgspec.field(default=None, name="Message")
    error_type: Any = msgspec.field(default=None, name="errorType")
    error_data: Any = msgspec.field(default=None, name="errorData")


_error = msgspec.json.Decoder(ErrorBody)


class ItemType(Enum):
    """What an item of the answer to executions says of its execution."""

    SUCCESS = auto()
    ERROR = auto()
    UNKNOWN = auto()  # anything else: nobody knows whether it took effect


class ExecutionItem(msgspec.Struct, frozen=True, gc=False):
    """One item of the answer to executions. ``text``: the platform's own words of an error."""

    type: ItemType
    text: str | None = None


class _Item(msgspec.Struct, frozen=True, gc=False):
    """An item as it nearly always is; what else it holds is not looked at."""

    type: Literal["success"]


_answers = msgspec.json.Decoder(list[Any])
_usual_answers = msgspec.json.Decoder(list[_Item])
_SUCCESS = ExecutionItem(ItemType.SUCCESS)
_UNKNOWN = ExecutionItem(ItemType.UNKNOWN)


def execution_items(body: bytes) -> list[ExecutionItem] | None:
    """The items ``{type, flow}`` of the answer to executions; None if the body is nothing of the kind."""
    try:
        return _usual_items(body) or [_execution_item(item) for item in _answers.decode(body)]
    except _UNREADABLE:
        return None


def _usual_items(body: bytes) -> list[ExecutionItem] | None:
    """The items where all are successes; what is in them is passed over, which takes a third of the time."""
    try:
        return [_SUCCESS] * len(_usual_answers.decode(body))
    except _UNREADABLE:
        return None


def _execution_item(item: Any) -> ExecutionItem:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind == "success":
        return _SUCCESS
    if kind != "error":
        return _UNKNOWN
    flow = item.get("flow")
    for found in (_error_text(item), _one_line(flow) if isinstance(flow, str) else None, _error_text(flow)):
        if found:
            return ExecutionItem(ItemType.ERROR, found)
    return ExecutionItem(ItemType.ERROR)


def _error_text(item: Any) -> str | None:
    """The platform's words in an object of an answer, as in the body of an error."""
    if not isinstance(item, dict):
        return None
    return _text_of(msgspec.convert(item, ErrorBody))


def segment_list(body: bytes) -> list[int] | None:
    """The ids in the answer to ``GET /targets/{id}/segments``; None if the body is nothing of the kind."""
    try:
        return _segments.decode(body)
    except _UNREADABLE:
        return None


def platform_text(body: bytes) -> str | None:
    """The platform's own words in an error, on one line; None if there are none in a known field.

    A body that is not understood is never copied: it may hold anything. The text is not cut here, because it
    is masked before it is cut; its length is bounded as the body's is.
    """
    try:
        return _text_of(_error.decode(body))
    except _UNREADABLE:
        return None


def _text_of(error: ErrorBody) -> str | None:
    for text in (error.exception_message, error.message):
        if isinstance(text, str) and (line := _one_line(text)):
            return line
    texts = (_text(error.error_type), ", ".join(filter(None, map(_value, _items(error.error_data)))))
    return ": ".join(filter(None, texts)) or None


def _items(data: Any) -> list[Any]:
    return data if isinstance(data, list) else []


def _value(item: Any) -> str:
    return _text(item.get("value")) if isinstance(item, dict) else ""


def _text(value: Any) -> str:
    """A string or a number as text; anything else is not for reading."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return _one_line(str(value))


def _one_line(text: str) -> str:
    return " ".join(text.split())
