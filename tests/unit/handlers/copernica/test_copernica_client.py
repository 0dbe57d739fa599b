"""Copernica's calls: what is meant is what is asked."""

import re
from urllib.parse import parse_qs

import pytest

from handlers.base import Answer, Request
from handlers.copernica import client

READ = (("Accept", "application/json"),)


@pytest.mark.parametrize("version", [3, 4])
def test_requests(version: int) -> None:
    """Created where there are many, read where there is one: the platform's own two words."""
    headers = (("Content-Type", "application/json"), *READ)
    assert client.create_import(b"{}", version) == Request("POST", f"/v{version}/imports", headers, b"{}")
    assert client.import_status("17", version) == Request("GET", f"/v{version}/import/17", READ)
    longest = "9" * 18
    assert client.import_status(longest, version).path == f"/v{version}/import/{longest}"


@pytest.mark.parametrize("import_id", ["", "1/2", "..", "x", "-1", "²", "٢", "9" * 19])
def test_what_is_no_id_is_not_asked_about(import_id: str) -> None:
    """An import's id is a number; nothing else gets into the path."""
    with pytest.raises(ValueError, match="is a number"):
        client.import_status(import_id, 4)


def test_a_token_is_exchanged() -> None:
    """The account's access token goes into a form, whatever letters it is made of; the rest of the account does not."""
    asked = client.exchange_token({"access_token": "a&b=c+d é", "api_key": "other"})
    assert (asked.method, asked.path) == ("POST", "/")
    assert asked.headers == (("Content-Type", "application/x-www-form-urlencoded"),)
    assert parse_qs((asked.body or b"").decode("ascii")) == {"access_token": ["a&b=c+d é"]}


@pytest.mark.parametrize("secret", ["", " x", "x\n"])
def test_a_token_that_was_read_wrongly_is_not_exchanged(secret: str) -> None:
    """Empty, or with a line end from its file: said before the platform is asked."""
    with pytest.raises(ValueError, match="an access token is not empty"):
        client.exchange_token({"access_token": secret})


def test_when_a_token_has_ended() -> None:
    """Refused as such, by status or by its words; not whenever something is wrong."""
    said = b'{"error": {"message": "Invalid access token"}}'
    assert client.token_ended(Answer(401, {}, b""))
    assert client.token_ended(Answer(400, {}, said))
    assert not client.token_ended(Answer(400, {}, b"{}"))
    assert not client.token_ended(Answer(200, {}, said))


def test_the_probe_reads_an_import_that_hardly_exists() -> None:
    """A number far beyond those that are given out, another one each time; in the version that the account has."""
    probes = {client.probe(4).path for _ in range(4)}
    assert len(probes) > 1
    for path in probes:
        found = re.fullmatch("/v4/import/(2[0-9]{9})", path)
        assert found is not None
