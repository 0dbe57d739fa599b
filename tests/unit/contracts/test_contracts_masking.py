"""Nothing personal is left in a detail."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.events import ContactChanged, Event, NotificationOccurred
from contracts.masking import MASK, mask_detail, personal_strings, standing_in


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("unknown target", "unknown target"),
        ("no anna.b+x@example.com here", "no ••• here"),
        ('{"mail":"anna@localhost"}', '{"mail":"•••"}'),
        ("anna%40example.com", "•••"),
        ("<åsa@exämple.se>", "<•••>"),
        ("a@b@c.de", "•••"),
        ("call 0701234 or 070123", "call ••• or 070123"),
        ("id 46701234567x", "id •••x"),
        ("target 000PKXK4, segment 501", "target 000PKXK4, segment 501"),
        ("@ alone", "@ alone"),
        ("anna@ or @anna", "••• or •••"),
    ],
)
def test_addresses_and_long_numbers(text: str, masked: str) -> None:
    """E-mail addresses, and runs of seven digits and more."""
    assert mask_detail(text, ()) == masked


def test_strings_of_the_event() -> None:
    """Of four characters and more, in any case, wherever they stand."""
    assert mask_detail("Anna lives in MALMÖ, Malmö", ["Malmö", "Ann"]) == "Anna lives in •••, •••"
    assert mask_detail("Malmö, Malmö and Malmö", ["Malmö"]) == "•••, ••• and •••"
    assert mask_detail("\u0130\u0130 ANNA", ["anna"]) == "\u0130\u0130 •••"  # a letter that grows with its case
    assert mask_detail("Straße, ANNA", ["anna"]) == "Straße, •••"  # and one that grows the other way


def test_one_secret_never_hides_another() -> None:
    """All are looked for in the original text."""
    assert mask_detail("Anna Berg <anna@x.se>", ["Anna Berg <anna@x.se>", "anna"]) == MASK
    assert mask_detail("anna@malmo.se", ["malmo.se"]) == MASK
    assert mask_detail("abcdefgh", ["abcde", "defgh"]) == MASK
    assert mask_detail("aaaaaa", ["aaaa"]) == mask_detail("aaaaa", ["aaaa"]) == MASK


def test_masked_before_it_is_cut() -> None:
    """A cut cannot leave half a secret behind."""
    text = "x" * 497 + " Lindström"
    assert mask_detail(text, ["Lindström"]) == "x" * 497 + " •" + "•"
    assert len(mask_detail("y " * 1000, ())) == 500


@given(st.text("ab@.% 40\u0130", max_size=60), st.lists(st.text("ab@.\u0130", min_size=4, max_size=8), max_size=4))
def test_no_secret_is_left(text: str, secrets: list[str]) -> None:
    """Whatever the text is, also with letters that change their length with their case."""
    masked = mask_detail(text, secrets)
    assert all(secret not in masked for secret in secrets)


@given(st.text("ab@.% 40\u0130", max_size=60), st.lists(st.text("abAB@.\u0130", max_size=8), max_size=4))
def test_what_does_not_stand_in_the_text_need_not_be_looked_for(text: str, secrets: list[str]) -> None:
    """Of many events those strings are enough that occur: what is masked is the same."""
    found = standing_in(text, secrets)
    assert mask_detail(text, found) == mask_detail(text, secrets)
    assert set(found) <= set(secrets)


def test_only_what_stands_in_the_text_is_kept() -> None:
    """Strings of four characters and more; in whatever letters."""
    assert standing_in("Anna of Oslo", ["anna", "ANNA", "of", "Oslo", "Bergen"]) == ["anna", "ANNA", "Oslo"]


@pytest.mark.parametrize("text", ["a" * 200_000, "%40" * 50_000, "@" * 100_000, "a@" * 50_000, "1" * 200_000])
def test_masking_is_linear(text: str) -> None:
    """No body of a platform holds the service up."""
    begun = time.process_time()
    mask_detail(text, ["Lindström"])
    assert time.process_time() - begun < 2


def test_personal_strings_of_a_contact() -> None:
    """Identifiers and attributes; numbers as they are written; nothing shorter than four characters."""
    data = ContactChanged(
        "c-1",
        "updated",
        identifiers={"email": "anna@example.com", "np6": "x1"},
        attributes={"city": "Malmö", "age": 41, "income": 54321, "score": 1.25, "vip": True, "gone": None},
    )
    assert personal_strings(Event("e", "s", "t", data)) == {"anna@example.com", "Malmö", "54321", "1.25"}
    shortest = ContactChanged("c-1", "updated", attributes={"name": "Anna", "pin": 1234, "age": 123, "sex": "abc"})
    assert personal_strings(Event("e", "s", "t", shortest)) == {"Anna", "1234"}
    assert personal_strings(Event("e", "s", "t", ContactChanged("c-1", "created"))) == set()


def test_personal_strings_of_a_notification() -> None:
    """Its context is open: whatever it holds, however deep."""
    data = NotificationOccurred(
        1, "000PKXK4", "dismiss", "2026-11-22T02:03:04Z", context={"a": [{"b": "Lindström"}], "c": "abc"}
    )
    assert personal_strings(Event("e", "s", "t", data)) == {"Lindström"}
