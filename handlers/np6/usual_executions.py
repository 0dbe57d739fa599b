"""Executions as nearly all are: what is filled in are texts of the event's data, which JSON writes as they are.

They are written into a template, which takes a third of the time of making the objects and encoding them. The exact
way (:mod:`handlers.np6.workflows`) writes the template, and whatever is not usual; the bytes are the same.
"""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Raw

from contracts.events import ContactChanged, NotificationOccurred
from handlers.base import Expression

# So many characters in all: more is not usual, and any expression may give as much.
_MOST = 16 * 1024
# Where the template is filled in: JSON writes no control character as it is.
_GAP = "\0"
_TEXT = Raw(b'"\0"')
_encode = msgspec.json.Encoder().encode


class UsualExecutions:
    """Writes the executions of one lane."""

    def __init__(self, template: str, names: Sequence[str]) -> None:
        """``names`` are the fields of the data whose texts fill in the gaps, in their order: two of them at least,
        the first of which is the receiver."""
        self._read = attrgetter(*names)
        common = template.split(_GAP)
        self._filled = [text for part in common for text in (part, "")][:-1]

    def encode(self, data: ContactChanged | NotificationOccurred) -> tuple[str, bytes] | None:
        """The receiver and the execution; None if it is not usual."""
        try:
            texts = self._read(data)
            together = "".join(texts)
            # The encoder itself is the quickest to tell whether JSON has nothing but quotes around them.
            plain = len(_encode(together)) == len(together.encode()) + 2
        except (AttributeError, TypeError, UnicodeEncodeError):
            # The other type of event, a field that is absent or no text, half a surrogate pair.
            return None
        receiver: str = texts[0]
        if not plain or not receiver or len(together) > _MOST:
            return None
        filled = self._filled
        filled[1::2] = texts
        return receiver, "".join(filled).encode()


def usual_executions(
    receiver_type: str, receiver: Expression, fields: Sequence[tuple[str, Expression]]
) -> UsualExecutions | None:
    """What writes the usual ones; None where more is filled in than texts of the data, or less than two of them."""
    names: list[str] = []
    try:
        execution = {"receiver": {"type": Raw(_encode(receiver_type)), "value": _gap(receiver, names)}}
        execution.update((name, _gap(field, names)) for name, field in fields)
    except _UnusualError:
        return None
    template = _encode(execution).decode()
    return UsualExecutions(template, names) if len(names) > 1 and template.count(_GAP) == len(names) else None


class _UnusualError(Exception):
    """Something is filled in that is not a text of the data."""


def _gap(value: Expression, names: list[str]) -> Any:
    """What stands in the template for a value: its gaps' fields are added to ``names``."""
    field = getattr(value, "field", None)
    if isinstance(field, str):
        names.append(field)
        return _TEXT
    parts = getattr(value, "parts", None)
    if not isinstance(parts, Mapping):
        raise _UnusualError
    return {name: _gap(part, names) for name, part in parts.items()}
