"""Which records are the event: both modes, every way of writing the id, and no other event."""

import json

import pytest

from contracts.envelope import Undecodable, decode
from service.lookup.matching import EventMatcher

STRUCTURED = (("content-type", b"application/cloudevents+json"),)


def event(event_id: str, *, ascii_only: bool = False, source: str = "crm") -> bytes:
    document = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": "contact.changed.v1",
        "data": {"contact_id": "c", "change": "updated"},
    }
    return json.dumps(document, ensure_ascii=ascii_only).encode()


def binary(event_id: bytes) -> tuple[tuple[str, bytes], ...]:
    return (("ce_specversion", b"1.0"), ("ce_id", event_id), ("ce_source", b"crm"), ("ce_type", b"contact.changed.v1"))


@pytest.mark.parametrize("event_id", ["e-1", "é/ü 1", 'a "quoted" \\ one', "\N{GRINNING FACE}"])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_an_id_is_found_however_it_is_escaped(event_id: str, ascii_only: bool) -> None:
    """JSON has several ways to write a text."""
    matcher = EventMatcher(event_id)
    assert matcher.is_of(event(event_id, ascii_only=ascii_only), STRUCTURED)
    assert not matcher.is_of(event("other", ascii_only=ascii_only), STRUCTURED)
    assert matcher.is_of(b'{"contact_id": "c", "change": "updated"}', binary(event_id.encode()))


def test_an_id_escaped_letter_by_letter_is_found() -> None:
    """Nobody writes so, and somebody may."""
    assert EventMatcher("e-1").is_of(event("e-1").replace(b'"e-1"', b'"\\u0065-1"'), STRUCTURED)


def test_another_event_that_names_the_id_is_not_it() -> None:
    """The id in another field, or as a part of a longer one."""
    matcher = EventMatcher("e-1")
    assert not matcher.is_of(event("e-2", source="e-1"), STRUCTURED)
    assert not matcher.is_of(event("e-10"), STRUCTURED)
    assert not matcher.is_of(None, ())
    assert not matcher.is_of(None, binary(b"e-10"))


def test_what_cannot_be_read_and_holds_the_id_is_a_mention() -> None:
    """A broken record may be the event; one that can be read and is another is not."""
    matcher = EventMatcher("e-1")
    assert matcher.mentions(event("e-1")[:-5], STRUCTURED)
    assert not matcher.mentions(event("e-1"), STRUCTURED)
    assert not matcher.mentions(event("e-2", source="e-1"), STRUCTURED)
    assert not matcher.mentions(event("e-2")[:-5], STRUCTURED)
    wrong = event("e-2", source="e-1").replace(b"updated", b"renamed")
    assert isinstance(decode(wrong, STRUCTURED), Undecodable)
    assert not matcher.mentions(wrong, STRUCTURED)


def test_results_hold_the_id_as_we_write_it() -> None:
    """Cut at 1,024 characters; a text that is in no result is not looked for in vain."""
    assert EventMatcher('a "b"').may_be_in_result(b'{"subject":"a \\"b\\""}')
    assert EventMatcher("x" * 2_000).may_be_in_result(b'"' + b"x" * 1_024 + b'"')
    assert not EventMatcher("e-1").may_be_in_result(b'{"subject":"e-2"}')
    assert not EventMatcher("e-1").may_be_in_result(b'{"subject":"x-1"}')
    assert not EventMatcher("e-1").may_be_in_result(None)


def test_an_id_that_is_no_text_is_no_event() -> None:
    """A terminal hands on bytes that are not UTF-8 as halves of surrogates."""
    matcher = EventMatcher("e\udcff")
    assert not matcher.is_of(event("e"), STRUCTURED)
    assert not matcher.may_be_in_result(b'{"subject":"e"}')
