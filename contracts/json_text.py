"""JSON, read exactly: what the fast decoders of :mod:`contracts.envelope` refuse or cannot know is judged here.

Refused beyond the grammar: bytes that are not UTF-8, a byte order mark, a lone surrogate (escaped or not,
wherever it stands), NaN and Infinity, more than 64 levels. Of a repeated key the last value wins.
"""

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

MAX_DEPTH = 64
_LIST = ord("[")

# Possessive quantifiers: linear on any input. An unterminated string reaches to the end.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|([\[{])|([\]}])', re.DOTALL)
# A whole pair, a surrogate alone (group 1), or any other escape, from left to right.
_SURROGATE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


class MalformedError(ValueError):
    """The bytes are no JSON text; the message says why and where, without quoting them."""


class Real(float):
    """A number that was written with a point or an exponent, or is too long for an int. Keeps its text."""

    __slots__ = ("text",)
    text: str

    def integral(self) -> int | None:
        """The int that was meant (``7.0``, ``70e-1``); None if it is none or is beyond 64 bits by far."""
        try:
            value = Decimal(self.text)
        except InvalidOperation:
            return None
        if value.adjusted() > 19:
            return None
        whole = int(value)
        return whole if value == whole else None


def parse(value: bytes) -> Any:
    """The JSON text as dicts, lists, str, int, :class:`Real`, bool and None. Raises MalformedError, nothing else."""
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise MalformedError(f"not UTF-8 at byte {error.start}") from None
    if is_too_deep(value):
        raise MalformedError(f"nested over {MAX_DEPTH} levels")
    if _has_lone_surrogate(value):
        raise MalformedError("a lone surrogate")
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise MalformedError(f"not JSON at character {error.pos}") from None


def is_too_deep(value: bytes) -> bool:
    """Whether objects and arrays nest over 64 levels. Right for a valid text; for others it may be either."""
    # To leave a byte out takes half as long as to count it, or less: it is looked for with all the machine has. So is a
    # byte that is given as a number, in a tenth of the time of one that is given as bytes.
    rest = value.replace(b"{", b"")
    if len(value) - len(rest.replace(b"[", b"") if _LIST in rest else rest) <= MAX_DEPTH:
        return False
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(value):
        kind = match.lastindex
        if kind == 1:
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif kind == 2:
            depth -= 1
    return False


def _has_lone_surrogate(value: bytes) -> bool:
    """Whether an escape in the text is half a surrogate pair."""
    if b"\\ud" not in value and b"\\uD" not in value:
        return False
    return any(match.lastindex for match in _SURROGATE.finditer(value))


def plain(value: Any) -> Any:
    """The parsed value with :class:`Real` as plain floats (infinite where no double can hold the number)."""
    if type(value) is dict:
        return {key: plain(item) for key, item in value.items()}
    if type(value) is list:
        return [plain(item) for item in value]
    return float(value) if type(value) is Real else value


def _real(text: str) -> Real:
    number = Real(text)
    number.text = text
    return number


def _int(text: str) -> int | Real:
    try:
        return int(text)
    except ValueError:  # more digits than Python converts (4,300 by default)
        return _real(text)


def _refuse_constant(_: str) -> NoReturn:
    raise MalformedError("NaN or Infinity, which JSON does not have")


_DECODER = json.JSONDecoder(parse_float=_real, parse_int=_int, parse_constant=_refuse_constant)
