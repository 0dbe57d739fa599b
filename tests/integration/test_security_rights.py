"""Rights on a broker with ACLs: the service runs with those that the documentation lists, and each missing one is
named."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.app import KINDS
from service.config import loads
from service.kafka.rights import Need, Right, lane_needs
from service.localkafka import Cluster, Options, Protocol, Security
from tests.support.acls import allow
from tests.support.cli import run
from tests.support.events import Feed
from tests.support.harness import API_KEY, KEY_VARIABLE, Stage
from tests.support.kafka import UNHURRIED, unique

PASSWORD = "kafka-password-that-nobody-may-read"
PASSWORD_VARIABLE = "FANLINE_TEST_KAFKA_PASSWORD"
PREFIX = unique()
NEEDS = 10
USERS = ["least", "operator", *(f"lacks-{number}" for number in range(NEEDS))]


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    monkeypatch.setenv(KEY_VARIABLE, API_KEY)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Cluster]:
    """Users with passwords, and no rights but those that a test gives."""
    security = Security(protocol=Protocol.SASL_PLAINTEXT, plain_users=dict.fromkeys(USERS, PASSWORD), acls=True)
    with Cluster(Options(security=security, properties=UNHURRIED)) as cluster:
        yield cluster


def stage(cluster: Cluster, folder: Path, user: str, prefix: str = PREFIX) -> Stage:
    """A service that is ``user``; the rest of the world may do all."""
    security = {
        "protocol": "SASL_PLAINTEXT",
        "mechanism": "PLAIN",
        "username": user,
        "password": {"env": PASSWORD_VARIABLE},
    }
    kafka = {
        "bootstrap_servers": cluster.bootstrap_servers.split(","),
        "security": security,
        "topics": {"replication": 1, "results_partitions": 4},
    }
    return Stage(cluster.internal_servers, prefix, folder, lanes={"lane": {}}, kafka=kafka)


def needs_of(staged: Stage) -> list[Need]:
    return lane_needs(loads(staged.configuration(), KINDS), "lane")


async def checked(file: Path) -> list[dict[str, Any]]:
    """What `check --online` says to be wrong with Kafka; it shows no secret."""
    result = await asyncio.to_thread(run, "check", "--config", file, "--online", "--json")
    assert PASSWORD not in result.output
    findings: list[dict[str, Any]] = json.loads(result.stdout)["findings"]
    return [
        finding
        for finding in findings
        if finding["severity"] == "error" and not finding["subject"].startswith("account")
    ]


async def test_the_service_runs_with_exactly_the_listed_rights(guarded: Cluster, tmp_path: Path) -> None:
    """Nothing else is given, and events become results; `check --online` finds no error."""
    async with stage(guarded, tmp_path, "least", unique()) as staged:
        needs = needs_of(staged)
        assert len(needs) == NEEDS
        await allow(guarded.internal_servers, "least", needs)
        feed = Feed(10)
        await staged.publish(feed.take(30))
        async with staged.application():
            await staged.settled_up_to(feed, within_s=30)
        file = tmp_path / "checked"
        file.write_bytes(staged.configuration())
        assert await checked(file) == []


@pytest.fixture(scope="module")
def world(guarded: Cluster, tmp_path_factory: pytest.TempPathFactory) -> list[Need]:
    """Topics, and each user with all rights but one; what a lane needs."""

    async def make() -> list[Need]:
        async with stage(guarded, tmp_path_factory.mktemp("world"), "nobody") as staged:
            needs = needs_of(staged)
            for number in range(NEEDS):
                allowed = [need for index, need in enumerate(needs) if index != number]
                await allow(guarded.internal_servers, f"lacks-{number}", allowed)
            return needs

    return asyncio.run(make())


@pytest.mark.parametrize("number", range(NEEDS))
async def test_each_missing_right_is_named(guarded: Cluster, world: list[Need], tmp_path: Path, number: int) -> None:
    """One error, with the topic, group or transactional id, the right, and the command that gives it."""
    need = world[number]
    file = tmp_path / "f"
    file.write_bytes(stage(guarded, tmp_path, f"lacks-{number}").configuration())
    [finding] = await checked(file)
    assert finding["subject"] == need.subject
    assert f"our user of Kafka lacks the right {need.right.word}" in finding["problem"]
    assert finding["remedy"].startswith(f"kafka-acls.sh --add --operation {need.right.word} --{need.kind} {need.name}")


async def test_an_operators_rights(guarded: Cluster, tmp_path: Path) -> None:
    """Who pauses, looks at the status, reads results and audits needs what the documentation says, and no more."""
    async with stage(guarded, tmp_path, "operator", unique()) as staged:
        prefix, source = staged.prefix, staged.topic()
        reads = [source, f"{prefix}.results", f"{prefix}.status", f"{prefix}.control"]
        reads += [f"{prefix}.lane.{name}" for name in ("dead-letters", "replay", "journal")]
        needs = [Need("topic", name, Right.READ) for name in reads]
        needs += [Need("topic", f"{prefix}.control", Right.WRITE), Need("group", f"{prefix}.lane", Right.READ)]
        await allow(guarded.internal_servers, "operator", needs)
        file = tmp_path / "f"
        file.write_bytes(staged.configuration())
        for arguments in (
            ("lanes", "pause", "lane", "--reason", "a test"),
            ("lanes", "resume", "lane", "--reason", "a test"),
            ("results",),
            ("audit",),
            ("status",),
        ):
            result = await asyncio.to_thread(run, *arguments, "--config", file)
            assert "uthoriz" not in result.output
            assert result.exit_code == 0, (arguments, result.output)
