"""The sandbox over the wire, with a real client on loopback."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox import (
    Call,
    Fault,
    Faults,
    Match,
    Mode,
    Prescription,
    SandboxClient,
    SandboxServer,
    Step,
    serve,
)
from handlers.sandbox.client import SandboxError
from tests.support.patience import patiently

KEY = {"X-Key": "secret-key"}


class Caller:
    """Makes NP6 calls on an account, without following or repeating anything."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self._session = session
        self._base_url = base_url

    async def join(self, target: str = "T1", segment: int = 5, **given: Any) -> tuple[int, bytes]:
        """Status and body of a join. Raises what aiohttp raises."""
        url = f"{self._base_url}/targets/{target}/segments/{segment}"
        given = {"headers": KEY, "allow_redirects": False, **given}
        async with self._session.post(url, **given) as answer:
            self.headers = answer.headers
            return answer.status, await answer.read()


class Stage:
    """A sandbox, its client and a caller."""

    def __init__(self, server: SandboxServer, client: SandboxClient, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.client = client
        self.session = session
        self.main = self.on("main")

    def on(self, account: str) -> Caller:
        return Caller(self.session, self.server.base_url("np6", account))


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with (
        SandboxServer(np6=Np6Sandbox()) as server,
        SandboxClient(server.url) as client,
        aiohttp.ClientSession() as session,
    ):
        yield Stage(server, client, session)


async def test_prescribed_statuses_and_the_record(stage: Stage) -> None:
    """500, 500, 204 as prescribed, then the platform's own 409; the record tells it all, but not the key."""
    await stage.client.prescribe([500, 500, 204], target="T1")
    assert [(await stage.main.join())[0] for _ in range(4)] == [500, 500, 204, 409]
    calls = await stage.client.calls()
    assert [(call.number, call.status, call.effect, call.deviation) for call in calls] == [
        (1, 500, False, "prescribed"),
        (2, 500, False, "prescribed"),
        (3, 204, True, "prescribed"),
        (4, 409, False, None),
    ]
    first = calls[0]
    assert (first.account, first.kind, first.target, first.entity, first.key) == (
        "main",
        "join",
        "T1",
        "5",
        "right",
    )
    assert all(
        earlier.ended_s is not None and earlier.ended_s <= later.started_s
        for earlier, later in itertools.pairwise(calls)
    )
    assert calls == stage.server.log.calls()
    assert "secret-key" not in str(await stage.client.entries())


async def test_headers_of_a_prescribed_answer(stage: Stage) -> None:
    """A 429 brings the headers that were prescribed, and every answer an id for support."""
    await stage.client.prescribe([Step(status=429, headers={"Retry-After": "3"}), None], target="T1")
    assert (await stage.main.join())[0] == 429
    assert stage.main.headers["Retry-After"] == "3"
    assert stage.main.headers["x-request-id"]
    assert (await stage.main.join())[0] == 204
    assert stage.main.headers["x-request-id"]


@pytest.mark.parametrize(("when", "effect"), [("before", False), ("after", True)])
async def test_reset_before_and_after_taking_effect(stage: Stage, when: Any, effect: bool) -> None:
    """The client sees the same reset; only the platform's state and the record know the difference."""
    await stage.client.prescribe([Step(reset=when)], target="T1")
    with pytest.raises(aiohttp.ClientOSError, match="reset"):
        await stage.main.join()
    (call,) = await stage.client.calls()
    assert (call.status, call.effect, call.client_gone) == (None, effect, False)
    held = (await stage.client.state(platform="np6", account="main"))["platforms"]["np6"]["segments"]
    assert held == ({"T1": [5]} if effect else {})


async def test_garbage_redirect_and_a_body_of_ones_own(stage: Stage) -> None:
    """Bodies and headers go out as prescribed."""
    redirect = Step(status=302, headers={"Location": "http://127.0.0.1:9/"})
    await stage.client.prescribe([Step(status=200, body="<garbage"), redirect, Step(status=400, body="x")])
    assert await stage.main.join() == (200, b"<garbage")
    assert (await stage.main.join())[0] == 302
    assert stage.main.headers["Location"] == "http://127.0.0.1:9/"
    assert await stage.main.join() == (400, b"x")


async def test_a_body_that_breaks_off(stage: Stage) -> None:
    """Less comes than was announced."""
    await stage.client.prescribe([Step(status=500, body="half", cut=True)])
    with pytest.raises(aiohttp.ClientPayloadError):
        await stage.main.join()


async def test_a_body_without_an_end(stage: Stage) -> None:
    """The body goes on until the client has had enough; the sandbox then goes on with others."""
    await stage.client.prescribe([Step(endless=True)], target="T1")
    url = stage.server.base_url("np6", "main") + "/targets/T1/segments/5"
    async with stage.session.post(url, headers=KEY) as answer:
        assert answer.status == 200
        assert len(await answer.content.readexactly(1_000_000)) == 1_000_000
        answer.close()
    assert (await stage.main.join("T2"))[0] == 204


async def test_slow_before_and_after_taking_effect(stage: Stage) -> None:
    """The answer takes its time, and other calls do not wait for it."""
    await stage.client.prescribe([Step(delay_s=0.1, delay_after_s=0.9)], target="T1")
    started = time.monotonic()
    slow = asyncio.create_task(stage.main.join("T1"))
    await stage.client.wait_until(lambda calls: len(calls) == 1)
    assert (await stage.on("main").join("T2"))[0] == 204
    assert not slow.done()
    assert (await slow)[0] == 204
    assert time.monotonic() - started >= 1


async def test_a_call_that_runs_when_its_client_dies(stage: Stage) -> None:
    """The record shows it running; it takes effect all the same, and its end says that nobody was there."""
    await stage.client.prescribe([Step(delay_s=1)], target="T1")
    async with aiohttp.ClientSession() as session:
        dying = asyncio.create_task(Caller(session, stage.server.base_url("np6", "main")).join())
        (running,) = await stage.client.wait_until(lambda calls: len(calls) == 1)
        assert running.ended_s is None
        dying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dying
    (ended,) = await stage.client.wait_until(lambda calls: calls[0].ended_s is not None)
    assert (ended.effect, ended.client_gone) == (True, True)


async def test_a_call_that_hangs_ends_with_its_client(stage: Stage) -> None:
    """No answer comes; when the client gives up the record says so."""
    await stage.client.prescribe([Step(hang=True)], target="T1")
    with pytest.raises(TimeoutError):
        await stage.main.join(timeout=aiohttp.ClientTimeout(total=0.5))
    (call,) = await stage.client.wait_until(lambda calls: bool(calls) and calls[0].ended_s is not None)
    assert (call.status, call.effect, call.client_gone) == (None, False, True)


async def test_the_server_stops_while_calls_hang() -> None:
    """Leaving the context does not wait for them."""
    started = time.monotonic()
    async with SandboxServer(np6=Np6Sandbox()) as server, SandboxClient(server.url) as client:
        await client.mode(Mode.HANG)
        async with aiohttp.ClientSession() as session:
            hanging = asyncio.create_task(Caller(session, server.base_url("np6", "a")).join())
            await client.wait_until(lambda calls: len(calls) == 1)
            await server.__aexit__(None, None, None)
            with pytest.raises(aiohttp.ClientError):
                await hanging
    assert server.log.running == 0
    assert server.log.calls()[0].ended_s is not None
    assert time.monotonic() - started < 5


async def test_an_account_that_is_dead(stage: Stage) -> None:
    """One account answers 503 with its headers, the other goes on; then it is up again."""
    await stage.client.mode(Mode.UNAVAILABLE, account="main", headers={"Retry-After": "9"})
    assert (await stage.main.join())[0] == 503
    assert stage.main.headers["Retry-After"] == "9"
    assert (await stage.on("other").join())[0] == 204
    assert [call.deviation for call in await stage.client.calls()] == ["outage", None]
    await stage.client.mode(Mode.UP, account="main")
    assert (await stage.main.join())[0] == 204


async def test_an_account_that_resets(stage: Stage) -> None:
    """Every connection breaks and nothing takes effect."""
    await stage.client.mode("reset", account="main", for_s=60)
    with pytest.raises(aiohttp.ClientOSError):
        await stage.main.join()
    assert not (await stage.client.calls())[0].effect


async def test_nobody_listens_for_a_while(stage: Stage) -> None:
    """New connections are refused and open ones closed; then the server is back on the same port."""
    assert (await stage.main.join())[0] == 204
    await stage.client.mode(Mode.REFUSE, for_s=1)
    refused = await _until(stage, lambda error: isinstance(error, aiohttp.ClientConnectorError))
    assert refused is not None
    assert await _until(stage, lambda error: error is None) is None


async def _until(stage: Stage, reached: Any) -> Exception | None:
    """Calls on new connections until one ends as wanted: with an error or, None, without."""
    deadline = time.monotonic() + patiently(5)
    while time.monotonic() < deadline:
        error: Exception | None = None
        async with aiohttp.ClientSession() as session:
            try:
                await Caller(session, stage.server.base_url("np6", "main")).join("T9")
            except aiohttp.ClientError as caught:
                error = caught
        if reached(error):
            return error
        await asyncio.sleep(0.01)
    raise TimeoutError("not reached")


async def test_faults_by_chance_are_recorded(stage: Stage) -> None:
    """What chance did to a call stands in its record; without faults all is well again."""
    await stage.client.faults(Faults(rates={Fault.THROTTLED: 1.0}))
    assert (await stage.main.join())[0] == 429
    await stage.client.faults(None)
    assert (await stage.main.join())[0] == 204
    assert [call.deviation for call in await stage.client.calls()] == ["fault:429", None]


async def test_accounts_by_path(stage: Stage) -> None:
    """Accounts are apart, any name will do, and what is no account is a 404 that is not recorded."""
    assert (await stage.on("a b/c").join())[0] == 204
    assert (await stage.on("other").join())[0] == 204
    assert [call.account for call in await stage.client.calls()] == ["a b/c", "other"]
    for path in ("/", "/np6", "/np6/x", "/apsis/x/y", "//x/y"):
        async with stage.session.get(stage.server.url + path) as answer:
            assert answer.status == 404
    assert len(await stage.client.calls()) == 2


async def test_configured_over_http(stage: Stage) -> None:
    """Rules of an account are changed while it runs."""
    await stage.client.configure("np6", "main", unknown_targets=["T1"], keys=["other-key"])
    assert (await stage.main.join())[0] == 401
    assert (await stage.main.join(headers={"X-Key": "other-key"}))[0] == 404
    assert [call.key for call in await stage.client.calls()] == ["wrong", "right"]


async def test_reset_forgets_everything_but_rules(stage: Stage) -> None:
    """After a reset the sandbox is as at the start, and the record begins anew."""
    await stage.client.configure("np6", "main", unknown_targets=["X"])
    await stage.client.prescribe([500] * 9)
    await stage.client.mode(Mode.UNAVAILABLE)
    await stage.main.join()
    await stage.client.reset()
    assert (await stage.main.join())[0] == 204
    assert (await stage.main.join("X"))[0] == 404
    assert [call.number for call in await stage.client.calls()] == [1, 2]
    state = await stage.client.state()
    assert (state["calls"], state["running"], state["prescriptions"], state["outages"]) == (2, 0, 0, [])


async def test_many_prescriptions_at_once(stage: Stage) -> None:
    """A test can prescribe for every event beforehand."""
    await stage.client.prescribe_all([Prescription([500], Match(target=f"T{n}")) for n in range(2_000)])
    assert (await stage.client.state())["prescriptions"] == 2_000
    assert (await stage.main.join("T1999"))[0] == 500


@pytest.mark.parametrize(
    ("method", "name", "body", "status"),
    [
        ("POST", "prescribe", b'{"answers": [{"stauts": 500}]}', 400),
        ("POST", "prescribe", b"nonsense", 400),
        ("POST", "mode", b'{"mode": "refuse"}', 400),
        ("POST", "mode", b'{"mode": "asleep"}', 400),
        ("POST", "faults", b'{"rates": {"500": 2}}', 400),
        ("POST", "configure", b'{"platform": "apsis", "account": "a", "rules": {}}', 400),
        ("POST", "configure", b'{"platform": "np6", "account": "a", "rules": {"x": 1}}', 400),
        ("GET", "calls?after=x", b"", 400),
        ("GET", "reset", b"", 405),
        ("POST", "calls", b"", 405),
        ("GET", "elsewhere", b"", 404),
    ],
)
async def test_faulty_requests_are_refused(stage: Stage, method: str, name: str, body: bytes, status: int) -> None:
    """A test that asks for what does not exist is told so."""
    url = f"{stage.server.url}/__sandbox__/{name}"
    async with stage.session.request(method, url, data=body) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]


async def test_the_client_raises_what_the_sandbox_says(stage: Stage) -> None:
    """The text is the sandbox's own."""
    with pytest.raises(SandboxError, match="no such platform"):
        await stage.client.configure("apsis", "main", keys=[])


async def test_every_call_of_a_crowd_is_recorded(stage: Stage) -> None:
    """Numbers have no gaps, each call has a start and an end, and each effect is in the state."""

    async def call(n: int) -> None:
        await stage.main.join(f"T{n}", 5)

    await asyncio.gather(*(call(n) for n in range(300)))
    calls = await stage.client.calls()
    assert [call.number for call in calls] == list(range(1, 301))
    assert all(call.ended_s is not None and call.effect for call in calls)
    assert len(await stage.client.entries()) == 600
    assert (await stage.client.state())["platforms"]["np6"]["accounts"]["main"]["assignments"] == 300


async def test_wait_until_gives_up() -> None:
    """A condition that is never reached is an error that says how far it came."""
    async with SandboxServer(np6=Np6Sandbox()) as server, SandboxClient(server.url) as client:
        with pytest.raises(TimeoutError, match="0 calls"):
            await client.wait_until(lambda calls: len(calls) == 1, within_s=0.05)


async def test_serve_until_cancelled() -> None:
    """The command's way: serves once ready, ends when cancelled, and the port is free again."""
    ready: asyncio.Queue[SandboxServer] = asyncio.Queue()
    task = asyncio.create_task(serve("127.0.0.1:0", ready=ready.put_nowait, np6=Np6Sandbox()))
    server = await ready.get()
    async with SandboxClient(server.url) as client:
        assert (await client.state())["calls"] == 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with SandboxServer(listen=server.url.removeprefix("http://"), np6=Np6Sandbox()) as again:
        assert again.url == server.url


async def test_without_recording(stage: Stage) -> None:
    """For benchmarks calls are answered and counted, and leave no record."""
    async with SandboxServer(np6=Np6Sandbox(remember=False), record=False) as server:
        caller = Caller(stage.session, server.base_url("np6", "main"))
        assert [(await caller.join())[0] for _ in range(2)] == [204, 204]
        assert (server.log.count, server.log.calls()) == (2, [])


@pytest.mark.parametrize("listen", ["127.0.0.1", "127.0.0.1:x", ""])
def test_an_address_that_is_none(listen: str) -> None:
    """Said at once, not at the first request."""
    with pytest.raises(ValueError, match="host:port"):
        SandboxServer(listen=listen)


def test_a_call_is_comparable() -> None:
    """Tests compare calls as values."""
    given = (1, "np6", "a", "POST", "join", "T", "5")
    assert Call(*given, "right", {}, None, 0.0) == Call(*given, "right", {}, None, 0.0)  # type: ignore[arg-type]
