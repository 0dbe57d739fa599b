"""The exact reading of an event's ``data``, field by field, from parsed JSON.

This is the slow path behind :mod:`contracts.envelope`: it says what is wrong and where, takes ``7.0`` for an int
and null for an absent field, and ignores what it does not know. Where the fast decoders accept a record, both
read the same; a test holds that on generated events.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

from .events import (
    CONTACT_CHANGED,
    INT32_MAX,
    INT32_MIN,
    INT64_MAX,
    INT64_MIN,
    NOTIFICATION_OCCURRED,
    Consent,
    ContactChanged,
    NotificationOccurred,
    Segments,
)
from .json_text import Real, plain
from .timestamps import is_strict_rfc3339

T = TypeVar("T")


class ContractError(ValueError):
    """The data breaks its contract; the message names the path and what was expected, never a value or a key."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


def read_contact(data: Any) -> ContactChanged:
    """``data`` of ``contact.changed.v1``. Raises ContractError."""
    fields = _object(data, "data")
    return ContactChanged(
        contact_id=_required(fields, "contact_id", _contact_id),
        change=_required(fields, "change", _change),
        identifiers=_optional(fields, "identifiers", _identifiers),
        attributes=_optional(fields, "attributes", _attributes),
        segments=_optional(fields, "segments", _segments),
        consents=_optional(fields, "consents", _consents),
        tags=_optional(fields, "tags", _strings),
        version=_optional(fields, "version", _version),
    )


def read_notification(data: Any) -> NotificationOccurred:
    """``data`` of ``notification.occurred.v1``. Raises ContractError."""
    fields = _object(data, "data")
    return NotificationOccurred(
        notification_key=_required(fields, "notification_key", _int32),
        target=_required(fields, "target", _string),
        action=_required(fields, "action", _action),
        occurred_at=_required(fields, "occurred_at", _instant),
        label=_optional(fields, "label", _string),
        contact_id=_optional(fields, "contact_id", _string),
        context=_optional(fields, "context", _open_object),
    )


READERS: dict[str, Callable[[Any], ContactChanged | NotificationOccurred]] = {
    CONTACT_CHANGED: read_contact,
    NOTIFICATION_OCCURRED: read_notification,
}


def _required(fields: dict[str, Any], name: str, read: Callable[[Any, str], T], path: str = "data") -> T:
    value = fields.get(name)
    if value is None:
        raise ContractError(f"{path}.{name}", "missing")
    return read(value, f"{path}.{name}")


def _optional(fields: dict[str, Any], name: str, read: Callable[[Any, str], T], path: str = "data") -> T | None:
    value = fields.get(name)
    return None if value is None else read(value, f"{path}.{name}")


def _object(value: Any, path: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise ContractError(path, "missing" if value is None else "expected an object")
    return value


def _list(value: Any, path: str) -> list[Any]:
    if type(value) is not list:
        raise ContractError(path, "expected a list")
    return value


def _string(value: Any, path: str) -> str:
    if type(value) is not str:
        raise ContractError(path, "expected a string")
    return value


def _contact_id(value: Any, path: str) -> str:
    text = _string(value, path)
    if not 1 <= len(text) <= 255:
        raise ContractError(path, "expected 1 to 255 characters")
    return text


def _integer(value: Any, path: str, low: int, high: int, name: str) -> int:
    number = value.integral() if type(value) is Real else value
    if type(number) is not int or not low <= number <= high:
        raise ContractError(path, f"expected {name}")
    return number


def _int32(value: Any, path: str) -> int:
    return _integer(value, path, INT32_MIN, INT32_MAX, "int32")


def _version(value: Any, path: str) -> int:
    return _integer(value, path, 0, INT64_MAX, "an integer from 0 to 2^63 - 1")


def _one_of(*words: str) -> Callable[[Any, str], Any]:
    expected = "expected " + ", ".join(words[:-1]) + " or " + words[-1]

    def read(value: Any, path: str) -> Any:
        if type(value) is not str or value not in words:
            raise ContractError(path, expected)
        return value

    return read


_change = _one_of("created", "updated", "deleted")
_action = _one_of("impression", "activation", "redirection", "dismiss")
_status = _one_of("opt-in", "opt-out")


def _instant(value: Any, path: str) -> str:
    text = _string(value, path)
    if not is_strict_rfc3339(text):
        raise ContractError(path, "expected an RFC 3339 time with T")
    return text


def _strings(value: Any, path: str) -> list[str]:
    return [_string(item, f"{path}[{index}]") for index, item in enumerate(_list(value, path))]


def _identifiers(value: Any, path: str) -> dict[str, str]:
    return {key: _string(item, f"{path}.*") for key, item in _object(value, path).items() if item is not None}


def _attributes(value: Any, path: str) -> dict[str, str | int | float | bool | None]:
    return {key: _scalar(item, f"{path}.*") for key, item in _object(value, path).items()}


def _scalar(value: Any, path: str) -> str | int | float | bool | None:
    kind = type(value)
    if kind is int:
        if not INT64_MIN <= value <= INT64_MAX:
            raise ContractError(path, "expected an integer of at most 64 bits")
    elif kind is Real:
        if not math.isfinite(value):
            raise ContractError(path, "expected a number that a double can hold")
        return float(value)
    elif kind is dict or kind is list:
        raise ContractError(path, "expected a string, a number, a boolean or null")
    scalar: str | int | bool | None = value  # JSON has no other kinds
    return scalar


def _segments(value: Any, path: str) -> Segments:
    fields = _object(value, path)
    return Segments(join=_optional(fields, "join", _int32s, path), leave=_optional(fields, "leave", _int32s, path))


def _int32s(value: Any, path: str) -> list[int]:
    return [_int32(item, f"{path}[{index}]") for index, item in enumerate(_list(value, path))]


def _consents(value: Any, path: str) -> list[Consent]:
    return [_consent(item, f"{path}[{index}]") for index, item in enumerate(_list(value, path))]


def _consent(value: Any, path: str) -> Consent:
    fields = _object(value, path)
    return Consent(
        channel=_required(fields, "channel", _string, path),
        topic=_required(fields, "topic", _string, path),
        status=_required(fields, "status", _status, path),
    )


def _open_object(value: Any, path: str) -> dict[str, Any]:
    return {key: plain(item) for key, item in _object(value, path).items()}
