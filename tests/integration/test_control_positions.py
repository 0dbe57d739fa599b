"""Lost records that an operator gives up, lanes that are moved and lanes that are copied, on the real broker."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.protocol.admin import DeleteGroupsRequest
from aiokafka.structs import TopicPartition

from contracts.journal import Start
from service.app import KINDS, Application
from service.config import loads
from service.control import desk
from service.journal.reading import Journal, read_journal
from service.kafka.groups import GroupBusyError
from service.kafka.names import lane_names
from service.lane import Lane
from service.telemetry import metrics as m
from tests.support.cli import run
from tests.support.events import Feed, messages
from tests.support.harness import DRAIN_S, Stage, until_state
from tests.support.kafka import Message, create_topics, delete_before, produce
from tests.support.oracle import until
from tests.support.patience import patiently

WITHIN_S = 40.0


async def command(file: Path, *arguments: str, code: int = 0) -> str:
    """Run a command of an operator's; what it prints, and what a service in this process logs meanwhile."""
    result = await asyncio.to_thread(run, "lanes", *arguments, "--config", file, "--reason", "a test")
    assert result.exit_code == code, result.output
    return result.output


def read_json(printed: str) -> Any:
    """The document among the lines that a service logs."""
    return json.JSONDecoder().raw_decode(printed, printed.index("{\n"))[0]


@asynccontextmanager
async def running(stage: Stage, lanes: Sequence[str] = ("lane",)) -> AsyncIterator[Application]:
    """Some lanes of the stage in this process; at the end they drain."""
    async with Application(loads(stage.configuration(), KINDS), lanes=lanes, drain_s=DRAIN_S) as application:
        stop = asyncio.Event()
        task = asyncio.create_task(application.run(stop))
        try:
            yield application
        finally:
            stop.set()
            await asyncio.wait_for(task, patiently(DRAIN_S + 15))


def _busy_the_second_time() -> Callable[[AIOKafkaClient, str], Awaitable[None]]:
    """In the place of who asks whether somebody is in the group: a process joins in between."""
    asked: list[str] = []

    async def refuse(_client: AIOKafkaClient, group: str) -> None:
        asked.append(group)
        if len(asked) > 1:
            raise GroupBusyError(group)

    return refuse


async def until_read(stage: Stage, lane: Lane) -> None:
    """Wait until the lane has read and settled all there is."""

    def settled() -> bool:
        assignment = lane.assignment
        if assignment is None or not assignment.ready or not assignment.active:
            return False
        return all(not state.items for state in assignment.partitions.values())

    await until(settled, within_s=WITHIN_S, what="all is settled")


async def journal(stage: Stage, lane: str = "lane") -> Journal:
    connection = {"bootstrap_servers": stage.bootstrap_servers}
    return await read_journal(connection, f"{stage.prefix}.{lane}.journal", own=range(max(stage.sources.values())))


async def forget_group(stage: Stage, lane: str = "lane") -> None:
    """As if its offsets had expired."""
    await stage.commits(lane)  # or a commit on its way would be told of behind it
    group = f"{stage.prefix}.{lane}"
    client = AIOKafkaClient(bootstrap_servers=stage.bootstrap_servers)
    await client.bootstrap()
    try:
        coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
        answer = await client.send(coordinator, DeleteGroupsRequest([group]), group=ConnectionGroup.COORDINATION)
        assert [code for _, code in answer.results] == [0]
    finally:
        await client.close()


def lost_total(application: Application) -> float:
    return application.telemetry.metrics[m.LOST_RECORDS].counter("lane").value


async def test_lost_records_are_given_up_by_order(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """The lane holds with the exact offsets and calls nothing; the order names them; then it goes on behind them, the
    journal says who gave them up, and they are counted once, also over a restart. What the group forgot altogether is
    given up alike, and read again from the first record that exists."""
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, sources={"contacts": 2}) as stage:
        file = tmp_path / "operator.yaml"
        file.write_bytes(stage.configuration())
        topic, feed = stage.topic(), Feed(20, seed=31)
        await stage.publish(feed.take(60))
        async with running(stage) as application:
            await stage.results.until({"lane": 60}, within_s=WITHIN_S)
            await until_read(stage, application.lanes["lane"])
        assert (await command(file, "accept-loss", "lane")).startswith("lane lane: nothing is lost.")
        at = (await stage.committed("lane"))[topic, 0]
        await stage.publish(feed.take(80))
        await delete_before(bootstrap_servers, {TopicPartition(topic, 0): at + 10})

        calls = len(stage.calls("lane"))
        async with running(stage) as application:
            lane = application.lanes["lane"]
            reason = await until_state(lane, "holding", "lost", within_s=WITHIN_S)
            assert reason == f"lost: {topic}-0 offsets {at} to {at + 9}"
            assert len(stage.calls("lane")) == calls
            assert lost_total(application) == 0
            told = read_json(await command(file, "accept-loss", "lane", "--json"))
            assert told["accepted"] == [
                {"topic": topic, "partition": 0, "from_offset": at, "to_offset": at + 10, "offsets_lost": False}
            ]
            await stage.results.until({"lane": 130}, within_s=WITHIN_S)
            await until_state(lane, "running", "", within_s=WITHIN_S)
            assert lost_total(application) == 10
        start = (await journal(stage)).starts[topic, 0]
        assert [(lost.from_offset, lost.to_offset) for lost in start.lost] == [(at, at + 10)]
        assert "@" in start.lost[0].by
        assert start.first_offset == 0
        assert {place.offset for place in stage.results.of("lane") if place.partition == 0}.isdisjoint(
            range(at, at + 10)
        )

        await forget_group(stage)
        async with running(stage) as application:
            lane = application.lanes["lane"]
            await until_state(lane, "holding", f"lost: offsets of {topic}-0, {topic}-1", within_s=WITHIN_S)
            calls = len(stage.calls("lane"))
            told = await command(file, "accept-loss", "lane")
            assert f"the group's offset; read again from {at + 10}" in told
            there = 140 - (at + 10)
            await until(lambda: len(stage.calls("lane")) >= calls + there, within_s=WITHIN_S, what="all is read again")
            await until_read(stage, lane)
        kept = (await journal(stage)).starts[topic, 0].lost
        assert [(lost.from_offset, lost.to_offset) for lost in kept] == [(at, at + 10), (at + 10, at + 10)]


async def test_a_lane_is_moved_and_copied_only_while_nobody_runs_it(
    bootstrap_servers: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused while a process runs it, also one that began at the last moment: then nothing is written. Forward, what
    is passed over is never called and the journal says so; backward, it is called again and no longer lost. A copy goes
    on where the other one stopped, once, and not while it would leave replays behind."""
    lanes = {"lane": {}, "renamed": {}}
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=lanes, sources={"contacts": 2}) as stage:
        file = tmp_path / "operator.yaml"
        file.write_bytes(stage.configuration())
        topic, feed = stage.topic(), Feed(20, seed=32)
        await stage.publish(feed.take(40))
        async with running(stage) as application:
            await stage.results.until({"lane": 40}, within_s=WITHIN_S)
            for refused in (("seek", "lane", "--to", "latest"), ("copy", "lane", "renamed")):
                told = await command(file, *refused, code=1)
                assert f"group {prefix}.lane has members" in told
            await until_read(stage, application.lanes["lane"])
        before = await stage.committed("lane")
        passed = feed.take(30)
        await stage.publish(passed)
        untouched = (await journal(stage)).starts
        with monkeypatch.context() as patch:
            patch.setattr(desk, "refuse_members", _busy_the_second_time())
            assert "has members" in await command(file, "seek", "lane", "--to", "latest", code=1)
        assert await stage.committed("lane") == before
        assert (await journal(stage)).starts == untouched
        moves = read_json(await command(file, "seek", "lane", "--to", "latest", "--json"))["moves"]
        assert sum(move["after"] - move["before"] for move in moves) == 30
        starts = (await journal(stage)).starts
        assert {
            place: [(lost.from_offset, lost.to_offset) for lost in start.lost] for place, start in starts.items()
        } == {(move["topic"], move["partition"]): [(move["before"], move["after"])] for move in moves}
        async with running(stage):
            await stage.publish(feed.take(5))
            await stage.results.until({"lane": 45}, within_s=WITHIN_S)
        called = {(call.target, int(call.entity or 0)) for call in stage.calls("lane")}
        assert called.isdisjoint((event.target, event.segment) for event in passed)

        back = before[topic, 1]
        told = await command(file, "seek", "lane", "--to", f"{topic}:1:{back}")
        assert "back" in told
        assert (await journal(stage)).starts[topic, 1].lost == ()
        assert "there is no such offset" in await command(file, "seek", "lane", "--to", f"{topic}:1:100000", code=1)
        assert "no such partition" in await command(file, "seek", "lane", "--to", f"{topic}:7:0", code=1)
        async with running(stage) as application:
            await stage.results.until({"lane": 45 + moves[1]["after"] - back}, within_s=WITHIN_S)
            await until_read(stage, application.lanes["lane"])

        replay = f"{prefix}.lane.replay"
        await produce(bootstrap_servers, replay, messages(feed.take(1)), transactional_id=f"{prefix}.lane.x")
        told = await command(file, "copy", "lane", "renamed", code=1)
        assert f"topic {replay} has 1 replayed events that {prefix}.lane has not ended" in told
        settled = len(stage.results.of("lane"))
        async with running(stage):
            await stage.results.until({"lane": settled + 1}, within_s=WITHIN_S)

        told = await command(file, "copy", "lane", "renamed")
        assert "lane renamed begins where lane stopped: 2 partitions" in told
        await command(file, "copy", "lane", "renamed")  # again: nothing changes
        commits = await stage.commits("lane")
        assert await stage.commits("renamed") == commits
        assert (await journal(stage, "renamed")).starts == (await journal(stage)).starts
        await stage.publish(feed.take(7))
        async with running(stage, ["renamed"]):
            await stage.results.until({"renamed": 7}, within_s=WITHIN_S)
        assert "has begun already" in await command(file, "copy", "lane", "renamed", code=1)


async def test_of_replays_that_retention_passes_the_rest_is_counted(
    bootstrap_servers: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a copy would leave replays behind is asked of what is there, also if some is deleted meanwhile."""
    tp = TopicPartition(prefix, 0)
    await create_topics(bootstrap_servers, {prefix: 1})
    await produce(bootstrap_servers, prefix, [Message(b"{}") for _ in range(10)])
    async with desk.desk({"bootstrap_servers": [bootstrap_servers], "security_protocol": "PLAINTEXT"}) as clerk:

        async def looked_too_early(tps: object) -> dict[TopicPartition, int]:
            await delete_before(bootstrap_servers, {tp: 4})
            return {tp: 0}

        monkeypatch.setattr(clerk, "first", looked_too_early)
        assert await clerk.unfinished(lane_names(prefix, "lane"), prefix) == 6


async def test_a_lane_that_never_ran_is_moved_too(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """It begins there, and the journal says since when; a time names the first record of it or later."""
    kept = {"retention.ms": "-1"}  # the records are of other years
    staged = Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, sources={"contacts": 1}, topic_config=kept)
    async with staged as stage:
        file = tmp_path / "operator.yaml"
        file.write_bytes(stage.configuration())
        feed = Feed(5, seed=33)
        old, new = messages(feed.take(4)), messages(feed.take(3))
        await produce(
            bootstrap_servers, stage.topic(), [replace(message, timestamp_ms=1_700_000_000_000) for message in old]
        )
        await produce(
            bootstrap_servers, stage.topic(), [replace(message, timestamp_ms=1_750_000_000_000) for message in new]
        )
        await command(file, "seek", "lane", "--to", "2025-01-01T00:00:00Z")
        start = (await journal(stage)).starts[stage.topic(), 0]
        assert isinstance(start, Start)
        assert (start.policy, start.first_offset, start.lost) == ("2025-01-01T00:00:00.000Z", 4, ())
        async with running(stage):
            await stage.results.until({"lane": 3}, within_s=WITHIN_S)
        assert {place.offset for place in stage.results.of("lane")} == {4, 5, 6}
