"""``fanline demo`` from outside: a process, its exit code, and what it prints."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from service.status import decode_status
from tests.support.patience import patiently

ROOT = Path(__file__).parents[2]
WITHIN_S = 110.0


@pytest.fixture
def temporary(tmp_path: Path) -> dict[str, str]:
    """An environment whose temporary files can be looked at, in a window of 100 columns."""
    return {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "100"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "service", "demo", *arguments]


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The demo until it has ended."""
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=patiently(WITHIN_S),
        check=False,
    )


def states(url: str) -> list[str]:
    """How the lanes are."""
    with urlopen(f"{url}/status", timeout=10) as answer:
        return [lane.state for lane in decode_status(answer.read()).lanes]


def rows(text: str, lane: str) -> list[list[str]]:
    """The words of each line that begins with a lane's name and a number: its row of the audit."""
    return [words for line in text.splitlines() if (words := line.split())[:1] == [lane] and words[1][0].isdecimal()]


def test_with_faults_it_ends_by_itself_and_nothing_is_missing(
    bootstrap_servers: str, temporary: dict[str, str], tmp_path: Path
) -> None:
    """Errors, resets and an outage later every event has exactly one result in each lane, no workflow was executed
    twice, and what is in doubt is told; nothing is left behind."""
    done = run(temporary, "--events", "600", "--faults", "--kafka", bootstrap_servers)
    assert done.returncode == 0, done.stdout + done.stderr
    contacts = ("vip-segment", "newsletter", "apsis-profiles", "copernica-profiles", "np6-redlist")
    for lane, wanted in (*((lane, 600) for lane in contacts), ("welcome", 300)):
        [row] = rows(done.stdout, lane)
        events, *outcomes, missing, duplicate, contradictory = (int(cell.replace(",", "")) for cell in row[1:])
        assert (events, missing, duplicate, contradictory) == (wanted, 0, 0, 0)
        assert sum(outcomes) == wanted
        assert f"{lane}: proven: {wanted} of {wanted} events have exactly one result" in done.stdout
    for reason in ("rejected: not_found", "rejected: refused", "in_doubt: interrupted"):
        assert reason in done.stdout
    for record in (
        r"NP6: [1-9]\d* executions of a workflow, none of them twice",
        r"Apsis One: [1-9]\d* profiles by \d+ imports, at most [1-3] of them open at once .*, no file uploaded twice",
        r"Copernica: [1-9]\d* profiles by \d+ imports, none of them doubled",
        r"NP6's redlist: [1-9]\d* addresses by \d+ import",
    ):
        assert re.search(record, done.stdout)
    assert "Every event has exactly one result in every lane." in done.stdout
    assert "breaker open: account np6-main fails as a whole" in done.stdout
    assert "demo --keep" in done.stdout
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())


async def test_on_somebody_elses_kafka_its_topics_go_again(bootstrap_servers: str, temporary: dict[str, str]) -> None:
    """Names of its own, and none of them is left."""
    assert run(temporary, "--events", "50", "--kafka", bootstrap_servers).returncode == 0
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        assert not [name for name in await admin.list_topics() if name.startswith("fanline-demo-")]
    finally:
        await admin.close()


def test_kept_running_it_can_be_asked_until_it_is_interrupted(temporary: dict[str, str], tmp_path: Path) -> None:
    """With a Kafka of its own: status and metrics answer, the files are there; SIGINT ends all, exit code 0."""
    log = tmp_path.parent / f"{tmp_path.name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command("--events", "200", "--keep"), cwd=ROOT, env=temporary, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + patiently(WITHIN_S)
        while "Ctrl-C ends it all." not in (text := log.read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.1)
        url = re.search(r"status +(http://\S+)/status", text)
        file = re.search(r"configuration +(\S+)", text)
        assert url is not None
        assert file is not None
        assert Path(file[1]).is_file()
        assert Path(file[1]).with_name("more-events.ndjson").is_file()
        while states(url[1]) != ["running"] * 6:
            assert time.monotonic() < deadline, states(url[1])
            time.sleep(0.1)
        with urlopen(f"{url[1]}/metrics", timeout=10) as answer:
            assert b"fanline_events_total" in answer.read()
        # What it says to look further with does what it says.
        [asking] = [line.split()[-4:] for line in text.splitlines() if " explain " in line]
        explained = subprocess.run(
            [sys.executable, "-m", "service", *asking],
            cwd=ROOT,
            env=temporary,
            capture_output=True,
            text=True,
            check=False,
        )
        assert explained.returncode == 0, explained.stdout + explained.stderr
        assert "vip-segment" in explained.stdout
        process.send_signal(signal.SIGINT)
        assert process.wait(patiently(30)) == 0
    finally:
        process.kill()
        process.wait(10)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("fanline-demo-")]


def test_a_kafka_that_is_not_there_is_a_clear_error(temporary: dict[str, str], tmp_path: Path) -> None:
    """Exit code 1 and the address, no traceback."""
    done = run(temporary, "--kafka", "127.0.0.1:1")
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_use_is_told(temporary: dict[str, str]) -> None:
    """Exit code 2."""
    assert run(temporary, "--events", "0").returncode == 2
    assert run(temporary, "--kafka", "nowhere").returncode == 2
