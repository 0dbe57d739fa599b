"""An account's token: asked for once, used until shortly before its end, never in a loop of refusals."""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from handlers.apsis import client
from handlers.apsis.sandbox import ApsisSandbox, Rules
from handlers.base import Answer, Failure, FailureKind, Reply, Request
from service.config.secrets import Secret, SecretError
from service.transport.access import send_once
from service.transport.tokens import AccountTokens, NoTokenError, TokenRefusedError
from tests.support.clock import FakeClock

REFUSED = Answer(401, {}, b'{"detail": "private"}')


class Bench:
    """Tokens of an imitated Apsis One; ``script`` answers first. Time goes on by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **rules: Any) -> None:
        monkeypatch.setenv("FANLINE_TEST_ID", "client")
        monkeypatch.setenv("FANLINE_TEST_SECRET", "secret-of-the-client")
        self.platform = ApsisSandbox({"main": Rules(**rules)})
        self.clock = FakeClock()
        self.script: list[Reply] = []
        self.asked = 0
        self.kept: list[str] = []
        secrets = {"client_id": Secret(env="FANLINE_TEST_ID"), "client_secret": Secret(env="FANLINE_TEST_SECRET")}
        self.tokens = AccountTokens(
            "main", client.TOKENS, secrets, send=self.send, clock=self.clock, keep_secret=self.kept.append
        )

    async def send(self, request: Request) -> Reply:
        self.asked += 1
        await asyncio.sleep(0)
        if self.script:
            return self.script.pop(0)
        now = self.clock.wall_ms() / 1000
        subject = self.platform.subject(request.method, request.path)
        given = self.platform.answer("main", request.method, subject, {}, request.body or b"", now)
        return Answer(given.status, given.headers, given.body)

    async def headers(self) -> Mapping[str, str]:
        return await self.tokens.headers()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


async def test_many_who_wait_get_one_token(bench: Bench) -> None:
    """Asked for once, and known to whatever masks what is printed, as the secrets are."""
    found = await asyncio.gather(*(bench.headers() for _ in range(20)))
    assert bench.asked == 1
    assert len({one["Authorization"] for one in found}) == 1
    assert set(bench.kept) == {"client", "secret-of-the-client", found[0]["Authorization"].removeprefix("Bearer ")}


async def test_a_token_is_renewed_before_its_end(bench: Bench) -> None:
    """A day lasts a day but for a minute."""
    first = await bench.headers()
    bench.clock.advance(86_400 - 61)
    assert await bench.headers() == first
    bench.clock.advance(2)
    assert await bench.headers() != first
    assert bench.asked == 2


async def test_its_own_word_counts_for_the_end(bench: Bench) -> None:
    """The JWT's ``exp``, whatever ``expires_in`` says."""
    answer = {"access_token": client_jwt(bench.clock.wall_ms() // 1000 + 100), "expires_in": 86_400}
    bench.script = [Answer(200, {}, msgspec.json.encode(answer))]
    first = await bench.headers()
    bench.clock.advance(91)
    assert await bench.headers() != first


async def test_a_token_that_the_platform_takes_for_ended_is_renewed_once(bench: Bench) -> None:
    """A second refusal right behind it asks for no third token: ten calls a minute are all that there are."""
    first = await bench.headers()
    bench.clock.advance(10)
    bench.tokens.dismiss(first)
    second = await bench.headers()
    assert second != first
    bench.tokens.dismiss(first)  # of a call that was under way: nothing is thrown away
    assert await bench.headers() == second
    bench.tokens.dismiss(second)
    with pytest.raises(NoTokenError) as caught:
        await bench.headers()
    assert bench.asked == 2
    bench.clock.advance(caught.value.wait_s)
    await bench.headers()


class Refusing:
    """A platform that answers 403 to every call, whatever its token; ``sent`` counts them."""

    def __init__(self, *answers: Reply) -> None:
        self.sent = 0
        self._answers = list(answers)

    async def send(self, request: Request, credentials: Mapping[str, str]) -> Reply:
        self.sent += 1
        return self._answers.pop(0) if self._answers else Answer(403, {}, b"")


async def test_whoever_refuses_new_tokens_refuses_the_call(bench: Bench) -> None:
    """Also one whose token is always a moment old: it is not taken for an outage for ever."""
    platform, request = Refusing(), Request("GET", "/")
    with pytest.raises(NoTokenError) as caught:
        await send_once(platform, bench.tokens, request)
    bench.clock.advance(caught.value.wait_s)
    for _ in range(3):
        reply = await send_once(platform, bench.tokens, request)
        assert isinstance(reply, Answer)
        assert reply.status == 403
        bench.clock.advance(10)
    assert platform.sent == bench.asked == 4


async def test_a_token_that_is_taken_once_is_good(bench: Bench) -> None:
    """What is refused afterwards is renewed, as the first one was; also where it was good in the place of another."""
    refused, good = Answer(401, {}, b""), Answer(200, {}, b"")
    platform, request = Refusing(refused, good, refused, good, refused, good), Request("GET", "/")
    with pytest.raises(NoTokenError):
        await send_once(platform, bench.tokens, request)
    for _ in range(3):
        bench.clock.advance(10)
        assert await send_once(platform, bench.tokens, request) == good
    assert (platform.sent, bench.asked) == (6, 4)


async def test_an_outage_leaves_the_old_token_in_use(bench: Bench) -> None:
    """Until its very end; then each call is told why, and the platform is asked ever more rarely."""
    first = await bench.headers()
    bench.clock.advance(86_400 - 30)
    bench.script = [Failure(FailureKind.NOT_SENT, "refused")] * 100
    assert await bench.headers() == first
    bench.clock.advance(31)
    with pytest.raises(NoTokenError, match="account main: no token: refused"):
        await bench.headers()
    asked = bench.asked
    for _ in range(600):
        bench.clock.advance(1)
        with pytest.raises(NoTokenError):
            await bench.headers()
    assert 2 <= bench.asked - asked <= 8


async def test_secrets_that_are_refused(bench: Bench) -> None:
    """Named by their keys; nothing of the platform's body is told."""
    bench.script = [REFUSED]
    with pytest.raises(TokenRefusedError) as caught:
        await bench.headers()
    assert str(caught.value) == "account main: no token: the platform refuses our client_id and client_secret (401)"
    bench.clock.advance(1)
    with pytest.raises(TokenRefusedError):
        await bench.headers()
    assert bench.asked == 1
    bench.clock.advance(6)
    await bench.headers()


async def test_a_changed_secret_file_is_tried_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Whoever mends the secret does not wait for a pause to end."""
    bench = Bench(monkeypatch, clients={"client": "right"})
    file = tmp_path / "secret"
    file.write_text("wrong")
    secrets = {"client_id": Secret(env="FANLINE_TEST_ID"), "client_secret": Secret(file=file)}
    bench.tokens = AccountTokens(
        "main", client.TOKENS, secrets, send=bench.send, clock=bench.clock, keep_secret=bench.kept.append
    )
    with pytest.raises(TokenRefusedError):
        await bench.headers()
    file.write_text("right\n")
    await bench.headers()


async def test_a_platform_that_asks_for_patience_gets_it(bench: Bench) -> None:
    """``Retry-After``, or a minute."""
    bench.script = [Answer(429, {"retry-after": "20"}, b"")]
    with pytest.raises(NoTokenError):
        await bench.headers()
    bench.clock.advance(19)
    with pytest.raises(NoTokenError):
        await bench.headers()
    assert bench.asked == 1
    bench.clock.advance(1.1)
    await bench.headers()


@pytest.mark.parametrize("body", [b"", b"{}", b'{"access_token": ""}', b'{"access_token": "a b"}'])
async def test_an_answer_without_a_token(bench: Bench, body: bytes) -> None:
    """Is no token, whatever its status."""
    bench.script = [Answer(200, {}, body)]
    with pytest.raises(NoTokenError, match="without one"):
        await bench.headers()


async def test_a_secret_that_cannot_be_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is told by its source, each time; nothing is sent."""
    monkeypatch.delenv("FANLINE_TEST_SECRET")
    for _ in range(2):
        with pytest.raises(SecretError, match="FANLINE_TEST_SECRET"):
            await bench.headers()
    assert bench.asked == 0


def client_jwt(ends_at: int) -> str:
    parts = [b"{}", msgspec.json.encode({"exp": ends_at}), b"x"]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
