"""The journal on the real broker: what was begun is found by whoever comes next, and is not done again."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition

from contracts.journal import Delivery, DeliveryKey, DeliveryState, decode_entry, decode_key, encode_entry, encode_key
from handlers.sandbox import Match, Prescription, Step
from service.errors import FencedError
from service.journal.reading import read_journal
from service.kafka.private import Membership
from service.settling.batches import PartitionWrite
from service.settling.producing import TransactorPolicy
from service.settling.transactor import Committed, Transactor
from tests.support.harness import DRAIN_S, Stage
from tests.support.kafka import Record, create_topics, produce, read_committed_all
from tests.support.oracle import Result, read_results, read_sources, until
from tests.support.patience import patiently
from tests.support.workflows import judge, notification, performed

EXECUTIONS = Match(kind="executions")
# Only who waits for a session to end needs it short. A static member that comes back in time keeps its partitions.
FAST = {"session_timeout": "3s", "transaction_timeout": "1s"}
STATIC = {"instance_id": "pod-0"}
PARTITIONS = 2


def stage_of(
    bootstrap_servers: str, prefix: str, directory: Path, kafka: Mapping[str, Any] | None = None, **keys: Any
) -> Stage:
    """A stage with one lane of workflows on two partitions, whose requests carry at most ten events."""
    lane = {"handler": "np6.workflows", "topics": ["notes"], "batch": {"max_events": 10, "linger": "100ms"}, **keys}
    return Stage(
        bootstrap_servers,
        prefix,
        directory,
        lanes={"lane": lane},
        sources={"notes": PARTITIONS},
        kafka={**STATIC, **(kafka or {})},
    )


async def publish(stage: Stage, first: int, count: int) -> None:
    """Notifications ``e-<first>`` and so on, each of a target of its own."""
    notes = [notification(f"e-{n:05d}", f"t-{n:05d}") for n in range(first, first + count)]
    await produce(stage.bootstrap_servers, stage.topic("notes"), notes)


async def open_entries(stage: Stage) -> dict[tuple[int, str], Delivery]:
    """What a committed reader of the lane's journal finds open, by (partition, id)."""
    found: dict[tuple[int, str], Delivery] = {}
    for record in await _journal(stage):
        name = decode_key(record.key)
        assert isinstance(name, DeliveryKey)
        if record.value is None:
            found.pop((record.partition, name.id), None)
        else:
            entry = decode_entry(name, record.value)
            assert isinstance(entry, Delivery)
            found[record.partition, name.id] = entry
    return found


def named(entries: Mapping[tuple[int, str], Delivery]) -> int:
    """How many records the entries name, each in its own partition."""
    return sum(
        end - first
        for (own, _), entry in entries.items()
        for ranges in entry.ranges.values()
        for partition, first, end in ranges
        if partition == own
    )


async def until_named(stage: Stage, count: int) -> None:
    """Wait until the entries name so many records."""
    deadline = time.monotonic() + patiently(5)
    while (now := named(await open_entries(stage))) != count:
        assert time.monotonic() < deadline, f"{now} records are named, not {count}"


async def until_running(stage: Stage, count: int) -> None:
    """Wait until so many requests are at the platform, without an answer."""
    await until(lambda: stage.sandbox.log.running >= count, within_s=30, what=f"{count} requests are under way")


async def verdicts(stage: Stage) -> tuple[list[Result], list[str]]:
    """The results, checked, and how they ended."""
    results = await read_results(stage.bootstrap_servers, stage.results_topic)
    expected = {result.place: result.verdict for result in results}
    await stage.check("lane", lambda place, _: expected[place], results=results)
    return results, [str(result.data["outcome"]) for result in results]


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize("was_performed", [False, True], ids=["not performed", "performed"])
async def test_killed_while_calls_are_under_way(
    bootstrap_servers: str, prefix: str, tmp_path: Path, delivery: str, was_performed: bool
) -> None:
    """Whether the platform had executed them or not, nobody knows: they are in doubt, with a dead letter, and are not
    called again; everything else is delivered, and nothing is left in the journal."""
    async with stage_of(bootstrap_servers, prefix, tmp_path, {"delivery": delivery}) as stage:
        step = Step(delay_after_s=30) if was_performed else Step(hang=True)
        stage.sandbox.prescriptions.add([Prescription([step] * 2, EXECUTIONS, skip=2)])
        service = stage.process()
        service.start()
        await publish(stage, 0, 40)
        await until_running(stage, 2)
        if was_performed:
            await until(lambda: len(performed(stage.sandbox, "lane")) >= 40, within_s=20, what="all were performed")
        await stage.results.until({"lane": 20}, within_s=20, alive=service.must_live)
        if delivery == "at_least_once":
            await until_named(stage, 20)  # without a transaction entries go a moment behind the results
        assert named(await open_entries(stage)) == 20
        service.kill()
        requests = stage.sandbox.log.count
        await publish(stage, 40, 5)
        service.start()
        await stage.results.until({"lane": 45}, within_s=40, alive=service.must_live)
        service.terminate()
        assert await service.ended(within_s=DRAIN_S) == 0

        results, outcomes = await verdicts(stage)
        assert (outcomes.count("in_doubt"), outcomes.count("delivered")) == (20, 25)
        done = performed(stage.sandbox, "lane")
        sources = await read_sources(bootstrap_servers, stage.topics_of("lane"))
        verdict = judge("lane", sources, results, done)
        assert (verdict.twice, verdict.once) == (0, 45 if was_performed else 25)
        assert stage.sandbox.log.count - requests <= 2, "only what is new was called"
        assert await open_entries(stage) == {}
        one = next(result for result in results if result.data["outcome"] == "in_doubt")
        assert one.data["batch_id"]
        assert one.data["operations"][0]["attempts"] == 1


async def test_in_doubt_repeat_sends_the_same_ids_again(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Where the lane says so, what was under way is executed once more, and recognisably so."""
    async with stage_of(bootstrap_servers, prefix, tmp_path, in_doubt="repeat") as stage:
        stage.sandbox.prescriptions.add([Prescription([Step(delay_after_s=30)] * 2, EXECUTIONS)])
        service = stage.process()
        service.start()
        await publish(stage, 0, 20)
        await until(lambda: len(performed(stage.sandbox, "lane")) >= 20, within_s=20, what="all were performed")
        assert named(await open_entries(stage)) == 20
        service.kill()
        service.start()
        await stage.results.until({"lane": 20}, within_s=40, alive=service.must_live)
        _, outcomes = await verdicts(stage)
        assert outcomes == ["delivered"] * 20
        done = performed(stage.sandbox, "lane")
        assert len(done) == 40
        assert len({execution.id for execution in done}) == 20
        assert await open_entries(stage) == {}


async def test_another_member_finds_what_a_frozen_one_had_begun(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """The frozen one's calls are in doubt for whoever takes over; thawed, it settles nothing and calls nothing of
    them."""
    async with stage_of(bootstrap_servers, prefix, tmp_path, FAST) as stage:
        stage.sandbox.prescriptions.add([Prescription([Step(delay_after_s=8)] * 2, EXECUTIONS)])
        frozen = stage.process("frozen", account_suffix="-frozen", kafka={"instance_id": None})
        other = stage.process("other", account_suffix="-other", kafka={"instance_id": None})
        frozen.start()
        await publish(stage, 0, 20)
        await until_running(stage, 2)
        frozen.freeze()
        other.start()
        await stage.results.until({"lane": 20}, within_s=60, alive=other.must_live)
        frozen.thaw()
        await publish(stage, 20, 20)
        await stage.results.until({"lane": 40}, within_s=40, alive=frozen.must_live)
        results, outcomes = await verdicts(stage)
        assert (outcomes.count("in_doubt"), outcomes.count("delivered")) == (20, 20)
        sources = await read_sources(bootstrap_servers, stage.topics_of("lane"))
        verdict = judge("lane", sources, results, performed(stage.sandbox, "lane-frozen", "lane-other"))
        assert (verdict.once, verdict.twice, verdict.in_doubt_performed) == (40, 0, 20)
        assert await open_entries(stage) == {}


async def test_drained_calls_leave_nothing_behind(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """SIGTERM while calls are under way: their answers are waited for and settled; what had not been called is not in
    the journal, and is delivered by the next process."""
    async with stage_of(bootstrap_servers, prefix, tmp_path, concurrency=2) as stage:
        stage.sandbox.prescriptions.add([Prescription([Step(delay_after_s=0.5)], EXECUTIONS, repeat=True)])
        service = stage.process()
        service.start()
        await publish(stage, 0, 100)
        await until_running(stage, 2)
        service.terminate()
        assert await service.ended(within_s=DRAIN_S) == 0
        assert await open_entries(stage) == {}
        stage.sandbox.prescriptions.clear()
        service.start()
        await stage.results.until({"lane": 100}, within_s=40, alive=service.must_live)
        _, outcomes = await verdicts(stage)
        assert outcomes == ["delivered"] * 100
        assert len(performed(stage.sandbox, "lane")) == 100


async def test_the_journal_is_read_past_what_is_still_open(bootstrap_servers: str, prefix: str) -> None:
    """The offsets of a transaction can be stable before its marker has reached the journal: whoever stopped at the
    last stable offset would miss the entry in front of a call."""
    topic = f"{prefix}.journal"
    await create_topics(bootstrap_servers, {topic: 1})
    entry = Delivery("np6.workflows", DeliveryState.BEGUN, {"notes": ((0, 0, 1),)}, begun_at_ms=1)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, transactional_id=f"{prefix}-open")
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, encode_entry(entry), key=encode_key(DeliveryKey("d-1")), partition=0)
        reading = asyncio.create_task(read_journal({"bootstrap_servers": bootstrap_servers}, topic, own=[0]))
        others = await read_journal({"bootstrap_servers": bootstrap_servers}, topic, own=[], others=[0])
        assert others.deliveries == {}
        assert not reading.done()
        await producer.commit_transaction()
        journal = await asyncio.wait_for(reading, patiently(20))
        assert journal.deliveries == {(0, "d-1"): entry}
    finally:
        await producer.stop()


async def test_a_zombies_entry_is_refused(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """The very transaction that would precede its call: with a membership that has ended it is aborted, and no reader
    finds the entry."""
    async with stage_of(bootstrap_servers, prefix, tmp_path) as stage, stage.application() as application:
        lane = application.lanes["lane"]
        await publish(stage, 0, 2)
        await stage.results.until({"lane": 2}, within_s=30)
        assert lane.assignment is not None
        current = lane.assignment.membership
        former = Membership(current.group_id, current.generation - 1, current.member_id, current.instance_id)
        zombie = Transactor(lane.core.means.client, f"{stage.prefix}.lane.zombie", TransactorPolicy())
        await zombie.open()
        tp = TopicPartition(stage.topic("notes"), 0)
        commit = lane.assignment.partitions[tp].last_commit
        entry = PartitionWrite(f"{stage.prefix}.lane.journal", 0, [(1, b"delivery/zombie", b"{}", [])])
        with pytest.raises(FencedError):
            await zombie.commit([entry], {tp: Committed(commit.offset, commit.metadata)}, former)
        assert (0, "zombie") not in await open_entries(stage)


async def test_a_compacted_journal_tells_the_same(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Entries that were taken out are gone from the log; the one that is open is found all the same."""
    async with stage_of(bootstrap_servers, prefix, tmp_path) as stage:
        await _compact_eagerly(bootstrap_servers, f"{prefix}.lane.journal")
        stage.sandbox.prescriptions.add([Prescription([Step(hang=True)], EXECUTIONS)])
        service = stage.process()
        service.start()
        await publish(stage, 0, 1)
        await until_running(stage, 1)
        count = 1
        deadline = time.monotonic() + patiently(45)
        while len(await _journal(stage)) >= count - 1:  # each event had an entry and a removal
            assert time.monotonic() < deadline, "the broker does not compact"
            await publish(stage, count, 5)
            count += 5
            await stage.results.until({"lane": count - 1}, within_s=20, alive=service.must_live)
            await asyncio.sleep(0.3)
        service.kill()
        service.start()
        await stage.results.until({"lane": count}, within_s=40, alive=service.must_live)
        service.terminate()
        assert await service.ended(within_s=DRAIN_S) == 0
        _, outcomes = await verdicts(stage)
        assert (outcomes.count("in_doubt"), outcomes.count("delivered")) == (1, count - 1)
        assert await open_entries(stage) == {}


async def _journal(stage: Stage) -> list[Record]:
    """The journal's records about deliveries."""
    records = await read_committed_all(stage.bootstrap_servers, [f"{stage.prefix}.lane.journal"])
    return [record for record in records if isinstance(decode_key(record.key), DeliveryKey)]


async def _compact_eagerly(bootstrap_servers: str, topic: str) -> None:
    """As ``topics ensure`` sets a journal up, but in milliseconds."""
    settings = {
        "cleanup.policy": "compact",
        "segment.ms": "100",
        "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": "0",
    }
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, settings)])
    finally:
        await admin.close()
