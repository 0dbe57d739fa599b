"""The fast and the exact way read the same, and nothing makes either raise."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts import envelope, fast_decoding
from contracts.envelope import Undecodable, decode
from contracts.events import Event
from contracts.fast_decoding import FastDecoder, fast_data
from tests.unit.contracts.cases import (
    BINARY,
    CONTACT,
    JSON_VALUE,
    STRUCTURED,
    VALID_EVENT,
    contact_event,
    dumped,
    notification_event,
)

UNKNOWN_FIELD = dumped(contact_event(extra=1))
NESTED_CONTEXT = dumped(notification_event())
LARGE = settings(max_examples=100, deadline=None)


def written(document: Any, ascii_only: bool) -> bytes:
    return json.dumps(document, ensure_ascii=ascii_only).encode()


def fast_answers(value: bytes) -> list[Event]:
    """What the fast way says, as it begins, when it is told the same again, while it expects contexts that are not
    flat, and unknown fields."""
    again, nested, expecting = FastDecoder(), FastDecoder(), FastDecoder()
    again.structured(value)
    nested.structured(NESTED_CONTEXT)
    expecting.structured(UNKNOWN_FIELD)
    answers = [decoder.structured(value) for decoder in (FastDecoder(), again, nested, expecting)]
    return [event for event in answers if event is not None]


@LARGE
@given(VALID_EVENT, st.booleans())
def test_every_valid_event_is_read(document: dict[str, Any], ascii_only: bool) -> None:
    """A valid event, with whatever unknown fields and nulls, is an event, and its names are what was written."""
    event = decode(written(document, ascii_only), STRUCTURED)
    assert isinstance(event, Event), event
    assert (event.id, event.source, event.type) == (document["id"], document["source"], document["type"])


@LARGE
@given(VALID_EVENT, st.booleans())
def test_fast_and_exact_way_agree_on_valid_events(document: dict[str, Any], ascii_only: bool) -> None:
    """Where the fast way answers, it answers what the exact way does."""
    value = written(document, ascii_only)
    exact = repr(envelope._exact_structured(value))  # repr tells 7 from 7.0 and from True
    assert all(repr(event) == exact for event in fast_answers(value))


@LARGE
@given(CONTACT, st.booleans())
def test_fast_and_exact_way_agree_in_binary_mode(document: dict[str, Any], ascii_only: bool) -> None:
    """The same for the data of a binary record."""
    value = written(document, ascii_only)
    fast = fast_data(value, "contact.changed.v1")
    exact = decode(value, BINARY)
    assert isinstance(exact, Event)
    if fast is not None:
        assert repr(fast) == repr(exact.data)


PIECES = [
    *rb"""{ } [ , : \ \ud800 \udc00 \u0000 null 7.0 1e400 01 - NaN true "id":null, "type":"x", "data":7,""".split(),
    *[b"", b'"', b" ", b"\n", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"9" * 30],
]


def _broken(document: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """The event with one stretch of bytes replaced."""
    value = dumped(document)
    return st.tuples(st.integers(0, len(value)), st.integers(0, 6), st.sampled_from(PIECES)).map(
        lambda cut: value[: cut[0]] + cut[2] + value[cut[0] + cut[1] :]
    )


@settings(max_examples=500, deadline=None)
@given(
    (st.just(contact_event()) | st.just(notification_event()) | VALID_EVENT | JSON_VALUE).flatmap(
        lambda document: _broken(document if isinstance(document, dict) else {"x": document})
    )
)
def test_fast_way_accepts_nothing_that_the_exact_way_refuses(value: bytes) -> None:
    """Of broken events too, what the fast way accepts is what the exact way reads; and decode raises nothing."""
    exact = repr(envelope._exact_structured(value))
    assert all(repr(event) == exact for event in fast_answers(value))
    if value:
        assert repr(decode(value, STRUCTURED)) == exact


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200) | st.none(),
    st.lists(
        st.tuples(
            st.sampled_from(["content-type", "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"])
            | st.text(max_size=5),
            st.sampled_from([b"1.0", b"application/json", b"contact.changed.v1", None]) | st.binary(max_size=20),
        ),
        max_size=6,
    ),
)
@example(b"[" * 100_000, [])
@example(b'{"a":' * 100_000, [("ce_specversion", b"1.0")])
@example(b'"' + b'\\"' * 100_000, [])
@example(b"1" * 100_000, [])
@example(b"1e" + b"9" * 5000, [])
def test_no_record_makes_decoding_raise(value: bytes | None, headers: list[tuple[str, bytes | None]]) -> None:
    """Whatever the bytes and the headers are, decoding answers."""
    assert isinstance(decode(value, headers), Event | Undecodable)


TRACED = {"tracestate": "a=b", "traceparent": "00-1"}
USUAL = [
    contact_event(),
    contact_event(tenant=None, traceparent=None, time=None, subject=None),
    contact_event(**TRACED, tenant="é"[:0]),
    contact_event(tenant=None, traceparent=None),
    *(contact_event(**{"tenant": None, "traceparent": None, name: "a"}) for name in ("tenant", *TRACED)),
    notification_event(),
    notification_event(**TRACED),
    notification_event(data={key: item for key, item in notification_event()["data"].items() if key != "context"}),
    *(
        notification_event(data=notification_event()["data"] | {"context": context}, tenant="t")
        for context in (
            {"page": "/é", "basket": 7.0, "first": True, "last": None, "size": 2**63 - 1},
            {"size": 2**63},
            {},
        )
    ),
]


def with_unknown_fields(document: dict[str, Any]) -> dict[str, Any]:
    """The event with fields of others in all of its objects."""
    data = document["data"] | {"more": {"é": [1]}}
    if "segments" in data:
        data["segments"] = data["segments"] | {"more": 1}
        data["consents"] = [consent | {"more": 1} for consent in data["consents"]]
    return document | {"data": data, "more": [{}]}


@pytest.mark.parametrize("document", USUAL)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_what_is_usual_takes_the_fast_way(document: dict[str, Any], ascii_only: bool) -> None:
    """In both modes, with unknown fields and without: the exact way takes ten times as long."""
    for event in (document, with_unknown_fields(document)):
        value = written(event, ascii_only)
        exact = envelope._exact_structured(value)
        assert isinstance(exact, Event)
        assert [repr(answer) for answer in fast_answers(value)] == [repr(exact)] * 4
        assert repr(fast_data(written(event["data"], ascii_only), event["type"])) == repr(exact.data)


@pytest.mark.parametrize("unusual", [UNKNOWN_FIELD, NESTED_CONTEXT])
def test_unusual_records_are_not_decoded_twice_each(monkeypatch: pytest.MonkeyPatch, unusual: bytes) -> None:
    """One has the next thousand read by another decoder at once; then the first one is tried again, and stays."""
    tried: list[bytes] = []
    flat = fast_decoding._decode_flat

    def trying(value: bytes) -> Any:
        tried.append(value)
        return flat(value)

    monkeypatch.setattr(fast_decoding, "_decode_flat", trying)
    decoder, plain = FastDecoder(), dumped(notification_event(data=notification_event()["data"] | {"context": {}}))
    decoder.structured(plain)
    decoder.structured(unusual)
    assert len(tried) == 2
    for _ in range(1000):
        decoder.structured(plain)
    assert len(tried) == 2
    decoder.structured(plain)
    decoder.structured(plain)
    assert len(tried) == 4


@pytest.mark.parametrize(
    "skipped", [b'"\xff"', b"[" * 70 + b"]" * 70, b'{"\xff":1}', b"\xef\xbb\xbf", b'"\xed\xa0\x80"']
)
def test_what_is_skipped_is_looked_at_too(skipped: bytes) -> None:
    """No UTF-8, or too deep, in a field that nobody knows: the exact way is asked, which refuses it."""
    for event in (contact_event(), notification_event()):
        data = dumped(event["data"] | {"more": "here"}).replace(b'"here"', skipped)
        assert fast_data(data, event["type"]) is None
        assert fast_answers(dumped(event | {"more": "here"}).replace(b'"here"', skipped)) == []


@pytest.mark.parametrize("name", ["tenant", "traceparent", "tracestate"])
def test_attributes_that_are_no_ascii_are_left_to_the_exact_way(name: str) -> None:
    """It drops them."""
    value = dumped(contact_event(**{name: "é"}))
    assert fast_answers(value) == []
    event = decode(value, STRUCTURED)
    assert isinstance(event, Event)
    assert getattr(event, name) is None


@pytest.mark.parametrize("context", [{}, {"page": ["/shoes"]}])
def test_a_time_of_another_form_is_left_to_the_exact_way(context: dict[str, Any]) -> None:
    """It says what is wrong with it, in both modes, and whatever the context is."""
    data = notification_event()["data"] | {"context": context, "occurred_at": "2026-11-22 02:03:04Z"}
    assert fast_data(dumped(data), "notification.occurred.v1") is None
    assert fast_answers(dumped(notification_event(data=data))) == []


def test_data_twice_is_left_to_the_exact_way() -> None:
    """Also as null, and where unknown fields are expected."""
    for encoded in ("e30=", None):
        assert fast_answers(dumped(contact_event(data_base64=encoded))) == []


def test_no_data_of_an_unknown_type() -> None:
    """There is nothing to decode it with."""
    assert fast_data(dumped(contact_event()["data"]), "x") is None
