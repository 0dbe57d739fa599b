"""``fanline audit`` on a real broker: proven where all is right, while the lanes run too; and every wrong is found."""

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from handlers.sandbox import Prescription
from handlers.sandbox.prescriptions import Match
from service.auditing.auditing import _Audit
from service.status import settled_of
from tests.support.cli import run
from tests.support.events import Feed
from tests.support.harness import API_KEY, KEY_VARIABLE, Stage
from tests.support.kafka import (
    Message,
    delete_before,
    end_of,
    end_offsets,
    produce,
    produce_raw_record,
    read_committed_all,
)
from tests.support.oracle import until


async def audited(file: Path, *arguments: object, code: int = 0) -> dict[str, dict[str, Any]]:
    """What the command says of each lane."""
    os.environ[KEY_VARIABLE] = API_KEY
    result = await asyncio.to_thread(run, "audit", "--config", file, "--json", *arguments)
    assert result.exit_code == code, result.output
    lanes: dict[str, dict[str, Any]] = json.loads(result.stdout)["lanes"]
    return lanes


async def again(stage: Stage, records: Sequence[Any], topic: str, **changes: Any) -> None:
    """Publish copies of records, as a service with a fault would."""
    for record in records:
        value = record.value
        if changes:
            document = json.loads(value or b"")
            document["data"].update(changes)
            value = json.dumps(document).encode()
        await produce(stage.bootstrap_servers, topic, [Message(value, key=record.key, headers=tuple(record.headers))])


async def commit(servers: str, group: str, offsets: dict[TopicPartition, int]) -> None:
    """Move a group that has no members, as a service with a fault would."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(list(offsets))
        await consumer.commit(offsets)
    finally:
        await end_of(consumer)


async def test_a_run_is_proven_also_while_it_runs(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Two lanes, aborted records, malformed ones and one that the client cannot parse, refusals: all have one result.
    A lane that holds has pending ones, and nothing is missing."""
    lanes: dict[str, dict[str, object]] = {"first": {}, "second": {"where": 'data.change == "deleted"'}}
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=lanes, sources={"contacts": 3}) as stage:
        file = tmp_path / "fanline.yaml"
        file.write_bytes(stage.configuration())
        feed = Feed(20)
        before = await audited(file)
        assert before["first"]["events"] == 0
        events = feed.take(60)
        stage.sandbox.prescriptions.add([Prescription([400], Match(account="first", target=events[5].target), skip=0)])
        async with stage.application():
            await stage.publish(events[:30], transactional_id=f"{prefix}-t")
            await stage.publish(feed.take(10), transactional_id=f"{prefix}-t", abort=True)
            await stage.publish(events[30:], transactional_id=f"{prefix}-t")
            await produce(bootstrap_servers, stage.topic(), [Message(b"{", key=b"broken"), Message(None, key=b"gone")])
            await produce_raw_record(
                bootstrap_servers, stage.topic(), 1, key=b"x", value=b"{}", headers=[(b"\xff", b"")]
            )
            await stage.results.until({"first": 63, "second": 63}, within_s=30)
            found = await audited(file)
        first = found["first"]
        assert (first["events"], sum(first["results"].values())) == (63, 63)
        assert (first["results"]["invalid"], first["results"]["rejected"]) == (2, 1)
        assert found["second"]["results"] == {"skipped": 61, "invalid": 2}
        for lane in found.values():
            assert not any(lane[name] for name in ("missing", "duplicate", "contradictory", "pending", "unknown"))
        await stage.publish(feed.take(7))
        stopped = await audited(file, "--lane", "first")
        assert set(stopped) == {"first"}
        assert (stopped["first"]["pending"], stopped["first"]["events"]) == (7, 70)
        shown = await asyncio.to_thread(run, "audit", "--config", file)
        assert "first: proven: 63 of 70 events have exactly one result; 7 pending" in shown.stdout
        # A quiet lane's dead letters are deleted long before the results that told of them.
        dead = await end_offsets(bootstrap_servers, [stage.dead_letter_topic("first")])
        await delete_before(bootstrap_servers, dead)
        assert (await audited(file, "--lane", "first"))["first"]["contradictory"] == 0


async def test_what_is_deleted_during_an_audit(
    bootstrap_servers: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events whose results retention takes while they are read are unknown, not missing; events that it takes before
    they are read are past: neither is passed over without a word."""
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, sources={"contacts": 2}) as stage:
        file = tmp_path / "fanline.yaml"
        file.write_bytes(stage.configuration())
        async with stage.application():
            await stage.publish(Feed(20).take(30))
            await stage.results.until({"lane": 30}, within_s=30)
        sources = await end_offsets(bootstrap_servers, [stage.topic()])
        results = await end_offsets(bootstrap_servers, [stage.results_topic])

        def before(step: str, deleted: dict[TopicPartition, int]) -> None:
            right = getattr(_Audit, step)

            async def delete_first(*given: Any) -> None:
                await delete_before(bootstrap_servers, deleted)
                await right(*given)

            monkeypatch.setattr(_Audit, step, delete_first)

        before("_read_results", results)
        found = (await audited(file))["lane"]
        assert (found["events"], found["missing"], found["unknown"]) == (30, 0, 30)
        before("_read_sources", dict.fromkeys(sources, 10))
        found = (await audited(file))["lane"]
        assert (found["events"], found["past"], found["of_no_record"]) == (10, 20, 0)


async def test_what_an_open_transaction_hides_is_waited_for(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """A process that died in a transaction hides what others have committed behind it, until the broker ends it."""
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, sources={"contacts": 1}) as stage:
        file = tmp_path / "fanline.yaml"
        file.write_bytes(stage.configuration())
        dead = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, transactional_id=f"{prefix}-dead")
        await dead.start()
        try:
            await dead.begin_transaction()
            for partition in range(4):
                await dead.send_and_wait(stage.results_topic, b"{}", partition=partition)
            await stage.publish(Feed(20).take(30))
            async with stage.application() as application:

                def settled() -> bool:
                    return sum(settled_of(application.telemetry, "lane").values()) == 30

                await until(settled, within_s=30, what="all is settled")
            hidden = asyncio.create_task(audited(file))
            done, _ = await asyncio.wait({hidden}, timeout=2.5)
            assert not done, "it has judged without having seen all"
            await dead.abort_transaction()
        finally:
            await dead.stop()
        found = (await hidden)["lane"]
        assert (found["events"], found["results"], found["missing"]) == (30, {"delivered": 30}, 0)


async def test_every_wrong_is_found(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """A missing result, one that came twice, another outcome, a dead letter too many and one too few; what retention
    took is past or unknown, and only --strict fails for it."""
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, sources={"contacts": 1}) as stage:
        file = tmp_path / "fanline.yaml"
        file.write_bytes(stage.configuration())
        feed = Feed(20)
        events = feed.take(40)
        refused = {events[3].target}
        stage.sandbox.prescriptions.add([Prescription([400], Match(target=target)) for target in refused])
        async with stage.application():
            await stage.publish(events)
            await stage.results.until({"lane": 40}, within_s=30)
        results = await read_committed_all(bootstrap_servers, [stage.results_topic])
        delivered = [r for r in results if json.loads(r.value or b"")["data"]["outcome"] == "delivered"]
        assert (await audited(file))["lane"]["contradictory"] == 0

        await again(stage, delivered[:2], stage.results_topic)
        found = (await audited(file, code=1))["lane"]
        assert (found["duplicate"], found["contradictory"], found["missing"]) == (2, 0, 0)
        assert all(example.startswith("duplicate: ") for example in found["examples"])

        await again(stage, delivered[2:3], stage.results_topic, outcome="skipped")
        assert (await audited(file, code=1))["lane"]["contradictory"] == 1

        dead = await read_committed_all(bootstrap_servers, [stage.dead_letter_topic("lane")])
        await again(stage, dead[:1], stage.dead_letter_topic("lane"))
        assert (await audited(file, code=1))["lane"]["contradictory"] == 2
        await again(stage, delivered[3:4], stage.results_topic, outcome="rejected")
        assert (await audited(file, code=1))["lane"]["contradictory"] == 3

        # What retention takes from the results can be proven no more, but for events that are younger.
        await delete_before(bootstrap_servers, await end_offsets(bootstrap_servers, [stage.results_topic]))
        gone = (await audited(file, code=1))["lane"]
        assert (gone["missing"], gone["unknown"], gone["contradictory"]) == (0, 40, 1)
        await stage.publish(feed.take(5))
        async with stage.application():
            await stage.results.until({"lane": 45}, within_s=30)
        later = (await audited(file, "--from", f"{stage.topic()}:0:40"))["lane"]
        assert (later["events"], sum(later["results"].values()), later["missing"]) == (5, 5, 0)
        some = (await audited(file, "--from", f"{stage.topic()}:0:40", "--to", f"{stage.topic()}:0:43"))["lane"]
        assert (some["events"], some["unknown"]) == (3, 0)
        assert (await audited(file, "--from", "1h", "--to", "30m"))["lane"]["events"] == 0
        nowhere = await asyncio.to_thread(run, "audit", "--config", file, "--from", f"{stage.topic()}:1:0")
        assert nowhere.exit_code == 1
        assert f"{stage.topic()}:1: the topic has no such partition; it has 1, from 0 on" in nowhere.stderr

        await delete_before(bootstrap_servers, {TopicPartition(stage.topic(), 0): 10})
        found = (await audited(file))["lane"]
        assert (found["past"], found["unknown"], found["missing"]) == (10, 30, 0)
        assert (await audited(file, "--strict", code=1))["lane"] == found
        shown = await asyncio.to_thread(run, "audit", "--config", file, "--strict")
        assert "lane: proven: 5 of 35 events have exactly one result; 30 unknown, 10 past" in shown.stdout
        assert "--strict: lane: 30 finished events without a result" in shown.stderr

        # Two are called finished, and nobody has told what became of them.
        await stage.publish(feed.take(2))
        await commit(bootstrap_servers, f"{prefix}.lane", {TopicPartition(stage.topic(), 0): 47})
        found = (await audited(file, code=1))["lane"]
        assert (found["missing"], found["unknown"], found["pending"]) == (2, 30, 0)
        assert found["examples"] == [f"missing: {stage.topic()}-0 offset {offset}" for offset in (45, 46)]
