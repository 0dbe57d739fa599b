"""JSON Schemas of the contracts (draft 2020-12), derived from their types."""

import re
from typing import Any

import msgspec

from . import control, journal
from .deadletters import DEAD_LETTER_HEADERS, LANE, ORIGIN_OFFSET, ORIGIN_PARTITION, ORIGIN_TOPIC, OUTCOME, RESULT_ID
from .events import CONTACT_CHANGED, NOTIFICATION_OCCURRED, ContactChanged, NotificationOccurred
from .fast_decoding import TENANT_MAX, TRACEPARENT_MAX, TRACESTATE_MAX
from .outcomes import PAIRS
from .results import SYNC_RESULT, SyncResult

Schema = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFINITIONS = "#/$defs/"
_TYPES = (
    ContactChanged,
    NotificationOccurred,
    SyncResult,
    journal.Start,
    journal.Settled,
    journal.HeldTime,
    journal.Delivery,
    journal.Contact,
    control.Switch,
    control.Release,
    control.Loss,
)
_WRITTEN_BY_US = ("SyncResult", "ResultData", "ResultEvent", "Operation", "Origin", "Replay")
_SOMETIMES_ABSENT = {"subject", "traceparent"}


def json_schemas() -> dict[str, Schema]:
    """Each contract's name -> its schema, which stands alone. Unknown fields are valid in all of them."""
    parts = components(_DEFINITIONS)
    names = {
        CONTACT_CHANGED: "ContactChangedEvent",
        NOTIFICATION_OCCURRED: "NotificationOccurredEvent",
        SYNC_RESULT: "SyncResult",
        "dead-letter.headers": "DeadLetterHeaders",
        "journal.start": "Start",
        "journal.settled": "Settled",
        "journal.held-time": "HeldTime",
        "journal.delivery": "Delivery",
        "journal.contact": "Contact",
        "control.switch": "Switch",
        "control.release": "Release",
        "control.loss": "Loss",
    }
    return {name: _standing_alone(parts, part) for name, part in names.items()}


def components(ref_prefix: str) -> dict[str, Schema]:
    """All parts by name; they refer to each other as ``<ref_prefix><name>``."""
    _, parts = msgspec.json.schema_components(_TYPES, ref_template=ref_prefix + "{name}")
    for name in ("ContactChanged", "NotificationOccurred", "Segments", "Consent"):
        parts[name].pop("additionalProperties")  # the contracts tolerate unknown fields
    identifiers = parts["ContactChanged"]["properties"]["identifiers"]["anyOf"][0]
    identifiers["additionalProperties"] = {"type": ["string", "null"]}
    for name in _WRITTEN_BY_US:
        parts[name]["required"] = [field for field in parts[name]["properties"] if field not in _SOMETIMES_ABSENT]
    parts["ResultData"]["anyOf"] = _pairs()
    parts["ContactChangedEvent"] = _envelope(CONTACT_CHANGED, ref_prefix + "ContactChanged")
    parts["NotificationOccurredEvent"] = _envelope(NOTIFICATION_OCCURRED, ref_prefix + "NotificationOccurred")
    parts["DeadLetterHeaders"] = _dead_letter_headers()
    return {name: _readable(part) for name, part in sorted(parts.items())}


def _standing_alone(parts: dict[str, Schema], name: str) -> Schema:
    used: dict[str, Schema] = {}
    waiting = [name]
    while waiting:
        for reference in re.findall(re.escape(_DEFINITIONS) + r"(\w+)", str(parts[waiting.pop()])):
            if reference not in used:
                used[reference] = parts[reference]
                waiting.append(reference)
    alone: Schema = {"$schema": _DIALECT} | parts[name]
    return alone | ({"$defs": dict(sorted(used.items()))} if used else {})


def _pairs() -> list[Schema]:
    """The closed pairs of outcome and reason."""
    return [
        {
            "properties": {
                "outcome": {"const": outcome.value},
                "reason": {"enum": sorted((reason and reason.value for reason in reasons), key=str)},
            }
        }
        for outcome, reasons in PAIRS.items()
    ]


def _envelope(kind: str, data: str) -> Schema:
    def bounded(length: int) -> Schema:
        return {"type": ["string", "null"], "maxLength": length, "pattern": "^[\\x00-\\x7f]*$"}

    return {
        "title": kind,
        "description": "A CloudEvent in structured mode. `data_base64` may stand in place of `data`: "
        "its JSON in base64.",
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "minLength": 1},
            "source": {"type": "string", "minLength": 1},
            "type": {"const": kind},
            "time": {"type": ["string", "null"], "format": "date-time"},
            "subject": {"type": ["string", "null"]},
            "tenant": bounded(TENANT_MAX),
            "traceparent": bounded(TRACEPARENT_MAX),
            "tracestate": bounded(TRACESTATE_MAX),
            "data": {"$ref": data},
            "data_base64": {"type": ["string", "null"], "contentEncoding": "base64"},
        },
        "required": ["specversion", "id", "source", "type"],
        "anyOf": [{"required": ["data"]}, {"required": ["data_base64"]}],
        "not": {
            "properties": {"data": {"type": "object"}, "data_base64": {"type": "string"}},
            "required": ["data", "data_base64"],
        },
    }


def _dead_letter_headers() -> Schema:
    return {
        "title": "DeadLetterHeaders",
        "description": "Texts in UTF-8, numbers in decimal, times in RFC 3339 (UTC, milliseconds). What is unknown "
        "is left out. The headers of the original record stand beside them.",
        "type": "object",
        "properties": {name: {"type": "string"} for name in DEAD_LETTER_HEADERS}
        | {OUTCOME: {"type": "string", "enum": sorted(outcome.value for outcome in PAIRS)}},
        "required": [LANE, OUTCOME, RESULT_ID, ORIGIN_TOPIC, ORIGIN_PARTITION, ORIGIN_OFFSET],
    }


def _readable(part: Any) -> Any:
    """Descriptions as plain prose rather than as a docstring's markup."""
    if isinstance(part, dict):
        return {
            key: _prose(value) if key == "description" and isinstance(value, str) else _readable(value)
            for key, value in part.items()
        }
    return [_readable(item) for item in part] if isinstance(part, list) else part


def _prose(text: str) -> str:
    plain = re.sub(r":\w+:`([^`]*)`", r"`\1`", text).replace("``", "`")
    return " ".join(plain.split())
