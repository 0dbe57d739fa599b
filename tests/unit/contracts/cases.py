"""Events and records for the tests of the contracts: examples, and strategies that generate them."""

import json
from typing import Any

from hypothesis import strategies as st

from contracts.envelope import Headers

STRUCTURED: Headers = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
BINARY: Headers = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"e-1"),
    ("ce_source", b"/crm"),
    ("ce_type", b"contact.changed.v1"),
    ("content-type", b"application/json"),
)
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def contact_event(**changes: Any) -> dict[str, Any]:
    """A plain contact event; ``changes`` replace attributes of its envelope."""
    return {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/crm",
        "type": "contact.changed.v1",
        "time": "2026-11-22T02:03:04.567Z",
        "subject": "contact-1",
        "tenant": "acme",
        "traceparent": TRACEPARENT,
        "data": {
            "contact_id": "contact-1",
            "change": "updated",
            "identifiers": {"np6": "000PKXK4", "email": "anna@example.com"},
            "attributes": {"city": "Malmö", "age": 41, "vip": True, "score": 1.5, "gone": None},
            "segments": {"join": [501], "leave": [502]},
            "consents": [{"channel": "email", "topic": "shoes", "status": "opt-in"}],
            "tags": ["vip"],
            "version": 7,
        },
    } | changes


def notification_event(**changes: Any) -> dict[str, Any]:
    """A plain notification event; ``changes`` replace attributes of its envelope."""
    return {
        "specversion": "1.0",
        "id": "n-1",
        "source": "/np6",
        "type": "notification.occurred.v1",
        "data": {
            "notification_key": 12,
            "target": "000PKXK4",
            "action": "activation",
            "occurred_at": "2026-11-22T02:03:04Z",
            "label": "Welcome",
            "context": {"page": "/shoes", "depth": [1, {"a": None}]},
        },
    } | changes


def dumped(document: Any) -> bytes:
    """As a producer would write it."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_NAME = TEXT.filter(bool)
_INT32 = st.integers(-(2**31), 2**31 - 1)
_INT64 = st.integers(-(2**63), 2**63 - 1)
_NUMBER = _INT64 | st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUE = st.recursive(
    st.none() | st.booleans() | _NUMBER | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
_INSTANT = st.datetimes().map(lambda moment: moment.isoformat() + "Z") | st.sampled_from(
    ["2026-11-22T02:03:04.5+05:30", "2016-12-31T23:59:60Z", "2026-11-22T02:03:04.123456789-00:00"]
)


def _object(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with unknown fields, optional fields absent, null or there, in any order of its keys."""
    known = st.fixed_dictionaries(required, optional={name: st.none() | value for name, value in optional.items()})
    taken = set(required) | set(optional) | {"data_base64"}
    unknown = st.dictionaries(TEXT.filter(lambda name: name not in taken), JSON_VALUE, max_size=2)
    return st.tuples(known, unknown).flatmap(
        lambda parts: st.permutations(list((parts[0] | parts[1]).items())).map(dict)
    )


CONTACT = _object(
    {
        "contact_id": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255),
        "change": st.sampled_from(["created", "updated", "deleted"]),
    },
    {
        "identifiers": st.dictionaries(TEXT, TEXT, max_size=3),
        "attributes": st.dictionaries(TEXT, TEXT | _NUMBER | st.booleans() | st.none(), max_size=4),
        "segments": _object({}, {name: st.lists(_INT32, max_size=3) for name in ("join", "leave")}),
        "consents": st.lists(
            _object({"channel": TEXT, "topic": TEXT, "status": st.sampled_from(["opt-in", "opt-out"])}, {}),
            max_size=2,
        ),
        "tags": st.lists(TEXT, max_size=3),
        "version": st.integers(0, 2**63 - 1),
    },
)
NOTIFICATION = _object(
    {
        "notification_key": _INT32,
        "target": TEXT,
        "action": st.sampled_from(["impression", "activation", "redirection", "dismiss"]),
        "occurred_at": _INSTANT,
    },
    {
        "label": TEXT,
        "contact_id": TEXT,
        "context": st.dictionaries(TEXT, JSON_VALUE, max_size=3),
    },
)
_ATTRIBUTES = {
    "time": _INSTANT | TEXT | st.integers(),
    "subject": TEXT | st.booleans(),
    "tenant": TEXT | st.just("t" * 65) | st.integers(),
    "traceparent": TEXT | st.just(TRACEPARENT),
    "tracestate": TEXT | st.just("s" * 513),
    "datacontenttype": st.just("application/json"),
}
VALID_EVENT = st.sampled_from([("contact.changed.v1", CONTACT), ("notification.occurred.v1", NOTIFICATION)]).flatmap(
    lambda kind: _object(
        {
            "specversion": st.just("1.0"),
            "id": _NAME,
            "source": _NAME,
            "type": st.just(kind[0]),
            "data": kind[1],
        },
        _ATTRIBUTES,
    )
)
