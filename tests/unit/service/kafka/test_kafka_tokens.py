"""Tokens for OAUTHBEARER: a real token server on loopback, and time that the test moves."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiokafka.errors import KafkaError

from service.config.secrets import Secret
from service.kafka.tokens import ClientCredentials, TokenError
from tests.support.fakes import FakeTime
from tests.support.tls import make_impostors
from tests.support.tokens import TokenServer

SECRET = "s3cret:of the/client+that=nobody&may%read"


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer({"fan:line": SECRET}) as server:
        yield server


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    return file


def provider(server: TokenServer, secret: Path, time: FakeTime, **more: Any) -> ClientCredentials:
    return ClientCredentials(server.url, Secret(text="fan:line"), Secret(file=secret), clock=time, **more)


async def refused(tokens: ClientCredentials) -> str:
    """What is said when there is no token; never the secret, nor what the server says."""
    with pytest.raises(TokenError) as caught:
        await tokens.token()
    assert isinstance(caught.value, KafkaError)  # Kafka's client goes on with its own, and dies of others
    told = str(caught.value)
    assert SECRET not in told
    assert "echo" not in told
    return told


async def test_a_token_is_asked_for_as_the_standard_says(server: TokenServer, secret_file: Path) -> None:
    """One POST with grant_type, and name and secret form-encoded in the Basic header."""
    token = await provider(server, secret_file, FakeTime()).token()
    assert token.count(".") == 2
    assert server.forms == [{"grant_type": "client_credentials"}]
    assert server.asked == ["fan:line"]


async def test_many_who_want_one_get_the_same(server: TokenServer, secret_file: Path) -> None:
    """A client opens several connections at once: the server is asked once."""
    tokens = provider(server, secret_file, FakeTime())
    got = await asyncio.gather(*(tokens.token() for _ in range(20)))
    assert len(set(got)) == 1
    assert len(server.asked) == 1


@pytest.mark.parametrize(("life_s", "kept_s"), [(10, 7.9), (3_600, 3_539)])
async def test_it_is_renewed_shortly_before_its_end(
    server: TokenServer, secret_file: Path, life_s: float, kept_s: float
) -> None:
    """By a fifth of its life, at most by a minute."""
    server.life_s, time = life_s, FakeTime()
    tokens = provider(server, secret_file, time)
    await tokens.token()
    time.advance(kept_s)
    await tokens.token()
    assert len(server.asked) == 1
    time.advance(2)
    await tokens.token()
    assert len(server.asked) == 2


async def test_without_a_life_it_is_used_for_a_minute(server: TokenServer, secret_file: Path) -> None:
    """expires_in is only recommended; a number in quotes is one too."""
    time = FakeTime()
    tokens = provider(server, secret_file, time)
    server.script = [
        web.json_response({"access_token": "a"}),
        web.json_response({"access_token": "b", "expires_in": "9"}),
    ]
    assert await tokens.token() == "a"
    time.advance(47)
    assert await tokens.token() == "a"
    time.advance(2)
    assert await tokens.token() == "b"


async def test_while_it_lives_a_failed_renewal_hurts_nobody(server: TokenServer, secret_file: Path) -> None:
    """The old token serves until its end; the failure is told only then."""
    time = FakeTime()
    tokens = provider(server, secret_file, time)
    first = await tokens.token()
    server.script = [web.Response(status=500) for _ in range(9)]
    time.advance(server.life_s - 1)
    assert await tokens.token() == first
    time.advance(2)
    assert "it fails (500)" in await refused(tokens)


async def test_a_server_in_trouble_is_not_stormed(server: TokenServer, secret_file: Path) -> None:
    """Kafka's client tries ten times a second; the server is asked after 1, 2, 4 ... 30 s."""
    time = FakeTime()
    tokens = provider(server, secret_file, time)
    server.script = [web.Response(status=503) for _ in range(5)]
    asked_at: list[float] = []
    for tenth in range(400):
        with contextlib.suppress(TokenError):
            await tokens.token()
        if len(server.asked) > len(asked_at):
            asked_at.append(tenth / 10)
        time.advance(0.1)
    assert asked_at == pytest.approx([0, 1, 3, 7, 15, 31], abs=0.11)


async def test_a_replaced_secret_is_taken_at_once(server: TokenServer, secret_file: Path) -> None:
    """Rotated while the request was under way: the file is read again on a 401, once."""
    tokens = provider(server, secret_file, FakeTime())

    async def rotate_while_asking() -> None:
        server.hang = True
        while not server.asked:  # noqa: ASYNC110 - bounded by the request's own deadline
            await asyncio.sleep(0.01)
        server.clients["fan:line"] = "another secret"
        secret_file.write_text("another secret")
        server.hang = False

    token, _ = await asyncio.gather(tokens.token(), rotate_while_asking())
    assert token
    assert len(server.asked) == 2


async def test_a_wrong_secret_is_told_with_the_server_and_the_keys(server: TokenServer, secret_file: Path) -> None:
    """Host, status and what to look at; asked once, for the file has not changed."""
    secret_file.write_text("wrong")
    told = await refused(provider(server, secret_file, FakeTime()))
    host = server.url.removeprefix("http://").removesuffix("/token")
    assert told == (
        f"no token from {host} (kafka.security.token_url): it refuses our client (401); "
        "see kafka.security.client_id and client_secret"
    )
    assert len(server.asked) == 1


async def test_a_secret_that_cannot_be_read(server: TokenServer, tmp_path: Path) -> None:
    """The file is named, and nobody is asked."""
    told = await refused(provider(server, tmp_path / "gone", FakeTime()))
    assert f"file {tmp_path / 'gone'} cannot be read" in told
    assert server.asked == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda: web.Response(status=302, headers={"location": "http://127.0.0.1:1/elsewhere"}), "redirects (302)"),
        (lambda: web.Response(status=404), "not its token endpoint (404)"),
        (lambda: web.Response(status=429), "asks for patience (429)"),
        (lambda: web.Response(text="<html>"), "its answer is no token response"),
        (lambda: web.Response(body=b'{"access_token": "\xff"}'), "its answer is no token response"),
        (lambda: web.json_response({"error": "invalid_request"}), "its answer is no token response"),
        (lambda: web.json_response({"access_token": "a", "expires_in": "soon"}), "its answer is no token response"),
        (lambda: web.json_response({"access_token": "a", "expires_in": 0}), "has expired"),
        (lambda: web.json_response({"access_token": "a", "expires_in": 1e999}), "its answer is no token response"),
        (lambda: web.json_response({"access_token": ""}), "empty, malformed"),
        (lambda: web.json_response({"access_token": "a\x01auth=Bearer b"}), "empty, malformed"),
        (lambda: web.Response(text=json.dumps({"access_token": "a" * 70_000})), "longer than 65536 bytes"),
    ],
)
async def test_answers_that_hold_no_token(server: TokenServer, secret_file: Path, answer: Any, told: str) -> None:
    """Each is named; no redirect is followed, nothing unbounded is read, nothing reaches the SASL field unchecked."""
    server.script = [answer()]
    assert told in await refused(provider(server, secret_file, FakeTime()))
    assert len(server.asked) == 1


async def test_a_server_that_does_not_answer(server: TokenServer, secret_file: Path) -> None:
    """Told within the bound."""
    server.hang = True
    told = await refused(provider(server, secret_file, FakeTime(), total_s=0.3))
    assert "no answer in time" in told
    server.hang = False


async def test_a_certificate_that_is_not_trusted(secret_file: Path, tmp_path: Path) -> None:
    """https is checked, and ca_file is what to look at."""
    impostors = make_impostors(tmp_path)
    async with TokenServer({"fan:line": SECRET}, tls=impostors.stranger) as server:
        trusting = ssl.create_default_context(cafile=str(impostors.ca))
        told = await refused(provider(server, secret_file, FakeTime(), tls=trusting))
        assert "the certificate is not trusted; kafka.security.ca_file" in told
        assert server.asked == []


async def test_whoever_is_cancelled_leaves_the_lock(server: TokenServer, secret_file: Path) -> None:
    """A connection that is given up while it waits for a token takes none from others."""
    tokens = provider(server, secret_file, FakeTime())
    server.hang = True
    given_up = asyncio.create_task(tokens.token())
    while not server.asked:  # noqa: ASYNC110 - bounded by the request's own deadline
        await asyncio.sleep(0.01)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    server.hang = False
    assert await tokens.token()
