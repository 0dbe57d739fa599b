"""``fanline publish`` on a real broker."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from contracts.envelope import decode
from contracts.events import Event
from service.localkafka import LocalKafka
from service.publishing.publishing import PublishError, publisher
from tests.support.cli import KEY_VARIABLE, configuration, lane, run, wait
from tests.support.kafka import Record, create_topics, read_committed_all
from tests.support.patience import patiently


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "k-e-y-4711")


@pytest.fixture
def topic(bootstrap_servers: str, prefix: str) -> str:
    """A topic with three partitions."""
    name = f"{prefix}-events"
    wait(create_topics(bootstrap_servers, {name: 3}))
    return name


@pytest.fixture
def config(bootstrap_servers: str, prefix: str, topic: str, tmp_path: Path) -> Path:
    return configuration(tmp_path / "fanline.yaml", bootstrap_servers, prefix, lane("a", topic))


def contact(number: int, contact_id: str | None) -> str:
    data: dict[str, Any] = {"contact_id": contact_id, "change": "updated", "identifiers": {"np6": f"T{number}"}}
    envelope = {"specversion": "1.0", "id": f"e{number}", "source": "crm", "type": "contact.changed.v1"}
    return json.dumps({**envelope, "data": data})


def notification(number: int) -> str:
    data = {
        "notification_key": number,
        "target": f"N{number}",
        "action": "dismiss",
        "occurred_at": "2026-01-01T00:00:00Z",
    }
    envelope = {"specversion": "1.0", "id": f"n{number}", "source": "crm", "type": "notification.occurred.v1"}
    return json.dumps({**envelope, "data": data})


def written(file: Path, *lines: str) -> Path:
    file.write_text("\n".join(lines))
    return file


def records(bootstrap_servers: str, topic: str) -> list[Record]:
    return wait(read_committed_all(bootstrap_servers, [topic]))


def test_every_event_arrives_once_and_in_order(
    bootstrap_servers: str, topic: str, config: Path, tmp_path: Path
) -> None:
    """The bytes of the file, keyed by contact or target, each contact's events in its order; counts at the end."""
    lines = [contact(n, f"c{n % 50}") for n in range(3_000)] + [notification(n) for n in range(20)]
    result = run("publish", "--config", config, "--topic", topic, written(tmp_path / "e", *lines))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{topic}: 3,020 events published, 0 invalid lines\n"
    found = records(bootstrap_servers, topic)
    assert sorted(record.value or b"" for record in found) == sorted(line.encode() for line in lines)
    assert {record.partition for record in found} == {0, 1, 2}
    last: dict[bytes, int] = {}
    for record in found:
        event = decode(record.value, record.headers)
        assert isinstance(event, Event)
        data: Any = event.data
        assert record.key == (data.contact_id if event.id.startswith("e") else data.target).encode()
        if event.id.startswith("e"):
            number = int(event.id[1:])
            assert number > last.get(record.key, -1)
            last[record.key] = number
        assert dict(record.headers)["content-type"].startswith(b"application/cloudevents+json")


def test_one_invalid_line_and_nothing_is_published(
    bootstrap_servers: str, topic: str, config: Path, tmp_path: Path
) -> None:
    """The line is told as validate tells it; exit 1."""
    file = written(tmp_path / "e", contact(1, "c1"), contact(2, None), contact(3, "c3"))
    result = run("publish", "--config", config, "--topic", topic, file)
    assert result.exit_code == 1
    assert result.stdout == f"{file}:2: data.contact_id: missing\n"
    assert "0 events published, 1 invalid line" in result.stderr
    assert "Nothing was published" in result.stderr
    assert records(bootstrap_servers, topic) == []


def test_invalid_lines_can_be_left_out(bootstrap_servers: str, topic: str, config: Path) -> None:
    """From standard input, which is read once; exit 1 tells that not all went out."""
    stdin = "\n".join([contact(1, "c1"), "{", "", contact(3, "c3")]).encode()
    result = run("publish", "--config", config, "--topic", topic, "--skip-invalid", "--json", "-", stdin=stdin)
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"file": "<stdin>", "topic": topic, "published": 2, "invalid": 1}
    assert len(records(bootstrap_servers, topic)) == 2


def test_another_field_can_be_the_key(bootstrap_servers: str, topic: str, config: Path, tmp_path: Path) -> None:
    """And an event without it is an invalid line."""
    file = written(tmp_path / "e", contact(1, "c1"), contact(2, "c2"))
    result = run("publish", "--config", config, "--topic", topic, "--key-field", "data.identifiers.np6", file)
    assert result.exit_code == 0
    assert {record.key for record in records(bootstrap_servers, topic)} == {b"T1", b"T2"}
    result = run("publish", "--config", config, "--topic", topic, "--key-field", "data.identifiers.crm", file)
    assert result.exit_code == 1
    assert ":1: data.identifiers.crm: expected a text or a whole number" in result.stdout


def test_an_event_that_the_topic_does_not_take_is_found_before(
    bootstrap_servers: str, prefix: str, config: Path, tmp_path: Path
) -> None:
    """By the topic's own limit; what just fits is published."""
    small = f"{prefix}-small"
    wait(create_topics(bootstrap_servers, [small], config={"max.message.bytes": "2000"}))
    file = written(tmp_path / "e", contact(1, "c" * 200), contact(2, "d" * 200)[:-2] + " " * 1_700 + "}}")
    result = run("publish", "--config", config, "--topic", small, file)
    assert result.exit_code == 1
    assert f"{file}:2: too large for the topic, whose max.message.bytes is 2000" in result.stdout
    room = 2_000 - 256 - len(contact(3, "e")) - 1
    fits = contact(3, "e")[:-2] + " " * room + "}}"
    result = run("publish", "--config", config, "--topic", small, written(tmp_path / "f", fits))
    assert result.exit_code == 0, result.output
    assert len(records(bootstrap_servers, small)) == 1


def test_a_topic_that_is_not_there_is_not_made(
    bootstrap_servers: str, prefix: str, config: Path, tmp_path: Path
) -> None:
    """It is named; exit 1."""
    file = written(tmp_path / "e", contact(1, "c1"))
    result = run("publish", "--config", config, "--topic", f"{prefix}-nope", file)
    assert result.exit_code == 1
    assert f"--topic {prefix}-nope: does not exist" in result.stderr


async def test_an_event_that_the_broker_refuses_is_no_success(bootstrap_servers: str, prefix: str) -> None:
    """Every event is acknowledged, or the command fails and says how many were."""
    topic = f"{prefix}-small"
    await create_topics(bootstrap_servers, [topic], config={"max.message.bytes": "2000"})
    counted: list[int] = []
    connection = {"bootstrap_servers": bootstrap_servers}
    async with publisher(connection, topic, max_message_bytes=1_000_000, acknowledged=counted.append) as sink:
        await sink.send(b"k", b"small")
        await sink.finish()
        await sink.send(b"k", random.randbytes(5_000))
        with pytest.raises(PublishError, match=r"larger than its max\.message\.bytes\. 1 events had been acknowledged"):
            await sink.finish()
    assert counted == [1]
    assert len(await read_committed_all(bootstrap_servers, [topic])) == 1


async def test_brokers_that_fall_silent_end_it() -> None:
    """A frozen broker: the command gives up instead of waiting for ever, and says how many had been acknowledged."""
    async with LocalKafka() as kafka:
        await create_topics(kafka.bootstrap_servers, ["t"])
        try:
            with pytest.raises(PublishError, match=r"have fallen silent\. 1 events had been acknowledged"):
                await asyncio.wait_for(send_to_frozen(kafka), patiently(20))
        finally:
            kafka.resume()


async def send_to_frozen(kafka: LocalKafka) -> None:
    async with publisher(
        {"bootstrap_servers": kafka.bootstrap_servers},
        "t",
        max_message_bytes=1_000_000,
        acknowledged=lambda _: None,
        stalled_after_s=4.0,  # no acknowledgement takes half as long on a busy machine
    ) as sink:
        await sink.send(b"k", b"1")
        await sink.finish()
        kafka.pause()
        await sink.send(b"k", b"2")
        await sink.finish()
