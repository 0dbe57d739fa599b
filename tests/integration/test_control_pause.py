"""An operator's pause, over all processes and their restarts, on the real broker."""

import asyncio
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from handlers.sandbox import Mode, Outage
from service.control.following import Follower
from tests.support.cli import run
from tests.support.events import Feed
from tests.support.harness import DRAIN_S, SHORT_SESSION, Stage, until_state
from tests.support.kafka import produce, read_all
from tests.support.oracle import check_each_called, check_order, until
from tests.support.patience import Delays, delays, patiently
from tests.support.workflows import Notifications, performed
from tests.support.workflows import check_order as check_execution_order

WITHIN_S = 40.0
NOTES = 800
FLOW: dict[str, Any] = {
    "handler": "np6.workflows",
    "topics": ["notes"],
    "batch": {"max_events": 20, "linger": "20ms"},
    "account_keys": {"limits": {"requests_per_second": 10, "max_in_flight": 4}},
}
# Slow enough that a backlog is there whenever it is paused.
PACED = {"limits": {"requests_per_second": 300, "max_in_flight": 16}}


async def command(file: Path, *arguments: str) -> str:
    """Run a command of an operator's; what it prints."""
    result = await asyncio.to_thread(run, "lanes", *arguments, "--config", file)
    assert result.exit_code == 0, result.output
    return result.stdout


async def reports(stage: Stage) -> dict[str, list[dict[str, Any]]]:
    """The newest report of each process, by lane."""
    newest: dict[bytes, dict[str, Any] | None] = {}
    for record in await read_all(
        stage.bootstrap_servers, [f"{stage.prefix}.status"], isolation_level="read_uncommitted"
    ):
        newest[record.key or b""] = json.loads(record.value) if record.value else None
    by_lane: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for report in newest.values():
        if report is not None:
            by_lane[report["lane"]].append(report)
    return by_lane


async def until_reported(stage: Stage, lane: str, states: list[str]) -> list[dict[str, Any]]:
    """Wait until the processes report these states of a lane."""
    deadline = time.monotonic() + patiently(WITHIN_S)
    while True:
        found = (await reports(stage))[lane]
        if sorted(report["state"] for report in found) == states:
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.3)


async def quiet_for(stage: Stage, seconds: float, since_s: float, machine: Delays, *accounts: str) -> None:
    """No call of these accounts starts between ``since_s`` (monotonic) and ``seconds`` from now."""
    await asyncio.sleep(seconds)  # that nothing happens is not to be polled for
    since_s += machine.allowed_s
    calls = [call for call in stage.sandbox.log.calls() if call.account in accounts]
    late = [call for call in calls if call.started_s > since_s]
    assert late == [], f"{len(late)} calls, the first {late[0].started_s - since_s:.3f} s after it had to be quiet"


def wanted(feed: Feed) -> list[tuple[str, int]]:
    return [(event.target, event.segment) for event in feed.events]


async def test_a_paused_lane_calls_nothing_until_it_is_resumed(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """Two processes at work on a backlog: a second after the order neither starts a call, both say by whom and why,
    also after one of them and then both have been started anew. Resumed, each event is delivered once and in order,
    each workflow executed once and in order. The other lane never notices."""
    lanes = {"lane": {}, "free": {}, "flow": FLOW}
    sources = {"contacts": 6, "notes": 6}
    staged = Stage(
        bootstrap_servers, prefix, tmp_path, lanes=lanes, sources=sources, account=PACED, kafka=SHORT_SESSION
    )
    async with staged as stage, delays() as machine:
        feed = Feed(100, seed=21)
        await stage.publish(feed.take(3_000))
        first, second = stage.process("first"), stage.process("second")
        file = tmp_path / "first.yaml"
        first.start()
        second.start()
        await stage.until_called(300, "lane", within_s=WITHIN_S)
        # Four seconds' work: the pause has to come before its end.
        await produce(bootstrap_servers, stage.topic("notes"), Notifications(50, seed=21).take(NOTES))
        await until(lambda: bool(performed(stage.sandbox, "flow")), within_s=WITHIN_S, what="a workflow is executed")
        await command(file, "pause", "flow", "--reason", "nobody is to be written to")
        told = await command(file, "pause", "lane", "--reason", "the platform is being mended")
        assert told.startswith("lane lane: paused.")
        ordered_s = time.monotonic()
        await quiet_for(stage, 3, ordered_s + 1, machine, "lane", "flow")
        executed = len(performed(stage.sandbox, "flow"))
        assert executed < NOTES, "all was executed before the pause"
        for report in await until_reported(stage, "lane", ["paused", "paused"]):
            assert "paused by " in report["reason"]
            assert "@" in report["reason"]
            assert "the platform is being mended" in report["reason"]
        assert json.loads(await command(file, "list", "--json"))["lanes"][1]["paused"] is None

        # One of them ends in order, the other is killed: what was called is settled, and nothing is called again.
        await stage.publish(feed.take(100))
        first.terminate()
        assert await first.ended(within_s=DRAIN_S) == 0
        first.start()
        await until_reported(stage, "lane", ["paused", "paused"])
        second.kill()
        second.start()
        await until_reported(stage, "lane", ["paused"] * 3)  # and what the dead one told last
        await stage.results.until({"free": len(feed.events)}, within_s=WITHIN_S, alive=first.must_live)
        await quiet_for(stage, 1, ordered_s + 1, machine, "lane", "flow")
        assert len(performed(stage.sandbox, "flow")) == executed
        assert len(stage.results.of("lane")) < len(feed.events)

        for lane in ("lane", "flow"):
            await command(file, "resume", lane, "--reason", "mended")
        wanted_results = {"lane": len(feed.events), "flow": NOTES}
        await stage.results.until(wanted_results, within_s=WITHIN_S, alive=first.must_live)
        for process in (first, second):
            process.terminate()
        for process in (first, second):
            assert await process.ended(within_s=DRAIN_S) == 0
        for lane in lanes:
            await stage.check(lane)
        check_each_called(stage.calls("lane"), wanted(feed))
        check_order(stage.calls("lane"))
        executions = performed(stage.sandbox, "flow")
        check_execution_order(executions)
        assert len({one.id for one in executions}) == len(executions) == NOTES
        # Nothing was paused twice or settled in vain: calls are as many as events.
        assert len(stage.calls("lane")) == len(feed.events)
        # Those that ended in order have taken their reports back; the one that was killed has not.
        assert len((await reports(stage))["lane"]) == 1


async def test_a_paused_account_pauses_all_its_lanes(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """And no other. A lane that was paused by itself stays so when its account is resumed. Time in a pause is no age:
    nothing expires in it."""
    lanes = {"one": {"account": "main", "deadline": "6s"}, "two": {"account": "main", "deadline": "6s"}, "other": {}}
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=lanes) as stage:
        feed = Feed(20, seed=22)
        file = tmp_path / "operator.yaml"
        file.write_bytes(stage.configuration())
        await command(file, "pause", "two", "--reason", "only this one")
        await command(file, "pause", "--account", "main", "--reason", "credentials are changed")
        async with stage.application() as application:
            for name in ("one", "two"):
                await until_state(application.lanes[name], "paused", "", within_s=WITHIN_S)
            await stage.publish(feed.take(100))
            published_s = time.monotonic()
            await stage.results.until({"other": 100}, within_s=WITHIN_S)
            await until(lambda: time.monotonic() > published_s + 7, within_s=20, what="the deadline has passed")
            assert stage.calls("main") == []
            reason = await until_state(application.lanes["one"], "paused", "credentials", within_s=WITHIN_S)
            assert reason.startswith("account main paused by ")

            told = await command(file, "resume", "--account", "main", "--reason", "changed")
            assert "lane two is still paused by " in told
            await stage.results.until({"one": 100}, within_s=WITHIN_S)
            assert application.lanes["two"].board.state.value == "paused"
            assert stage.results.of("two") == set()
            await command(file, "resume", "two", "--reason", "all")
            await stage.results.until({"two": 100}, within_s=WITHIN_S)
        for lane in lanes:
            await stage.check(lane)


async def test_no_call_is_made_before_the_orders_are_known(
    bootstrap_servers: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control topic comes seconds after all the others: the lane waits for it, with a backlog at hand."""
    follow = Follower._follow

    async def slow(follower: Follower) -> None:
        await asyncio.sleep(4)
        await follow(follower)

    monkeypatch.setattr(Follower, "_follow", slow)
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, sources={"contacts": 1}) as stage:
        file = tmp_path / "operator.yaml"
        file.write_bytes(stage.configuration())
        feed = Feed(5, seed=23)
        await stage.publish(feed.take(20))
        await command(file, "pause", "lane", "--reason", "not yet")
        async with stage.application() as application:
            lane = application.lanes["lane"]
            await until_state(lane, "standby", "reading offsets", within_s=WITHIN_S)
            await until_state(lane, "paused", "not yet", within_s=WITHIN_S)
            assert stage.calls("lane") == []
            await command(file, "resume", "lane", "--reason", "now")
            await stage.results.until({"lane": 20}, within_s=WITHIN_S)


async def test_resume_ends_what_the_lane_holds_for_by_itself(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """Refused credentials are tried at once, not after five minutes; the guard begins anew; what waited is called."""
    lanes = {"lane": {"guard": {"dead_letters": "20%", "of_last": 50}, "concurrency": 4}}
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=lanes, sources={"contacts": 1}) as stage:
        file = tmp_path / "operator.yaml"
        file.write_bytes(stage.configuration())
        feed, outages = Feed(1_000, seed=24), stage.sandbox.outages

        def platform(status: int | None) -> None:
            down = Outage(Mode("unavailable"), account="lane", status=status)
            outages.set(Outage(Mode.UP) if status is None else down, time.monotonic())

        async with stage.application() as application:
            lane = application.lanes["lane"]
            platform(401)
            await stage.publish(feed.take(20))
            await until_state(lane, "holding", "refused", within_s=WITHIN_S)
            platform(None)
            await command(file, "resume", "lane", "--reason", "the key is back")
            await stage.results.until({"lane": 20}, within_s=WITHIN_S)

            platform(404)
            await stage.publish(feed.take(300))
            await until_state(lane, "holding", "guard", within_s=WITHIN_S)
            platform(None)
            refused = len(stage.calls("lane"))
            await command(file, "resume", "lane", "--reason", "the segment is there again")
            await stage.results.until({"lane": 320}, within_s=WITHIN_S)
            assert len(stage.calls("lane")) > refused
            await until_state(lane, "running", "", within_s=WITHIN_S)
