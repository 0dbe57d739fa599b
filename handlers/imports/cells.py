"""A value of an event as the text of a cell: null is empty, a bool ``true`` or ``false``, an int all its digits, a
double the shortest decimal that reads back as the same number, without exponent; a text stays as it is, never cut."""

from decimal import Decimal
from math import isfinite
from typing import Any

_NO_DIGITS = b"+ ()./-"


class CellError(ValueError):
    """A value that no cell can hold. The message says what is wrong with it and does not repeat it."""


def text_cell(value: Any, *, max_characters: int | None = None) -> str:
    """The cell of a value. Raises CellError for a list, an object or bytes, and for a text over ``max_characters``."""
    if value is None:
        return ""
    if isinstance(value, str):
        if max_characters is not None and len(value) > max_characters:
            raise CellError(f"gives a text of {len(value)} characters; the platform takes {max_characters}")
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _decimal(value)
    raise CellError("gives a list or an object; a cell holds a text, a number, a bool or null")


def phone_cell(value: Any) -> str:
    """The cell of a phone number: digits only, without ``+``. Raises CellError for what holds none."""
    if type(value) is str:
        # As nearly all are written: a quarter of the time.
        digits = value.replace(" ", "").removeprefix("+")
        if digits.isdigit() and digits.isascii():
            return digits
    if value is None or value == "":
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    if not isinstance(value, str):
        raise CellError("gives no phone number: expected a text or null")
    if value.isascii():
        # Bytes are told what to leave out, a text is asked of each letter: a third of the time.
        digits = value.encode().translate(None, _NO_DIGITS).decode()
        if digits.isdigit():
            return digits
    digits = "".join(letter for letter in value if letter in "0123456789")
    if not digits or any(letter.isalpha() for letter in value):
        raise CellError("gives no phone number: expected digits, with blanks and signs between them at most")
    return digits


def flag_cell(value: Any) -> str:
    """The cell of a consent: ``1`` or ``0``; null is ``0``. Raises CellError for what is no bool."""
    if value is None or value is False:
        return "0"
    if value is True:
        return "1"
    raise CellError("must give a bool or null")


def _decimal(value: float) -> str:
    if not isfinite(value):
        raise CellError("gives no number")
    text = repr(value)
    if "e" in text:
        text = format(Decimal(text), "f")
    return text.removesuffix(".0")
