"""``fanline run`` as a process: it starts, refuses, drains and ends as it says."""

import asyncio
import json
import random
import signal
import socket
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox import SandboxServer
from handlers.sandbox.prescriptions import Match, Prescription, Step
from tests.support.cli import API_KEY, KEY_VARIABLE, Command, configuration, lane, run
from tests.support.kafka import Message, create_topics, produce, read_committed_all
from tests.support.patience import patiently

SOON_S = 40.0  # a process starts within seconds, also on a machine with other work


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, API_KEY)


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxServer]:
    async with SandboxServer(np6=Np6Sandbox()) as server:
        yield server


class Stage:
    """A source topic with two partitions, all topics of two lanes, a sandbox and a configuration."""

    def __init__(self, bootstrap_servers: str, prefix: str, sandbox: SandboxServer, folder: Path) -> None:
        self.bootstrap_servers, self.prefix, self.sandbox, self.folder = bootstrap_servers, prefix, sandbox, folder
        self.source = f"{prefix}-source"
        self.results = f"{prefix}.results"

    async def set_up(self, *, more: str = "") -> Path:
        file = configuration(
            self.folder / "fanline.yaml",
            self.bootstrap_servers,
            self.prefix,
            lane("a", self.source),
            lane("b", self.source, target="data.identifiers.other"),
            base_url=self.sandbox.base_url("np6", "main"),
            more=more,
        )
        ensured = await asyncio.to_thread(run, "topics", "ensure", "--config", file, "--sources", 2)
        assert ensured.exit_code == 0, ensured.output
        return file

    def command(self, file: Path, *arguments: object) -> Command:
        return Command(self.folder / "log", "run", "--config", file, *arguments)

    async def publish(self, *targets: str) -> None:
        events = [
            {
                "specversion": "1.0",
                "id": target,
                "source": "crm",
                "type": "contact.changed.v1",
                "data": {
                    "contact_id": target,
                    "change": "updated",
                    "identifiers": {"np6": target, "other": f"other{target}"},
                    "segments": {"join": [501]},
                },
            }
            for target in targets
        ]
        messages = [Message(json.dumps(event).encode(), key=str(event["id"]).encode()) for event in events]
        await produce(self.bootstrap_servers, self.source, messages)

    async def wait_for_results(self, lanes: dict[str, int]) -> list[dict[str, Any]]:
        """The results, once each lane has so many."""
        deadline = time.monotonic() + patiently(SOON_S)
        while True:
            records = await read_committed_all(self.bootstrap_servers, [self.results])
            results = [json.loads(record.value or b"null") for record in records]
            counts = {name: sum(each["data"]["lane"] == name for each in results) for name in lanes}
            if counts == lanes:
                return results
            assert time.monotonic() < deadline, counts
            await asyncio.sleep(0.1)


@pytest.fixture
def stage(bootstrap_servers: str, prefix: str, sandbox: SandboxServer, tmp_path: Path) -> Stage:
    return Stage(bootstrap_servers, prefix, sandbox, tmp_path)


async def until(command: Command, text: str) -> str:
    """Without stopping this loop, whose sandbox the process calls."""
    return await asyncio.to_thread(command.until, text, within_s=SOON_S)


async def code(command: Command) -> int:
    return await asyncio.to_thread(command.code, within_s=SOON_S)


def lines(command: Command) -> list[dict[str, Any]]:
    """What was logged; every line is one JSON object."""
    return [json.loads(line) for line in command.err.read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_works_until_a_signal_and_ends_with_0(stage: Stage, number: signal.Signals) -> None:
    """All lanes deliver; on SIGTERM and on Ctrl-C they give their partitions back. Logs are JSON, without secrets."""
    file = await stage.set_up(more='http: {listen: "127.0.0.1:0"}')
    await stage.publish(*(f"T{n}" for n in range(20)))
    with stage.command(file) as service:
        results = await stage.wait_for_results({"a": 20, "b": 20})
        started = lines(service)[0]
        assert (started["event"], sorted(started["lanes"])) == ("service_started", ["a", "b"])
        with await asyncio.to_thread(urllib.request.urlopen, f"{started['http']}/status", timeout=10) as answer:
            assert {each["lane"] for each in json.load(answer)["lanes"]} == {"a", "b"}
        service.signal(number)
        assert await code(service) == 0
        events = [line["event"] for line in lines(service)]
        assert "service_stopping" in events
        assert events[-1] == "service_stopped"
        assert service.out.read_text() == ""
        assert API_KEY not in service.printed()
    assert {each["data"]["outcome"] for each in results} == {"delivered"}


async def test_one_lane_of_the_file_can_run_alone(stage: Stage) -> None:
    """--lane: the other one's events wait for a process that runs it."""
    file = await stage.set_up()
    await stage.publish("T1", "T2")
    with stage.command(file, "--lane", "b") as service:
        results = await stage.wait_for_results({"b": 2})
        service.signal(signal.SIGTERM)
        assert await code(service) == 0
    assert {each["data"]["lane"] for each in results} == {"b"}
    assert {call.target for call in stage.sandbox.log.calls()} == {"otherT1", "otherT2"}


async def test_it_does_not_start_without_its_topics(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Those that are missing are named, with the command that makes them; those that are there are not; exit 1."""
    source = f"{prefix}-source"
    await create_topics(bootstrap_servers, [source, f"{prefix}.results"])
    file = configuration(tmp_path / "f", bootstrap_servers, prefix, lane("a", source))
    with Command(tmp_path / "log", "run", "--config", file) as service:
        assert await code(service) == 1
        told = service.err.read_text()
    assert f"  {prefix}.a.journal\n" in told
    assert f"  {prefix}.a.dead-letters\n" in told
    assert f"  {source}\n" not in told
    assert "`fanline topics ensure --config FILE`" in told


async def test_a_kafka_that_is_not_there_is_named(prefix: str, tmp_path: Path) -> None:
    """One line: the address, what went wrong there, what to look at; exit 1."""
    file = configuration(tmp_path / "f", "127.0.0.1:1", prefix, lane("a", "s"))
    with Command(tmp_path / "log", "run", "--config", file) as service:
        assert await code(service) == 1
        assert service.err.read_text() == (
            "Kafka at 127.0.0.1:1: connection refused; is the broker running, is kafka.bootstrap_servers right?\n"
        )


async def test_a_second_signal_ends_it_at_once(stage: Stage) -> None:
    """A call that hangs keeps the drain waiting; who does not want to wait says so again."""
    file = await stage.set_up()
    stage.sandbox.prescriptions.add([Prescription([Step(hang=True)], Match(target="T1"), repeat=True)])
    await stage.publish("T1")
    with stage.command(file, "--lane", "a") as service:
        await until(service, "partitions_assigned")
        while not stage.sandbox.log.calls():  # noqa: ASYNC110 - bounded by until's deadline above and the test's own
            await asyncio.sleep(0.02)
        service.signal(signal.SIGTERM)
        await until(service, "service_stopping")
        began = time.monotonic()
        service.signal(signal.SIGTERM)
        assert await code(service) == 1
        assert time.monotonic() - began < 20, "it has drained"
        assert "a second signal" in service.printed()


async def test_a_signal_while_it_still_looks_for_kafka(prefix: str, tmp_path: Path) -> None:
    """Nobody answers: SIGTERM does not wait for that; exit 0."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        servers = ",".join([address] * 8)
        file = configuration(tmp_path / "f", servers, prefix, lane("a", "s"))
        with Command(tmp_path / "log", "run", "--config", file) as service:
            silent.settimeout(SOON_S)
            connection, _ = await asyncio.to_thread(silent.accept)
            with connection:
                began = time.monotonic()
                service.signal(signal.SIGTERM)
                assert await code(service) == 0
                assert time.monotonic() - began < 20, "it has asked all of them"


async def test_all_lanes_stopped_by_themselves_end_it_with_1(stage: Stage) -> None:
    """A dead letter that the broker refuses stops its lane; the last lane that stops ends the process, and the reasons
    are told. While another lane runs the process goes on."""
    for name in "ab":
        await create_topics(
            stage.bootstrap_servers, {f"{stage.prefix}.{name}.dead-letters": 2}, config={"max.message.bytes": "1000"}
        )
    file = configuration(
        stage.folder / "f",
        stage.bootstrap_servers,
        stage.prefix,
        lane("a", stage.source),
        lane("b", f"{stage.source}-b"),
        base_url=stage.sandbox.base_url("np6", "main"),
    )
    ensured = await asyncio.to_thread(run, "topics", "ensure", "--config", file, "--sources", 2)
    assert ensured.exit_code == 1
    malformed = [Message(random.randbytes(5_000), key=b"k")]  # so that compression does not make it fit
    await produce(stage.bootstrap_servers, stage.source, malformed)
    with stage.command(file) as service:
        await until(service, '"state":"stopped"')
        stage.source += "-b"
        await stage.publish("T1")
        await stage.wait_for_results({"b": 1})
        await produce(stage.bootstrap_servers, stage.source, malformed)
        assert await code(service) == 1
        last = service.err.read_text().splitlines()[-3:]
    assert last[0] == "every lane has stopped by itself:"
    assert all(f"{stage.prefix}.{name}.dead-letters" in line for name, line in zip("ab", last[1:], strict=True))
