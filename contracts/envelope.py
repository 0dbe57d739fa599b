"""From a Kafka record to an event: CloudEvents 1.0 in structured and in binary mode.

Two ways lead to the same answer. The fast one decodes a well-formed record with typed decoders built once; where
it meets anything unusual (a repeated type, ``7.0`` for an int, a null identifier, half a surrogate, a fault) it
gives up without a word and the exact one (:mod:`contracts.json_text`, :mod:`contracts.contract_check`) judges the
record anew. So every rule lives in the exact way, and the fast one may only accept what the exact one accepts.
"""

import base64
import binascii
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from typing import Any

from msgspec import Struct

from .contract_check import READERS, ContractError
from .events import ContactChanged, Event, NotificationOccurred
from .fast_decoding import TENANT_MAX, TRACEPARENT_MAX, TRACESTATE_MAX, FastDecoder, fast_data
from .json_text import MalformedError, parse

Headers = Sequence[tuple[str, bytes | None]]


class UndecodableKind(Enum):
    """Why a record is no event that a lane can work on."""

    TOMBSTONE = "tombstone"  # a null value
    MALFORMED = "malformed"  # bytes, JSON or the envelope
    CONTRACT = "contract"  # a readable envelope, but data that breaks its contract
    OTHER_TYPE = "other_type"  # a well-formed event of a type that Fanline does not know


class Undecodable(Struct, gc=False):
    """A record that is no event, and what could be read of its envelope (None where it could not).

    ``detail`` says what is wrong and where. It never quotes the record: no value and no key of it.
    """

    kind: UndecodableKind
    detail: str
    id: str | None = None
    source: str | None = None
    type: str | None = None
    subject: str | None = None
    tenant: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None

    @property
    def is_envelope_readable(self) -> bool:
        """Whether id, source and type are known, so that a result can name the event."""
        return self.id is not None and self.source is not None and self.type is not None


def decode(value: bytes | None, headers: Headers) -> Event | Undecodable:
    """What the record is. Never raises, whatever the bytes are."""
    if value and not headers:
        return _fast.structured(value) or _exact_structured(value)
    content_type: bytes | None = None
    is_binary = False
    for name, content in headers:
        if name == "content-type":
            content_type = content
        elif name == "ce_specversion":
            is_binary = content is not None
    if not value:
        return _empty(value, headers if is_binary else ())
    if content_type is None:
        media = _ABSENT
    else:
        media = _classify_short(content_type) if len(content_type) <= 64 else _classify(content_type)
    if media is not _CLOUDEVENT_JSON:
        if media is _Media.CLOUDEVENT_OTHER:
            return _malformed("content-type: of CloudEvents in structured mode only +json is read")
        if is_binary:
            return _decode_binary(value, headers, media)
    return _fast.structured(value) or _exact_structured(value)


class _Media(Enum):
    ABSENT = 0
    CLOUDEVENT_JSON = 1
    CLOUDEVENT_OTHER = 2
    JSON = 3
    OTHER = 4


# Looking a member up in its class costs as much as all the rest of a header's judgement.
_ABSENT, _CLOUDEVENT_JSON = _Media.ABSENT, _Media.CLOUDEVENT_JSON


def _classify(content_type: bytes) -> _Media:
    media = content_type.split(b";", 1)[0].strip(b" \t").lower()
    if media == b"application/cloudevents+json":
        return _Media.CLOUDEVENT_JSON
    if media.startswith(b"application/cloudevents"):
        return _Media.CLOUDEVENT_OTHER
    return _Media.JSON if media == b"application/json" or media.endswith(b"+json") else _Media.OTHER


_classify_short = lru_cache(maxsize=64)(_classify)
_fast = FastDecoder()


class _Attributes(Struct, gc=False):
    """The envelope as far as it can be read; ``fault`` says what of it breaks the rules."""

    fault: str | None
    id: str | None
    source: str | None
    type: str | None
    subject: str | None
    tenant: str | None
    traceparent: str | None
    tracestate: str | None
    time: str | None


def _exact_structured(value: bytes) -> Event | Undecodable:
    try:
        document = parse(value)
    except MalformedError as error:
        return _malformed(str(error))
    if type(document) is not dict:
        return _malformed("expected an object with specversion")
    envelope = _read_attributes(document)
    data, encoded = document.get("data"), document.get("data_base64")
    if data is not None and encoded is not None:
        return _fault(UndecodableKind.MALFORMED, "data and data_base64 together", envelope)
    content: bytes | None = None
    if encoded is not None:
        content = _base64(encoded)
        if content is None:
            return _fault(UndecodableKind.MALFORMED, "data_base64: expected base64", envelope)
    if envelope.fault is not None:
        return _fault(UndecodableKind.MALFORMED, envelope.fault, envelope)
    if envelope.type not in READERS:
        return _other_type(envelope)
    if content is not None:
        try:
            data = parse(content)
        except MalformedError as error:
            return _fault(UndecodableKind.MALFORMED, f"data_base64: {error}", envelope)
    return _read_data(envelope, data)


def _decode_binary(value: bytes, headers: Headers, media: _Media) -> Event | Undecodable:
    envelope = _read_attributes(_header_attributes(headers))
    if media is _Media.OTHER:
        return _fault(UndecodableKind.MALFORMED, "content-type: in binary mode only JSON is read", envelope)
    if envelope.fault is not None:
        return _fault(UndecodableKind.MALFORMED, envelope.fault, envelope)
    data = fast_data(value, envelope.type or "")
    return _exact_binary(value, envelope) if data is None else _event(envelope, data)


def _exact_binary(value: bytes, envelope: _Attributes) -> Event | Undecodable:
    try:
        document = parse(value)
    except MalformedError as error:
        return _fault(UndecodableKind.MALFORMED, f"data: {error}", envelope)
    return _other_type(envelope) if envelope.type not in READERS else _read_data(envelope, document)


def _read_data(envelope: _Attributes, document: Any) -> Event | Undecodable:
    try:
        return _event(envelope, READERS[envelope.type or ""](document))
    except ContractError as error:
        return _fault(UndecodableKind.CONTRACT, str(error), envelope)


def _event(envelope: _Attributes, data: ContactChanged | NotificationOccurred) -> Event:
    # _read_attributes found no fault, so all three are there; "or" only tells the type checker.
    return Event(
        envelope.id or "",
        envelope.source or "",
        envelope.type or "",
        data,
        envelope.subject,
        envelope.tenant,
        envelope.traceparent,
        envelope.tracestate,
        envelope.time,
    )


def _header_attributes(headers: Headers) -> dict[str, Any]:
    """The ``ce_`` headers as attributes: text, or the undecoded bytes where they are no UTF-8. The last counts."""
    attributes: dict[str, Any] = {}
    for name, content in headers:
        if name.startswith("ce_"):
            try:
                attributes[name[3:]] = None if content is None else content.decode()
            except UnicodeDecodeError:
                attributes[name[3:]] = content
    return attributes


def _read_attributes(document: dict[str, Any]) -> _Attributes:
    subject, time = document.get("subject"), document.get("time")
    return _Attributes(
        fault=_envelope_fault(document),
        id=_name(document.get("id")),
        source=_name(document.get("source")),
        type=_name(document.get("type")),
        subject=subject if type(subject) is str else None,
        tenant=_ascii(document.get("tenant"), TENANT_MAX),
        traceparent=_ascii(document.get("traceparent"), TRACEPARENT_MAX),
        tracestate=_ascii(document.get("tracestate"), TRACESTATE_MAX),
        time=time if type(time) is str else None,
    )


def _envelope_fault(document: dict[str, Any]) -> str | None:
    if document.get("specversion") != "1.0":
        return 'specversion: expected "1.0"'
    for name in ("id", "source", "type"):
        value = document.get(name)
        if _name(value) is None:
            return f"{name}: missing" if value is None else f"{name}: expected a text that is not empty"
    return None


def _name(value: Any) -> str | None:
    return value if type(value) is str and value else None


def _ascii(value: Any, max_length: int) -> str | None:
    return value if type(value) is str and value.isascii() and len(value) <= max_length else None


def _base64(value: Any) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True) if type(value) is str else None
    except (binascii.Error, ValueError):
        return None


def _empty(value: bytes | None, headers: Headers) -> Undecodable:
    envelope = _read_attributes(_header_attributes(headers))
    if value is None:
        return _fault(UndecodableKind.TOMBSTONE, "the value is null", envelope)
    return _fault(UndecodableKind.MALFORMED, "the value is empty", envelope)


def _other_type(envelope: _Attributes) -> Undecodable:
    known = " nor ".join(READERS)
    return _fault(UndecodableKind.OTHER_TYPE, f"type: neither {known}", envelope)


def _malformed(detail: str) -> Undecodable:
    return Undecodable(UndecodableKind.MALFORMED, detail)


def _fault(kind: UndecodableKind, detail: str, envelope: _Attributes) -> Undecodable:
    return Undecodable(
        kind,
        detail,
        envelope.id,
        envelope.source,
        envelope.type,
        envelope.subject,
        envelope.tenant,
        envelope.traceparent,
        envelope.tracestate,
    )
