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

_ADDRESS_PART = r"[^\s<>\"'`,;:()\[\]{}|\\@=&/?]"
_ADDRESS = re.compile(rf"{_ADDRESS_PART}{{1,128}}(?:@|%40){_ADDRESS_PART}{{1,255}}")
_MAX_DEPTH = 6
_MAX_FRAMES = 30

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
        if "@" in text or "%40" in text:
            text = _ADDRESS.sub(MASK, text)
        return text


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
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self._secrets.mask(value)
        if depth and isinstance(value, Mapping):
            return {self._secrets.mask(str(key)): self._clean(item, depth - 1) for key, item in value.items()}
        if depth and isinstance(value, list | tuple | set | frozenset):
            return [self._clean(item, depth - 1) for item in value]
        return f"<{type(value).__name__}>"


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
