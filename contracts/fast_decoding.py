"""The fast way of :mod:`contracts.envelope`: typed decoders, built once.

Each function here either returns what the exact way would return, or None: "judge this anew".
"""

from collections.abc import Callable
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec import DecodeError as JsonError
from msgspec.json import Decoder

from .events import CONTACT_CHANGED, NOTIFICATION_OCCURRED, ContactChanged, Event, NotificationOccurred
from .json_text import MAX_DEPTH, has_lone_surrogate, is_too_deep
from .timestamps import is_strict_rfc3339, parse_rfc3339_ms

TENANT_MAX, TRACEPARENT_MAX, TRACESTATE_MAX = 64, 55, 512

_Name = Annotated[str, Meta(min_length=1)]


class _Envelope(Struct, gc=False):
    """The attributes of a structured event. What does not fit is left to the exact way."""

    specversion: Literal["1.0"]
    id: _Name
    source: _Name
    time: str | None = None
    subject: str | None = None
    tenant: Annotated[str, Meta(max_length=TENANT_MAX)] | None = None
    traceparent: Annotated[str, Meta(max_length=TRACEPARENT_MAX)] | None = None
    tracestate: Annotated[str, Meta(max_length=TRACESTATE_MAX)] | None = None
    data_base64: Raw | UnsetType = UNSET


class _ContactEnvelope(_Envelope, gc=False, kw_only=True, tag_field="type", tag=CONTACT_CHANGED):
    data: ContactChanged


class _NotificationEnvelope(_Envelope, gc=False, kw_only=True, tag_field="type", tag=NOTIFICATION_OCCURRED):
    data: NotificationOccurred


_decode_envelope = Decoder(_ContactEnvelope | _NotificationEnvelope).decode
_DATA_DECODERS: dict[str, Callable[[bytes], ContactChanged | NotificationOccurred]] = {
    CONTACT_CHANGED: Decoder(ContactChanged).decode,
    NOTIFICATION_OCCURRED: Decoder(NotificationOccurred).decode,
}


def _is_plain(value: bytes) -> bool:
    """Whether the typed decoders can be trusted with the text: they neither check what they skip for UTF-8 and
    for surrogates, nor know a bound on its depth."""
    if value.count(b"{") + value.count(b"[") > MAX_DEPTH and is_too_deep(value):
        return False
    if not value.isascii():
        try:
            value.decode()
        except UnicodeDecodeError:
            return False
    return 92 not in value or not has_lone_surrogate(value)  # 92: the backslash


def fast_structured(value: bytes) -> Event | None:
    """The event of a structured record."""
    if not _is_plain(value):
        return None
    try:
        read = _decode_envelope(value)
    except JsonError:
        return None
    if read.data_base64 is not UNSET:
        return None
    tenant, traceparent, tracestate = read.tenant, read.traceparent, read.tracestate
    if not (
        (tenant is None or tenant.isascii())
        and (traceparent is None or traceparent.isascii())
        and (tracestate is None or tracestate.isascii())
    ):
        return None
    data = read.data
    kind = CONTACT_CHANGED
    if type(data) is NotificationOccurred:
        kind = NOTIFICATION_OCCURRED
        if not is_strict_rfc3339(data.occurred_at):
            return None
    time = read.time
    return Event(
        read.id,
        read.source,
        kind,
        data,
        read.subject,
        tenant,
        traceparent,
        tracestate,
        None if time is None else parse_rfc3339_ms(time),
    )


def fast_data(value: bytes, kind: str) -> ContactChanged | NotificationOccurred | None:
    """The data of a binary record of that type."""
    decoder = _DATA_DECODERS.get(kind)
    if decoder is None or not _is_plain(value):
        return None
    try:
        data = decoder(value)
    except JsonError:
        return None
    if type(data) is NotificationOccurred and not is_strict_rfc3339(data.occurred_at):
        return None
    return data
