"""Which record is what: the rules of the envelope and of the two contracts, one by one."""

import base64
import json
from typing import Any

import msgspec
import pytest

from contracts import envelope
from contracts.envelope import Headers, Undecodable, UndecodableKind, decode
from contracts.events import ContactChanged, Event, NotificationOccurred
from contracts.fast_decoding import FastDecoder
from tests.unit.contracts.cases import (
    BINARY,
    STRUCTURED,
    TRACEPARENT,
    contact_event,
    dumped,
    notification_event,
)

MALFORMED, CONTRACT = UndecodableKind.MALFORMED, UndecodableKind.CONTRACT


def answer(value: bytes | None, headers: Headers) -> Event | Undecodable:
    """What decoding says: the same as it begins, and while it expects unknown fields."""
    answers = []
    for record in (dumped(contact_event()), dumped(contact_event(unknown=1))):
        envelope._fast = FastDecoder()
        decode(record, STRUCTURED)
        answers.append(decode(value, headers))
    assert repr(answers[0]) == repr(answers[1])
    return answers[0]


def event_of(document: Any, headers: Headers = STRUCTURED) -> Event:
    event = answer(document if isinstance(document, bytes) else dumped(document), headers)
    assert isinstance(event, Event), event
    return event


def fault_of(value: Any, headers: Headers = STRUCTURED) -> Undecodable:
    fault = answer(value if isinstance(value, bytes | None) else dumped(value), headers)
    assert isinstance(fault, Undecodable), fault
    return fault


def contact_of(event: Event) -> ContactChanged:
    assert type(event.data) is ContactChanged
    return event.data


def changed_data(**changes: Any) -> dict[str, Any]:
    event = contact_event()
    return event | {"data": event["data"] | changes}


def changed_notification(**changes: Any) -> dict[str, Any]:
    event = notification_event()
    return event | {"data": event["data"] | changes}


def raw(field: bytes) -> bytes:
    """A contact event with one more field of ``data``, as it is written."""
    return dumped(contact_event()).replace(b'"data":{', b'"data":{' + field + b",")


def raw_version(number: bytes) -> bytes:
    return dumped(contact_event()).replace(b'"version":7', b'"version":' + number)


# --- modes


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/cloudevents+json",
        b"application/cloudevents+json; charset=UTF-8",
        b"application/cloudevents+json; charset=UTF-8; profile=" + b"x" * 64,
        b"Application/CloudEvents+JSON;x=y",
        b"text/plain",
        b"application/json",
        b"\xff",
        None,
    ],
)
def test_structured_mode_is_known_by_content_type_or_by_specversion(content_type: bytes | None) -> None:
    """A CloudEvents content type, or a JSON object with specversion whatever its content type says."""
    assert event_of(contact_event(), [("content-type", content_type)]).id == "e-1"
    assert event_of(contact_event(), []).id == "e-1"


@pytest.mark.parametrize(
    "content_type", [b"application/cloudevents", b"application/cloudevents+xml", b"application/cloudevents-batch+json"]
)
def test_of_structured_mode_only_json_is_read(content_type: bytes) -> None:
    """Another CloudEvents format is malformed, also where a ce_specversion stands beside it."""
    assert fault_of(contact_event(), [("content-type", content_type)]).kind is MALFORMED
    assert fault_of(contact_event(), [*BINARY, ("content-type", content_type)]).kind is MALFORMED


def test_structured_content_type_goes_before_binary_headers() -> None:
    """With both, the record is in structured mode."""
    capital = (("content-type", b"Application/CloudEvents+JSON"),)
    for content_type in (STRUCTURED, capital):
        assert event_of(contact_event(id="inner"), [*BINARY[:-1], *content_type]).id == "inner"


def test_a_null_specversion_header_is_absent() -> None:
    """Then the record is not in binary mode."""
    assert event_of(contact_event(id="inner"), [*BINARY, ("ce_specversion", None)]).id == "inner"


@pytest.mark.parametrize(
    "content_type", [b"application/json", b"application/json; charset=utf-8; a=b", b"\tx/y+json ;a=b", None]
)
def test_binary_mode_takes_json(content_type: bytes | None) -> None:
    """Binary mode: attributes in the ce_ headers, the data in the value."""
    headers = [
        *BINARY[:-1],
        ("content-type", content_type),
        ("ce_subject", "å".encode()),
        ("ce_time", b"1970-01-01T00:00:01Z"),
    ]
    event = event_of(contact_event()["data"], headers)
    assert (event.id, event.source, event.type, event.subject) == ("e-1", "/crm", "contact.changed.v1", "å")
    assert event.time_ms == 1000
    assert contact_of(event) == contact_of(event_of(contact_event()))


def test_binary_mode_takes_no_other_content() -> None:
    """Another content type is malformed, and the envelope is known all the same."""
    fault = fault_of(contact_event()["data"], [*BINARY[:-1], ("content-type", b"text/xml")])
    assert (fault.kind, fault.id, fault.is_envelope_readable) == (MALFORMED, "e-1", True)


def test_of_repeated_binary_headers_the_last_counts() -> None:
    """Also where the last one is null: then the attribute is absent."""
    assert event_of(contact_event()["data"], [*BINARY, ("ce_id", b"e-2")]).id == "e-2"
    assert fault_of(contact_event()["data"], [*BINARY, ("ce_id", None)]).detail == "id: missing"


def test_binary_values_are_not_percent_decoded() -> None:
    """The Kafka binding knows no percent-encoding."""
    assert event_of(contact_event()["data"], [*BINARY, ("ce_id", b"a%20b")]).id == "a%20b"


def test_binary_values_that_are_not_utf_8() -> None:
    """A required one is malformed, an optional one absent."""
    fault = fault_of(contact_event()["data"], [*BINARY, ("ce_source", b"\xff")])
    assert (fault.kind, fault.detail) == (MALFORMED, "source: expected a text that is not empty")
    assert event_of(contact_event()["data"], [*BINARY, ("ce_subject", b"\xff")]).subject is None


@pytest.mark.parametrize(
    "value", [b"[]", b"7", b'"x"', b"null", b"{}", b'{"id":"e-1"}', b" ", b"{", b"<xml/>", b"\x00\x01\x02", b"\xff"]
)
def test_anything_else_is_malformed(value: bytes) -> None:
    """No JSON object with specversion."""
    assert fault_of(value, []).kind is MALFORMED
    assert fault_of(value).kind is MALFORMED


# --- the envelope


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
@pytest.mark.parametrize("value", [None, 7, "", True, ["x"], "absent"])
def test_required_attributes(name: str, value: Any) -> None:
    """Each is a text that is not empty; the fault names it."""
    document = contact_event(**{name: value})
    if value == "absent":
        del document[name]
    fault = fault_of(document)
    assert fault.kind is MALFORMED
    assert fault.detail.startswith(name)


@pytest.mark.parametrize("version", ["0.3", "1.0.2", "1", 1.0])
def test_only_specversion_1_0_is_read(version: Any) -> None:
    """Another version is malformed, and the rest of the envelope is told."""
    fault = fault_of(contact_event(specversion=version))
    assert (fault.kind, fault.id, fault.source, fault.traceparent) == (MALFORMED, "e-1", "/crm", TRACEPARENT)


@pytest.mark.parametrize(("name", "longest"), [("tenant", 64), ("traceparent", 55), ("tracestate", 512)])
def test_bounded_attributes_are_dropped_beyond_their_bound(name: str, longest: int) -> None:
    """ASCII up to so many characters; longer, other or no text counts as absent. In both modes."""
    for value in ["x" * longest, ""]:
        assert getattr(event_of(contact_event(**{name: value})), name) == value
    for dropped in ["x" * (longest + 1), "é", 7, None, ["x"]]:
        assert getattr(event_of(contact_event(**{name: dropped})), name) is None
    binary = [*BINARY, (f"ce_{name}", b"x" * (longest + 1))]
    assert getattr(event_of(contact_event()["data"], binary), name) is None


@pytest.mark.parametrize(
    "value", ["yesterday", "2026-13-01T00:00:00Z", "2026-11-22", 7, "", True, "2026-11-22T02:03:04"]
)
def test_unreadable_time_counts_as_absent(value: Any) -> None:
    """The record's timestamp counts then."""
    assert event_of(contact_event(time=value)).time_ms is None


def test_subject_of_a_wrong_type_counts_as_absent() -> None:
    """As each optional attribute."""
    assert event_of(contact_event(subject=7)).subject is None
    assert event_of(contact_event(subject="x")).subject == "x"


def test_unknown_fields_are_tolerated_at_every_level() -> None:
    """In the envelope, in data, in segments and in consents, whatever they hold."""
    unknown: Any = {"a": [None, 1.5, "x"]}
    data = contact_event()["data"]
    data["segments"]["more"] = data["consents"][0]["more"] = data["more"] = unknown
    assert contact_of(event_of(contact_event(more=unknown, data=data))) == contact_of(event_of(contact_event()))


def test_data_base64_is_decoded() -> None:
    """The bytes are the JSON of the data."""
    encoded = base64.b64encode(dumped(contact_event()["data"])).decode()
    document = contact_event(data_base64=encoded)
    del document["data"]
    assert contact_of(event_of(document)) == contact_of(event_of(contact_event()))
    assert event_of(document | {"data": None}).id == "e-1"


@pytest.mark.parametrize(
    "encoded", ["!", "e30", 7, "e30=\n", base64.b64encode(b"\xff").decode(), base64.b64encode(b"{").decode()]
)
def test_data_base64_that_cannot_be_decoded(encoded: Any) -> None:
    """No base64, or no JSON in it: malformed."""
    document = contact_event(data_base64=encoded)
    del document["data"]
    assert fault_of(document).kind is MALFORMED


def test_data_together_with_data_base64() -> None:
    """Which of the two would count? Malformed."""
    assert fault_of(contact_event(data_base64="e30=")).kind is MALFORMED
    assert event_of(contact_event(data_base64=None)).id == "e-1"


# --- types, tombstones


@pytest.mark.parametrize("kind", ["contact.changed", "Contact.changed.v1", "contact.changed.v2", "order.placed.v1"])
def test_another_type(kind: str) -> None:
    """A well-formed event of a type that we do not know, whatever its data; a malformed one is malformed."""
    fault = fault_of(contact_event(type=kind, data=[1]))
    assert (fault.kind, fault.type, fault.is_envelope_readable) == (UndecodableKind.OTHER_TYPE, kind, True)
    assert fault_of(b"[1]", [*BINARY, ("ce_type", kind.encode())]).kind is UndecodableKind.OTHER_TYPE
    assert fault_of(dumped(contact_event(type=kind))[:-1]).kind is MALFORMED


def test_tombstones_and_empty_values() -> None:
    """A null value is a tombstone in each mode, an empty one malformed; headers still tell the envelope."""
    assert fault_of(None, []).kind is UndecodableKind.TOMBSTONE
    assert fault_of(None, STRUCTURED).kind is UndecodableKind.TOMBSTONE
    assert fault_of(None, BINARY).id == "e-1"
    assert fault_of(None, BINARY[1:]).id is None, "headers without ce_specversion are no envelope"
    assert (fault_of(b"", STRUCTURED).kind, fault_of(b"").detail) == (MALFORMED, "the value is empty")
    assert fault_of(b"", BINARY).kind is MALFORMED


# --- JSON


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"\xef\xbb\xbf" + dumped(contact_event()), id="byte order mark"),
        pytest.param(json.dumps(contact_event()).encode("utf-16"), id="UTF-16"),
        pytest.param(dumped(contact_event())[:-2], id="truncated"),
        pytest.param(dumped(contact_event()) + b"x", id="more behind it"),
        pytest.param(raw(b'"x":NaN'), id="NaN"),
        pytest.param(raw(b'"x":-Infinity'), id="Infinity"),
        pytest.param(raw(b'"x":01'), id="leading zero"),
        pytest.param(raw(b'"x":"\x01"'), id="control character"),
        pytest.param(raw(b'"x":"\xff"'), id="no UTF-8 in a skipped value"),
        pytest.param(raw(b'"\xff":1'), id="no UTF-8 in a skipped key"),
        pytest.param(raw(b'"x":"\\ud800"'), id="lone high surrogate"),
        pytest.param(raw(b'"x":"\\udc00"'), id="lone low surrogate"),
        pytest.param(raw(b'"x":"\\uDC00\\uD800"'), id="surrogates the wrong way round"),
        pytest.param(raw(b'"\\ud83d":1'), id="lone surrogate in a key"),
        pytest.param(raw(b'"x":{"y":["\\ud83dx"]}'), id="lone surrogate deep inside"),
        pytest.param(raw(b'"x":"\xed\xa0\x80"'), id="encoded surrogate"),
        pytest.param(raw(b'"tags":["\\udc00"],"x":1'), id="lone surrogate in a known field"),
        pytest.param(dumped(contact_event()).replace(b"vip", b"\\udc00"), id="lone surrogate, repeated key"),
        pytest.param(raw(b'"x":' + b"[" * 63 + b"]" * 63), id="65 levels"),
        pytest.param(raw(b'"x":' + b'{"a":' * 63 + b"1" + b"}" * 63), id="65 levels of objects"),
        pytest.param(b"[" * 1_000_000, id="a million levels"),
    ],
)
def test_texts_that_are_malformed(value: bytes) -> None:
    """Not JSON in UTF-8, or beyond the bounds: malformed, wherever in the record it stands."""
    assert fault_of(value).kind is MALFORMED


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(raw(b'"x":' + b"[" * 62 + b"]" * 62), id="64 levels"),
        pytest.param(raw(b'"x":"' + b"[{" * 200 + b'"'), id="brackets in a text"),
        pytest.param(raw(b'"x":"\\\\ud800"'), id="no escape"),
        pytest.param(raw(b'"x":"\\ud83d\\ude00"'), id="a pair"),
        pytest.param(
            raw(b'"x":1e400,"y":' + b"9" * 400 + b',"z":' + b"9" * 10_000), id="huge numbers in unknown fields"
        ),
        pytest.param(raw(b'"\\u0078":1'), id="escaped key"),
        pytest.param(b" \r\n\t" + dumped(contact_event()) + b"\n", id="white space"),
        pytest.param(raw(b'"x":"' + b"a" * 1_048_576 + b'"'), id="1 MiB of text"),
    ],
)
def test_texts_that_are_tolerated(value: bytes) -> None:
    """Unusual, and right."""
    assert contact_of(event_of(value)) == contact_of(event_of(contact_event()))


def test_depth_of_open_content() -> None:
    """The 64 levels count in a context too, where nothing is unknown."""
    for levels, is_read in [(61, True), (62, False)]:
        nested: Any = 1
        for _ in range(levels):
            nested = [nested]
        read = answer(dumped(changed_notification(context={"x": nested})), STRUCTURED)
        assert isinstance(read, Event) is is_read
    deepest = dumped(changed_notification(context={"x": 7})).replace(b"7", b"[" * 5000 + b"]" * 5000)
    assert fault_of(deepest).kind is MALFORMED
    # Also where a later one of the same name is flat.
    repeated = dumped(changed_notification(context={})).replace(
        b"{}", b'{"x":%b1%b},"context":{}' % (b"[" * 62, b"]" * 62)
    )
    assert fault_of(repeated).kind is MALFORMED


def test_of_a_repeated_key_the_last_value_wins() -> None:
    """At every level, also where the earlier one is wrong, and without merging objects."""
    assert event_of(b'{"id":7,' + dumped(contact_event())[1:]).id == "e-1"
    assert event_of(dumped(contact_event())[:-1] + b',"id":"e-2"}').id == "e-2"
    assert event_of(dumped(contact_event())[:-1] + b',"subject":null}').subject is None
    twice = dumped(contact_event()).replace(b'"tags"', b'"segments":{"join":[9]},"tags"')
    segments = contact_of(event_of(twice)).segments
    assert segments is not None
    assert (segments.join, segments.leave) == ([9], None)
    other = dumped(contact_event())[:-1] + b',"type":"notification.occurred.v1"}'
    assert fault_of(other).kind is CONTRACT
    assert fault_of(other[:-1] + b',"type":"x"}').kind is UndecodableKind.OTHER_TYPE


# --- the data


def test_null_is_absence_at_every_level() -> None:
    """Of optional fields, of identifiers; an attribute may be null."""
    names = ["identifiers", "attributes", "segments", "consents", "tags", "version"]
    nothing = contact_of(event_of(changed_data(**dict.fromkeys(names))))
    assert [getattr(nothing, name) for name in names] == [None] * 6
    some = contact_of(
        event_of(changed_data(identifiers={"a": None, "b": "x"}, attributes={"a": None}, segments={"join": None}))
    )
    assert some.identifiers == {"b": "x"}
    assert some.attributes == {"a": None}
    assert some.segments is not None
    assert some.segments.join is None


def test_required_fields_of_a_contact() -> None:
    """Null is absence, and absence is against the contract."""
    for name in ("contact_id", "change"):
        fault = fault_of(changed_data(**{name: None}))
        assert (fault.kind, fault.detail) == (CONTRACT, f"data.{name}: missing")
    assert fault_of(contact_event(data=None)).detail == "data: missing"
    assert fault_of(b"null", BINARY).kind is CONTRACT


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"contact_id": ""}, "data.contact_id: expected 1 to 255 characters"),
        ({"contact_id": "x" * 256}, "data.contact_id: expected 1 to 255 characters"),
        ({"contact_id": 7}, "data.contact_id: expected a string"),
        ({"change": "merged"}, "data.change: expected created, updated or deleted"),
        ({"change": ["created"]}, "data.change: expected created, updated or deleted"),
        ({"identifiers": {"np6": 7}}, "data.identifiers.*: expected a string"),
        ({"identifiers": []}, "data.identifiers: expected an object"),
        ({"attributes": {"a": []}}, "data.attributes.*: expected a string, a number, a boolean or null"),
        ({"attributes": {"a": 2**63}}, "data.attributes.*: expected an integer of at most 64 bits"),
        ({"attributes": "x"}, "data.attributes: expected an object"),
        ({"segments": []}, "data.segments: expected an object"),
        ({"segments": {"join": 501}}, "data.segments.join: expected a list"),
        ({"segments": {"join": [501, 2**31]}}, "data.segments.join[1]: expected int32"),
        ({"segments": {"leave": [-(2**31) - 1]}}, "data.segments.leave[0]: expected int32"),
        ({"segments": {"leave": [None]}}, "data.segments.leave[0]: expected int32"),
        ({"segments": {"leave": [True]}}, "data.segments.leave[0]: expected int32"),
        ({"segments": {"leave": ["501"]}}, "data.segments.leave[0]: expected int32"),
        ({"consents": {}}, "data.consents: expected a list"),
        ({"consents": [1]}, "data.consents[0]: expected an object"),
        ({"consents": [{"channel": "email", "topic": "x"}]}, "data.consents[0].status: missing"),
        (
            {"consents": [{"channel": "email", "topic": "x", "status": "in"}]},
            "data.consents[0].status: expected opt-in or opt-out",
        ),
        ({"consents": [{"topic": "x", "status": "opt-in"}]}, "data.consents[0].channel: missing"),
        ({"consents": [{"channel": "x", "topic": 7, "status": "opt-in"}]}, "data.consents[0].topic: expected a string"),
        ({"tags": ["a", 7]}, "data.tags[1]: expected a string"),
        ({"tags": "vip"}, "data.tags: expected a list"),
        ({"version": -1}, "data.version: expected an integer from 0 to 2^63 - 1"),
        ({"version": 2**63}, "data.version: expected an integer from 0 to 2^63 - 1"),
        ({"version": 7.5}, "data.version: expected an integer from 0 to 2^63 - 1"),
        ({"version": "7"}, "data.version: expected an integer from 0 to 2^63 - 1"),
        ({"version": True}, "data.version: expected an integer from 0 to 2^63 - 1"),
    ],
)
def test_contacts_against_the_contract(changes: dict[str, Any], detail: str) -> None:
    """The fault says where, and what was expected; the same in both modes."""
    document = changed_data(**changes)
    for fault in (fault_of(document), fault_of(document["data"], BINARY)):
        assert (fault.kind, fault.detail) == (CONTRACT, detail)


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"notification_key": None}, "data.notification_key: missing"),
        ({"notification_key": 2**31}, "data.notification_key: expected int32"),
        ({"target": 7}, "data.target: expected a string"),
        ({"action": "click"}, "data.action: expected impression, activation, redirection or dismiss"),
        ({"occurred_at": "2026-11-22 02:03:04Z"}, "data.occurred_at: expected an RFC 3339 time with T"),
        ({"occurred_at": "2026-11-22t02:03:04Z"}, "data.occurred_at: expected an RFC 3339 time with T"),
        ({"occurred_at": "2026-02-30T02:03:04Z"}, "data.occurred_at: expected an RFC 3339 time with T"),
        ({"occurred_at": "2026-11-22T02:03:04"}, "data.occurred_at: expected an RFC 3339 time with T"),
        ({"occurred_at": 7}, "data.occurred_at: expected a string"),
        ({"label": 7}, "data.label: expected a string"),
        ({"contact_id": []}, "data.contact_id: expected a string"),
        ({"context": []}, "data.context: expected an object"),
    ],
)
def test_notifications_against_the_contract(changes: dict[str, Any], detail: str) -> None:
    """The fault says where, and what was expected."""
    fault = fault_of(changed_notification(**changes))
    assert (fault.kind, fault.detail) == (CONTRACT, detail)


def test_values_at_the_bounds_of_the_contract() -> None:
    """They are valid, and read the same by the exact way, which a null identifier takes."""
    bounds: dict[str, Any] = {
        "contact_id": "x" * 255,
        "attributes": {"a": 2**63 - 1, "b": -(2**63), "c": None, "d": ""},
        "segments": {"join": [2**31 - 1, 0], "leave": [-(2**31)]},
        "version": 2**63 - 1,
        "consents": [{"channel": "c", "topic": "t", "status": "opt-out"}],
        "tags": ["", "é"],
    }
    for changes in (bounds, bounds | {"contact_id": "x", "version": 0, "consents": [], "tags": []}):
        read = contact_of(event_of(changed_data(**changes, identifiers={})))
        assert msgspec.to_builtins(read) == msgspec.to_builtins(read) | changes
        assert contact_of(event_of(changed_data(**changes, identifiers={"x": None}))) == read
    for key in (2**31 - 1, -(2**31)):
        exact = dumped(changed_notification(notification_key=7)).replace(b":7,", b":%d.0," % key)
        for value in (exact, dumped(changed_notification(notification_key=key))):
            data = event_of(value).data
            assert type(data) is NotificationOccurred
            assert (data.notification_key, data.label) == (key, "Welcome")


@pytest.mark.parametrize(
    ("value", "headers", "kind", "detail"),
    [
        (None, (), UndecodableKind.TOMBSTONE, "the value is null"),
        (b"", STRUCTURED, MALFORMED, "the value is empty"),
        (b"[1]", STRUCTURED, MALFORMED, "expected an object with specversion"),
        (b"{", STRUCTURED, MALFORMED, "not JSON at character 1"),
        (contact_event(specversion=1), (), MALFORMED, 'specversion: expected "1.0"'),
        (contact_event(id=None), (), MALFORMED, "id: missing"),
        (contact_event(source=""), (), MALFORMED, "source: expected a text that is not empty"),
        (contact_event(type=7), (), MALFORMED, "type: expected a text that is not empty"),
        (contact_event(data_base64="e30="), (), MALFORMED, "data and data_base64 together"),
        (contact_event(data=None, data_base64="%"), (), MALFORMED, "data_base64: expected base64"),
        (contact_event(data=None, data_base64=7), (), MALFORMED, "data_base64: expected base64"),
        (contact_event(data=None, data_base64="ew=="), (), MALFORMED, "data_base64: not JSON at character 1"),
        (contact_event(data=None, data_base64="W10="), (), CONTRACT, "data: expected an object"),
        (contact_event(data=[]), (), CONTRACT, "data: expected an object"),
        (notification_event(data=[]), (), CONTRACT, "data: expected an object"),
        (
            contact_event(type="x"),
            (),
            UndecodableKind.OTHER_TYPE,
            "type: neither contact.changed.v1 nor notification.occurred.v1",
        ),
        (b"{", BINARY, MALFORMED, "data: not JSON at character 1"),
        (b"{}", BINARY, CONTRACT, "data.contact_id: missing"),
        (b"{}", [*BINARY, ("ce_id", b"")], MALFORMED, "id: expected a text that is not empty"),
        (
            b"{}",
            [*BINARY, ("content-type", b"text/plain")],
            MALFORMED,
            "content-type: in binary mode only JSON is read",
        ),
        (
            contact_event(),
            [("content-type", b"application/cloudevents")],
            MALFORMED,
            "content-type: of CloudEvents in structured mode only +json is read",
        ),
    ],
)
def test_the_fault_says_what_is_wrong_and_where(
    value: Any, headers: Headers, kind: UndecodableKind, detail: str
) -> None:
    """In words that whoever sent the record can act upon."""
    fault = fault_of(value, headers)
    assert (fault.kind, fault.detail) == (kind, detail)


def test_what_can_be_read_of_the_envelope_goes_with_the_fault() -> None:
    """Every attribute, in each mode, whatever is wrong behind it."""
    attributes = {"subject": "s", "tenant": "t", "tracestate": "a=b", "traceparent": TRACEPARENT}
    headers = [*BINARY, *((f"ce_{name}", value.encode()) for name, value in attributes.items())]
    for fault in (
        fault_of(contact_event(data={}, **attributes)),
        fault_of(contact_event(data={}, data_base64="e30=", **attributes)),
        fault_of(b"{}", headers),
        fault_of(b"", headers),
        fault_of(None, headers),
    ):
        assert {name: getattr(fault, name) for name in attributes} == attributes
        assert (fault.id, fault.source, fault.type) == ("e-1", "/crm", "contact.changed.v1")
    read = event_of(contact_event()["data"], [*headers, ("ce_time", b"2026-11-22T02:03:04Z")])
    assert {name: getattr(read, name) for name in attributes} == attributes
    assert read.time_ms == 1_795_312_984_000


def test_a_notification_is_read() -> None:
    """With its open context as it is."""
    data = event_of(notification_event()).data
    assert type(data) is NotificationOccurred
    assert (data.notification_key, data.target, data.action) == (12, "000PKXK4", "activation")
    assert data.context == {"page": "/shoes", "depth": [1, {"a": None}]}


@pytest.mark.parametrize(
    ("number", "version"),
    [
        (b"7.0", 7),
        (b"70e-1", 7),
        (b"9007199254740993.0", 9007199254740993),
        (b"-0", 0),
        (b"9223372036854775807", 2**63 - 1),
    ],
)
def test_ints_may_be_written_as_decimals(number: bytes, version: int) -> None:
    """Exactly: no digit is lost on the way through a double."""
    assert contact_of(event_of(raw_version(number))).version == version


@pytest.mark.parametrize("number", [b"9223372036854775808", b"1e19", b"1e400", b"1e99999999999", b"9" * 10_000, b"7.1"])
def test_ints_beyond_64_bits_are_against_the_contract(number: bytes) -> None:
    """However they are written."""
    assert fault_of(raw_version(number)).kind is CONTRACT


def test_numbers_of_attributes_keep_their_kind() -> None:
    """7 is an int, 7.0 a double, true a boolean; a double beyond its range is against the contract."""
    attributes = contact_of(event_of(changed_data(attributes={"a": 7, "b": 7.0, "c": True}))).attributes
    assert repr(attributes) == "{'a': 7, 'b': 7.0, 'c': True}"
    exactly = contact_of(event_of(changed_data(identifiers={"a": None}, attributes={"b": 7.0}))).attributes
    assert exactly is not None
    assert type(exactly["b"]) is float
    value = dumped(changed_data(attributes={"a": 7})).replace(b'"a":7', b'"a":1e400')
    fault = fault_of(value)
    told = "data.attributes.*: expected a number that a double can hold"
    assert (fault.kind, fault.detail) == (CONTRACT, told)


def test_open_content_holds_any_number() -> None:
    """A context may hold what no double and no int of 64 bits can."""
    value = dumped(changed_notification(context={"x": 7})).replace(b'"x":7', b'"x":1e400,"y":' + b"9" * 30)
    data = event_of(value).data
    assert type(data) is NotificationOccurred
    assert data.context == {"x": float("inf"), "y": int("9" * 30)}
    assert type(data.context["x"]) is float


# --- nothing personal


SECRET = "anna@example.com"


@pytest.mark.parametrize(
    "document",
    [
        contact_event(type=SECRET),
        contact_event(specversion=SECRET),
        contact_event(data=SECRET),
        contact_event(data={SECRET: SECRET}),
        changed_data(contact_id=SECRET * 20),
        changed_data(change=SECRET),
        changed_data(identifiers={SECRET: 7}),
        changed_data(attributes={SECRET: [SECRET]}),
        changed_data(segments={"join": [SECRET]}),
        changed_data(consents=[{"channel": SECRET, "topic": SECRET, "status": SECRET}]),
        changed_data(version=SECRET),
        changed_notification(occurred_at=SECRET),
        {SECRET: SECRET},
        [SECRET],
        dumped({SECRET: SECRET})[:-1],
        dumped({SECRET: SECRET})[:-1] + b"\xff}",
    ],
)
def test_no_detail_quotes_the_record(document: Any) -> None:
    """Neither a value nor a key of it."""
    assert "anna" not in fault_of(document).detail
