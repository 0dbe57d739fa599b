"""A platform that is dead for a while: its lanes hold and say so, others keep their pace, and nothing is given up."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox import Mode, Outage, SandboxServer
from tests.support.events import Feed
from tests.support.harness import Stage, free_port
from tests.support.kafka import read_committed_all
from tests.support.oracle import check_each_called, check_order
from tests.support.patience import patiently

# Long enough for a breaker to double its pause several times. It ends when all has been looked at.
OUTAGE_S = 54.0
# By then all have noticed, and what was on its way has come to its end: nothing has been told of for so long.
NOTICED_S, REST_S = 40.0, 5.0
PACE_PER_S = 150
# How each account dies, and what its lane has to say of it meanwhile.
DEAD = {"unavailable": "rate limit", "hang": "breaker open", "reset": "breaker open", "refuse": "breaker open"}


async def test_dead_accounts_hold_their_own_lanes_and_no_other(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """Four accounts die at once for a minute, each in its way: each lane holds until the end and /status says why;
    nothing more is delivered to them, there is no dead letter; the fifth account's lane keeps the pace that it had;
    afterwards everything is delivered, in order."""
    short = {"timeouts": {"connect": "1s", "total": "1s"}}
    lanes: dict[str, dict[str, Any]] = {name: {"account_keys": short, "topics": [name]} for name in DEAD}
    paced = {"limits": {"requests_per_second": PACE_PER_S, "max_in_flight": 16}}
    lanes["healthy"] = {"account_keys": paced, "topics": ["healthy"]}
    # Few attempts, which an outage must not use up: only what fails while others succeed counts.
    retry = {"retry": {"first_delay": "500ms", "max_delay": "5s", "max_attempts": 3}}
    lanes = {name: given | retry for name, given in lanes.items()}
    stage = Stage(bootstrap_servers, prefix, tmp_path, lanes=lanes, sources=dict.fromkeys(lanes, 2))
    # Connections know no account: who refuses them is a server of its own.
    stage.other_sandboxes["refuse"] = refusing = SandboxServer(np6=Np6Sandbox())
    async with stage:
        feeds = {name: Feed(50, name=name) for name in lanes}
        for name in DEAD:
            await stage.publish(feeds[name].take(400), name)
        await stage.publish(feeds["healthy"].take(int(PACE_PER_S * (OUTAGE_S + 26))), "healthy")
        port = free_port()
        service = stage.process(http_port=port)
        service.start()
        await stage.results.until(dict.fromkeys(lanes, 1), within_s=30, alive=service.must_live)
        usual = await _pace_per_s(stage, time.monotonic() + 6)

        for name in DEAD:
            await stage.publish(feeds[name].take(400), name)
            if name != "refuse":
                stage.sandbox.outages.set(Outage(Mode(name), account=name), time.monotonic())
        await _stop_listening(refusing)
        began = time.monotonic()
        await _until_all_hold(port, DEAD, within_s=NOTICED_S)
        told = await _at_rest(stage, began + patiently(NOTICED_S))
        assert max(told.values()) < 800, "the outage fell into no backlog"

        pace = await _pace_per_s(stage, began + OUTAGE_S)
        await _until_all_hold(port, DEAD, within_s=5)
        assert {name: len(stage.results.of(name)) for name in DEAD} == told
        stage.sandbox.outages.set(Outage(Mode.UP), time.monotonic())
        await refusing._listen()
        assert pace >= 0.7 * min(usual, PACE_PER_S), f"the healthy lane fell from {usual:.0f} to {pace:.0f} events/s"

        counts = {name: len(feed.events) for name, feed in feeds.items()}
        await stage.results.until(counts, within_s=90, alive=service.must_live)
        for name, feed in feeds.items():
            await stage.check(name)
            assert await read_committed_all(bootstrap_servers, [stage.dead_letter_topic(name)]) == []
            calls = stage.calls(name) if name != "refuse" else refusing.log.calls()
            joins = [call for call in calls if call.kind == "join"]
            check_each_called(joins, ((event.target, event.segment) for event in feed.events))
            check_order(joins)


async def _stop_listening(server: SandboxServer) -> None:
    """As ``refuse`` does, until somebody listens again."""
    await server._close()
    assert server._web is not None
    for connection in server._web.connections:
        if connection.transport is not None:
            connection.transport.close()


async def _at_rest(stage: Stage, until_s: float) -> dict[str, int]:
    """How many results the dead lanes have, once it has been as many for a while; by then (monotonic) it has to be."""
    told: dict[str, int] = {}
    since = time.monotonic()
    while time.monotonic() < since + REST_S:
        await stage.results.look(0.2)
        if (now := {name: len(stage.results.of(name)) for name in DEAD}) != told:
            told, since = now, time.monotonic()
        assert time.monotonic() < until_s, "dead accounts go on delivering"
    return told


async def _pace_per_s(stage: Stage, until_s: float) -> float:
    """What the healthy lane settles until then (monotonic), in the middle one of slices of 2 s: a machine that stands
    still for a while does not count."""
    paces: list[float] = []
    while not paces or time.monotonic() < until_s:
        began, before = time.monotonic(), len(stage.results.of("healthy"))
        while time.monotonic() < began + 2:
            await stage.results.look(0.2)
        paces.append((len(stage.results.of("healthy")) - before) / (time.monotonic() - began))
    return median(paces)


async def _until_all_hold(port: int, dead: Mapping[str, str], *, within_s: float) -> None:
    """Wait until each dead lane says that it holds, and why."""
    missing = dict(dead)
    deadline = time.monotonic() + patiently(within_s)
    async with aiohttp.ClientSession() as session:
        while missing:
            async with session.get(f"http://127.0.0.1:{port}/status") as answer:
                lanes = {lane["lane"]: lane for lane in (await answer.json())["lanes"]}
            for name, word in list(missing.items()):
                if lanes[name]["state"] == "holding" and word in lanes[name]["reason"]:
                    del missing[name]
            told = {name: (lanes[name]["state"], lanes[name]["reason"]) for name in missing}
            assert lanes["healthy"]["state"] != "holding", lanes["healthy"]["reason"]
            assert time.monotonic() < deadline, f"these do not hold: {told}"
            await asyncio.sleep(0.1)
