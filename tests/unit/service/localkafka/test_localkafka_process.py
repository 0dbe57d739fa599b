"""A broker's process dies with whoever started it, and its end is told with its last words."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from service.localkafka import LocalKafkaError
from service.localkafka.process import READY, BrokerProcess

PYTHON = [sys.executable, "-c"]
SLEEP = "import time; print('up', flush=True); time.sleep(60)"

# Starts a process as a broker is started, says its pid, and waits to be killed.
PARENT = """
import sys, time
from pathlib import Path
from service.localkafka.process import BrokerProcess
child = BrokerProcess([sys.executable, "-c", {sleep!r}], Path(sys.argv[1]), kernel_watches={watches})
print(child.pid, flush=True)
time.sleep(60)
"""


def await_output(log: Path) -> None:
    """Waits until something stands in the log; ten seconds at most."""
    deadline = time.monotonic() + 10
    while not (log.exists() and log.read_text()):
        assert time.monotonic() < deadline, "it did not start"
        time.sleep(0.01)


def await_end(pid: int) -> None:
    """Waits until no such process runs; ten seconds at most."""
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it outlived its parent"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "watches", [pytest.param(True, marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux only")), False]
)
def test_it_dies_with_its_parent(tmp_path: Path, watches: bool) -> None:
    """A parent that is killed takes it along, by the kernel's doing or by the watchdog's."""
    code = PARENT.format(sleep=SLEEP, watches=watches)
    with subprocess.Popen([*PYTHON, code, str(tmp_path / "log")], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        # Killed sooner, the child would end by itself: it looks for its parent once.
        await_output(tmp_path / "log")
        assert psutil.pid_exists(pid)
        parent.kill()
    await_end(pid)


@pytest.mark.parametrize("watches", [True, False])
def test_the_watchdog_ends_with_it(tmp_path: Path, watches: bool) -> None:
    """After an end in good order nothing of ours is left running."""
    before = {child.pid for child in psutil.Process().children()}
    broker = BrokerProcess([*PYTHON, SLEEP], tmp_path / "log", kernel_watches=watches)
    broker.signal(signal.SIGTERM)
    broker.wait(10)
    assert not broker.running
    assert {child.pid for child in psutil.Process().children()} <= before


def test_one_that_does_not_end_is_killed(tmp_path: Path) -> None:
    """A frozen process ends as well, when its time is over."""
    broker = BrokerProcess([*PYTHON, SLEEP], tmp_path / "log")
    broker.freeze()
    broker.signal(signal.SIGTERM)
    broker.wait(0.05)
    assert not broker.running


def test_a_frozen_one_stands_still(tmp_path: Path) -> None:
    """Once it is frozen no thread of it goes on, busy as it may be; what has ended is left as it is."""
    busy = "import threading\nfor _ in range(20): threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()"
    broker = BrokerProcess([*PYTHON, busy], tmp_path / "log")
    process = psutil.Process(broker.pid)
    broker.freeze()
    assert {psutil.Process(thread.id).status() for thread in process.threads()} == {psutil.STATUS_STOPPED}
    broker.signal(signal.SIGKILL)
    broker.wait(10)
    broker.freeze()


def test_ready_is_what_this_process_says(tmp_path: Path) -> None:
    """The log of an earlier life does not make a broker ready."""
    log = tmp_path / "log"
    log.write_text(f"{READY}\n")
    broker = BrokerProcess([*PYTHON, SLEEP], log)
    assert not broker.is_ready()
    with log.open("a") as more:
        more.write(f"INFO {READY}\n")
    assert broker.is_ready()
    broker.signal(signal.SIGKILL)
    broker.wait(10)


def test_the_end_of_a_broker_is_told_with_its_last_lines(tmp_path: Path) -> None:
    """Whoever waits for it learns its exit code and what it wrote last."""
    broker = BrokerProcess([*PYTHON, "raise SystemExit('no space left')"], tmp_path / "log")
    broker.wait(10)
    with pytest.raises(LocalKafkaError, match=r"(?s)code 1; .*no space left"):
        broker.is_ready()
