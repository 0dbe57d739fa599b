"""Tokens that a platform gives for an account's secrets. Pure."""

import base64
import binascii
from collections.abc import Callable, Mapping

import msgspec

from handlers.base import Answer, Request

_MAX_CHARACTERS = 16_384


class Token(msgspec.Struct, frozen=True, gc=False):
    """A token; ``expires_at_s`` in Unix time as the token itself says it, ``expires_in_s`` as the answer does. None
    where they do not."""

    text: str
    expires_at_s: float | None
    expires_in_s: float | None = None

    def __repr__(self) -> str:
        return "Token(…)"


class TokenGrant(msgspec.Struct, frozen=True):
    """How a platform gives tokens. ``ask`` makes the request of the account's secrets, by the names of their keys, and
    raises ValueError, without them, where one cannot be sent; ``read`` finds the token in the answer's body."""

    ask: Callable[[Mapping[str, str]], Request]
    read: Callable[[bytes], Token | None]
    headers: Callable[[str], Mapping[str, str]]  # what carries a token
    ended: Callable[[Answer], bool]  # whether an answer can mean that the token has ended


class _Claims(msgspec.Struct, gc=False):
    exp: float


_claims = msgspec.json.Decoder(_Claims)


def bearer(token: str) -> dict[str, str]:
    """The headers that carry a token."""
    return {"Authorization": f"Bearer {token}"}


def token_of(text: str, expires_in_s: float | None = None) -> Token | None:
    """The token, if a header can carry it."""
    if not text or len(text) > _MAX_CHARACTERS or not text.isascii() or not text.isprintable() or " " in text:
        return None
    return Token(text, expiry_of(text), expires_in_s)


def expiry_of(token: str) -> float | None:
    """When a JWT says that it ends (RFC 7519, ``exp``), in Unix seconds; None if it is none, or does not say."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True)
        return _claims.decode(claims).exp
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, binascii.Error, ValueError):
        return None
