"""The fast way of :mod:`contracts.envelope`: typed decoders, built once.

Each function here either returns what the exact way would return, or None: "judge this anew".

The first decoder tried knows every field that may occur and refuses others, and objects and lists in an open
context. So it has decoded, and thereby checked, each byte of what it accepts, and nothing in it is deep. The second
one takes any context, and how deep it is has to be looked at. Only where unknown fields occur is a tolerant decoder
needed, and before it checks of our own: what msgspec skips it checks neither for UTF-8 nor for depth.
"""

from typing import Annotated, Literal

from msgspec import UNSET, DecodeError, Meta, Raw, Struct, UnsetType
from msgspec.json import Decoder
from msgspec.structs import astuple

from .events import (
    CONTACT_CHANGED,
    NOTIFICATION_OCCURRED,
    Consent,
    ContactChanged,
    Event,
    Int64,
    NotificationOccurred,
    Segments,
)
from .json_text import is_too_deep
from .timestamps import is_strict_rfc3339

TENANT_MAX, TRACEPARENT_MAX, TRACESTATE_MAX = 64, 55, 512

Data = ContactChanged | NotificationOccurred
_Name = Annotated[str, Meta(min_length=1)]
_REFUSALS = (DecodeError, UnicodeDecodeError, RecursionError)
_SPELL = 1000  # records


class _Envelope(Struct, gc=False, forbid_unknown_fields=True):
    """The attributes of a structured event. What does not fit is left to the exact way."""

    specversion: Literal["1.0"]
    id: _Name
    source: _Name
    time: str | None = None
    subject: str | None = None
    tenant: Annotated[str, Meta(max_length=TENANT_MAX)] | None = None
    traceparent: Annotated[str, Meta(max_length=TRACEPARENT_MAX)] | None = None
    tracestate: Annotated[str, Meta(max_length=TRACESTATE_MAX)] | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None


class _ContactEnvelope(_Envelope, gc=False, kw_only=True, tag_field="type", tag=CONTACT_CHANGED):
    data: ContactChanged


class _NotificationEnvelope(_Envelope, gc=False, kw_only=True, tag_field="type", tag=NOTIFICATION_OCCURRED):
    data: NotificationOccurred


class _FlatNotification(NotificationOccurred, gc=False, forbid_unknown_fields=True):
    """One whose context is as nearly all are. It has no field of its own: an instance can become one of its base."""

    context: dict[str, str | Int64 | float | bool | None] | None = None


class _FlatNotificationEnvelope(_Envelope, gc=False, kw_only=True, tag_field="type", tag=NOTIFICATION_OCCURRED):
    data: _FlatNotification


class _TolerantSegments(Segments, gc=False, forbid_unknown_fields=False):
    pass


class _TolerantConsent(Consent, gc=False, forbid_unknown_fields=False):
    pass


class _TolerantContact(ContactChanged, gc=False, forbid_unknown_fields=False):
    segments: _TolerantSegments | None = None
    consents: list[_TolerantConsent] | None = None  # type: ignore[assignment]  # only ever read


class _TolerantNotification(NotificationOccurred, gc=False, forbid_unknown_fields=False):
    pass


class _TolerantContactEnvelope(
    _ContactEnvelope, gc=False, kw_only=True, forbid_unknown_fields=False, tag=CONTACT_CHANGED
):
    data: _TolerantContact
    data_base64: Raw | UnsetType = UNSET


class _TolerantNotificationEnvelope(
    _NotificationEnvelope, gc=False, kw_only=True, forbid_unknown_fields=False, tag=NOTIFICATION_OCCURRED
):
    data: _TolerantNotification
    data_base64: Raw | UnsetType = UNSET


_decode_flat = Decoder(_ContactEnvelope | _FlatNotificationEnvelope).decode
_decode_known = Decoder(_ContactEnvelope | _NotificationEnvelope).decode
_decode_tolerant = Decoder(_TolerantContactEnvelope | _TolerantNotificationEnvelope).decode
_KNOWN_DATA: dict[str, Decoder[Data]] = {
    CONTACT_CHANGED: Decoder(ContactChanged),
    NOTIFICATION_OCCURRED: Decoder(NotificationOccurred),
}
_TOLERANT_DATA: dict[str, Decoder[_TolerantContact | _TolerantNotification]] = {
    CONTACT_CHANGED: Decoder(_TolerantContact),
    NOTIFICATION_OCCURRED: Decoder(_TolerantNotification),
}


class FastDecoder:
    """Decodes structured records. It remembers for a while that unknown fields or deeper contexts occur, so that
    records which have them are not decoded twice each; that changes no answer."""

    def __init__(self) -> None:
        self._tolerant_left = 0
        self._nested_left = 0
        self._source = ""

    def structured(self, value: bytes) -> Event | None:
        """The event of a structured record."""
        if self._tolerant_left:
            self._tolerant_left -= 1
            return _tolerant_event(value)
        if self._nested_left:
            self._nested_left -= 1
            return self._nested_event(value)
        try:
            read = _decode_flat(value)
        except _REFUSALS as error:
            if _is_unknown_field(error):
                self._tolerant_left = _SPELL
                return _tolerant_event(value)
            event = self._nested_event(value)
            if event is not None:
                self._nested_left = _SPELL
            return event
        data = read.data
        if type(data) is ContactChanged:
            kind = CONTACT_CHANGED
        else:
            kind = NOTIFICATION_OCCURRED
            if not is_strict_rfc3339(data.occurred_at):
                return None
            data.__class__ = NotificationOccurred  # what everybody else knows
        source = read.source
        if source == self._source:
            # The next event's is mostly the same: one text for all of those that are held.
            source = self._source
        else:
            self._source = source
        if read.tenant is None and read.traceparent is None and read.tracestate is None:
            return Event(read.id, source, kind, data, read.subject, None, None, None, read.time)
        return _event(read, kind, data)

    def _nested_event(self, value: bytes) -> Event | None:
        """The same where the context may hold anything."""
        try:
            read = _decode_known(value)
        except _REFUSALS as error:
            if not _is_unknown_field(error):
                return None
            self._tolerant_left = _SPELL
            return _tolerant_event(value)
        data = read.data
        if not _is_sound(data, value):
            return None
        return _event(read, CONTACT_CHANGED if type(data) is ContactChanged else NOTIFICATION_OCCURRED, data)


def fast_data(value: bytes, kind: str) -> Data | None:
    """The data of a binary record of that type."""
    decoder = _KNOWN_DATA.get(kind)
    if decoder is None:
        return None
    try:
        data = decoder.decode(value)
    except _REFUSALS as error:
        if not (_is_unknown_field(error) and _is_plain(value)):
            return None
        try:
            data = _strict(_TOLERANT_DATA[kind].decode(value))
        except _REFUSALS:
            return None
    return data if _is_sound(data, value) else None


def _tolerant_event(value: bytes) -> Event | None:
    if not _is_plain(value):
        return None
    try:
        read = _decode_tolerant(value)
    except _REFUSALS:
        return None
    data = _strict(read.data)
    if read.data_base64 is not UNSET or not _is_sound(data, value):
        return None
    return _event(read, CONTACT_CHANGED if type(data) is ContactChanged else NOTIFICATION_OCCURRED, data)


def _event(read: _Envelope, kind: str, data: Data) -> Event | None:
    tenant, traceparent, tracestate = read.tenant, read.traceparent, read.tracestate
    if (
        (tenant is not None and not tenant.isascii())
        or (traceparent is not None and not traceparent.isascii())
        or (tracestate is not None and not tracestate.isascii())
    ):
        return None
    return Event(read.id, read.source, kind, data, read.subject, tenant, traceparent, tracestate, read.time)


def _strict(data: _TolerantContact | _TolerantNotification) -> Data:
    """The same as the structs that everybody else knows."""
    if isinstance(data, _TolerantNotification):
        return NotificationOccurred(*astuple(data))
    contact = ContactChanged(*astuple(data))
    if contact.segments is not None:
        contact.segments = Segments(*astuple(contact.segments))
    if contact.consents is not None:
        contact.consents = [Consent(*astuple(consent)) for consent in contact.consents]
    return contact


def _is_unknown_field(error: Exception) -> bool:
    return str(error).startswith("Object contains unknown field")


def _is_sound(data: Data, value: bytes) -> bool:
    """What the types do not say: the form of a time, and the depth of open content."""
    if type(data) is not NotificationOccurred:
        return True
    return is_strict_rfc3339(data.occurred_at) and (data.context is None or not is_too_deep(value))


def _is_plain(value: bytes) -> bool:
    """Whether what a decoder skips is UTF-8 and not too deep."""
    if is_too_deep(value):
        return False
    if not value.isascii():
        try:
            value.decode()
        except UnicodeDecodeError:
            return False
    return True
