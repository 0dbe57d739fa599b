"""What Copernica answers, as far as it is read. Everything else in an answer is passed over."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from handlers.tokens import Token, token_of

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_INVALID_TOKEN = re.compile(r"\binvalid access[ _-]?token\b", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,18}")
_BEYOND = 10**18  # what has more digits is no number of anything


class ImportStatus(msgspec.Struct, frozen=True, gc=False):
    """How far an import is. Numbers are None where the platform does not tell them; ``error`` is its own text."""

    status: str | None
    total: int | None
    processed: int | None
    started: bool  # it has run, or runs: the platform sets ``lastrun`` at one of the two
    error: str | None


class _Error(msgspec.Struct, gc=False):
    message: Any = None


class _ErrorBody(msgspec.Struct, gc=False):
    error: _Error


class _Status(msgspec.Struct, gc=False):
    """Numbers come as texts, null as ``false``; one name is written in two ways."""

    status: Any = None
    totallines: Any = None
    processedlines: Any = None
    processed_lines: Any = msgspec.field(default=None, name="processedLines")
    lastrun: Any = None
    lasterror: Any = None


_error = msgspec.json.Decoder(_ErrorBody)
_status = msgspec.json.Decoder(_Status)


def token_in(body: bytes) -> Token | None:
    """The token in the answer to the call for it: the body itself is the JWT, be it as a JSON text."""
    try:
        text = body.decode("ascii").strip().strip('"')
    except UnicodeDecodeError:
        return None
    return token_of(text)


def import_id(headers: Mapping[str, str]) -> str | None:
    """The id of an import that was created: in ``X-Created``, else at the end of the location; None if in neither."""
    created = headers.get("x-created", "").strip()
    if _NUMBER.fullmatch(created):
        return created
    for name in ("x-location", "location"):
        last = headers.get(name, "").strip().partition("?")[0].rstrip("/").rpartition("/")[2]
        if _NUMBER.fullmatch(last):
            return last
    return None


def status_of(body: bytes) -> ImportStatus | None:
    """How far an import is; None if the body is nothing of the kind."""
    try:
        found = _status.decode(body)
    except _UNREADABLE:
        return None
    processed = found.processedlines if found.processedlines is not None else found.processed_lines
    if found.status is None and found.totallines is None and processed is None:
        return None
    return ImportStatus(
        _text(found.status),
        _number(found.totallines),
        _number(processed),
        _is_told(found.lastrun),
        _text(found.lasterror),
    )


def platform_text(body: bytes) -> str | None:
    """The platform's own words in an error, on one line; None if there are none in the known field."""
    try:
        message = _error.decode(body).error.message
    except _UNREADABLE:
        return None
    return _text(message)


def refuses_token(status: int, body: bytes) -> bool:
    """Whether an answer says that the token is at fault: a 400 can, by its message."""
    return status == 401 or (status == 400 and bool(_INVALID_TOKEN.search(platform_text(body) or "")))


def _is_told(value: Any) -> bool:
    return value not in (None, False, "", 0, "0") and not (isinstance(value, str) and value.startswith("0000-00-00"))


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    return " ".join(value.split()) or None


def _number(value: Any) -> int | None:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _BEYOND else None
