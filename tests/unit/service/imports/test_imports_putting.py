"""Imports whose file is put first: never two at once, never one twice, and what nobody can tell is in doubt."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import blake2s
from typing import Any

import msgspec
import pytest

from contracts.journal import Delivery, DeliveryState, ImportEntry
from handlers.base import Answer, Failure, FailureKind, Reply
from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox.prescriptions import Match, Prescription, Step
from handlers.sandbox.server import SandboxServer
from service.clock import SystemClock
from service.delivery.limiter import AccountLimiter, LimiterPolicy
from service.imports.recovery import Found, found_as
from service.transport.account import Account
from service.transport.http import HttpTransport, TransportPolicy
from service.uploading.sending import FileSender
from service.uploading.ways import AccountWay
from tests.support.fakes import FakeCredentials
from tests.support.putting import FakeFolder, PuttingBench, putting, putting_handler
from tests.support.vendor import vendor_example

INTENDED = (DeliveryState.INTENDED, "23")
UPLOADED = (DeliveryState.UPLOADED, "23")
FTP = {"via": {"ftp": {"host": "h", "username": "u", "password": "p"}}}


class World:
    """A sandbox with one import, and what it has carried out."""

    def __init__(self, server: SandboxServer, platform: Np6Sandbox, account: Account, way: AccountWay) -> None:
        self.server = server
        self.platform = platform
        self.account = account
        self.way = way

    @property
    def executed(self) -> list[bytes]:
        return [one.file for one in self.platform.imported("main")]

    def answers(self, kind: str, *answers: Any, skip: int = 0) -> None:
        self.server.prescriptions.add([Prescription(list(answers), Match(kind=kind), skip)])

    def calls(self) -> list[str]:
        return [call.kind for call in self.server.log.calls() if call.kind != "import"]

    async def execute_by_hand(self) -> None:
        """As somebody else does."""
        held = self.platform._account("main").imports
        held.put(23, b"other")
        held.execute(23, b'{"binding": 7}')


@asynccontextmanager
async def world(source: str = "file", **rules: Any) -> AsyncIterator[World]:
    platform = Np6Sandbox()
    document = {**vendor_example("np6-import-request.json"), "source": {"type": source, "templateFilename": "a.csv"}}
    async with SandboxServer(np6=platform) as server:
        platform._account("main").imports.create(msgspec.json.encode(document))
        platform.configure("main", rules)
        base = server.base_url("np6", "main")
        policy = TransportPolicy(base, connect_s=1.0, total_s=0.5, max_connections=4)
        async with HttpTransport(policy, None) as transport:
            account = Account(
                "main",
                transport=transport,
                limiter=AccountLimiter(LimiterPolicy(requests_per_second=None)),
                credentials=FakeCredentials(),
                clock=SystemClock(),
            )
            account.open()
            yield World(server, platform, account, AccountWay(FileSender(policy, None), base))


@asynccontextmanager
async def lane(**rules: Any) -> AsyncIterator[tuple[World, PuttingBench]]:
    async with world(**rules) as given, putting(PuttingBench(given.account, given.way, putting_handler())) as bench:
        yield given, bench


FILE = b"contact;name\r\na;A\r\nb;B\r\n"


@pytest.mark.parametrize("unbegun", ["404", "empty"])
async def test_a_file_is_put_started_and_followed_to_its_end(unbegun: str) -> None:
    """The entry names the import before it is started, and goes with the results; whatever the platform answers before
    any execution."""
    async with lane(import_looks=3, import_unbegun=unbegun) as (given, bench):
        bench.deliver("a", "b")
        await bench.until(bench.is_over)
        assert bench.outcomes() == {"a": "delivered", "b": "delivered"}
        assert given.executed == [FILE]
        assert bench.states() == [INTENDED, UPLOADED, None]
        assert given.calls()[:3] == ["import_state", "put_source", "execute_import"]
        assert {item.operations[0].reference for item in bench.ended} == {"23"}
        assert bench.finished


async def test_nothing_is_put_while_an_execution_runs() -> None:
    """Somebody else's file would be ours, and its end too."""
    async with lane(import_looks=4) as (given, bench):
        await given.execute_by_hand()
        bench.deliver("a", "b")
        await bench.until(bench.is_over)
        assert given.executed == [b"other", FILE]
        calls = given.calls()
        assert calls.index("put_source") >= 4
        assert set(bench.outcomes().values()) == {"delivered"}


async def test_an_import_that_fails_is_nobodys_fault_in_particular() -> None:
    """State 2 tells no rows."""
    async with lane(imports_fail=True) as (_, bench):
        bench.deliver("a", "b")
        await bench.until(bench.is_over)
        assert set(bench.outcomes().values()) == {"unattributed/unattributed"}


async def test_a_start_without_an_answer_that_runs_is_ours() -> None:
    """It is followed, and not begun again."""
    async with lane(import_looks=5) as (given, bench):
        given.answers("execute_import", Step(reset="after"))
        bench.deliver("a", "b")
        await bench.until(bench.is_over)
        assert set(bench.outcomes().values()) == {"delivered"}
        assert given.executed == [FILE]
        assert bench.states() == [INTENDED, UPLOADED, None]


@pytest.mark.parametrize("effect", [True, False])
async def test_a_start_without_an_answer_that_does_not_run_is_in_doubt(*, effect: bool) -> None:
    """The last execution has ended, and whose it was nobody tells: never begun again, and the next import may begin."""
    async with lane(import_looks=1) as (given, bench):
        await given.execute_by_hand()
        given.platform._account("main").imports.state(23, 1, fails=False)
        given.answers("execute_import", Step(status=500, effect=effect))
        bench.deliver("a", "b")
        await bench.until(bench.is_over)
        assert set(bench.outcomes().values()) == {"in_doubt/interrupted"}
        assert len(given.executed) == 1 + effect
        assert bench.states() == [INTENDED, None]


async def test_a_start_that_was_refused_is_looked_at_and_put_anew() -> None:
    """Meanwhile there is no entry: nothing took effect."""
    async with lane() as (given, bench):
        given.answers("execute_import", 429)
        bench.deliver("a", "b")
        await bench.until(bench.is_over)
        assert set(bench.outcomes().values()) == {"delivered"}
        assert bench.states() == [INTENDED, None, INTENDED, UPLOADED, None]
        assert given.calls()[:6] == ["import_state", "put_source", "execute_import"] * 2
        assert given.executed == [FILE]


async def test_a_file_that_did_not_get_there_is_put_again() -> None:
    """By a time-out, a reset, a 500: nothing has begun, and nothing is in the journal."""
    async with lane() as (given, bench):
        given.answers("put_source", Step(reset="after"), 500, Step(hang=True))
        bench.deliver("a", "b")
        await bench.until(bench.is_over)
        assert set(bench.outcomes().values()) == {"delivered"}
        assert bench.states() == [INTENDED, UPLOADED, None]
        assert given.executed == [FILE]


async def test_a_file_that_is_too_large_is_divided() -> None:
    """Each half is an import of its own, one after the other."""
    async with lane() as (given, bench):
        given.answers("put_source", 413)
        bench.deliver("a", "b")
        await bench.until(bench.is_over)
        assert set(bench.outcomes().values()) == {"delivered"}
        assert given.executed == [b"contact;name\r\na;A\r\n", b"contact;name\r\nb;B\r\n"]


async def test_an_import_that_the_platform_does_not_know_holds_the_lane() -> None:
    """With what to do; nothing is put."""
    handler = putting_handler(**{"import": {"id": 99}})
    async with world() as given, putting(PuttingBench(given.account, given.way, handler)) as bench:
        bench.deliver("a")
        await bench.until(lambda: bench.dispatcher.hold is not None)
        assert bench.dispatcher.hold is not None
        assert "does not know the import" in bench.dispatcher.hold.reason
        assert "put_source" not in given.calls()


def record(state: DeliveryState) -> Delivery:
    return Delivery("np6.imports", state, {"contacts": ((0, 0, 2),)}, 1, "23", ImportEntry(0))


async def test_a_start_that_was_found_in_the_journal_and_runs_is_followed() -> None:
    """It is ours: nobody else had the slot. It is not begun again."""
    async with lane(import_looks=3) as (given, bench):
        await given.execute_by_hand()
        bench.find(record(DeliveryState.INTENDED), "a", "b")
        await bench.until(bench.is_over)
        assert set(bench.outcomes().values()) == {"delivered"}
        assert given.executed == [b"other"]
        assert "put_source" not in given.calls()


@pytest.mark.parametrize(
    ("state", "expected"),
    [(DeliveryState.INTENDED, "in_doubt/interrupted"), (DeliveryState.UPLOADED, "delivered")],
)
async def test_an_end_that_was_found_counts_only_behind_an_answered_start(state: DeliveryState, expected: str) -> None:
    """Before it the last execution may be an older one."""
    async with lane(import_looks=1) as (given, bench):
        await given.execute_by_hand()
        bench.find(record(state), "a", "b")
        await bench.until(bench.is_over)
        assert bench.outcomes() == {"a": expected, "b": expected}
        assert given.executed == [b"other"]


# -- over FTP


@asynccontextmanager
async def folder(fake: FakeFolder, **keys: Any) -> AsyncIterator[PuttingBench]:
    async with (
        world("ftp") as given,
        putting(PuttingBench(given.account, fake, putting_handler(**FTP, **keys))) as bench,
    ):
        yield bench


async def test_a_file_is_delivered_when_it_was_picked_up() -> None:
    """Until then it lies there, and the import is open."""
    fake = FakeFolder()
    async with folder(fake) as bench:
        bench.deliver("a", "b")
        await bench.until(lambda: fake.asked.count("HEAD") >= 4)
        assert list(fake.files) == ["a.csv"]
        assert bench.ended == []
        fake.pick_up()
        await bench.until(bench.is_over)
        assert fake.taken == [FILE]
        assert set(bench.outcomes().values()) == {"delivered"}
        assert bench.states() == [INTENDED, UPLOADED, None]


async def test_a_file_that_lies_there_is_waited_for() -> None:
    """None is overwritten."""
    fake = FakeFolder()
    fake.files["a.csv"] = b"other"
    async with folder(fake) as bench:
        bench.deliver("a", "b")
        await bench.until(lambda: fake.asked.count("HEAD") >= 2)
        assert "PUT" not in fake.asked
        fake.pick_up()
        await bench.until(lambda: "a.csv" in fake.files)
        fake.pick_up()
        await bench.until(bench.is_over)
        assert fake.taken == [b"other", FILE]


TIMED_OUT = Failure(FailureKind.TIMED_OUT, "no answer")


@pytest.mark.parametrize("effect", [True, False])
async def test_a_name_without_an_answer(*, effect: bool) -> None:
    """A file that has its first name still was never begun, and is taken away before it goes anew; one that has its
    own is ours."""
    fake = FakeFolder()
    fake.replies["MOVE"] = [(TIMED_OUT, effect)]
    async with folder(fake) as bench:
        bench.deliver("a", "b")
        await bench.until(lambda: "DELETE" in fake.asked and fake.asked[-1] == "HEAD" and "a.csv" in fake.files)
        fake.pick_up()
        await bench.until(bench.is_over)
        assert set(bench.outcomes().values()) == {"delivered"}
        assert fake.asked.count("MOVE") == (1 if effect else 2)
        assert fake.taken == [FILE]
        ended = [INTENDED, UPLOADED, None]
        assert bench.states() == (ended if effect else [INTENDED, None, *ended])


@pytest.mark.parametrize(
    ("replies", "picked"),
    [([], True), ([(TIMED_OUT, True)], False), ([(Answer(405, {}, b"502 no"), False)], False)],
    ids=["named and picked up", "taken away without an answer", "a server that takes nothing away"],
)
async def test_what_cannot_be_proved_is_in_doubt(*, replies: list[tuple[Reply, bool]], picked: bool) -> None:
    """The file has neither name: it may have been picked up. It is never put again."""
    fake = FakeFolder()
    fake.replies["MOVE"] = [(TIMED_OUT, picked)]
    fake.replies["DELETE"] = list(replies)
    fake.picks_up_at_once = picked
    async with folder(fake) as bench:
        bench.deliver("a", "b")
        await bench.until(bench.is_over)
        assert set(bench.outcomes().values()) == {"in_doubt/interrupted"}
        assert fake.asked.count("MOVE") == 1
        assert bench.states() == [INTENDED, None]


@pytest.mark.parametrize("lies_there", [True, False])
async def test_a_name_that_was_never_given_before_a_crash(*, lies_there: bool) -> None:
    """Whoever finds the entry takes the file away under the name that its id tells; what took no effect goes back, to
    be planned as it is now."""
    fake = FakeFolder()
    async with folder(fake) as bench:
        if lies_there:
            fake.files[f".fanline-part-{blake2s(b'a.csv', digest_size=6).hexdigest()}-batch-1.x7"] = FILE
        bench.find(record(DeliveryState.INTENDED), "a", "b", delivery_id="batch-1.x9_x7")
        await bench.until(bench.is_over)
        assert fake.files == {}
        assert bench.again == (["a", "b"] if lies_there else [])
        assert set(bench.outcomes().values()) == (set() if lies_there else {"in_doubt/interrupted"})


async def test_a_login_that_is_refused_holds_the_lane_and_not_the_account() -> None:
    """It is another server's."""
    fake = FakeFolder()
    fake.replies["HEAD"] = [(Answer(401, {}, b"530 no"), False)] * 100
    async with folder(fake) as bench:
        bench.deliver("a")
        await bench.until(lambda: bench.dispatcher.hold is not None)
        assert bench.dispatcher.hold is not None
        assert "username and password" in bench.dispatcher.hold.reason
        assert bench.account.refused is None
        assert bench.account.limiter.in_flight == 0


@pytest.mark.parametrize(
    ("state", "reference", "expected"),
    [
        (DeliveryState.INTENDED, "23", Found.ASKED),
        (DeliveryState.INTENDED, None, Found.DOUBTED),
        (DeliveryState.UPLOADED, "23", Found.ASKED),
    ],
)
def test_what_an_entry_asks_for(state: DeliveryState, reference: str | None, expected: Found) -> None:
    """An import whose id was known before it was begun is asked about, and costs no slot for an hour."""
    left = msgspec.structs.replace(record(state), reference=reference)
    assert found_as(left, carries_rows=True, repeatable=False) is expected
