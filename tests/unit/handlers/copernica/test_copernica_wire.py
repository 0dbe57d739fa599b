"""What is read of Copernica's answers, in all the ways in which it writes them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.copernica import wire
from handlers.copernica.wire import ImportStatus

_BODIES = st.binary(max_size=200) | st.recursive(st.none() | st.text() | st.floats(), st.lists).map(msgspec.json.encode)


@pytest.mark.parametrize("read", [wire.token_in, wire.status_of, wire.platform_text])
@given(_BODIES)
def test_a_body_of_any_kind_is_read_or_is_none(read: Any, body: bytes) -> None:
    """Nothing that a platform can answer raises."""
    read(body)
    assert read(b'{"error":' * 5_000 + b"1" + b"}" * 5_000) is None


@pytest.mark.parametrize(
    ("body", "text"), [(b"a.b.c", "a.b.c"), (b'"a.b.c"\n', "a.b.c"), (b" opaque \r\n", "opaque"), (b"XyzX", "XyzX")]
)
def test_a_token_is_the_whole_body(body: bytes, text: str) -> None:
    """As text or as a JSON text."""
    token = wire.token_in(body)
    assert token is not None
    assert (token.text, token.expires_in_s) == (text, None)


@pytest.mark.parametrize("body", [b"", b'""', b"\xc3\xa9", b"a b"])
def test_a_body_that_is_no_token(body: bytes) -> None:
    """It is never sent."""
    assert wire.token_in(body) is None


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"x-created": " 17 "}, "17"),
        ({"x-created": "17", "location": "/v3/import/18"}, "17"),
        ({"x-created": "new", "location": "/v3/import/18"}, "18"),
        ({"x-location": "https://api.example/v3/import/19/", "location": "/v3/import/18"}, "19"),
        ({"x-location": "elsewhere", "location": "/v3/import/18?access_token=1/2"}, "18"),
        ({"location": " 20 "}, "20"),
        ({"x-created": "9" * 18}, "9" * 18),
        ({"x-created": "9" * 19}, None),
        ({"location": "/v3/import/x18"}, None),
        ({"location": "?id=18"}, None),
        ({"x-created": "", "x-location": "", "location": ""}, None),
        ({}, None),
    ],
)
def test_where_the_id_of_an_import_stands(headers: dict[str, str], found: str | None) -> None:
    """In a header of its own, else at the end of the location; what is no number is no id."""
    assert wire.import_id(headers) == found


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"status": "x", "totallines": "9", "processedlines": "4"}, ImportStatus("x", 9, 4, False, None)),
        ({"status": "x", "totallines": 9, "processedLines": 4}, ImportStatus("x", 9, 4, False, None)),
        ({"processedLines": "4"}, ImportStatus(None, None, 4, False, None)),
        ({"processedlines": 0, "processedLines": 4}, ImportStatus(None, None, 0, False, None)),
        ({"totallines": "0"}, ImportStatus(None, 0, None, False, None)),
        (
            {"status": " two\nwords ", "lasterror": " bad\tfile "},
            ImportStatus("two words", None, None, False, "bad file"),
        ),
        ({"status": False, "lasterror": False, "lastrun": False}, ImportStatus(None, None, None, False, None)),
        ({"status": "", "lasterror": " "}, ImportStatus(None, None, None, False, None)),
        ({"status": "x", "lastrun": "2026-11-22 02:03:04"}, ImportStatus("x", None, None, True, None)),
        ({"status": "x", "lastrun": "0000-00-00 00:00:00"}, ImportStatus("x", None, None, False, None)),
        ({"status": "x", "lastrun": "0"}, ImportStatus("x", None, None, False, None)),
        ({"status": "x", "lastrun": ""}, ImportStatus("x", None, None, False, None)),
        ({"status": "x", "lastrun": 0}, ImportStatus("x", None, None, False, None)),
        ({"status": "x", "lastrun": True}, ImportStatus("x", None, None, True, None)),
        ({"status": "x", "lastrun": 1_700_000_000}, ImportStatus("x", None, None, True, None)),
        ({"status": "x", "totallines": True}, ImportStatus("x", None, None, False, None)),
        ({"status": "x", "totallines": -1}, ImportStatus("x", None, None, False, None)),
        ({"status": "x", "totallines": "nine"}, ImportStatus("x", None, None, False, None)),
        ({"status": "x", "totallines": 10**18 - 1}, ImportStatus("x", 10**18 - 1, None, False, None)),
        ({"status": "x", "totallines": 10**18}, ImportStatus("x", None, None, False, None)),
    ],
)
def test_how_far_an_import_is(fields: dict[str, Any], status: ImportStatus) -> None:
    """Numbers as texts or not, null as false, one name in two ways, dates that are none."""
    assert wire.status_of(msgspec.json.encode(fields)) == status


@pytest.mark.parametrize("body", [b"{}", b'{"lastrun": "2026"}', b"[]", b"<html>"])
def test_what_is_no_status(body: bytes) -> None:
    """Neither a word nor a count."""
    assert wire.status_of(body) is None


@pytest.mark.parametrize(
    ("message", "refused"),
    [
        ("Invalid access token", True),
        ("Sorry: invalid access-token given", True),
        ("INVALID ACCESS_TOKEN", True),
        ("Invalid accesstoken", True),
        ("valid access tokens", False),
        ("Unknown database", False),
        (None, False),
    ],
)
def test_what_refuses_a_token(message: str | None, refused: bool) -> None:
    """A 401 whatever it says, and a 400 that says so; no other answer."""
    body = msgspec.json.encode({"error": {"message": message}})
    assert wire.refuses_token(400, body) is refused
    assert wire.refuses_token(401, body)
    assert not wire.refuses_token(403, body)
