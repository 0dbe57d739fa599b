"""Where a lane begins, on the real broker."""

import asyncio
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.client import AIOKafkaClient
from aiokafka.structs import TopicPartition

from service.kafka.groups import commit_for_empty_group
from service.kafka.offsets import CommittedOffset
from service.lifecycle import LaneState
from tests.support.events import Feed
from tests.support.harness import Stage
from tests.support.kafka import Message, produce
from tests.support.oracle import until
from tests.support.patience import patiently


async def test_a_partition_added_later_is_read_from_its_beginning_under_start_latest(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """`latest` speaks of the topic as the lane found it: what is published to a new partition is not passed by."""
    lanes = {"lane": {"start": "latest"}}
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=lanes, sources={"contacts": 2, "wide": 4}) as stage:
        before, after = Feed(5, seed=1, name="before"), Feed(5, seed=2, name="after")
        await stage.publish(before.take(20))
        first = stage.process("first")
        first.start()
        async with asyncio.timeout(patiently(40)):
            while "partitions_assigned" not in first.log.read_text():  # its beginning is committed by then
                first.must_live()
                await asyncio.sleep(0.1)
        await stage.publish(after.take(30))
        await stage.results.until({"lane": 30}, within_s=40, alive=first.must_live)
        first.terminate()
        assert await first.ended(within_s=30) == 0

        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
        await admin.start()
        try:
            await admin.create_partitions({stage.topic(): NewPartitions(total_count=4)})
        finally:
            await admin.close()
        added = [Message(value=b"{", key=b"k", partition=3) for _ in range(10)]
        await produce(bootstrap_servers, stage.topic(), added)

        second = stage.process("second")
        second.start()
        await stage.results.until({"lane": 40}, within_s=40, alive=second.must_live)
        places = stage.results.of("lane")
        assert sorted(offset for _, partition, offset in places if partition == 3) == list(range(10))
        # Of the topic as it was found nothing older than the start has a result.
        assert sum(partition < 2 for _, partition, _ in places) == 30


async def test_a_committed_offset_behind_the_end_of_its_log_holds_the_lane(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """As after the loss of a log's newest records: nothing is called, the reason names both offsets, also with
    `on_gap: continue`; without it the consumer would look for that offset for ever."""
    lanes = {"lane": {"on_gap": "continue"}}
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=lanes, sources={"contacts": 1}) as stage:
        await stage.publish(Feed(5).take(20))
        client = AIOKafkaClient(bootstrap_servers=bootstrap_servers)
        await client.bootstrap()
        try:
            beyond = {TopicPartition(stage.topic(), 0): CommittedOffset(1_000, "")}
            await commit_for_empty_group(client, f"{prefix}.lane", beyond)
        finally:
            await client.close()
        async with stage.application() as application:
            board = application.lanes["lane"].board
            await until(lambda: board.state is LaneState.HOLDING, within_s=30, what="the lane holds")
            assert str(board.reason).startswith(
                f"lost: {stage.topic()}-0 ends at 20, before the committed offset 1000 (was the topic made anew?"
            )
        assert stage.calls("lane") == []
