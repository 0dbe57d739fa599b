"""The calls to Copernica, as requests relative to the account's base URL. Pure: nothing is sent here.

Version 3 of the API wants the token in the address of each request; whoever sends adds it (:data:`TOKEN_PARAMETER`).
"""

from collections.abc import Mapping
from secrets import randbelow
from urllib.parse import urlencode

from handlers.base import Answer, Request
from handlers.copernica.wire import refuses_token, token_in
from handlers.tokens import TokenGrant, bearer

TOKEN_PARAMETER = "access_token"

_JSON = (("Content-Type", "application/json"), ("Accept", "application/json"))
_FORM = (("Content-Type", "application/x-www-form-urlencoded"),)
_READ = (("Accept", "application/json"),)
# No import has such a number, as far as anybody knows.
_UNLIKELY = 2_000_000_000


def exchange_token(secrets: Mapping[str, str]) -> Request:
    """Exchanges the account's access token for one of version 4, good for a day; relative to ``token_url``."""
    secret = secrets["access_token"]
    if not secret or secret != secret.strip():
        raise ValueError("an access token is not empty, without blanks around it")
    return Request("POST", "/", _FORM, urlencode({"access_token": secret}).encode())


def token_ended(answer: Answer) -> bool:
    """Whether an answer says that the token is not taken any more."""
    return refuses_token(answer.status, answer.body)


TOKENS = TokenGrant(exchange_token, token_in, bearer, token_ended)


def create_import(body: bytes, api_version: int) -> Request:
    """Creates an import, with its rows or the place where they are: 200 or 201, its id in a header."""
    return Request("POST", f"/v{api_version:d}/imports", _JSON, body)


def import_status(import_id: str, api_version: int) -> Request:
    """Reads how far an import is: 200. Raises ValueError for what is no id."""
    if not import_id.isascii() or not import_id.isdecimal() or len(import_id) > 18:
        raise ValueError("an import's id is a number")
    return Request("GET", f"/v{api_version:d}/import/{import_id}", _READ)


def probe(api_version: int) -> Request:
    """Reads an import that hardly exists."""
    return import_status(str(_UNLIKELY + randbelow(100_000_000)), api_version)
