"""Slots that were changed while imports were open, against the order to pause first: whole lanes in fake time."""

import asyncio
from collections.abc import Callable

import pytest

from contracts.journal import Delivery, DeliveryKey, DeliveryState, ImportEntry, encode_entry, encode_key
from service.errors import JournalUnreadableError
from service.imports.opening import CROWDED
from service.imports.slots import is_crowded
from service.imports.way import ImportWay
from service.lane import Lane
from service.lifecycle import WAITING_FOR_SLOT
from service.settling.batches import PartitionWrite
from tests.support.fakes import FakeTime, eventually, run
from tests.support.import_world import ACCOUNT, ImportWorld, _configured, outcomes
from tests.support.lane_world import ALL

JOURNAL = "p.vip.journal"


def test_a_slot_with_two_imports_is_told() -> None:
    """Three slots were two before: the first and the third import are of one slot now. One that lies across slots is
    alone in each."""
    assert is_crowded([(0, "a"), (2, "b")], 2)
    assert not is_crowded([(0, "a"), (1, "a"), (2, "a")], 2)
    assert not is_crowded([(0, "a"), (1, "b"), (2, "c")], 3)
    assert not is_crowded([], 2)


class ChangedWorld(ImportWorld):
    """A process lives as long as it should."""

    async def lives(self, until: Callable[[], bool], look: Callable[[Lane], None] | None = None) -> None:
        """A process, until it is killed."""
        lane = self.lane()
        running = asyncio.create_task(lane.run())
        await eventually(until, within_s=20_000, every_s=0.05)
        if look is not None:
            look(lane)
        running.cancel()
        await asyncio.wait({running})
        assert lane.died is None, self.observer.faults

    def note(self, import_id: str, *, opened: bool) -> None:
        """What another process writes of an import of its partition."""
        entry = Delivery("apsis.imports", DeliveryState.UPLOADED, {"source": ((0, 9, 10),)}, 0, "x", ImportEntry(0))
        value = encode_entry(entry) if opened else None
        record = (0, encode_key(DeliveryKey(import_id)), value, [])
        self.broker.written.append(PartitionWrite(JOURNAL, 0, [record]))


def test_a_free_slot_waits_while_another_one_has_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are another process's, and all three would be one too many: what waits says why, until one has ended."""

    async def main(time: FakeTime) -> None:
        world = ChangedWorld(time)
        world.patches(monkeypatch)
        world.assigned = frozenset(tp for tp in ALL if tp.partition == 1)
        world.publish_more(0, contact=1)
        world.note("a.1", opened=True)
        world.note("b.1", opened=True)
        told: list[tuple[str | None, str | None]] = []

        def look(lane: Lane) -> None:
            way = lane.bulks
            assert isinstance(way, ImportWay)
            told.append((lane.board.reason, way.slot_waits_for(1)))

        until = time.monotonic() + 30
        await world.lives(lambda: time.monotonic() >= until, look)
        assert told == [(WAITING_FOR_SLOT, CROWDED)]
        assert "create" not in world.kinds

        def ends_one() -> bool:
            if time.monotonic() >= until + 20:
                world.note("a.1", opened=False)
            return len(world.results()) == 1

        await world.lives(ends_one)
        assert time.monotonic() < until + 60
        assert outcomes(world.results()) == {"delivered": 1}

    run(main, within_s=100_000)


def test_what_others_have_open_that_cannot_be_read_holds_the_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry of a newer version, in another process's partition: what it says is not known, and nothing is opened."""

    async def main(time: FakeTime) -> None:
        world = ChangedWorld(time)
        world.patches(monkeypatch)

        async def unreadable(*_: object, **__: object) -> None:
            raise JournalUnreadableError("journal: delivery/x is of version 9, newer than ours")

        monkeypatch.setattr("service.imports.opening.read_journal", unreadable)
        world.assigned = frozenset(tp for tp in ALL if tp.partition == 1)
        world.publish_more(0, contact=1)
        reasons: list[str | None] = []
        until = time.monotonic() + 30
        await world.lives(lambda: time.monotonic() >= until, lambda lane: reasons.append(lane.board.reason))
        assert reasons == ["journal: delivery/x is of version 9, newer than ours"]
        assert "create" not in world.kinds

    run(main, within_s=100_000)


@pytest.mark.parametrize(
    ("options", "imports"), [("", 3), ("partial_failures: split", 7)], ids=["as they were", "in halves"]
)
def test_two_imports_of_one_slot_are_not_created_at_once(
    options: str, imports: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two slots become one while each had an import. Where a row of both fails their halves come one after the other,
    and what is new behind them: the account takes one."""

    async def main(time: FakeTime) -> None:
        world = ChangedWorld(time, options=options, rules={"stuck_at": "in_progress"})
        world.patches(monkeypatch)
        world.publish(4, contacts=4)
        await world.lives(lambda: sorted(state for state, _ in world.open_entries()) == ["uploaded", "uploaded"])
        bad = {"city-0", "city-1"} if options else set()
        world.sandbox.configure(ACCOUNT, {"max_open": 1, "stuck_at": None, "bad_values": bad})
        world.config, world.import_handler = _configured(
            1, options, "{max_events: 4, max_bytes: 1MiB, linger: 1s}", paced=False
        )
        world.publish_more(4, contact=4)
        await world.lives(world.settled)
        world.check()
        assert outcomes(world.results()) == ({"delivered": 3, "rejected": 2} if options else {"delivered": 5})
        assert len(world.sandbox.imports(ACCOUNT)) == imports
        assert not world.open_entries()

    run(main, within_s=100_000)
