"""A group's offsets that went back, as a coordinator tells them that has not read all of its log (docs/kafka.md)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.structs import TopicPartition

from service.kafka.private import Membership
from service.settling.producing import TransactorPolicy
from service.settling.transactor import Committed, Transactor
from tests.support.cli import run
from tests.support.events import Feed
from tests.support.harness import API_KEY, KEY_VARIABLE, Stage, until_state

WITHIN_S = 40.0


async def take_back(stage: Stage, lane: str, offset: int) -> None:
    """Commit an offset for all partitions of a lane's source, past its group: a coordinator takes a transaction's from
    anybody who names no member."""
    group = f"{stage.prefix}.{lane}"
    client = AIOKafkaClient(bootstrap_servers=stage.bootstrap_servers)
    await client.bootstrap()
    try:
        transactor = Transactor(client, f"{group}.rewind", TransactorPolicy())
        await transactor.open()
        offsets = {TopicPartition(stage.topic(), n): Committed(offset, "") for n in (0, 1)}
        await transactor.commit([], offsets, Membership(group, -1, "", None))
    finally:
        await client.close()


@asynccontextmanager
async def undecided(stage: Stage, lane: str, offset: int) -> AsyncIterator[None]:
    """A transaction that has sent an offset of partition 0 for the lane's group, and never ends: what a coordinator
    shows that has read the beginning of one and not its end."""
    group = f"{stage.prefix}.{lane}"
    client = AIOKafkaClient(bootstrap_servers=stage.bootstrap_servers)
    await client.bootstrap()
    try:
        transactor = Transactor(client, f"{group}.undecided", TransactorPolicy(transaction_timeout_s=300.0))
        await transactor.open()
        offsets = {TopicPartition(stage.topic(), 0): Committed(offset, "")}
        await transactor._write([], offsets, Membership(group, -1, "", None))
        yield
        await transactor._abort()
    finally:
        await client.close()


async def test_a_lane_goes_on_though_a_commit_stays_undecided(
    bootstrap_servers: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its journal tells what the coordinator does not; nothing is called or told twice, and what is settled meanwhile
    holds for the next process as well. An audit knows what is settled, too."""
    monkeypatch.setattr("service.lane.group._OFFSETS_WITHIN_S", 1.0)
    monkeypatch.setattr("service.auditing.auditing._OFFSETS_S", 1.0)
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, sources={"contacts": 2}) as stage:
        feed = Feed(20, seed=53)
        await stage.publish(feed.take(60))
        async with stage.application():
            await stage.settled_up_to(feed, within_s=WITHIN_S)
        calls = len(stage.calls("lane"))
        await take_back(stage, "lane", 3)
        async with undecided(stage, "lane", 5):
            for round_ in (1, 2):
                async with stage.application() as application:
                    lane = application.lanes["lane"]
                    await until_state(lane, "running", "", within_s=WITHIN_S)
                    await stage.publish(feed.take(20))
                    await stage.settled_up_to(feed, within_s=WITHIN_S)
                    assert len(stage.calls("lane")) == calls + 20 * round_
            await stage.check("lane")
            monkeypatch.setenv(KEY_VARIABLE, API_KEY)
            file = tmp_path / "fanline.yaml"
            file.write_bytes(stage.configuration())
            audit = await asyncio.to_thread(run, "audit", "--config", file)
            assert audit.exit_code == 0, audit.output
            assert "lane: proven: 100 of 100 events have exactly one result" in audit.stdout


async def test_a_lane_goes_on_where_its_journal_says(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Nothing that was settled is called or told once more, whatever the group says; the log names both offsets, and
    the group has the right ones again before anything is read."""
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, sources={"contacts": 2}) as stage:
        feed = Feed(20, seed=51)
        await stage.publish(feed.take(60))
        async with stage.application():
            await stage.settled_up_to(feed, within_s=WITHIN_S)
        before, calls = await stage.committed("lane"), len(stage.calls("lane"))
        await take_back(stage, "lane", 3)
        assert set((await stage.committed("lane")).values()) == {3}

        process = stage.process()
        process.start()
        await stage.publish(feed.take(20))
        await stage.settled_up_to(feed, within_s=WITHIN_S)
        process.terminate()
        assert await process.ended(within_s=WITHIN_S) == 0
        assert process.tail(10_000).count('"committed_offset_behind"') == 2
        await stage.check("lane")
        assert len(stage.calls("lane")) == calls + 20
        assert all(offset > before[place] for place, offset in (await stage.committed("lane")).items())


async def test_whether_a_settlement_was_committed_is_told_by_the_journal(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """Who asks behind a lost transaction would settle again what has been settled, by a group that went back."""
    async with (
        Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, sources={"contacts": 2}) as stage,
        stage.application() as application,
    ):
        lane, feed = application.lanes["lane"], Feed(20, seed=52)
        await until_state(lane, "running", "", within_s=WITHIN_S)
        await stage.publish(feed.take(40))
        await stage.settled_up_to(feed, within_s=WITHIN_S)
        assignment = lane.assignment
        assert assignment is not None
        settled = {tp: state.last_commit for tp, state in assignment.partitions.items() if not state.is_replay}
        await take_back(stage, "lane", 3)
        group = lane.core.group
        told = await group.committed(assignment)
        assert {told.offsets[tp].offset for tp in settled} == {3}
        found = await group.settled(assignment)
        assert {tp: found[tp] for tp in settled} == settled
