"""What Apsis One answers, as far as it is read. Everything else in an answer is passed over."""

from enum import StrEnum
from typing import Any

import msgspec

from contracts.timestamps import parse_rfc3339_ms
from handlers.tokens import Token, token_of

# A body that is no JSON of the shape that was asked for; RecursionError is msgspec's for deep nesting.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class OpenImport(msgspec.Struct, frozen=True, gc=False):
    """The answer to a create. ``fields`` are to be sent with the file, in this order and unchanged."""

    import_id: str
    upload_url: str
    fields: tuple[tuple[str, str], ...]
    expires_at_ms: int | None  # of the address; None: unreadable


class ImportState(StrEnum):
    """What an import's status says. Any other word is ``unknown``, which is not final."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    WAITING_FOR_FILE = "waiting_for_file"
    COMPLETED = "completed"
    ERROR = "error"
    UNKNOWN = "unknown"


class ImportStatus(msgspec.Struct, frozen=True, gc=False):
    """How far an import is. Counts are None where the platform does not tell them."""

    state: ImportState
    found: int | None = None
    processed: int | None = None
    failed: int | None = None


class _TokenAnswer(msgspec.Struct, gc=False):
    access_token: str
    expires_in: Any = None


class _CreateAnswer(msgspec.Struct, gc=False):
    import_id: str
    file_upload_url: str = ""
    file_upload_body: dict[str, Any] = {}
    file_upload_url_expires_at: Any = None


class _Result(msgspec.Struct, gc=False):
    status: str
    profiles_found: Any = None
    profiles_processed: Any = None
    profiles_failed: Any = None


class _StatusAnswer(msgspec.Struct, gc=False):
    result: _Result


class _Error(msgspec.Struct, gc=False):
    """Any JSON may stand in each of the fields."""

    title: Any = None
    detail: Any = None


class _Version(msgspec.Struct, gc=False):
    id: Any
    deprecated_at: Any = None


class _Item(msgspec.Struct, gc=False):
    discriminator: str
    versions: list[_Version] = []


class _Items(msgspec.Struct, gc=False):
    items: list[_Item]


_token = msgspec.json.Decoder(_TokenAnswer)
_created = msgspec.json.Decoder(_CreateAnswer)
_status = msgspec.json.Decoder(_StatusAnswer)
_error = msgspec.json.Decoder(_Error)
_items = msgspec.json.Decoder(_Items)
_BEYOND = 10**18  # no number that a platform means is that large; JSON may hold one of any length
_STATES = {state.value: state for state in ImportState if state is not ImportState.UNKNOWN}


def token_in(body: bytes) -> Token | None:
    """The token in the answer to the call for it; None if there is none that can be sent."""
    try:
        answer = _token.decode(body)
    except _UNREADABLE:
        return None
    lasts = answer.expires_in
    is_told = isinstance(lasts, int | float) and not isinstance(lasts, bool) and 0 < lasts < _BEYOND
    return token_of(answer.access_token, float(lasts) if is_told else None)


def opened_import(body: bytes) -> OpenImport | None:
    """The import in the answer to a create; None if the answer names none that could be asked about again."""
    try:
        answer = _created.decode(body)
    except _UNREADABLE:
        return None
    if not _is_id(answer.import_id):
        return None
    fields = tuple((name, _field(value)) for name, value in answer.file_upload_body.items())
    expires = answer.file_upload_url_expires_at
    expires_at_ms = parse_rfc3339_ms(expires) if isinstance(expires, str) else None
    return OpenImport(answer.import_id, answer.file_upload_url, fields, expires_at_ms)


def status_of(body: bytes) -> ImportStatus | None:
    """How far an import is; None if the body is nothing of the kind."""
    try:
        result = _status.decode(body).result
    except _UNREADABLE:
        return None
    return ImportStatus(
        _STATES.get(result.status, ImportState.UNKNOWN),
        _count(result.profiles_found),
        _count(result.profiles_processed),
        _count(result.profiles_failed),
    )


def discriminators(body: bytes) -> frozenset[str] | None:
    """The names in a list of sections, keyspaces or topics; None if the body is no such list."""
    try:
        return frozenset(item.discriminator for item in _items.decode(body).items)
    except _UNREADABLE:
        return None


def attribute_versions(body: bytes) -> dict[str, str | None] | None:
    """Each attribute's version ids with when they were given up, None for those in use; None if it is no such list."""
    try:
        items = _items.decode(body).items
    except _UNREADABLE:
        return None
    return {
        str(version.id): None if version.deprecated_at is None else str(version.deprecated_at)
        for item in items
        for version in item.versions
    }


def version_in_use(body: bytes, version_id: str) -> str | None:
    """The version that is in use of the attribute to which a version belongs; None if there is none."""
    try:
        items = _items.decode(body).items
    except _UNREADABLE:
        return None
    for item in items:
        if version_id in [str(version.id) for version in item.versions]:
            return next((str(version.id) for version in item.versions if version.deprecated_at is None), None)
    return None


def platform_text(body: bytes) -> str | None:
    """The platform's own words in an error, on one line; None if there are none in a known field."""
    try:
        error = _error.decode(body)
    except _UNREADABLE:
        return None
    texts = [" ".join(text.split()) for text in (error.title, error.detail) if isinstance(text, str)]
    return ": ".join(filter(None, texts)) or None


def _is_id(text: str) -> bool:
    """Whether it can stand in a path as one part, also where a server takes a backslash for a slash."""
    return 0 < len(text) <= 500 and text.isprintable() and text not in (".", "..") and not {"/", "\\"} & set(text)


def _field(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _BEYOND else None
