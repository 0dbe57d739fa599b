"""Tokens: which ones a header can carry, and what they say of their end."""

import base64
from typing import Any

import msgspec
import pytest

from handlers.tokens import Token, bearer, expiry_of, token_of


def jwt(claims: Any) -> str:
    body = base64.urlsafe_b64encode(msgspec.json.encode(claims)).decode().rstrip("=")
    return f"e30.{body}.x"


def test_a_token_goes_into_its_header_and_nowhere_else() -> None:
    """Its own text shows nothing of it."""
    assert bearer("abc") == {"Authorization": "Bearer abc"}
    assert repr(token_of("secret")) == "Token(…)"


@pytest.mark.parametrize("padding", range(4))
def test_the_end_of_a_jwt_is_read_whatever_its_length(padding: int) -> None:
    """Base64 without its padding, in the alphabet of addresses."""
    text = jwt({"exp": 1_900_000_000, "sub": "\u00ff\u00bf?>" + "x" * padding})
    assert expiry_of(text) == 1_900_000_000
    assert token_of(text) == Token(text, 1_900_000_000)
    assert token_of(text, 60.5) == Token(text, 1_900_000_000, 60.5)


@pytest.mark.parametrize(
    "text",
    [
        "opaque",
        "a.b",
        "a.b.c.d",
        "a.%%%.c",
        "a.e30.c",
        jwt([]),
        jwt({}),
        jwt({"exp": "soon"}),
        jwt({"exp": 1}).replace("e30.e", "e30.%e"),
        "a." + base64.urlsafe_b64encode(b'{"exp": 1, "x": ' + b"[" * 11_000).decode() + ".c",
    ],
)
def test_a_token_that_tells_no_end_is_a_token_nevertheless(text: str) -> None:
    """No JWT, or one without an end that can be read."""
    assert expiry_of(text) is None
    assert token_of(text, 5.0) == Token(text, None, 5.0)


def test_a_token_that_no_header_can_carry() -> None:
    """Empty, with blanks or line ends in it, no ASCII, or longer than servers take."""
    assert [token_of(text) for text in ("", "a b", "a\nb", "a\x7f", "é", "x" * 16_385)] == [None] * 6
    longest = token_of("x" * 16_384)
    assert longest is not None
