"""The record key of an event: what orders it among others."""

from collections.abc import Callable
from typing import Any

import msgspec

from contracts.events import ContactChanged
from service.publishing.validating import Line

# The key of a line, or why it has none.
KeyOf = Callable[[Line], "bytes | NoKey"]


class NoKey(msgspec.Struct, frozen=True):
    """The event lacks what its key is made of."""

    problem: str


def own_key(line: Line) -> bytes:
    """``contact_id`` of a contact, ``target`` of a notification: events of one contact stay in order."""
    data = line.event.data
    return (data.contact_id if isinstance(data, ContactChanged) else data.target).encode()


def key_at(path: str) -> KeyOf:
    """The key at a path of the event, e.g. ``data.identifiers.np6`` or ``subject``: a text or a whole number.
    Raises ValueError for what is no path."""
    names = path.split(".")
    if not all(names):
        raise ValueError("expected names with points between them, such as data.contact_id")

    def key(line: Line) -> bytes | NoKey:
        value: Any = msgspec.json.decode(line.value)
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, str) and value:
            return value.encode()
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value).encode()
        return NoKey(f"{path}: expected a text or a whole number, to be the record's key")

    return key
