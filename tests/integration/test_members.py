"""How members of a lane's group come, go and stand in each other's way, on the real broker."""

import asyncio
import json
import time
from pathlib import Path

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.client import AIOKafkaClient

from service.kafka.displaced import Place, place_of
from service.kafka.groups import members_of
from service.kafka.leaving import stop_member
from service.kafka.private import Membership, membership
from tests.support.events import Feed
from tests.support.harness import DRAIN_S, Stage, until_state
from tests.support.kafka import create_topics
from tests.support.oracle import check_each_called, repeats, until

SESSION_S = 60.0
# Slow enough that there is always work under way.
PACED = {"limits": {"requests_per_second": 400, "max_in_flight": 16}}


class Slow(ConsumerRebalanceListener):
    """Gives its partitions back when it is told to."""

    def __init__(self) -> None:
        self.assigned: set[TopicPartition] = set()
        self.revoking = False
        self.may_go = asyncio.Event()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self.assigned = set(assigned)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        if revoked:
            self.revoking = True
            await self.may_go.wait()


def _member(bootstrap_servers: str, group: str, instance: str | None = None) -> AIOKafkaConsumer:
    """A member whose session outlives the test: who goes without a word is missed by nobody."""
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        group_id=group,
        group_instance_id=instance,
        enable_auto_commit=False,
        session_timeout_ms=int(SESSION_S * 1000),
        heartbeat_interval_ms=200,
        rebalance_timeout_ms=int(SESSION_S * 1000),
    )


async def test_who_stops_in_the_middle_of_a_rebalance_leaves_at_once(bootstrap_servers: str, prefix: str) -> None:
    """A second member waits for the first to drain, and is stopped: it does not wait, and the first one has all
    partitions as soon as it has drained, not after the session of the other."""
    topic, group = f"{prefix}.t", f"{prefix}.g"
    await create_topics(bootstrap_servers, {topic: 2})
    first, second, client = (
        _member(bootstrap_servers, group),
        _member(bootstrap_servers, group),
        AIOKafkaClient(bootstrap_servers=bootstrap_servers),
    )
    slow = Slow()
    await client.bootstrap()
    for consumer in (first, second):
        await consumer.start()
    first.subscribe([topic], listener=slow)
    await until(lambda: len(slow.assigned) == 2, within_s=20, what="the first member has all")
    second.subscribe([topic])
    await until(lambda: slow.revoking, within_s=20, what="the first member drains")
    await until(lambda: bool(membership(second, group).member_id), within_s=20, what="the second one joins")
    began = time.monotonic()
    await stop_member(second, client, group, within_s=SESSION_S / 2)
    assert time.monotonic() - began < SESSION_S / 3
    slow.assigned = set()
    slow.may_go.set()
    await until(lambda: len(slow.assigned) == 2, within_s=5, what="nobody waits for the one that has gone")
    assert len((await members_of(client, group)).clients) == 1
    await first.stop()
    await client.close()


async def _place(client: AIOKafkaClient, mine: Membership) -> Place:
    return await place_of(client, mine, doubted=lambda: None, wanted=lambda: True)


async def test_the_coordinator_tells_who_was_displaced(bootstrap_servers: str, prefix: str) -> None:
    """A member asks before it joins again: it is displaced once another one has its instance id, and not before."""
    topic, group = f"{prefix}.t", f"{prefix}.g"
    await create_topics(bootstrap_servers, {topic: 1})
    first, second, client = (
        _member(bootstrap_servers, group, "pod-0"),
        _member(bootstrap_servers, group, "pod-0"),
        AIOKafkaClient(bootstrap_servers=bootstrap_servers),
    )
    slow, other = Slow(), Slow()
    await client.bootstrap()
    for consumer in (first, second):
        await consumer.start()
    first.subscribe([topic], listener=slow)
    await until(lambda: bool(slow.assigned), within_s=20, what="the first member has all")
    mine = membership(first, group)
    assert await _place(client, mine) is Place.OURS
    second.subscribe([topic], listener=other)
    # Its heartbeat is refused, and it would join again, if its callback let it.
    await until(lambda: slow.revoking, within_s=20, what="the first one has noticed")
    assert await _place(client, mine) is Place.TAKEN
    await until(lambda: bool(other.assigned), within_s=20, what="the second member has all")
    assert await _place(client, membership(second, group)) is Place.OURS
    slow.may_go.set()
    await first.stop()
    await second.stop()
    await client.close()


def _count(log: Path, event: str) -> int:
    return log.read_bytes().count(f'"{event}"'.encode())


def _assignments(log: Path) -> int:
    return _count(log, "partitions_assigned")


def _share(log: Path) -> int:
    """How many partitions the process was given last."""
    lines = [line for line in log.read_bytes().splitlines() if b'"partitions_assigned"' in line]
    return int(json.loads(lines[-1])["partitions"]) if lines else 0


async def test_static_members_restart_without_their_neighbours_and_alone(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """Each of two processes with an instance id is restarted under load: it has its partitions back, the other one
    keeps its own, no call is made twice. A third with the id of one of them takes its place: the one that was pushed
    out pushes back once, then it ends, and says why and what to do."""
    # Longer than a start takes on a busy machine: who is back by then was never away.
    times = {"session_timeout": "300s", "transaction_timeout": "3s"}
    names = ("pod-0", "pod-1")
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, kafka=times, account=PACED) as stage:
        feed = Feed(300, seed=21)
        processes = {
            name: stage.process(name, account_suffix=f"-{name}", kafka={"instance_id": name}) for name in names
        }
        double = stage.process("double", account_suffix="-double", kafka={"instance_id": "pod-0"})
        async with stage.load(feed, per_s=200):
            for process in processes.values():
                process.start()
            for name in names:
                await stage.until_called(50, f"lane-{name}")
            # Whoever came first had all of them, and may still be about to tell that it has its half.
            logs = [process.log for process in processes.values()]
            await until(lambda: [*map(_share, logs)] == [6, 6], within_s=30, what="each has its half")
            for name, other in (names, names[::-1]):
                before, calls = _assignments(processes[other].log), len(stage.calls(f"lane-{name}"))
                processes[name].terminate()
                assert await processes[name].ended(within_s=DRAIN_S) == 0
                processes[name].start()
                await stage.until_called(calls + 50, f"lane-{name}")
                assert _assignments(processes[other].log) == before, "the neighbour's partitions moved"
            assert not repeats(stage.calls(*(f"lane-{name}" for name in names)))
            double.start()
            await stage.until_called(50, "lane-double")
        # Who was pushed out waits a drain's time for what it cannot settle any more: with load until the end, twice.
        assert await processes["pod-0"].ended(within_s=90) == 1
        assert _count(processes["pod-0"].log, "place_taken_back") == 1
        told = processes["pod-0"].tail()
        assert f"another process has joined group {prefix}.lane as pod-0-lane" in told
        assert "kafka.instance_id" in told
        kept = _assignments(double.log), _assignments(processes["pod-1"].log)
        await stage.publish(feed.take(300))
        await stage.results.until({"lane": len(feed.events)}, within_s=60, alive=double.must_live)
        assert (_assignments(double.log), _assignments(processes["pod-1"].log)) == kept, "the group did not settle"
        for process in (double, processes["pod-1"]):
            process.terminate()
            assert await process.ended(within_s=DRAIN_S) == 0
        await stage.check("lane")
        check_each_called(
            stage.calls(*(f"lane-{name}" for name in (*names, "double"))),
            [(event.target, event.segment) for event in feed.events],
        )


async def test_the_place_of_a_former_life_is_taken_back(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """The group knows another member under a lane's instance id, and nobody speaks for that one any more, as after the
    restart of a coordinator that had not read of ours. The lane calls nothing, says what it waits for, and takes its
    place back long before the other's session ends. When it is to stop meanwhile, it stops at once."""
    times = {"session_timeout": "300s", "transaction_timeout": "3s"}
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, kafka=times) as stage:
        feed = Feed(60, seed=22)
        double = stage.process("double", account_suffix="-double", kafka={"instance_id": "pod-0"})
        async with stage.application(kafka={"instance_id": "pod-0"}) as application:
            lane = application.lanes["lane"]
            await stage.publish(feed.take(20))
            await stage.results.until({"lane": 20}, within_s=60)
            double.start()
            await until_state(lane, "holding", "knows another member as pod-0-lane: a former life", within_s=60)
            await stage.kill(double)
            await stage.publish(feed.take(20))
            await stage.results.until({"lane": 40}, within_s=60)
            await until_state(lane, "running", "", within_s=20)
            double.start()
            await until_state(lane, "holding", "knows another member as", within_s=60)
            began = time.monotonic()
        # It would be told so for twelve seconds, and the other one lives.
        assert time.monotonic() - began < 10
        await stage.publish(feed.take(20))
        await stage.results.until({"lane": 60}, within_s=60, alive=double.must_live)
        double.terminate()
        assert await double.ended(within_s=DRAIN_S) == 0
        await stage.check("lane")
