"""Revocation and stop give partitions back together, within one deadline; who was displaced does not join again."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from service.intake.assignment import Assignment
from service.kafka.displaced import Place
from service.kafka.private import Membership
from service.lane import assigning as module
from service.lane.assigning import Assigning, Rebalances
from service.lane.troubles import Troubles
from tests.support.fakes import FakeTime, run

DRAIN_S = 25.0
MEMBERSHIP = Membership("fanline.vip", 3, "pod-0-vip-1", "pod-0-vip")


class Lane:
    """An Assigning whose one call never ends, and what it tells."""

    def __init__(self, clock: FakeTime) -> None:
        self.revoked: list[float] = []
        self.halted: list[str] = []
        self.member_id = MEMBERSHIP.member_id
        self.called = asyncio.Event()
        self.troubles = Troubles()
        self.joined_anew = False
        self.places_taken = 0
        self.group = SimpleNamespace(
            assignment=Assignment(MEMBERSHIP, frozenset({TopicPartition("t", 0)})),
            draining=False,
            has_lost=lambda held: held.member_id != self.member_id,
            joined_anew=lambda held: self.joined_anew,
            take_place=self._take_place,
            joined=lambda: MEMBERSHIP,
        )

        async def drained() -> None:
            return

        observer = SimpleNamespace(
            revoked=lambda unfinished, seconds: self.revoked.append(seconds), place_taken_back=lambda: None
        )
        core: Any = SimpleNamespace(
            setup=SimpleNamespace(drain_s=DRAIN_S, session_timeout_s=30.0),
            means=SimpleNamespace(observer=observer, clock=clock, client=None),
            group=self.group,
            buffer=None,
            troubles=self.troubles,
            held_times=None,
            deduper=None,
            settler=SimpleNamespace(drained=drained),
            hooks=None,
        )
        delivering: Any = SimpleNamespace(dispatcher=SimpleNamespace(quiet=self.called.wait))
        preparing: Any = None
        self.assigning = Assigning(
            core, delivering, preparing, changed=lambda: None, died=lambda error: None, halt=self.halted.append
        )

    def _take_place(self) -> None:
        self.places_taken += 1


def test_a_stop_in_the_middle_of_a_revocation_keeps_to_its_deadline() -> None:
    """Whoever comes second waits for the same end, and the partitions are given back once."""

    async def main(clock: FakeTime) -> None:
        lane = Lane(clock)
        began = clock.monotonic()
        revoking = asyncio.create_task(Rebalances(lane.assigning).on_partitions_revoked(set()))
        await asyncio.sleep(20.0)
        assert lane.group.draining
        await lane.assigning.give_back()
        assert clock.monotonic() - began == pytest.approx(DRAIN_S, abs=0.1)
        await revoking
        assert clock.monotonic() - began == pytest.approx(DRAIN_S, abs=0.1)
        assert len(lane.revoked) == 1
        assert not lane.group.draining
        assert not lane.group.assignment.active
        await lane.assigning.give_back()
        assert clock.monotonic() - began == pytest.approx(DRAIN_S, abs=0.1)

    run(main)


def test_who_has_quiet_calls_waits_for_nothing() -> None:
    """The drain ends when the last call does."""

    async def main(clock: FakeTime) -> None:
        lane = Lane(clock)
        lane.called.set()
        began = clock.monotonic()
        await lane.assigning.give_back()
        assert clock.monotonic() - began < 1.0

    run(main)


def _told(monkeypatch: pytest.MonkeyPatch, place: Place, lane: Callable[[], Lane], active: list[bool]) -> None:
    async def asked(
        client: object, membership: Membership, *, doubted: Callable[[], None], wanted: Callable[[], bool]
    ) -> Place:
        assert membership == MEMBERSHIP
        assert wanted()
        lane().joined_anew = True
        assert not wanted()
        lane().joined_anew = False
        active.append(lane().group.assignment.active)
        doubted()
        assert "knows another member as pod-0-vip" in (lane().troubles.place or "")
        return place

    monkeypatch.setattr(module, "place_of", asked)


@pytest.mark.parametrize("place", [Place.OURS, Place.FREE, Place.UNTOLD])
def test_whose_session_ended_joins_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes nobody's place, however often. Nothing is called any more while that is asked."""
    active: list[bool] = []

    async def main(clock: FakeTime) -> None:
        lane = Lane(clock)
        _told(monkeypatch, place, lambda: lane, active)
        lane.called.set()
        lane.member_id = ""
        for _ in range(3):
            await Rebalances(lane.assigning).on_partitions_revoked(set())
        assert active == [False] * 3
        assert not lane.halted
        assert not lane.places_taken
        assert lane.troubles.place is None

    run(main)


def test_a_displaced_process_takes_its_place_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was told of may be a former life of its own. Who is pushed out again has met another process, and does
    not join again: the callback's cancellation ends the client's coordination."""
    active: list[bool] = []

    async def main(clock: FakeTime) -> None:
        lane = Lane(clock)
        _told(monkeypatch, Place.TAKEN, lambda: lane, active)
        lane.called.set()
        lane.member_id = ""
        await Rebalances(lane.assigning).on_partitions_revoked(set())
        assert (lane.places_taken, lane.halted) == (1, [])
        # Until it has joined nobody is asked: it would be told of itself.
        assert not await lane.assigning.displaced()
        assert active == [False]
        monkeypatch.setattr(lane.assigning, "_take_over", lambda assignment: None)
        lane.assigning.assigned(frozenset())
        lane.group.assignment = Assignment(MEMBERSHIP, frozenset({TopicPartition("t", 0)}))
        with pytest.raises(asyncio.CancelledError):
            await Rebalances(lane.assigning).on_partitions_revoked(set())
        assert active == [False, False]
        assert lane.places_taken == 1
        (reason,) = lane.halted
        assert "kafka.instance_id" in reason
        assert lane.troubles.place is None

    run(main)


@pytest.mark.parametrize("before", [True, False], ids=["ends before it asks", "ends while it asks"])
def test_a_lane_that_ends_does_not_wait_for_who_has_its_place(before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer can take a while; whoever stops the lane would wait for as long."""

    async def asked(*_: object, **__: object) -> Place:
        await asyncio.Event().wait()
        return Place.TAKEN

    monkeypatch.setattr(module, "place_of", asked)

    async def main(clock: FakeTime) -> None:
        lane = Lane(clock)
        if before:
            lane.assigning.end()
        asking = asyncio.create_task(lane.assigning.displaced())
        await asyncio.sleep(1)
        lane.assigning.end()
        async with asyncio.timeout(1):
            assert not await asking
        assert not lane.halted
        assert not lane.places_taken

    run(main)


def test_who_asked_for_its_place_and_is_cancelled_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation of the one who asks is not taken for the lane's end."""
    ended: list[bool] = []

    async def asked(*_: object, **__: object) -> Place:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)
        return Place.TAKEN

    monkeypatch.setattr(module, "place_of", asked)

    async def main(clock: FakeTime) -> None:
        asking = asyncio.create_task(Lane(clock).assigning.displaced())
        await asyncio.sleep(1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.sleep(0)
        assert ended

    run(main)
