"""Apsis One's calls: what is meant is what is asked, and nothing climbs the path."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from handlers.apsis import client
from handlers.base import Answer, Request

READ = (("Accept", "application/json"),)
JSON = (("Content-Type", "application/json"), *READ)
SECTION = "usercreated.sections.shop"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            lambda: client.create_import(SECTION, b"{}", api_version=2),
            Request("POST", f"/v2/audience/sections/{SECTION}/imports", JSON, b"{}"),
        ),
        (
            lambda: client.create_import(SECTION, b"{}", api_version=1),
            Request("POST", f"/audience/sections/{SECTION}/imports", JSON, b"{}"),
        ),
        (lambda: client.import_status("a/b", "1 2"), Request("GET", "/audience/sections/a%2Fb/imports/1%202", READ)),
        (lambda: client.sections(), Request("GET", "/audience/sections", READ)),
        (lambda: client.keyspaces(), Request("GET", "/audience/keyspaces", READ)),
        (lambda: client.attributes("a/b"), Request("GET", "/audience/sections/a%2Fb/attributes", READ)),
        (lambda: client.topics("a/b"), Request("GET", "/v2/audience/sections/a%2Fb/topics", READ)),
    ],
)
def test_requests(request_: Callable[[], Request], expected: Request) -> None:
    """Method, path and headers as the platform documents them: the status of an import is read without /v2."""
    assert request_() == expected


def test_a_token_is_asked_for_by_client_credentials() -> None:
    """Two secrets and the grant; nothing else of the account goes there, and neither may be empty."""
    secrets = {"client_id": "i", "client_secret": "s", "api_key": "other"}
    asked = client.ask_token(secrets)
    assert (asked.method, asked.path, asked.headers) == ("POST", "/oauth/token", JSON)
    assert msgspec.json.decode(asked.body or b"") == {
        "grant_type": "client_credentials",
        "client_id": "i",
        "client_secret": "s",
    }
    for name in ("client_id", "client_secret"):
        with pytest.raises(ValueError, match="client_secret are not empty"):
            client.ask_token(secrets | {name: ""})


def test_when_a_token_has_ended() -> None:
    """The platform says so in two ways."""
    ended = [status for status in range(100, 600) if client.token_ended(Answer(status, {}, b""))]
    assert ended == [401, 403]


def test_the_probe_reads_an_import_that_nobody_has() -> None:
    """Another one each time, so that no answer is remembered on the way."""
    first, second = client.probe(1), client.probe(2)
    name = first.path.split("/")[3]
    assert name.startswith("fanline-check-")
    assert first == client.import_status(name, name)
    assert first != second


@pytest.mark.parametrize("part", ["", ".", "..", "../x", "x/..", "a/./b", "a\\..\\b"])
def test_a_part_that_climbs_is_refused(part: str) -> None:
    """Encoding cannot make dots safe, because servers and proxies take %2E for a dot: no request is built."""
    calls: list[Any] = [client.attributes, client.topics, lambda x: client.import_status(SECTION, x)]
    calls += [lambda x: client.import_status(x, "1"), lambda x: client.create_import(x, b"", api_version=2)]
    for call in calls:
        with pytest.raises(ValueError, match="part of the path"):
            call(part)
