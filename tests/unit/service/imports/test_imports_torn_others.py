"""Imports of Copernica and NP6 whose partitions come to two processes: their steps are others than Apsis One's, for the
rows go with the create, or the file is put before it. Whole lanes in fake time."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import msgspec
import pytest

from contracts.journal import ImportEntry
from handlers.base import Answer, Reply, Request
from handlers.copernica.sandbox import CopernicaSandbox
from handlers.imports.rows import ImportHandler
from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox.platform import Platform
from service.app import KINDS, Application
from service.config import loads
from service.imports.seams import Spooled
from tests.support.fakes import Call, FakeTime, run
from tests.support.import_world import ACCOUNT, outcomes
from tests.support.lane_world import SOURCES, journal_of
from tests.support.torn_world import FIRST, SECOND, TornWorld
from tests.support.vendor import vendor_example

LIFE_S = 120.0
ACCOUNTS = {
    "copernica": """platform: copernica, token_url: "https://api.example/token", access_token: {env: TOKEN},
      limits: {orphan_life: 2m, requests_per_second: null}""",
    "np6": "platform: np6, api_key: {env: KEY}, limits: {requests_per_second: null}",
}
LANES = {
    "copernica": """handler: copernica.imports, database: 1, key_fields: [contact], slots: 1,
      fields: {contact: data.contact_id, city: data.attributes.city}""",
    "np6": "handler: np6.imports, import: {id: 23}, columns: {contact: data.contact_id, city: data.attributes.city}",
}
CONFIGURATION = """
kafka: {bootstrap_servers: [localhost:9092], topic_prefix: p}
accounts:
  a: {base_url: "https://api.example", ACCOUNT}
lanes:
  vip: {account: a, topics: [source], guard: "off", batch: {max_events: 4, max_bytes: 1MiB, linger: 1s},
        poll: {every: 2s, deadline: 5m}, retry: {first_delay: 50ms, max_delay: 50ms, max_attempts: 3}, LANE, OPTIONS}
"""


class OthersWorld(TornWorld):
    """The lane that is there now, before another platform's sandbox. It is its own way of files."""

    def __init__(self, time: FakeTime, platform: str, options: str, unanswered: str | None) -> None:
        """``unanswered``: the first call of this kind takes effect, and gets no answer."""
        super().__init__(time)
        self._unanswered = unanswered
        text = CONFIGURATION.replace("ACCOUNT", ACCOUNTS[platform]).replace("LANE", LANES[platform])
        self.config = loads(text.replace("OPTIONS", options or "weight: 1").encode(), KINDS)
        handler = Application(self.config).handler(self.config.lanes["vip"])
        assert isinstance(handler, ImportHandler)
        self.import_handler = handler
        self.copernica, self.np6 = CopernicaSandbox(), Np6Sandbox()
        self.other: Platform = self.copernica if platform == "copernica" else self.np6
        self._headers = {"X-Key": "k", "Content-Length": "1"}
        if platform == "np6":
            self.way = self
            file = {"type": "file", "filename": "a.csv"}
            definition = {**vendor_example("np6-import-request.json"), "source": file}
            self.np6._account(ACCOUNT).imports.create(msgspec.json.encode(definition))
        else:
            token = self._of_other(Request("POST", "/token", (), b"access_token=a"))
            self._headers["Authorization"] = f"Bearer {token.body.decode()}"

    def _of_other(self, request: Request, content: bytes | None = None) -> Answer:
        headers = {**dict(request.headers), **self._headers}
        subject = self.other.subject(request.method, request.path)
        body = request.body or b"" if content is None else content
        given = self.other.answer(ACCOUNT, request.method, subject, headers, body, self.time.wall_ms() / 1000)
        return Answer(given.status, {name.lower(): value for name, value in given.headers.items()}, given.body)

    async def _called(self, call: Call) -> Reply:
        return await self._asked(call.request, None)

    async def _asked(self, request: Request, content: bytes | None) -> Reply:
        kind = self.other.subject(request.method, request.path).kind
        if kind == self._unanswered:
            self._unanswered = None
            self.kinds.append(kind)
            self._of_other(request, content)
            await asyncio.Event().wait()
        return await self._answered(kind, partial(self._of_other, request, content))

    def transport(self, file: Spooled | None, before: bytes = b"", behind: bytes = b"") -> "_Sending | None":
        """As the account's other requests, but with the file."""
        return None if file is None else _Sending(self, file)

    def check(self) -> None:
        """Each record has one result."""
        places = Counter((r.origin.topic, r.origin.partition, r.origin.offset) for r in self.results())
        assert places == {(tp.topic, tp.partition, offset): 1 for tp in SOURCES for offset in range(len(self.log[tp]))}

    def imported(self) -> list[int]:
        """The rows of each import."""
        if self.other is self.copernica:
            return [one.rows for one in self.copernica.imports(ACCOUNT)]
        return [one.file.count(b"\r\n") - 1 for one in self.np6.imported(ACCOUNT)]

    def stuck(self, whether: bool) -> None:
        """What is under way ends, or does not."""
        self.copernica.configure(ACCOUNT, {"stuck": whether})
        self.np6.configure(ACCOUNT, {"import_looks": 1_000_000 if whether else 1})

    def open_entries(self) -> list[tuple[str, ImportEntry]]:
        """What stands in the journal."""
        return [
            (one.state.value, one.opened)
            for one in journal_of(self.broker.written).deliveries.values()
            if isinstance(one.opened, ImportEntry)
        ]


class _Sending:
    def __init__(self, world: OthersWorld, file: Spooled) -> None:
        self._world = world
        self._file = file

    async def send(self, request: Request, credentials: Mapping[str, str]) -> Reply:
        content = b"".join([block async for block in self._file.blocks()])
        return await self._world._asked(request, content)


def in_world(
    patch: pytest.MonkeyPatch,
    platform: str,
    life: Callable[[OthersWorld], Awaitable[None]],
    *,
    options: str = "",
    unanswered: str | None = None,
) -> None:
    """Run ``life`` in a world of its own; at its end each event has one result, and nothing is left in the journal."""

    async def main(time: FakeTime) -> None:
        world = OthersWorld(time, platform, options, unanswered)
        world.patches(patch)
        world.publish(4, contacts=4)
        await life(world)
        world.check()
        assert not world.open_entries()

    run(main, within_s=100_000)


@pytest.mark.parametrize("platform", ["copernica", "np6"])
def test_each_follows_it_and_ends_his_own(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has the rows is sent by nobody again."""

    async def life(world: OthersWorld) -> None:
        world.stuck(True)
        await world.lives(FIRST, SECOND, until=lambda: world.states() == ["uploaded", "uploaded"])
        await world.lives(SECOND, until=world.for_s(20))
        assert not world.results()
        world.stuck(False)
        await world.lives(FIRST, until=world.has_settled(2))
        assert world.states() == ["uploaded"]
        await world.lives(SECOND, until=world.has_settled(4))
        assert outcomes(world.results()) == {"delivered": 4}
        assert world.imported() == [4]
        references = {operation.reference for result in world.results() for operation in result.operations}
        assert references == {str(one.id) for one in world.copernica.imports(ACCOUNT)} or references == {"23"}

    in_world(monkeypatch, platform, life)


def test_copernicas_failed_rows_are_sent_again_by_each_for_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within his share of the budget; what is bad is found among whoever has it."""

    async def life(world: OthersWorld) -> None:
        world.copernica.configure(ACCOUNT, {"bad_values": {"city-1"}})
        world.stuck(True)
        await world.lives(FIRST, SECOND, until=lambda: world.states() == ["uploaded", "uploaded"])
        world.stuck(False)
        await world.lives(FIRST, until=world.has_settled(2))
        assert outcomes(world.results()) == {"delivered": 2}
        await world.lives(SECOND, until=world.has_settled(4))
        assert outcomes(world.results()) == {"delivered": 3, "rejected": 1}
        assert world.imported() == [4, 2, 2, 1, 1]

    in_world(monkeypatch, "copernica", life, options="partial_failures: split, split_budget: 20")


@pytest.mark.parametrize("platform", ["copernica", "np6"])
def test_failed_rows_that_are_not_divided_are_nobodys(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tells of his own what the platform said of all."""

    async def life(world: OthersWorld) -> None:
        world.stuck(True)
        world.copernica.configure(ACCOUNT, {"bad_values": {"city-1"}})
        world.np6.configure(ACCOUNT, {"imports_fail": True})
        await world.lives(FIRST, SECOND, until=lambda: world.states() == ["uploaded", "uploaded"])
        world.stuck(False)
        await world.lives(FIRST, until=world.has_settled(2))
        await world.lives(SECOND, until=world.has_settled(4))
        assert outcomes(world.results()) == {"unattributed": 4}
        assert world.imported() == [4]
        assert all((result.detail or "").startswith("of 4 rows ") for result in world.results())

    in_world(monkeypatch, platform, life)


def test_rows_that_may_go_twice_go_anew_when_nobody_can_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who made the create died over it: whoever has the slot waits until nothing of it can be open, and sends his own;
    the other's wait for a slot."""

    async def life(world: OthersWorld) -> None:
        began = world.time.monotonic()
        await world.lives(FIRST, SECOND, until=lambda: world.kinds.count("create") == 1)
        await world.lives(FIRST, until=world.has_settled(2))
        assert world.time.monotonic() - began >= LIFE_S
        await world.lives(FIRST, SECOND, until=world.has_settled(4))
        assert outcomes(world.results()) == {"delivered": 4}
        assert world.imported() == [4, 2, 2]

    in_world(monkeypatch, "copernica", life, unanswered="create")


def test_rows_that_may_not_go_twice_are_in_doubt_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """``add``: he who has them does not know more than who began the import."""

    async def life(world: OthersWorld) -> None:
        began = world.time.monotonic()
        await world.lives(FIRST, SECOND, until=lambda: world.kinds.count("create") == 1)
        await world.lives(FIRST, until=world.has_settled(2))
        await world.lives(SECOND, until=world.has_settled(4))
        assert outcomes(world.results()) == {"in_doubt": 4}
        assert world.imported() == [4]
        # What may be open keeps its entry, and the slot, until it cannot be any more.
        assert world.states() == ["intended", "intended"]
        await world.lives(FIRST, SECOND, until=lambda: not world.open_entries())
        assert world.time.monotonic() - began >= LIFE_S

    in_world(monkeypatch, "copernica", life, options="action: add", unanswered="create")


def test_a_start_that_nobody_saw_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """NP6 tells of the last execution: whoever sees it run knows that it is this one, and whoever comes when it has
    ended does not."""

    async def life(world: OthersWorld) -> None:
        await world.lives(FIRST, SECOND, until=lambda: world.kinds.count("execute_import") == 1)
        await world.lives(FIRST, until=world.has_settled(2))
        await world.lives(SECOND, until=world.has_settled(4))
        assert outcomes(world.results()) == {"delivered": 2, "in_doubt": 2}
        assert world.imported() == [4]

    in_world(monkeypatch, "np6", life, unanswered="execute_import")
