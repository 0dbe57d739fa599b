"""Topics that change under a running lane: partitions are added, a topic is made anew, retention is faster."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.structs import TopicPartition

from contracts.control import Loss
from service.intake.losses import BY_CONFIGURATION
from service.journal.reading import read_journal
from service.kafka import connection
from service.lane import Lane
from tests.support.events import Feed, messages
from tests.support.harness import Stage, until_state
from tests.support.kafka import create_topics, delete_before, produce
from tests.support.patience import patiently

WITHIN_S = 40.0


@pytest.fixture(autouse=True)
def _topics_are_looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata lasts for a minute otherwise."""
    monkeypatch.setattr(connection, "METADATA_MAX_AGE_MS", 1_000)


async def widen(stage: Stage, counts: Mapping[str, int]) -> None:
    """Add partitions until topics have so many."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_partitions({topic: NewPartitions(total_count=count) for topic, count in counts.items()})
    finally:
        await admin.close()


async def test_partitions_added_to_a_running_lane_are_read_from_their_beginning(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """Under `latest` too. While our own topics are narrower it holds and names them, and goes on by itself."""
    lanes = {"lane": {"start": "latest"}}
    async with (
        Stage(bootstrap_servers, prefix, tmp_path, lanes=lanes, sources={"contacts": 2}) as stage,
        stage.application() as application,
    ):
        lane, feed = application.lanes["lane"], Feed(20, seed=1)
        await until_state(lane, "running", "", within_s=WITHIN_S)
        await stage.publish(feed.take(20))
        await stage.settled_up_to(feed, within_s=WITHIN_S)

        await widen(stage, {stage.topic(): 4})
        added = [replace(message, partition=3) for message in messages(feed.take(10))]
        await produce(bootstrap_servers, stage.topic(), added)
        reason = await until_state(lane, "holding", "add some", within_s=WITHIN_S)
        assert reason == f"topic {prefix}.lane.journal has 2 partitions, the sources have 4: add some"
        await widen(stage, {f"{prefix}.lane.journal": 4})
        await until_state(lane, "holding", f"topic {prefix}.lane.dead-letters", within_s=WITHIN_S)
        await widen(stage, {f"{prefix}.lane.dead-letters": 4})
        await stage.settled_up_to(feed, within_s=WITHIN_S)
        await until_state(lane, "running", "", within_s=WITHIN_S)
        assert {offset for _, partition, offset in stage.results.of("lane") if partition == 3} == set(range(10))
        await stage.check("lane")


async def test_a_topic_made_anew_holds_or_is_read_from_its_beginning(
    bootstrap_servers: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka forgets a deleted topic's offsets. Of two running lanes one holds and goes on by order, the other one, with
    `on_gap: continue`, reads the new topic by itself. What retention takes from that it passes, and its journal says
    so."""
    lanes: dict[str, dict[str, Any]] = {"stays": {}, "goes": {"on_gap": "continue"}}
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=lanes, sources={"contacts": 1}) as stage:
        first, second, third = (Feed(10, seed=n, name=f"f{n}") for n in range(3))
        async with stage.application() as application:
            stays, goes = application.lanes["stays"], application.lanes["goes"]
            for lane in (stays, goes):
                await until_state(lane, "running", "", within_s=WITHIN_S)
            await stage.publish(first.take(30))
            for name in lanes:
                await stage.settled_up_to(first, name, within_s=WITHIN_S)
            await make_anew(stage)
            await stage.publish(second.take(8))
            await stage.settled_up_to(second, "goes", within_s=WITHIN_S)
            await until_state(stays, "holding", f"lost: offsets of {stage.topic()}-0", within_s=WITHIN_S)
            accept(stays, monkeypatch)
            await stage.settled_up_to(second, "stays", within_s=WITHIN_S)
            await until_state(stays, "running", "", within_s=WITHIN_S)
        for name in lanes:
            told = [str(result.document["subject"]) for result in stage.results.found if result.lane == name]
            assert len(told) == len(set(told)) == 38, "an event twice"

        before = (await stage.committed("goes"))[stage.topic(), 0]
        await stage.publish(third.take(20))
        await delete_before(stage.bootstrap_servers, {TopicPartition(stage.topic(), 0): before + 5})
        async with stage.application() as application:
            await until_state(application.lanes["goes"], "running", "", within_s=WITHIN_S)
            third.events = third.events[5:]
            await stage.settled_up_to(third, "goes", within_s=WITHIN_S)
        start = (await read_journal({"bootstrap_servers": bootstrap_servers}, f"{prefix}.goes.journal", own=[0])).starts
        [lost] = start[stage.topic(), 0].lost
        assert (lost.from_offset, lost.to_offset, lost.by) == (before, before + 5, BY_CONFIGURATION)


async def make_anew(stage: Stage) -> None:
    """Delete the source and create it again."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([stage.topic()])
        async with asyncio.timeout(patiently(WITHIN_S)):
            while stage.topic() in await admin.list_topics():  # noqa: ASYNC110 - polls the broker
                await asyncio.sleep(0.1)
            while True:
                try:
                    await create_topics(stage.bootstrap_servers, [stage.topic()])
                except RuntimeError:  # the old one is still being deleted
                    await asyncio.sleep(0.2)
                else:
                    return
    finally:
        await admin.close()


def accept(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that `lanes accept-loss` gives."""
    order = Loss(0, 0, "ops@host", "made anew", 1, offsets_lost=True)
    monkeypatch.setattr(lane.core.means.control, "accepted", lambda tp: order)
    lane.loss_accepted()
