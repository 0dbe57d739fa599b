"""What may not be printed: secrets, e-mail addresses, and whatever an exception or an object says of its
content.

Keys, ids, numbers and our own words pass. Anything that is not a plain value is replaced by the name of its
type: a ``repr`` can hold a whole record.
"""

import json
import re
import traceback
from collections.abc import Mapping, MutableMapping
from enum import Enum
from types import TracebackType
from typing import Any
from urllib.parse import quote, quote_plus

from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from service.errors import FanlineError

MASK = "•••"

# A shorter secret would riddle every line, and is none.
MIN_SECRET_CHARACTERS = 4

_AT = re.compile("@|%40")
_NO_ADDRESS = frozenset("<>\"'`,;:()[]{}|\\=&/? \t\r\n\v\f\u00a0")
# What is longer is no address, but hides one.
_MAX_ADDRESS_CHARACTERS = 256
_MAX_DEPTH = 6
_MAX_FRAMES = 30
_BEYOND_JSON = 2**63

# Their messages are ours, or name hosts, files, topics and groups alone. Others may quote the data they
# failed on.
TRUSTED_ERRORS: tuple[type[BaseException], ...] = (
    FanlineError,
    OSError,
    KafkaConnectionError,
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)


class SecretStrings:
    """The values that must never be printed, in the spellings in which they could be met."""

    def __init__(self) -> None:
        self._pattern: re.Pattern[str] | None = None
        self._spellings: set[str] = set()

    def add(self, value: str) -> None:
        """From now on ``value`` is masked; older ones stay so."""
        if len(value) < MIN_SECRET_CHARACTERS:
            return
        self._spellings.update((value, quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1]))
        longest_first = sorted(self._spellings, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def mask(self, text: str) -> str:
        """The text without secrets and e-mail addresses."""
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
        return _without_addresses(text) if "@" in text or "%40" in text else text


def _without_addresses(text: str) -> str:
    """Around each ``@`` whatever can belong to an address is masked. No character is looked at twice: a regular
    expression would look at each a hundred times."""
    parts: list[str] = []
    done = 0
    for at in _AT.finditer(text):
        if at.start() < done:
            continue
        start, least = at.start(), max(done, at.start() - _MAX_ADDRESS_CHARACTERS)
        while start > least and text[start - 1] not in _NO_ADDRESS:
            start -= 1
        end, most = at.end(), min(len(text), at.end() + _MAX_ADDRESS_CHARACTERS)
        while end < most and text[end] not in _NO_ADDRESS:
            end += 1
        if start < at.start() and end > at.end():
            parts += (text[done:start], MASK)
            done = end
    return "".join([*parts, text[done:]])


class Redactor:
    """The structlog processor that goes over every value of a line."""

    def __init__(self, secrets: SecretStrings) -> None:
        self._secrets = secrets

    def __call__(self, _logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in line.items():
            line[key] = self._clean(value, _MAX_DEPTH)
        return line

    def _clean(self, value: Any, depth: int) -> Any:
        if isinstance(value, Enum):
            value = value.value
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return value if -_BEYOND_JSON < value < _BEYOND_JSON else str(value)
        if isinstance(value, str):
            return _printable(self._secrets.mask(value))
        if depth and isinstance(value, Mapping):
            return {
                _printable(self._secrets.mask(str(key))): self._clean(item, depth - 1) for key, item in value.items()
            }
        if depth and isinstance(value, list | tuple | set | frozenset):
            return [self._clean(item, depth - 1) for item in value]
        return f"<{type(value).__name__}>"


def _printable(text: str) -> str:
    """File names can hold lone surrogates, which no encoder of JSON takes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def describe_errors(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor that turns ``exc_info`` into ``error``: what, where, and what it came from."""
    info = line.pop("exc_info", None)
    if isinstance(info, tuple):
        info = info[1]
    if isinstance(info, BaseException):
        line["error"] = describe(info)
    return line


def describe(error: BaseException, depth: int = 4) -> dict[str, Any]:
    """An exception without its message, unless the type is trusted; with its stack and its causes."""
    told: dict[str, Any] = {"type": type(error).__name__}
    if isinstance(error, TRUSTED_ERRORS):
        told["message"] = str(error)
    told["stack"] = stack(error.__traceback__)
    if depth:
        if isinstance(error, BaseExceptionGroup):
            told["errors"] = [describe(inner, depth - 1) for inner in error.exceptions[:5]]
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is not None:
            told["cause"] = describe(cause, depth - 1)
    return told


def stack(trace: TracebackType | None) -> list[str]:
    """Where an error arose: files, lines and functions, innermost last."""
    frames = traceback.StackSummary.extract(traceback.walk_tb(trace), lookup_lines=False)
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames][-_MAX_FRAMES:]
