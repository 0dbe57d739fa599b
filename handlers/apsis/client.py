"""The calls to Apsis One, as requests relative to the account's base URL. Pure: nothing is sent here.

The status of an import is read without ``/v2``, also of one that was created with it.
"""

from collections.abc import Mapping
from secrets import token_hex
from urllib.parse import quote

import msgspec

from handlers.apsis.wire import token_in
from handlers.base import Answer, Request
from handlers.tokens import TokenGrant, bearer

_JSON = (("Content-Type", "application/json"), ("Accept", "application/json"))
_READ = (("Accept", "application/json"),)
_encode = msgspec.json.Encoder().encode


def ask_token(secrets: Mapping[str, str]) -> Request:
    """Asks for a token by client credentials: ``{access_token, expires_in, token_type}``. Ten calls a minute."""
    named = {name: secrets[name] for name in ("client_id", "client_secret")}
    if not all(named.values()):
        raise ValueError("client_id and client_secret are not empty")
    return Request("POST", "/oauth/token", _JSON, _encode({"grant_type": "client_credentials", **named}))


def token_ended(answer: Answer) -> bool:
    """Whether an answer can mean that the token has ended: the platform says so in two ways."""
    return answer.status in (401, 403)


TOKENS = TokenGrant(ask_token, token_in, bearer, token_ended)


def create_import(section: str, body: bytes, *, api_version: int) -> Request:
    """Opens an import: any 2xx with its id and the upload's address. Ten a minute, and so many open at once."""
    version = "" if api_version == 1 else f"/v{api_version:d}"
    return Request("POST", f"{version}/audience/sections/{_part(section)}/imports", _JSON, body)


def import_status(section: str, import_id: str) -> Request:
    """Reads how far an import is: 200, ``{import_id, result}``."""
    return Request("GET", f"/audience/sections/{_part(section)}/imports/{_part(import_id)}", _READ)


def sections() -> Request:
    """Lists the account's sections: 200, ``{items: [{discriminator}]}``."""
    return Request("GET", "/audience/sections", _READ)


def keyspaces() -> Request:
    """Lists the account's keyspaces: 200, ``{items: [{discriminator}]}``."""
    return Request("GET", "/audience/keyspaces", _READ)


def attributes(section: str) -> Request:
    """Lists a section's attributes: 200, ``{items: [{discriminator, versions: [{id, deprecated_at}]}]}``."""
    return Request("GET", f"/audience/sections/{_part(section)}/attributes", _READ)


def topics(section: str) -> Request:
    """Lists a section's topics (subscriptions): 200, ``{items: [{discriminator}]}``."""
    return Request("GET", f"/v2/audience/sections/{_part(section)}/topics", _READ)


def probe(api_version: int) -> Request:
    """Reads an import that does not exist, of a section that does not: whoever may do that gets 404."""
    unknown = f"fanline-check-{token_hex(8)}"
    return import_status(unknown, unknown)


def _part(part: str) -> str:
    """A part of a path, encoded. Raises ValueError for one that encoding cannot make safe: RFC 3986 takes ``%2E``
    for a dot, and some servers decode ``%2F`` before they look for dots."""
    if not part or any(piece in (".", "..") for piece in part.replace("\\", "/").split("/")):
        raise ValueError("a part of the path is empty or climbs the path")
    return quote(part, safe="")
