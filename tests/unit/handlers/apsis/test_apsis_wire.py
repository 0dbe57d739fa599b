"""What is read of Apsis One's answers, and that nothing in them can do harm."""

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.apsis import wire
from handlers.apsis.wire import ImportState, ImportStatus
from handlers.tokens import expiry_of
from tests.support.vendor import vendor_bytes, vendor_example

READERS = [
    wire.token_in,
    wire.opened_import,
    wire.status_of,
    wire.discriminators,
    wire.attribute_versions,
    wire.platform_text,
]


def jwt(**claims: Any) -> str:
    parts = [b'{"alg":"none"}', msgspec.json.encode(claims), b"x"]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


@pytest.mark.parametrize("reader", READERS)
@given(
    st.one_of(
        st.binary(max_size=200), st.recursive(st.none() | st.text() | st.floats(), st.lists).map(msgspec.json.encode)
    )
)
def test_a_body_of_any_kind_is_read_or_is_none(reader: Any, body: bytes) -> None:
    """Nothing that a platform can answer raises."""
    reader(body)


@pytest.mark.parametrize("reader", READERS)
def test_deep_nesting_is_unreadable(reader: Any) -> None:
    """And no crash."""
    assert not reader(b'{"items":' * 5_000 + b"1" + b"}" * 5_000)


def test_a_tokens_end_is_what_it_says_itself() -> None:
    """``expires_in`` is kept beside it, for a token that is no JWT."""
    body = msgspec.json.encode({"access_token": jwt(exp=1_900_000_000), "expires_in": 86400, "token_type": "Bearer"})
    token = wire.token_in(body)
    assert token is not None
    assert (token.expires_at_s, token.expires_in_s) == (1_900_000_000, 86_400)
    opaque = wire.token_in(b'{"access_token": "opaque", "expires_in": 5}')
    assert opaque is not None
    assert (opaque.expires_at_s, opaque.expires_in_s) == (None, 5)


@pytest.mark.parametrize("text", ["", "a b", "a\nb", "é", "x" * 20_000])
def test_a_token_that_no_header_can_carry_is_none(text: str) -> None:
    """It is never sent."""
    assert wire.token_in(msgspec.json.encode({"access_token": text})) is None


@pytest.mark.parametrize("token", ["a.b", "a.b.c.d", "a.%%%.c", f"a.{base64.b64encode(b'[]').decode()}.c", jwt()])
def test_a_token_that_tells_no_end(token: str) -> None:
    """Is no fault."""
    assert expiry_of(token) is None


def test_the_vendors_answer_to_a_create() -> None:
    """The fields of the form keep their order."""
    opened = wire.opened_import(vendor_bytes("apsis-import-answer.json"))
    example = vendor_example("apsis-import-answer.json")
    assert opened is not None
    assert opened.import_id == example["import_id"]
    assert opened.upload_url == example["file_upload_url"]
    assert list(opened.fields) == list(example["file_upload_body"].items())
    assert opened.expires_at_ms == 1_772_600_767_891


@pytest.mark.parametrize("import_id", ["", "a/b", "..", ".", "x" * 501, "a\n", "..\\x", "a\\b"])
def test_an_id_that_cannot_be_asked_about_is_none(import_id: str) -> None:
    """No import without a name that can stand in a path."""
    assert wire.opened_import(msgspec.json.encode({"import_id": import_id})) is None


def test_the_vendors_status() -> None:
    """State and counts."""
    status = wire.status_of(vendor_bytes("apsis-import-status.json"))
    assert status == ImportStatus(ImportState.COMPLETED, 9, 8, 1)


def test_a_status_that_nobody_knows_is_unknown() -> None:
    """And counts that are no counts are not told."""
    body = b'{"result": {"status": "paused", "profiles_found": "many", "profiles_failed": true}}'
    assert wire.status_of(body) == ImportStatus(ImportState.UNKNOWN)


def test_attributes_with_their_versions() -> None:
    """The one in use has not been given up."""
    body = b'{"items": [{"discriminator": "a", "versions": [{"id": 7}, {"id": "8", "deprecated_at": "2020"}]}]}'
    assert wire.attribute_versions(body) == {"7": None, "8": "2020"}


def test_the_longest_id_and_a_create_that_says_no_more() -> None:
    """Five hundred characters; address, fields and time may be missing or of any kind."""
    opened = wire.opened_import(b'{"import_id": "%s"}' % (b"x" * 500))
    assert opened == wire.OpenImport("x" * 500, "", (), None)
    body = (
        b'{"import_id": "1", "file_upload_body": {"n": 7, "o": {"a": null}, "t": "x"}, "file_upload_url_expires_at": 9}'
    )
    assert wire.opened_import(body) == wire.OpenImport("1", "", (("n", "7"), ("o", '{"a":null}'), ("t", "x")), None)


@pytest.mark.parametrize("number", ["9" * 400, "9" * 5000, "1e400", "0", "-5", "true", '"5"', "null", "1" + "0" * 18])
def test_a_number_that_is_none(number: str) -> None:
    """Of any length or kind: a token's life and an import's counts are untold then, and nothing raises."""
    token = wire.token_in(b'{"access_token": "x", "expires_in": %s}' % number.encode())
    assert token is None or token.expires_in_s is None
    status = wire.status_of(b'{"result": {"status": "queued", "profiles_found": %s}}' % number.encode())
    assert status is None or status.found == (0 if number == "0" else None)


def test_lives_and_counts_as_they_are_told() -> None:
    """A life may be a fraction of a second; counts are those of the field they stand in."""
    for number, seconds in (("0.5", 0.5), ("1", 1.0), ("9" * 18, float("9" * 18))):
        token = wire.token_in(b'{"access_token": "x", "expires_in": %s}' % number.encode())
        assert token is not None
        assert (token.expires_in_s, type(token.expires_in_s)) == (seconds, float)
    body = b'{"result": {"status": "queued", "profiles_found": 1, "profiles_processed": 2, "profiles_failed": 3}}'
    assert wire.status_of(body) == ImportStatus(ImportState.QUEUED, 1, 2, 3)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"title": " Bad\\nrequest ", "detail": "no  column"}', "Bad request: no column"),
        (b'{"title": "", "detail": "no column"}', "no column"),
        (b'{"title": "Bad", "detail": 7}', "Bad"),
        (b'{"title": " ", "detail": null}', None),
        (b"{}", None),
        (b"<html>", None),
    ],
)
def test_the_platforms_own_words(body: bytes, said: str | None) -> None:
    """Those of the two known fields, on one line."""
    assert wire.platform_text(body) == said


def test_names_in_a_list() -> None:
    """Sections, keyspaces and topics; what is no such list is none, which an empty one is."""
    assert wire.discriminators(b'{"items": [{"discriminator": "a"}, {"discriminator": "b", "x": 1}]}') == {"a", "b"}
    assert wire.discriminators(b'{"items": []}') == frozenset()
    assert wire.discriminators(b'{"items": [{}]}') is None
    assert wire.attribute_versions(b'{"items": [{}]}') is None
