"""Revocation and stop give partitions back together, within one deadline; who was displaced does not join again."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from service.intake.assignment import Assignment
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
        self.group = SimpleNamespace(
            assignment=Assignment(MEMBERSHIP, frozenset({TopicPartition("t", 0)})),
            draining=False,
            has_lost=lambda held: held.member_id != self.member_id,
        )

        async def drained() -> None:
            return

        observer = SimpleNamespace(revoked=lambda unfinished, seconds: self.revoked.append(seconds))
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


@pytest.mark.parametrize("displaced", [True, False])
def test_a_displaced_process_does_not_join_again(displaced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The callback's cancellation ends the client's coordination; one whose session ended joins again. Nothing is
    called any more while that is asked."""
    active: list[bool] = []

    async def asked(
        client: object, membership: Membership, *, session_timeout_s: float, doubted: Callable[[], None]
    ) -> bool:
        assert (membership, session_timeout_s) == (MEMBERSHIP, 30.0)
        active.append(lane.group.assignment.active)
        doubted()
        assert "knows another member as pod-0-vip" in (lane.troubles.place or "")
        return displaced

    monkeypatch.setattr(module, "is_displaced", asked)

    lane: Lane

    async def main(clock: FakeTime) -> None:
        nonlocal lane
        lane = Lane(clock)
        lane.called.set()
        lane.member_id = ""
        if not displaced:
            await Rebalances(lane.assigning).on_partitions_revoked(set())
            assert not lane.halted
            assert active == [False]
            return
        with pytest.raises(asyncio.CancelledError):
            await Rebalances(lane.assigning).on_partitions_revoked(set())
        assert active == [False]
        (reason,) = lane.halted
        assert "kafka.instance_id" in reason

    run(main)
    assert lane.troubles.place is None


@pytest.mark.parametrize("before", [True, False], ids=["ends before it asks", "ends while it asks"])
def test_a_lane_that_ends_does_not_wait_for_who_has_its_place(before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer can take a session; whoever stops the lane would wait for as long."""

    async def asked(*_: object, **__: object) -> bool:
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(module, "is_displaced", asked)

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

    run(main)


def test_who_asked_for_its_place_and_is_cancelled_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation of the one who asks is not taken for the lane's end."""
    ended: list[bool] = []

    async def asked(*_: object, **__: object) -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)
        return True

    monkeypatch.setattr(module, "is_displaced", asked)

    async def main(clock: FakeTime) -> None:
        asking = asyncio.create_task(Lane(clock).assigning.displaced())
        await asyncio.sleep(1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.sleep(0)
        assert ended

    run(main)
