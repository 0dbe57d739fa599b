"""A whole lane of imports before Apsis One's sandbox, in fake time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from typing import Any

import pytest
from msgspec.json import encode

from handlers.base import Answer, Failure, FailureKind, Reply, Request
from service.lane import Lane
from service.lifecycle import PACED, LaneState
from service.status.reading import Reading
from service.status.waiting import Waits
from service.transport.account import Account
from service.watching.sights import look_at
from tests.support import suspending
from tests.support.fakes import FakeTime, eventually, run
from tests.support.import_world import ACCOUNT, ImportWorld, coalesced, outcomes
from tests.support.lane_world import SOURCES
from tests.support.suspending import Cancelling, at_every_await

TIMED_OUT = Failure(FailureKind.TIMED_OUT, "no answer in time")
Look = Callable[[ImportWorld, Lane], Awaitable[None]]


async def lived(world: ImportWorld, cancelling: Cancelling | None = None, look: Look | None = None) -> None:
    """A lane from its start until all is settled, or it is cancelled. ``look`` goes on beside it."""
    lane = world.lane()
    running = asyncio.create_task(lane.run())
    if cancelling is not None:
        cancelling.watch(running)
    ends = asyncio.create_task(_stop_when_settled(world, lane))
    looking = None if look is None else asyncio.create_task(look(world, lane))  # type: ignore[arg-type]
    await asyncio.wait({running})
    if cancelling is not None:
        cancelling.stop()
    ends.cancel()
    await asyncio.gather(ends, return_exceptions=True)
    assert lane.died is None, world.observer.faults
    assert not world.observer.faults
    if not running.cancelled():
        await running
    if looking is not None:
        await looking


async def _stop_when_settled(world: ImportWorld, lane: Lane) -> None:
    await eventually(world.settled, within_s=50_000, every_s=0.1)
    lane.stop()


def in_world(
    patch: pytest.MonkeyPatch,
    life: Callable[[ImportWorld], Awaitable[None]],
    *,
    kind: type[ImportWorld] = ImportWorld,
    **given: Any,
) -> None:
    """Run ``life`` in a world of its own, and look at what came of it."""

    async def main(time: FakeTime) -> None:
        world = kind(time, **given)
        world.patches(patch)
        await life(world)
        world.check()
        assert not world.open_entries()

    run(main, within_s=100_000)


def once(kind: str, *replies: Reply | None) -> Callable[[int, str], Reply | None]:
    """The first calls of a kind are answered so, all others as the platform does."""
    return lambda number, of: replies[number] if of == kind and number < len(replies) else None


def test_events_become_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event has its own result, also where its row was another's; the platform has each contact's newest state."""

    async def life(world: ImportWorld) -> None:
        world.publish(20)
        await lived(world)
        results = world.results()
        assert outcomes(results) == {"delivered": 20}
        assert coalesced(results) > 0
        sent = {result.coalesced_into for result in results if result.coalesced_into}
        assert world.cities() == world.newest()
        ids = {one.id for one in world.sandbox.imports(ACCOUNT)}
        assert {operation.reference for result in results for operation in result.operations} <= ids
        # Whoever has a row of his own is in nobody else's.
        assert len(sent) <= 20 - coalesced(results)

    in_world(monkeypatch, life)


class OfImports(Cancelling):
    """Only where an import, its journal or its calls wait: the rest of a lane has a test of its own."""

    def _suspended(self, coroutine: Any) -> None:
        if self._whole is not None and not self.done and suspending._is_ours(coroutine):
            place = suspending._place(coroutine)
            if place.startswith(("Import", "JournalWriter", "Account.", "Settler._commit", "rows_of")):
                super()._suspended(coroutine)


def test_killed_at_any_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """In each state of the journal, in front of each transaction and call and behind it: another process goes on, each
    event has one result, no file is uploaded twice, and no import beyond the slots is ever asked for."""
    monkeypatch.setattr(suspending, "Cancelling", OfImports)

    async def life(time: FakeTime, cancelling: Cancelling) -> None:
        world = ImportWorld(time)
        world.patches(monkeypatch)
        world.publish(5)
        await lived(world, cancelling)
        if cancelling.done:
            await lived(world)
        world.check()
        assert outcomes(world.results()) == {"delivered": 5}
        assert world.cities() == world.newest()
        assert not world.open_entries()

    places = {place.partition(":")[0] for place in at_every_await(life, most=500)}
    assert places >= {
        "Account.send",
        "ImportDispatcher._upload",
        "JournalWriter.enter",
        "JournalWriter.rewrite",
        "JournalWriter._committed",
        "Settler._commit",
    }


def test_while_no_slot_is_free_the_next_import_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two slots, imports that take long: what comes meanwhile becomes two more, however often linger passes; the lane
    says what it waits for, and lets be seen what is open."""

    async def look(world: ImportWorld, lane: Lane) -> None:
        await eventually(lambda: world.kinds.count("upload") == 2)
        for n in range(6):
            world.publish_more(20 + n, contact=6 + n)
            await asyncio.sleep(2)
        assert (lane.board.state, lane.board.reason) == (LaneState.HOLDING, "waiting for a slot")
        assert lane.bulks is not None
        told = lane.bulks.open_imports()  # type: ignore[union-attr] # it is the way of imports
        assert sorted(one.slot for one in told) == [0, 1]
        assert all(one.rows and one.age_s > 5 and one.state in ("queued", "in_progress") for one in told)
        assert world.kinds.count("create") == 2

    async def life(world: ImportWorld) -> None:
        world.publish(4, contacts=4)
        await lived(world, look=look)
        assert outcomes(world.results()) == {"delivered": 10}
        assert [one.found for one in world.sandbox.imports(ACCOUNT)] == [2, 2, 3, 3]

    in_world(monkeypatch, life, rules={"takes_s": 60.0})


def test_a_full_buffer_does_not_wait_for_the_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more is read, a slot is free: the import begins now, and what is read behind it waits for its linger."""

    async def life(world: ImportWorld) -> None:
        world.publish(3, contacts=3)
        before = world.time.monotonic()
        lane = world.lane()
        running = asyncio.create_task(lane.run())
        await eventually(lambda: len(world.results()) == 3, within_s=600)
        assert world.time.monotonic() - before < 60
        lane.stop()
        await running

    batch = "{max_events: 4, max_bytes: 1KiB, linger: 1h}"
    in_world(monkeypatch, life, slots=1, batch=batch, options="buffer: 4KiB")


@pytest.mark.parametrize("options", ["", "partial_failures: split"], ids=["batches", "halves"])
def test_imports_are_created_at_the_platforms_pace(options: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten a minute over two slots, also over a kill and for halves of a file: none that the platform would refuse is
    ever asked for. What waits for the next one says so, and a batch grows meanwhile."""
    reasons: set[str | None] = set()
    waits: set[str] = set()

    async def look(world: ImportWorld, lane: Lane) -> None:
        for number in range(4, 60):
            world.publish_more(number, contact=number)
            await asyncio.sleep(2)
            reasons.add(lane.board.reason)
            told = Waits(lane, world.time.monotonic())
            states = lane.assignment.partitions.values() if lane.assignment else ()
            waits.update(told.of(item).words for state in states for item in state.items.values())

    async def life(world: ImportWorld) -> None:
        world.publish(4, contacts=4)
        first = asyncio.create_task(world.lane().run())
        await eventually(lambda: world.kinds.count("upload") >= 2, within_s=100)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await lived(world, look=look)
        assert outcomes(world.results()) == ({"delivered": 59, "rejected": 1} if options else {"delivered": 60})
        created = sorted(one.expires_at for one in world.sandbox.imports(ACCOUNT))
        assert world.kinds.count("create") == len(created) > 12, "one was refused"
        assert all(beyond - first >= 60 for first, beyond in zip(created, created[10:], strict=False))
        assert PACED in reasons
        assert any(f"waits for a slot: {PACED}; the next may be in" in words for words in waits)

    bad = ["city-7"] if options else []
    rules = {"imports_per_minute": 10, "bad_values": bad}
    in_world(monkeypatch, life, paced=True, options=options, rules=rules)


def test_with_more_slots_than_creates_a_minute_each_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its turn has passed between the look and the call, for the token took its time: then it waits for the
    next one, and nothing of it is left in the journal meanwhile."""
    slow_s = [30.0]
    reasons: set[str | None] = set()

    async def prepare(_: Account) -> None:
        await asyncio.sleep(slow_s.pop() if slow_s else 0.0)

    monkeypatch.setattr(Account, "prepare", prepare)

    async def look(world: ImportWorld, lane: Lane) -> None:
        while not world.settled():
            reasons.add(lane.board.reason)
            await asyncio.sleep(5)

    async def life(world: ImportWorld) -> None:
        world.publish(8, contacts=8)
        await lived(world, look=look)
        created = [one.expires_at - 120.0 for one in world.sandbox.imports(ACCOUNT)]
        turns = world.import_policy().create_turns
        assert turns is not None
        had = [int(at // turns.turn_s) for at in created]
        assert {turn % 12 for turn in had} == {0, 1}
        assert len(set(had)) == len(had) == world.kinds.count("create")
        assert PACED in reasons
        assert not slow_s

    in_world(monkeypatch, life, slots=12, paced=True)


def test_a_create_without_an_answer_keeps_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """One may be open: another one is created only when nothing of the first can be any more."""

    async def life(world: ImportWorld) -> None:
        world.publish(2, contacts=1)
        await lived(world)
        assert outcomes(world.results()) == {"delivered": 2}
        opened = world.sandbox.imports(ACCOUNT)
        assert len(opened) == 2
        # The address of the first lives as long as the platform says: two minutes.
        assert opened[1].expires_at - opened[0].expires_at >= 119

    in_world(monkeypatch, life, slots=1, replies=once("create", TIMED_OUT), rules={"upload_life_s": 120.0})


class SlowWorld(ImportWorld):
    """The first create waits in front of the platform, which opens its import when we have long given the answer up."""

    async def _answered(self, kind: str, ask: Callable[[], Answer]) -> Reply:
        if kind != "create" or "create" in self.kinds:
            return await super()._answered(kind, ask)
        self.kinds.append(kind)
        await asyncio.sleep(12.2)
        ask()
        await asyncio.sleep(0.05)
        return TIMED_OUT


@pytest.mark.parametrize("killed", [False, True])
def test_a_create_that_took_its_time_keeps_its_slot_from_then_on(killed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address lives from when the platform gave it, and not from when it was asked for; also for another process,
    which knows no more than when its entry was made up."""

    async def life(world: ImportWorld) -> None:
        world.publish(2, contacts=1)
        if killed:
            first = asyncio.create_task(world.lane().run())
            await eventually(lambda: bool(world.sandbox.imports(ACCOUNT)), every_s=0.01)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        await lived(world)
        assert outcomes(world.results()) == {"delivered": 2}
        opened = world.sandbox.imports(ACCOUNT)
        assert 120 <= opened[1].expires_at - opened[0].expires_at < 180

    in_world(monkeypatch, life, kind=SlowWorld, slots=1)


class BehindWorld(ImportWorld):
    """The platform's clock is behind ours, and says so."""

    BEHIND_S = 100.0

    def _ask(self, request: Request, headers: Mapping[str, str]) -> Answer:
        now = self.time.wall_ms() / 1000 - self.BEHIND_S
        given = self.sandbox.answer(
            ACCOUNT,
            request.method,
            self.sandbox.subject(request.method, request.path),
            headers,
            request.body or b"",
            now,
        )
        return Answer(given.status, {**given.headers, "date": formatdate(now, usegmt=True)}, given.body)


def test_an_address_ends_by_the_platforms_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """By ours it would have ended long before the storage could be reached, and another import would be asked for."""

    async def life(world: ImportWorld) -> None:
        world.publish(2, contacts=1)
        await lived(world)
        assert outcomes(world.results()) == {"delivered": 2}
        assert world.kinds.count("create") == 1
        assert world.time.monotonic() > 1_000 + 30

    gone = [Failure(FailureKind.NOT_SENT, "no connection")] * 1_200
    in_world(monkeypatch, life, kind=BehindWorld, slots=1, replies=once("upload", *gone))


def test_an_upload_without_an_answer_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file had arrived: it is not sent again."""

    async def life(world: ImportWorld) -> None:
        world.publish(2, contacts=1)
        await lived(world)
        assert outcomes(world.results()) == {"delivered": 2}
        assert world.kinds.count("upload") == 1

    in_world(monkeypatch, life, replies=once("upload", TIMED_OUT))


def test_an_upload_that_broke_is_made_again_where_the_platform_has_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 of the storage: the status says that the import waits for its file."""

    async def life(world: ImportWorld) -> None:
        world.publish(2, contacts=1)
        await lived(world)
        assert outcomes(world.results()) == {"delivered": 2}
        assert (world.kinds.count("create"), world.kinds.count("upload")) == (1, 2)

    in_world(monkeypatch, life, replies=once("upload", Answer(500, {}, b"")))


GIVEN_UP = {"status": "error"}
COUNTED = {**GIVEN_UP, "profiles_found": 2, "profiles_processed": 0, "profiles_failed": 2}


@pytest.mark.parametrize(
    ("told", "late", "unattributed"),
    [
        (Answer(200, {}, encode({"import_id": "x", "result": GIVEN_UP})), False, True),
        (Answer(200, {}, encode({"import_id": "x", "result": COUNTED})), True, True),
        (Answer(404, {}, b""), True, True),
        (Answer(200, {}, encode({"import_id": "x", "result": GIVEN_UP})), True, False),
    ],
    ids=["before its address ended", "with rows counted", "not known any more", "as one whose address has ended"],
)
def test_an_import_that_may_have_had_its_file_is_not_sent_again(
    told: Answer, late: bool, unattributed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload got no answer, and then the import has failed: only where it can never have had the file, because its
    address has ended, and no row of it was counted, its events go anew."""

    async def life(world: ImportWorld) -> None:
        world.publish(2, contacts=1)
        await lived(world)
        assert outcomes(world.results()) == ({"unattributed": 2} if unattributed else {"delivered": 2})
        assert world.kinds.count("create") == (1 if unattributed else 2)

    def replies(number: int, kind: str) -> Reply | None:
        if kind == "upload" and not number:
            return NOT_TAKEN
        return told if kind == "status" and not number else None

    NOT_TAKEN = Answer(500, {}, b"")
    in_world(monkeypatch, life, slots=1, replies=replies, rules={"upload_life_s": 0.05 if late else 120.0})


def test_an_address_that_has_ended_means_another_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """403 from the storage, behind the address's end."""

    async def life(world: ImportWorld) -> None:
        world.publish(2, contacts=1)
        await lived(world)
        assert outcomes(world.results()) == {"delivered": 2}
        assert world.kinds.count("create") >= 2

    gone = [Failure(FailureKind.NOT_SENT, "no connection")] * 5
    in_world(monkeypatch, life, replies=once("upload", *gone, Answer(403, {}, b"")), rules={"upload_life_s": 0.05})


@pytest.mark.parametrize("fault", [429, 503])
def test_a_refused_create_opened_nothing(fault: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made again after a pause, and its entry is gone meanwhile."""

    async def life(world: ImportWorld) -> None:
        world.publish(2, contacts=1)
        await lived(world)
        assert outcomes(world.results()) == {"delivered": 2}
        assert world.kinds.count("create") == 3

    refused = Answer(fault, {"retry-after": "1"}, b"")
    in_world(monkeypatch, life, replies=once("create", refused, refused))


def test_the_platforms_words_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what the event says, which is not held while its row waits, nothing is told."""

    async def life(world: ImportWorld) -> None:
        world.publish(1, contacts=1)
        await lived(world)
        [result] = world.results()
        assert (result.outcome.value, result.reason) == ("rejected", "refused")
        assert result.detail is not None
        assert "nothing is known of •••" in result.detail

    refused = Answer(400, {}, b'{"detail": "nothing is known of city-0"}')
    in_world(monkeypatch, life, replies=once("create", refused))


def test_failed_rows_without_names_are_told_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """``report``: nobody knows whose they are."""

    async def life(world: ImportWorld) -> None:
        world.publish(4, contacts=4)
        await lived(world)
        assert outcomes(world.results()) == {"unattributed": 2, "delivered": 2}
        [detail, *_] = [result.detail for result in world.results() if result.detail]
        assert detail == "of 2 rows the platform reports 1 failed and 0 not found"

    in_world(monkeypatch, life, rules={"bad_values": ["city-1"]})


def test_failed_rows_are_found_by_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """``split``: all but the culprit are delivered, and it is alone at fault."""

    async def life(world: ImportWorld) -> None:
        world.publish(16, contacts=16)
        await lived(world)
        assert outcomes(world.results()) == {"delivered": 15, "rejected": 1}
        [bad] = [result for result in world.results() if result.outcome.value == "rejected"]
        assert (bad.reason and bad.reason.value, bad.event and bad.event.id) == ("refused", "e5")

    options = "partial_failures: split"
    in_world(monkeypatch, life, options=options, rules={"bad_values": ["city-5"]})


def test_the_budget_of_halves_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be told apart within it is unattributed."""

    async def life(world: ImportWorld) -> None:
        world.publish(8, contacts=8)
        await lived(world)
        assert outcomes(world.results()) == {"delivered": 6, "unattributed": 2}
        assert world.kinds.count("create") == 2 + 2

    options = "partial_failures: split\n    split_budget: 2"
    in_world(monkeypatch, life, options=options, rules={"bad_values": ["city-5"]})


def test_an_import_that_never_ends_is_in_doubt_and_keeps_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """After ``poll.deadline``; what comes next waits until the platform calls it final."""

    async def look(world: ImportWorld, lane: Lane) -> None:
        await eventually(lambda: world.kinds.count("upload") == 1)
        world.publish_more(7, contact=2)
        await eventually(lambda: outcomes(world.results()) == {"in_doubt": 2}, within_s=5_000)
        assert world.time.monotonic() > 1_000 + 300
        await asyncio.sleep(60)
        assert world.kinds.count("create") == 1
        assert lane.board.reason == "waiting for a slot"
        world.sandbox.configure(ACCOUNT, {"stuck_at": None})

    async def life(world: ImportWorld) -> None:
        world.publish(2, contacts=1)
        await lived(world, look=look)
        assert outcomes(world.results()) == {"in_doubt": 2, "delivered": 1}

    in_world(monkeypatch, life, slots=1, rules={"stuck_at": "in_progress"})


def test_a_paused_lane_polls_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that changes the platform is begun; what it has ends and is settled."""

    class Pause:
        at_ms = 1

        def describe(self) -> str:
            return "paused by ops"

    async def look(world: ImportWorld, lane: Lane) -> None:
        await eventually(lambda: world.kinds.count("upload") == 1)
        world.control.given = Pause()
        world.publish_more(9, contact=0)
        await eventually(lambda: outcomes(world.results()) == {"delivered": 2}, within_s=100)
        await asyncio.sleep(30)
        assert world.kinds.count("create") == 1
        world.control.given = None

    async def life(world: ImportWorld) -> None:
        world.publish(2, contacts=1)
        await lived(world, look=look)
        assert outcomes(world.results()) == {"delivered": 3}

    in_world(monkeypatch, life)


def test_what_is_open_is_read_again_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill one partition comes late, and the other one has more than the next import may hold: the records of
    the import that was open are read all the same, and nobody waits a minute for them."""

    async def look(world: ImportWorld, lane: Lane) -> None:
        await eventually(lambda: world.sandbox.imports(ACCOUNT)[0].ended == "completed")
        await asyncio.sleep(5)
        world.withheld.clear()
        await eventually(lambda: len(world.results()) >= 4, within_s=10)

    async def life(world: ImportWorld) -> None:
        world.publish(4, contacts=4)
        killed = world.lane()
        running = asyncio.create_task(killed.run())
        await eventually(lambda: world.kinds.count("upload") == 1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        for number in range(12):
            world.publish_more(4 + number, contact=4 + 2 * number)
        world.withheld.add(SOURCES[1])
        await lived(world, look=look)
        assert outcomes(world.results()) == {"delivered": 16}

    in_world(monkeypatch, life, slots=1)


def test_what_is_not_read_while_the_next_import_is_full_is_no_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import takes five minutes, the next one holds all it may of one partition: the other partition, of
    which nothing was read, waits with every right, and says what for."""

    async def look(world: ImportWorld, lane: Lane) -> None:
        await eventually(lambda: world.kinds.count("upload") == 1)
        for number in range(4):
            world.publish_more(1 + number, contact=2 + 2 * number)
        await eventually(lambda: lane.batcher.crowded(1))
        world.publish_more(9, contact=1)
        await asyncio.sleep(200)
        [first, second] = SOURCES
        readings = [Reading(first, position=5, committed=0, end=5), Reading(second, position=0, committed=0, end=1)]
        sights = {tp: seen.sight for tp, seen in look_at(lane, readings, world.time.monotonic()).items()}
        assert all(sight.excused for sight in sights.values() if sight.has_work), sights
        assert sights[second].has_work
        [opened] = world.sandbox.imports(ACCOUNT)
        waiting = next(iter(lane.assignment.partitions[first].items.values() if lane.assignment else ()))
        assert Waits(lane, world.time.monotonic()).of(waiting).words.startswith(f"import {opened.id} (in_progress); ")
        *_, last = lane.assignment.partitions[first].items.values() if lane.assignment else ()
        words = f"in a batch that waits for a slot: import {opened.id} is open (in_progress)"
        assert Waits(lane, world.time.monotonic()).of(last).words == words

    async def life(world: ImportWorld) -> None:
        world.publish(1, contacts=1)
        await lived(world, look=look)
        assert outcomes(world.results()) == {"delivered": 6}

    in_world(monkeypatch, life, slots=1, rules={"takes_s": 280.0})
