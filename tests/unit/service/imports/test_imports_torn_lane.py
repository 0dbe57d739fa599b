"""An import of two partitions that two processes have by now, one after the other in fake time: each a whole lane."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, OffsetOutOfRangeError

from service.imports.way import ImportWay
from service.lane import Lane
from tests.support.fakes import FakeTime, run
from tests.support.import_world import ACCOUNT, coalesced, outcomes
from tests.support.torn_world import FIRST, SECOND, TornWorld

LIFE_S = 120.0  # of an upload's address


def in_world(
    patch: pytest.MonkeyPatch,
    life: Callable[[TornWorld], Awaitable[None]],
    *,
    shared: bool = False,
    carried_out: bool = True,
    **given: Any,
) -> None:
    """Run ``life`` in a world of its own; at its end each event has one result, and no file was sent twice."""

    async def main(time: FakeTime) -> None:
        world = TornWorld(time, **given)
        world.patches(patch)
        if shared:
            world.email_of = lambda _: "all@example.org"
        world.publish(4, contacts=4)
        await life(world)
        world.check()
        if carried_out and "partial_failures" not in given.get("options", ""):
            assert world.cities() == world.newest()
        assert not world.open_entries()

    run(main, within_s=100_000)


def settled(world: TornWorld, count: int) -> Callable[[], bool]:
    """Whether so many events have a result, and what the journal says of them is gone with it."""
    return lambda: len(world.results()) == count


def test_the_file_is_sent_by_who_has_the_lowest_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    """He alone, with the other's records in it; each ends his own events. Whoever asks the other is told who leads."""

    async def life(world: TornWorld) -> None:
        told: list[tuple[str | None, list[str], int]] = []

        def look(lane: Lane) -> None:
            way = lane.bulks
            assert isinstance(way, ImportWay)
            told.append((way.slot_waits_for(SECOND), [one.state for one in way.open_imports()], way.led_imports()))

        await world.until_created()
        await world.lives(SECOND, until=world.for_s(20), look=look)
        assert world.uploaded() == [0], "sent by who does not lead"
        await world.lives(FIRST, until=lambda: "upload" in world.kinds, look=look)
        await world.lives(FIRST, until=world.has_settled(2))
        assert world.uploaded() == [1]
        await world.lives(SECOND, until=world.has_settled(4))
        assert outcomes(world.results()) == {"delivered": 4}
        assert world.uploaded() == [1]
        (sent,) = world.sandbox.imports(ACCOUNT)
        assert {operation.reference for result in world.results() for operation in result.operations} == {sent.id}
        waits = "another process has it"
        assert told[0] == (waits, ["waiting_for_file, led by the process that has partition 0"], 0)
        assert told[1][2] == 1
        assert "led" not in told[1][1][0]

    in_world(monkeypatch, life)


def test_whoever_was_coalesced_into_anothers_event_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """All events have one row: three of the four name the fourth, whoever has them."""

    async def life(world: TornWorld) -> None:
        await world.until_created()
        await world.lives(FIRST, until=world.has_settled(2))
        await world.lives(SECOND, until=world.has_settled(4))
        results = world.results()
        assert coalesced(results) == 3
        assert len({result.coalesced_into for result in results} - {None}) == 1
        assert world.sandbox.imports(ACCOUNT)[0].found == 1

    in_world(monkeypatch, life, shared=True)


def test_where_anothers_records_cannot_be_read_at_its_end_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention has taken them since: each event has its own result all the same."""

    async def life(world: TornWorld) -> None:
        await world.until_created()
        await world.lives(FIRST, until=world.has_settled(2))
        world.trouble = [OffsetOutOfRangeError()]
        await world.lives(SECOND, until=world.has_settled(4))
        assert outcomes(world.results()) == {"delivered": 4}
        assert coalesced(world.results()[2:]) == 0

    in_world(monkeypatch, life, shared=True)


def test_brokers_that_do_not_answer_are_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is late, and sent."""

    async def life(world: TornWorld) -> None:
        await world.until_created()
        world.trouble = [KafkaConnectionError("away"), TimeoutError()]
        await world.lives(FIRST, until=world.has_settled(2))
        assert world.uploaded() == [1]
        await world.lives(SECOND, until=world.has_settled(4))

    in_world(monkeypatch, life)


@pytest.mark.parametrize("compacted", [0, 1])
def test_what_cannot_be_read_any_more_lapses(monkeypatch: pytest.MonkeyPatch, compacted: int) -> None:
    """No file is sent, the slot is taken until nothing can be open, and each delivers his own anew."""

    async def life(world: TornWorld) -> None:
        began = world.time.monotonic()
        await world.until_created()
        world.compacted = compacted
        lost = [] if compacted else [OffsetOutOfRangeError()]
        world.trouble = [*lost]
        told: list[str | None] = []

        def look(lane: Lane) -> None:
            assert isinstance(lane.bulks, ImportWay)
            told.append(lane.bulks.slot_waits_for(FIRST))

        await world.lives(FIRST, until=lambda: bool(world.reads), look=look)
        world.trouble = [*lost]
        await world.lives(FIRST, until=world.for_s(30), look=look)
        assert told[-1] is not None
        assert told[-1].endswith("s more, for records of it are gone")
        world.trouble = [*lost]
        await world.lives(FIRST, until=world.has_settled(2))
        assert world.time.monotonic() - began >= LIFE_S
        assert world.uploaded() == [0, 1]
        await world.lives(FIRST, SECOND, until=world.has_settled(4))
        assert world.uploaded() == [0, 1, 1]

    in_world(monkeypatch, life)


def test_a_file_that_nobody_sends_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute behind its address's end whoever does not lead takes his records out of the import. Who has all
    partitions then does not send the file, which holds them still."""

    async def life(world: TornWorld) -> None:
        await world.until_created()
        world.sandbox.configure(ACCOUNT, {"stuck_at": "waiting_for_file"})
        began = world.time.monotonic()
        await world.lives(SECOND, until=lambda: len(world.open_entries()) < 2)
        assert world.time.monotonic() - began > LIFE_S + 50
        await world.lives(FIRST, SECOND, until=world.for_s(10))
        world.sandbox.configure(ACCOUNT, {"stuck_at": None})
        await world.lives(FIRST, SECOND, until=world.has_settled(4))
        assert world.uploaded()[0] == 0

    in_world(monkeypatch, life)


def test_whoever_has_all_again_knows_what_one_of_them_knew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file was sent, and the other's entry does not say so yet: it is not sent again, though the platform's word
    lags behind."""

    async def life(world: TornWorld) -> None:
        await world.until_created()
        world.sandbox.configure(ACCOUNT, {"stuck_at": "waiting_for_file"})
        await world.lives(FIRST, until=lambda: "uploaded" in world.states())
        assert world.states() == ["created", "uploaded"]
        await world.lives(FIRST, SECOND, until=world.for_s(20))
        assert world.uploaded() == [1]
        world.sandbox.configure(ACCOUNT, {"stuck_at": None})
        await world.lives(FIRST, SECOND, until=world.has_settled(4))
        assert world.uploaded() == [1]

    in_world(monkeypatch, life)


def test_an_import_that_failed_between_two_looks_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one sends the file, and the import fails before the other has seen that it had one: it had, for its address
    has not ended, and the rows are nobody's to send again."""

    async def life(world: TornWorld) -> None:
        await world.until_created()
        await world.lives(FIRST, until=lambda: "uploaded" in world.states())
        world.sandbox.configure(ACCOUNT, {"stuck_at": "error"})
        await world.lives(FIRST, until=world.has_settled(2))
        await world.lives(SECOND, until=lambda: len(world.results()) == 4 or len(world.uploaded()) > 1)
        assert world.uploaded() == [1]
        assert outcomes(world.results()) == {"unattributed": 4}

    in_world(monkeypatch, life, carried_out=False)


def test_failed_rows_are_sent_again_by_each_for_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within his share of the budget; what is bad is found among whoever has it."""

    async def life(world: TornWorld) -> None:
        world.sandbox.configure(ACCOUNT, {"bad_values": {"city-1"}, "stuck_at": "in_progress"})
        await world.lives(FIRST, SECOND, until=lambda: "uploaded" in world.states())
        world.sandbox.configure(ACCOUNT, {"stuck_at": None})
        await world.lives(FIRST, until=world.has_settled(2))
        assert outcomes(world.results()) == {"delivered": 2}
        assert world.uploaded() == [1, 1]
        await world.lives(FIRST, SECOND, until=world.has_settled(4))
        assert outcomes(world.results()) == {"delivered": 3, "rejected": 1}

    in_world(monkeypatch, life, options="partial_failures: split\n    split_budget: 20")


def test_failed_rows_that_are_of_both_are_nobodys_to_send_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """In which order, neither could say."""

    async def life(world: TornWorld) -> None:
        world.sandbox.configure(ACCOUNT, {"bad_values": {"city-3"}, "stuck_at": "in_progress"})
        await world.lives(FIRST, SECOND, until=lambda: "uploaded" in world.states())
        world.sandbox.configure(ACCOUNT, {"stuck_at": None})
        await world.lives(FIRST, until=world.has_settled(2))
        await world.lives(SECOND, until=world.has_settled(4))
        assert outcomes(world.results()) == {"unattributed": 4}
        assert world.uploaded() == [1]

    in_world(monkeypatch, life, shared=True, options="partial_failures: split\n    split_budget: 20")
