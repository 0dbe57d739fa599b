"""``fanline kafka`` and ``fanline sandbox``: they say where they are, and end when they are asked to."""

import json
import re
import signal
import urllib.request
from pathlib import Path

import pytest

from tests.support.cli import Command, run, wait
from tests.support.kafka import Message, create_topics, produce, read_committed_all


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_sandbox_serves_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """What it prints works as printed; it ends with 0."""
    with Command(tmp_path / "log", "sandbox", "--listen", "127.0.0.1:0") as sandbox:
        printed = sandbox.until("Ctrl-C ends it")
        base_url = re.search(r'base_url: "(.+?)"', printed)
        assert base_url is not None
        prescribe = re.search(r"curl (\S+/prescribe) -d '(.+?)'", printed)
        assert prescribe is not None
        urllib.request.urlopen(prescribe[1], prescribe[2].encode(), timeout=10).close()
        call = urllib.request.Request(f"{base_url[1]}/targets/T1/segments", headers={"X-Key": "k"})
        with pytest.raises(urllib.error.HTTPError, match="500") as refused:
            urllib.request.urlopen(call, timeout=10)
        refused.value.close()
        with urllib.request.urlopen(f"{prescribe[1].removesuffix('/prescribe')}/state", timeout=10) as answer:
            assert json.load(answer)["calls"] == 1
        sandbox.signal(number)
        assert sandbox.code() == 0


def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    """Both servers end with 1 and name it."""
    with Command(tmp_path / "log", "sandbox", "--listen", "127.0.0.1:0") as sandbox:
        port = re.search(r"listens at http://127\.0\.0\.1:(\d+)", sandbox.until("Ctrl-C"))
        assert port is not None
        second = run("sandbox", "--listen", f"127.0.0.1:{port[1]}")
        assert (second.exit_code, f"--listen 127.0.0.1:{port[1]}: Address already in use" in second.stderr) == (1, True)
        kafka = run("kafka", "--port", port[1])
        assert (kafka.exit_code, f"port {port[1]} of 127.0.0.1 is taken" in kafka.stderr) == (1, True)


def test_kafka_serves_until_a_signal_and_keeps_its_data(tmp_path: Path) -> None:
    """The address that it prints is a broker's; with --data a second start has the records."""
    for records in (0, 1):
        with Command(tmp_path / "log", "kafka", "--port", "0", "--data", tmp_path / "data") as kafka:
            address = re.search(r"serves at (\S+)", kafka.until("Ctrl-C ends it", within_s=60))
            assert address is not None
            if not records:
                wait(create_topics(address[1], ["t"]))
                wait(produce(address[1], "t", [Message(b"1")]))
            assert len(wait(read_committed_all(address[1], ["t"]))) == 1
            kafka.signal(signal.SIGINT)
            assert kafka.code() == 0
