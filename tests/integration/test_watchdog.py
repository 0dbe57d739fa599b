"""Lanes whose calls hang for ever, whatever their time-outs say: restarted once, alone, and then /livez fails."""

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from handlers.base import Reply, Request
from service.app import Application
from service.status import Status, live
from service.watching import StallPolicy, watching
from tests.support.events import Feed
from tests.support.harness import Stage
from tests.support.kafka import produce
from tests.support.oracle import until
from tests.support.patience import patiently
from tests.support.workflows import Notifications, performed

WITHIN_S = 60.0
# No wait of this test takes half as long on a busy machine; in service it is two minutes.
POLICY = StallPolicy(stall_s=5.0)
LANES: dict[str, Any] = {
    "vip": {},
    "notes": {"handler": "np6.workflows", "topics": ["notes"], "batch": {"max_events": 5, "linger": "20ms"}},
    "other": {},
}


class Hanging:
    """The bug: in front of an account's transport, calls that never end, ``left`` of them, until ``released``."""

    def __init__(self, application: Application, account: str) -> None:
        self._transport = application.accounts[account]._transport
        application.accounts[account]._transport = self
        self.left = 0
        self.released = asyncio.Event()

    async def send(self, request: Request, credentials: Any) -> Reply:
        if self.left:
            self.left -= 1
            await self.released.wait()
        return await self._transport.send(request, credentials)


async def test_a_lane_that_stands_still_is_restarted_once_and_then_the_process_is_not_live(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """Nothing is lost, no event has two results; what a workflow's call may have done is in doubt; the lane beside them
    goes on as the object that it was; status and orders follow the new ones."""
    async with (
        Stage(bootstrap_servers, prefix, tmp_path, lanes=LANES, sources={"contacts": 2, "notes": 2}) as stage,
        stage.application() as application,
        watching(application, POLICY),
    ):
        contacts, notes = Feed(50, seed=1), Notifications(50)
        status, first = Status(application), dict(application.lanes)
        hanging = {name: Hanging(application, name) for name in ("vip", "notes")}

        async def publish(count: int) -> None:
            await stage.publish(contacts.take(count))
            await produce(bootstrap_servers, stage.topic("notes"), notes.take(count))

        await publish(20)
        await stage.results.until(dict.fromkeys(LANES, 20), within_s=WITHIN_S)
        await status.document()

        for one in hanging.values():
            one.left = 1
        await publish(30)
        await stage.results.until(dict.fromkeys(LANES, 50), within_s=WITHIN_S)
        second = dict(application.lanes)
        assert [name for name in LANES if second[name] is not first[name]] == ["vip", "notes"]
        assert all(first[name].board.state.value == "stopped" for name in ("vip", "notes"))
        assert live(application).ok
        partitions = {lane.lane: len(lane.partitions) for lane in (await status.document()).lanes}
        assert partitions == dict.fromkeys(LANES, 4)
        assert application._control is not None
        assert application._control._lanes["vip"][1].switched == second["vip"].orders_changed

        told = {result.place: result.verdict for result in stage.results.found if result.lane == "notes"}
        results = await stage.check("notes", lambda place, _: told[place])
        await stage.check("vip")
        await stage.check("other")
        outcomes = Counter(result.verdict for result in results)
        # The one whose entry was in the journal; what had not been called yet is delivered.
        doubtful = outcomes[("in_doubt", "interrupted")]
        assert outcomes[("delivered", None)] == 50 - doubtful
        assert 1 <= doubtful <= 5
        done = Counter(one.event for one in performed(stage.sandbox, "notes"))
        assert set(done.values()) == {1}
        assert len(done) == 50 - doubtful

        hanging["vip"].left = 1_000
        await publish(10)
        await until(lambda: not live(application).ok, within_s=WITHIN_S, what="/livez fails")
        assert list(live(application).lanes) == ["vip"]
        assert "stands still again after its restart" in live(application).lanes["vip"]
        assert application.lanes == second
        hanging["vip"].left = 0
        hanging["vip"].released.set()
        await stage.results.until(dict.fromkeys(LANES, 60), within_s=WITHIN_S)
        await stage.check("vip")


async def test_a_static_member_whose_consumer_does_not_stop_is_replaced_too(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """Its consumer is left alone after a few seconds, with heartbeats that go on. The new lane takes the partitions
    over under the same instance id long before the session ends, and is not pushed out."""
    static = {"instance_id": "pod-0", "session_timeout": "300s"}
    async with (
        Stage(bootstrap_servers, prefix, tmp_path, lanes={"vip": {}}, sources={"contacts": 2}, kafka=static) as stage,
        stage.application() as application,
        watching(application, POLICY),
    ):
        contacts, first = Feed(50, seed=1), application.lanes["vip"]
        await stage.publish(contacts.take(20))
        await stage.results.until({"vip": 20}, within_s=WITHIN_S)
        consumer = first.core.group.consumer
        assert consumer is not None
        coordinator, released, ended = consumer._coordinator, asyncio.Event(), asyncio.Event()
        stop, stop_heartbeats = consumer.stop, coordinator._stop_heartbeat_task

        async def hang() -> None:
            while not released.is_set():
                with suppress(asyncio.CancelledError):
                    await released.wait()
            await stop_heartbeats()

        async def stopping() -> None:
            try:
                await stop()
            finally:
                ended.set()

        coordinator._stop_heartbeat_task, consumer.stop = hang, stopping
        try:
            Hanging(application, "vip").left = 1
            await stage.publish(contacts.take(20))
            await until(lambda: first.abandoned, within_s=WITHIN_S, what="the lane is restarted")
            await stage.results.until({"vip": 40}, within_s=40)
            second = application.lanes["vip"]
            assert second is not first
            await stage.publish(contacts.take(20))
            await stage.results.until({"vip": 60}, within_s=WITHIN_S)
            assert application.lanes["vip"] is second
            assert second.board.state.value == "running"
            assert live(application).ok
            await stage.check("vip")
        finally:
            released.set()
            await asyncio.wait_for(ended.wait(), patiently(WITHIN_S))
