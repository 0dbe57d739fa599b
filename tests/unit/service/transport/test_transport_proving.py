"""A platform that refuses credentials in its own way, behind an account: one call at a time finds out."""

import asyncio
from collections.abc import Mapping

import pytest

from handlers.base import Answer, Reply, Request
from handlers.copernica import client
from service.config.secrets import Secret
from service.delivery.limiter import AccountLimiter, LimiterPolicy
from service.transport.access import ParameterAccess
from service.transport.account import Account, Permit
from service.transport.proving import ProvingTransport
from tests.support.clock import FakeClock
from tests.support.fakes import FakeAccountObserver, FakeCredentials

NO_TOKEN = Answer(400, {}, b'{"error":{"message":"Invalid access token"}}')
BAD_VALUE = Answer(400, {}, b'{"error":{"message":"Invalid value"}}')


class Platform:
    """Answers each call so."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    async def send(self, request: Request, credentials: Mapping[str, str]) -> Reply:
        return self.answer


def proving(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> ProvingTransport:
    monkeypatch.setenv("FANLINE_TEST_TOKEN", "token-4711")
    access = ParameterAccess("access_token", Secret(env="FANLINE_TEST_TOKEN"), lambda _: None)
    return ProvingTransport(platform, access, client.token_ended)


async def test_refused_credentials_are_a_401_whatever_they_were_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no other refusal is."""
    platform = Platform(NO_TOKEN)
    transport = proving(platform, monkeypatch)
    statuses = []
    for platform.answer in (NO_TOKEN, BAD_VALUE, Answer(204, {}, b"")):
        reply = await transport.send(Request("GET", "/"), {})
        assert isinstance(reply, Answer)
        statuses.append(reply.status)
    assert statuses == [401, 400, 204]


async def test_a_trial_that_is_refused_lets_nobody_else_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account's other calls wait for the next one."""
    account = Account(
        "main",
        transport=proving(Platform(NO_TOKEN), monkeypatch),
        limiter=AccountLimiter(LimiterPolicy(requests_per_second=None)),
        credentials=FakeCredentials(),
        clock=FakeClock(),
    )
    account.open()
    account.refuse("credentials refused")
    account.resume()
    trial = await account.enter(lambda: True)
    assert trial is Permit.TRIAL
    waiting = asyncio.create_task(account.enter(lambda: True))
    await asyncio.sleep(0)
    await account.send(Request("GET", "/"), trial, FakeAccountObserver())
    await asyncio.sleep(0)
    assert account.refused is not None
    assert not waiting.done()
    waiting.cancel()
