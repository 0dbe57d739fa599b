"""Imports whose create carries the rows, from the disk to Copernica's sandbox."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from contracts.journal import DeliveryState
from handlers.copernica.imports import CopernicaImportsConfig, CopernicaImportsHandler
from handlers.copernica.sandbox import CopernicaSandbox
from handlers.sandbox.prescriptions import Match, Prescription, Step
from handlers.sandbox.server import SandboxServer
from service.clock import SystemClock
from service.config.expressions import compile_row_expression
from service.delivery.limiter import AccountLimiter, LimiterPolicy
from service.transport.account import Account
from service.transport.http import HttpTransport, TransportPolicy
from service.uploading.sending import FileSender
from service.uploading.ways import AccountWay
from tests.support.putting import PuttingBench, compiled, putting

TOKEN = "sandbox-token"


class Secrets:
    """A token that was exchanged."""

    def __init__(self, token: str) -> None:
        self._headers = {"Authorization": f"Bearer {token}"}

    def read(self) -> dict[str, str]:
        return self._headers

    def changed(self) -> bool:
        return False


def handler(**keys: Any) -> CopernicaImportsHandler:
    fields = {"contact": "data.contact_id", "name": "data.attributes.name"}
    given = {"database": 1, "fields": fields, "key_fields": ["contact"], "poll": {"every": 0.1, "deadline": 60.0}}
    options = msgspec.convert({**given, **keys}, CopernicaImportsConfig)
    return CopernicaImportsHandler(
        options, compiled, lambda text, key: compile_row_expression(text, place=key), api_version=4
    )


@asynccontextmanager
async def lane(
    made: CopernicaImportsHandler, prepare: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[tuple[CopernicaSandbox, SandboxServer, PuttingBench]]:
    platform = CopernicaSandbox()
    async with SandboxServer(copernica=platform) as server:
        base = server.base_url("copernica", "main")
        policy = TransportPolicy(base, connect_s=1.0, total_s=0.5, max_connections=4)
        given = platform.answer("main", "POST", platform.subject("POST", "/token"), {}, b"access_token=a", 0.0)
        async with HttpTransport(policy, None) as transport:
            account = Account(
                "main",
                transport=transport,
                limiter=AccountLimiter(LimiterPolicy(requests_per_second=None)),
                credentials=Secrets(given.body.decode().strip('"')),
                clock=SystemClock(),
                prepare=prepare,
            )
            account.open()
            way = AccountWay(FileSender(policy, None), base)
            async with putting(PuttingBench(account, way, made)) as bench:
                yield platform, server, bench


@pytest.mark.parametrize("form", ["array", "json", "csv"])
async def test_rows_go_with_the_create_and_are_followed_to_their_end(form: str) -> None:
    """From the disk, whatever the rows' form; the import's number is kept once the platform has told it."""
    async with lane(handler(source={"as": form})) as (platform, _, bench):
        bench.deliver("a", 'b"\n')
        await bench.until(bench.is_over)
        assert set(bench.outcomes().values()) == {"delivered"}
        assert [profile["contact"] for profile in platform.profiles("main")] == ["a", 'b"\n']
        [intended, uploaded, removed] = bench.states()
        assert intended == (DeliveryState.INTENDED, None)
        assert uploaded is not None
        assert uploaded[0] is DeliveryState.UPLOADED
        assert removed is None


async def test_a_token_is_had_before_the_entry_is_written() -> None:
    """It can take longer than may lie between the entry and its call."""
    before: list[int] = []

    async def prepare() -> None:
        before.append(len(benches[0].states()))

    benches: list[PuttingBench] = []
    async with lane(handler(), prepare) as (_, _, bench):
        benches.append(bench)
        bench.deliver("a")
        await bench.until(bench.is_over)
    assert before == [0]


@pytest.mark.parametrize("step", [Step(reset="after"), Step(status=500, effect=True), Step(status=302, effect=True)])
async def test_an_add_without_an_answer_is_never_repeated(step: Step) -> None:
    """Its events are in doubt, and no profile is there twice."""
    async with lane(handler(action="add", key_fields=[])) as (platform, server, bench):
        server.prescriptions.add([Prescription([step], Match(kind="create"))])
        bench.deliver("a", "b")
        await bench.until(lambda: len(bench.settled) == 2)
        assert set(bench.outcomes().values()) == {"in_doubt/interrupted"}
        assert len(platform.profiles("main")) == 2


async def test_an_add_without_a_number_is_never_repeated_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lane holds, its events are in doubt, and no resuming sends them again when their slot is free."""
    monkeypatch.setattr("service.imports.carrying._LAPSE_LOOK_S", 0.05)
    async with lane(handler(action="add", key_fields=[])) as (platform, _, bench):
        platform.configure("main", {"id_in": ""})
        run = bench.deliver("a", "b")
        await bench.until(lambda: bench.dispatcher.hold is not None and len(bench.settled) == 2)
        run.lapses_at_ms = 0
        bench.dispatcher.resume()
        await bench.until(bench.is_over)
        assert set(bench.outcomes().values()) == {"in_doubt/interrupted"}
        assert len(platform.profiles("main")) == 2


async def test_an_update_without_an_answer_is_repeated() -> None:
    """With key fields it changes nothing to do it twice."""
    async with lane(handler()) as (platform, server, bench):
        server.prescriptions.add([Prescription([Step(reset="after"), 500], Match(kind="create"))])
        bench.deliver("a", "b")
        await bench.until(bench.is_over)
        assert set(bench.outcomes().values()) == {"delivered"}
        assert len(platform.profiles("main")) == 2


async def test_a_success_without_a_number_is_delivered_where_the_lane_says_so() -> None:
    """Nobody can ask about it."""
    async with lane(handler(without_id="delivered")) as (platform, _, bench):
        platform.configure("main", {"id_in": ""})
        bench.deliver("a")
        await bench.until(bench.is_over)
        assert bench.outcomes() == {"a": "delivered"}


async def test_a_token_that_is_refused_holds_the_account() -> None:
    """A 400 says so, by its message; nothing is a row's fault."""
    async with lane(handler()) as (platform, _, bench):
        platform.configure("main", {"generation": 7})
        bench.deliver("a")
        await bench.until(lambda: bench.account.refused is not None)
        assert bench.ended == []


async def test_a_refused_import_is_divided_until_the_row_at_fault_is_alone() -> None:
    """By the platform's message it is nobody else's."""
    async with lane(handler()) as (platform, server, bench):
        refused = Step(status=400, body='{"error":{"message":"Invalid value"}}')
        server.prescriptions.add([Prescription([refused, None, refused], Match(kind="create"))])
        bench.deliver("a", "b")
        await bench.until(bench.is_over)
        assert bench.outcomes() == {"a": "delivered", "b": "rejected/refused"}
        assert len(platform.profiles("main")) == 1
