"""``fanline np6 …`` as processes, beside ``fanline sandbox`` as one, and on a real broker."""

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from contracts.envelope import decode
from contracts.events import Event
from service.publishing.publishing import publisher
from tests.support.cli import API_KEY, KEY_VARIABLE, ROOT, Command, configuration, lane, wait
from tests.support.kafka import Record, create_topics, read_committed_all
from tests.support.patience import patiently

WITHIN_S = 60.0


@pytest.fixture
def base_url(tmp_path: Path) -> Iterator[str]:
    """The account ``main`` on a sandbox that runs as a process of its own."""
    with Command(tmp_path / "sandbox", "sandbox", "--listen", "127.0.0.1:0") as sandbox:
        found = re.search(r"The sandbox listens at (\S+)", sandbox.until("Ctrl-C ends it."))
        assert found is not None
        yield f"{found.group(1)}/np6/main"


@pytest.fixture
def topic(bootstrap_servers: str, prefix: str) -> str:
    name = f"{prefix}-notifications"
    wait(create_topics(bootstrap_servers, {name: 3}))
    return name


@pytest.fixture
def config(bootstrap_servers: str, prefix: str, base_url: str, tmp_path: Path) -> Path:
    return configuration(
        tmp_path / "fanline.yaml", bootstrap_servers, prefix, lane("a", f"{prefix}-c"), base_url=base_url
    )


def fanline(*arguments: object, stdin: bytes | int | None = None) -> "subprocess.CompletedProcess[bytes]":
    """A command as a process, to its end; it shows no key and no stack."""
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"stdin": stdin}
    if isinstance(stdin, bytes):
        given = {"input": stdin}
    done = subprocess.run(
        [sys.executable, "-m", "service", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, KEY_VARIABLE: API_KEY},
        capture_output=True,
        timeout=patiently(WITHIN_S),
        check=False,
        **given,
    )
    printed = done.stdout + done.stderr
    assert API_KEY.encode() not in printed
    assert b"Traceback" not in printed
    assert b"internal error" not in printed
    return done


def records(bootstrap_servers: str, topic: str) -> list[Record]:
    return wait(read_committed_all(bootstrap_servers, [topic]))


def test_what_an_operator_does(config: Path) -> None:
    """Reads a target's segments and notifications, checks the events, copies a workflow and executes it."""
    segments = fanline("np6", "segments", "000PKXK4", "--config", config, "--json")
    assert json.loads(segments.stdout) == {"account": "main", "target": "000PKXK4", "segments": []}

    events = fanline("np6", "notifications", "000PKXK4", "--config", config, "--json")
    assert events.returncode == 0, events.stderr
    assert len(events.stdout.splitlines()) >= 3
    valid = fanline("validate", "-", stdin=events.stdout)
    assert (valid.returncode, valid.stdout) == (0, b"")

    copied = fanline("np6", "workflows", "duplicate", "42", "--config", config, "--json")
    workflow = json.loads(copied.stdout)["id"]
    execute = ["np6", "workflows", "execute", workflow, "--receiver", "000PKXK4", "--config", config]
    refused = fanline(*execute)
    assert (refused.returncode, refused.stdout) == (2, b"")
    done = fanline(*execute, "--yes", "--json")
    assert json.loads(done.stdout)["answer"]["type"] == "success"


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 1)])
def test_on_a_terminal_it_asks(config: Path, answer: bytes, code: int) -> None:
    """And only a yes executes."""
    ours, its = pty.openpty()
    try:
        os.write(ours, answer)
        done = fanline("np6", "workflows", "execute", "42", "--receiver", "T", "--config", config, stdin=its)
    finally:
        os.close(ours)
        os.close(its)
    assert done.returncode == code, done.stderr
    assert b"Execute workflow 42 for target T, on account main" in done.stderr
    assert (b"Executed." in done.stderr) is (code == 0)


def test_published_twice_the_events_are_the_same(
    bootstrap_servers: str, topic: str, config: Path, tmp_path: Path
) -> None:
    """Same ids, same bytes, same keys and so the same partitions: a lane with dedupe takes each once. What arrives
    holds to the contract, and each target's events are in the order of time."""
    targets = tmp_path / "targets"
    targets.write_text("".join(f"T{number}\n" for number in range(40)))
    publish = ["np6", "notifications", "--targets", targets, "--config", config, "--publish", "--topic", topic]
    first = fanline(*publish, "--json")
    assert first.returncode == 0, first.stderr
    summary = json.loads(first.stdout)
    count = summary["published"]
    assert summary == {
        "account": "main",
        "read": {"targets": 40, "without": 0, "rows": 120, "events": count, "outside": 0},
        "topic": topic,
        "published": count,
        "problems": 0,
        "told": [],
        "stopped": None,
    }
    once = records(bootstrap_servers, topic)
    assert len(once) == count > 120
    second = fanline(*publish)
    assert (second.returncode, second.stdout) == (0, b"")
    assert second.stderr.decode().splitlines()[-1] == f"{topic}: {count} events published"

    twice = records(bootstrap_servers, topic)
    seen: dict[tuple[int, bytes | None, bytes | None], int] = {}
    for record in twice:
        at = (record.partition, record.key, record.value)
        seen[at] = seen.get(at, 0) + 1
    assert len(seen) == count
    assert set(seen.values()) == {2}

    last: dict[bytes | None, str] = {}
    for record in once:
        event = decode(record.value, record.headers)
        assert isinstance(event, Event), event
        assert event.data.target.encode() == record.key  # type: ignore[union-attr] # they are notifications
        assert event.time is not None
        assert event.time >= last.get(record.key, ""), (record.key, event.time)
        last[record.key] = event.time
    lines = b"".join((record.value or b"") + b"\n" for record in once)
    assert fanline("validate", "-", stdin=lines).returncode == 0


def test_a_lane_with_dedupe_takes_each_once(
    bootstrap_servers: str, prefix: str, topic: str, base_url: str, tmp_path: Path
) -> None:
    """Published twice, half of the results are delivered and half skipped as duplicates."""
    taking = lane("a", topic, target="data.target", join='"[501]"', dedupe="10m")
    config = configuration(tmp_path / "taking.yaml", bootstrap_servers, prefix, taking, base_url=base_url)
    assert fanline("topics", "ensure", "--config", config).returncode == 0
    publish = ["np6", "notifications", "T", "U", "--config", config, "--publish", "--topic", topic, "--json"]
    count = sum(json.loads(fanline(*publish).stdout)["published"] for _ in range(2)) // 2
    with Command(tmp_path / "run", "run", "--config", config):
        results = wait(_results(bootstrap_servers, f"{prefix}.results", 2 * count))
    ends = Counter((result["data"]["outcome"], result["data"]["reason"]) for result in results)
    assert ends == {("delivered", None): count, ("skipped", "duplicate"): count}


async def _results(bootstrap_servers: str, topic: str, count: int) -> list[dict[str, Any]]:
    """The results, once there are so many."""
    deadline = time.monotonic() + patiently(WITHIN_S)
    while True:
        found = await read_committed_all(bootstrap_servers, [topic])
        if len(found) >= count:
            return [json.loads(record.value or b"") for record in found]
        assert time.monotonic() < deadline, f"{len(found)} of {count} results"
        await asyncio.sleep(0.3)


def test_a_topic_that_is_not_there(config: Path, prefix: str) -> None:
    """Is not made: exit 1, before anything is read."""
    done = fanline("np6", "notifications", "T", "--config", config, "--publish", "--topic", f"{prefix}-nope")
    assert done.returncode == 1
    assert f"--topic {prefix}-nope: does not exist" in done.stderr.decode()


async def test_a_publisher_may_pause_while_nothing_is_due(bootstrap_servers: str, prefix: str) -> None:
    """Whoever publishes what he reads from a slow platform has nothing to send for a while."""
    topic = f"{prefix}-slow"
    await create_topics(bootstrap_servers, [topic])
    async with publisher(
        {"bootstrap_servers": bootstrap_servers},
        topic,
        max_message_bytes=1_000_000,
        acknowledged=lambda _: None,
        stalled_after_s=2.5,
    ) as sink:
        await sink.send(b"k", b"v")
        await asyncio.sleep(3.0)  # longer than the bound: that this is no stall is what is tested
        await sink.send(b"k", b"v")
        await sink.finish()
    assert sink.published == 2


class LongAnswer:
    """A platform whose answers are as long as the target's name says; they are made while they are sent."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        rows = int(request.path.split("/")[-2])
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        row = (
            '{"notification_key":%d,"target":"T","libelle":"Spring","dismiss":null,"impression":"2026-03-01T12:00:00Z"}'
        )
        for start in range(0, rows, 1_000):
            text = ",".join(row % number for number in range(start, start + 1_000))
            await response.write((("," if start else "[") + text).encode())
        await response.write(b"]")
        await response.write_eof()
        return response


def peak_kib(config: Path, rows: int) -> int:
    """The peak memory of a process that reads so many rows, in KiB."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "np6", "notifications", str(rows), "--config", str(config), "--json"],
        cwd=ROOT,
        env={**os.environ, KEY_VARIABLE: API_KEY},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    assert process.returncode == 0, told
    assert f"{rows:,} events".encode() in told
    return usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)


async def test_memory_does_not_grow_with_the_answer(tmp_path: Path) -> None:
    """An answer of 10 MB takes about as much as one of 100 kB."""
    server = web.Server(LongAnswer().answer)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/np6/main"
        config = configuration(tmp_path / "long.yaml", "127.0.0.1:1", "p", lane("a", "c"), base_url=url)
        short = await asyncio.to_thread(peak_kib, config, 1_000)
        long = await asyncio.to_thread(peak_kib, config, 100_000)
    finally:
        listener.close()
        await server.shutdown(1.0)
    assert long < short + 8 * 1024, f"{short} KiB for 1,000 rows, {long} KiB for 100,000"
