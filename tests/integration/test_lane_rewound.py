"""A group's offsets that went back, as a coordinator tells them that has not read all of its log (docs/kafka.md)."""

from pathlib import Path

from aiokafka.client import AIOKafkaClient
from aiokafka.structs import TopicPartition

from service.kafka.private import Membership
from service.settling.producing import TransactorPolicy
from service.settling.transactor import Committed, Transactor
from tests.support.events import Feed
from tests.support.harness import Stage, until_state

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
        assert {told[tp].offset for tp in settled} == {3}
        found = await group.settled(assignment)
        assert {tp: found[tp] for tp in settled} == settled
