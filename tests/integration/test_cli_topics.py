"""``fanline topics ensure`` on a real broker."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from service.app import KINDS
from service.config import load
from service.kafka.ensuring import ensure_topics
from tests.support.cli import KEY_VARIABLE, configuration, lane, run, wait
from tests.support.kafka import create_topics

KEYS = ["cleanup.policy", "retention.ms", "max.message.bytes", "segment.ms", "segment.bytes"]
OF_LANE = ("dead-letters", "replay", "journal", "dead-letters.log")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "k-e-y-4711")


async def described(bootstrap_servers: str, names: list[str]) -> dict[str, tuple[int, int, dict[str, str]]]:
    """Partitions, replicas and settings, asked for independently of the service."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        topics = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics(names)}
        [answer] = await admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(KEYS)) for name in names]
        )
        settings = {entry[3]: {key: value for key, value, *_ in entry[4]} for entry in answer.resources}
    finally:
        await admin.close()
    return {name: (len(parts), len(parts[0]["replicas"]), settings[name]) for name, parts in topics.items()}


def test_missing_topics_are_made_as_the_table_says(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Every topic with its partitions and settings, sizes from the largest source; again, nothing changes."""
    large, small = f"{prefix}-large", f"{prefix}-small"
    wait(create_topics(bootstrap_servers, {large: 4}, config={"max.message.bytes": "2000000"}))
    wait(create_topics(bootstrap_servers, {small: 2}))
    file = configuration(tmp_path / "f", bootstrap_servers, prefix, lane("a", large, small), lane("b", small))
    result = run("topics", "ensure", "--config", file)
    assert result.exit_code == 0, result.output
    names = [
        f"{prefix}.{name}"
        for name in ("results", "status", "control", *(f"{lane}.{topic}" for lane in "ab" for topic in OF_LANE))
    ]
    made = wait(described(bootstrap_servers, names))
    sizes = {name: (parts, replicas) for name, (parts, replicas, _) in made.items()}
    assert sizes == {
        **dict.fromkeys(names, (4, 1)),
        **{name: (2, 1) for name in names if ".b." in name},
        f"{prefix}.results": (12, 1),
        f"{prefix}.status": (1, 1),
        f"{prefix}.control": (1, 1),
    }
    check_settings(made[f"{prefix}.results"][2], "delete", 2_592_000_000, 2_065_536)
    check_settings(made[f"{prefix}.a.dead-letters"][2], "delete", 2_592_000_000, 2_065_536)
    check_settings(made[f"{prefix}.b.replay"][2], "delete", 604_800_000, 1_048_588 + 65_536)
    assert made[f"{prefix}.a.journal"][2]["cleanup.policy"] == "compact"
    assert made[f"{prefix}.a.journal"][2]["segment.ms"] == "600000"
    assert made[f"{prefix}.a.journal"][2]["segment.bytes"] == str(16 * 1024 * 1024)
    assert sorted(made[f"{prefix}.status"][2]["cleanup.policy"].split(",")) == ["compact", "delete"]

    again = run("topics", "ensure", "--config", file, "--json")
    document = json.loads(again.stdout)
    assert (again.exit_code, document["ok"]) == (0, True)
    assert [topic for topic in document["topics"] if topic["created"]] == []
    assert {finding["severity"] for finding in document["findings"]} == {"note", "warning"}
    assert any("different partition counts" in finding["problem"] for finding in document["findings"])
    assert wait(described(bootstrap_servers, names)) == made


def check_settings(settings: Mapping[str, str], cleanup: str, retention_ms: int, max_bytes: int) -> None:
    assert (settings["cleanup.policy"], settings["retention.ms"], settings["max.message.bytes"]) == (
        cleanup,
        str(retention_ms),
        str(max_bytes),
    )


def test_a_missing_source_is_its_publishers_to_make(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Exit 1 with its name, and no topics for its lane; --sources makes it for a trial."""
    source = f"{prefix}-source"
    file = configuration(tmp_path / "f", bootstrap_servers, prefix, lane("a", source))
    result = run("topics", "ensure", "--config", file)
    assert result.exit_code == 1
    assert f"error    topic {source}: a source topic that does not exist" in result.stdout
    assert f"{prefix}.a.journal" not in result.stdout
    result = run("topics", "ensure", "--config", file, "--sources", 3)
    assert result.exit_code == 0
    made = wait(described(bootstrap_servers, [source, f"{prefix}.a.journal"]))
    assert {parts for parts, _, _ in made.values()} == {3}


def test_what_breaks_a_guarantee_ends_with_1(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Compacted dead letters, fewer partitions than the source, a topic too small: each is named, none is changed."""
    source = f"{prefix}-source"
    wait(create_topics(bootstrap_servers, {source: 3}, config={"retention.ms": "604800000"}))
    file = configuration(tmp_path / "f", bootstrap_servers, prefix, lane("a", source, deadline="7d"))
    wait(create_topics(bootstrap_servers, {f"{prefix}.a.dead-letters": 3}, config={"cleanup.policy": "compact"}))
    wait(create_topics(bootstrap_servers, {f"{prefix}.a.journal": 2}, config={"cleanup.policy": "compact"}))
    wait(create_topics(bootstrap_servers, {f"{prefix}.a.replay": 3}, config={"max.message.bytes": "1000"}))
    for _ in range(2):
        result = run("topics", "ensure", "--config", file)
        assert result.exit_code == 1
        errors = [line for line in result.stdout.splitlines() if line.startswith("error ")]
        told = "\n".join(errors)
        assert f"topic {prefix}.a.dead-letters: cleanup.policy is compact" in told
        assert f"topic {prefix}.a.journal: 2 partitions, but a source topic of the lane has 3" in told
        assert f"topic {prefix}.a.replay: max.message.bytes is 1000" in told
        assert "kafka-configs.sh --alter" in told
        assert f"topic {source}: retention.ms is 604800000, shorter than the deadline of lane a" in result.stdout


def test_more_replicas_than_brokers_names_the_key(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """And no topic was made, not even a source."""
    source = f"{prefix}-source"
    file = configuration(tmp_path / "f", bootstrap_servers, prefix, lane("a", source), kafka="client_id: x")
    result = run("topics", "ensure", "--config", file, "--sources", 1)
    assert result.exit_code == 1
    assert "kafka.topics.replication is 3, but the cluster has 1 broker: no topic was created" in result.stderr
    assert source not in wait(topics_of(bootstrap_servers))


async def topics_of(bootstrap_servers: str) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        return list(await admin.list_topics())
    finally:
        await admin.close()


def test_two_at_once_make_each_topic_once(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """A topic that somebody else has just made is no error."""
    file = configuration(tmp_path / "f", bootstrap_servers, prefix, lane("a", f"{prefix}-source"))
    config = load(file, KINDS)

    async def both() -> list[int]:
        reviews = await asyncio.gather(*(ensure_topics(config, source_partitions=2) for _ in range(2)))
        assert not any(review.failed for review in reviews)
        return [sum(topic.created for topic in review.topics) for review in reviews]

    assert sum(wait(both())) == 8
