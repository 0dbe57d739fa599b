"""``fanline results`` on a real broker: what it shows, in which order, and what it does not show."""

import asyncio
import json
import signal
from collections.abc import Collection
from pathlib import Path

import pytest
from aiokafka.structs import TopicPartition

from handlers.sandbox import Prescription
from handlers.sandbox.prescriptions import Match
from service.lookup.scanning import Span, TopicReader
from tests.support.cli import Command, run
from tests.support.events import CITY, EMAIL_DOMAIN, Feed
from tests.support.harness import KEY_VARIABLE, Stage
from tests.support.kafka import Message, delete_before, end_offsets, produce


async def test_results_once_newest_last_and_followed(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Two lanes; the table and the lines for programs, each condition, repeats dropped, foreign records passed over;
    --follow shows what comes, and Ctrl-C ends it with 0."""
    lanes: dict[str, dict[str, object]] = {"first": {}, "second": {"where": 'data.change == "deleted"'}}
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=lanes) as stage:
        file = tmp_path / "fanline.yaml"
        file.write_bytes(stage.configuration())
        feed = Feed(20)
        events = feed.take(40)
        refused = events[7]
        stage.sandbox.prescriptions.add([Prescription([400], Match(account="first", target=refused.target), skip=0)])

        async def told(*arguments: object) -> list[str]:
            result = await asyncio.to_thread(run, "results", "--config", file, *arguments)
            assert result.exit_code == 0, result.output
            return result.stdout.splitlines()

        async def documents(*arguments: object) -> list[dict[str, object]]:
            return [json.loads(line)["data"] for line in await told("--json", *arguments)]

        async with stage.application():
            await stage.publish(events)
            await stage.results.until({"first": 40, "second": 40}, within_s=30)
            # An at-least-once lane may publish a result again; somebody else may write what is no result.
            again = stage.results.found[0]
            strangers = [Message(json.dumps(again.document).encode(), key=again.key), Message(b"no result")]
            await produce(bootstrap_servers, stage.results_topic, strangers)

            everything = await documents()
            assert len(everything) == 80
            # Two lanes' transactions may end in another order than they began: each lane's own keep theirs.
            completed = [str(each["completed_at"]) for each in everything if each["lane"] == "first"]
            assert completed == sorted(completed)
            assert {each["lane"] for each in await documents("--lane", "second")} == {"second"}
            assert len(await documents("--lane", "second")) == 40
            [rejected] = await documents("--outcome", "rejected")
            assert rejected["event"]["id"] in {event.id for event in events if event.target == refused.target}  # type: ignore[index]  # JSON
            assert len(await documents("--event-id", refused.id)) == 2
            of_contact = [event for event in events if event.key == refused.key]
            assert len(await documents("--key", refused.target, "--lane", "first")) == len(of_contact)
            assert await documents("--since", "0s") == []

            head, *rows = await told("--lane", "first")
            assert head.split() == ["completed", "at", "lane", "outcome", "event", "operations"]
            assert len(rows) == 40
            [row] = [row for row in rows if "rejected: refused" in row]
            assert "HTTP 400" in row
            assert not [row for row in rows if EMAIL_DOMAIN in row or CITY in row]

            environment = {KEY_VARIABLE: "x"}
            following = ("results", "--config", file, "--json", "--follow", "--since", "0s")
            with Command(tmp_path / "follow", *following, environment=environment) as command:
                await asyncio.to_thread(command.until, "0 offsets to read")
                [later] = feed.take(1)
                await stage.publish([later])
                await asyncio.to_thread(command.until, f'"id":"{later.id}"')
                command.signal(signal.SIGINT)
                assert await asyncio.to_thread(command.code) == 0
                assert "Traceback" not in command.printed()


async def test_what_retention_takes_meanwhile_is_told(
    bootstrap_servers: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results that are deleted between the look at the offsets and the reading are named by both commands, with their
    offsets; what is known without them is told; an event of which nothing is left is not said never to have been."""
    monkeypatch.setenv(KEY_VARIABLE, "x")
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, sources={"contacts": 1}) as stage:
        file = tmp_path / "fanline.yaml"
        file.write_bytes(stage.configuration())
        [event] = events = Feed(20).take(1)
        async with stage.application():
            await stage.publish(events)
            await stage.results.until({"lane": 1}, within_s=30)
        ends = await end_offsets(bootstrap_servers, [stage.results_topic, stage.topic()])
        [result] = [tp for tp, end in ends.items() if end and tp.topic == stage.results_topic]
        [source] = [tp for tp in ends if tp.topic == stage.topic()]
        right = TopicReader.spans

        def deleting(tp: TopicPartition, before: int) -> None:
            async def spans(
                reader: TopicReader, partitions: Collection[TopicPartition], since_ms: int | None = None
            ) -> dict[TopicPartition, Span]:
                found = await right(reader, partitions, since_ms)
                if tp in partitions:
                    await delete_before(bootstrap_servers, {tp: before})
                return found

            monkeypatch.setattr(TopicReader, "spans", spans)

        async def explained(code: int, *arguments: str) -> str:
            told = await asyncio.to_thread(run, "explain", event.id, "--config", file, *arguments)
            assert told.exit_code == code, told.output
            return told.stdout

        deleting(result, 1)
        told = await asyncio.to_thread(run, "results", "--config", file)
        gone = f"{result.topic}-{result.partition} offsets 0 to 0 before they were read"
        assert (told.exit_code, told.stderr.count(f"retention deleted {gone}")) == (0, 1), told.output
        deleting(source, 0)
        assert "Retention deleted" not in await explained(0)

        await produce(bootstrap_servers, result.topic, [Message(b"no result", partition=result.partition)])
        deleting(result, ends[result] + 1)
        told_of = json.loads(await explained(0, "--json"))
        deleted = {
            "topic": result.topic,
            "partition": result.partition,
            "from_offset": 1,
            "to_offset": ends[result] + 1,
        }
        assert told_of["deleted"] == [deleted]
        assert told_of["stories"][0]["lanes"][0]["standing"] == "no_result"

        deleting(source, 1)
        text = await explained(1)
        assert f"Retention deleted {source.topic}-0 offsets 0 to 0 before they were read" in text
