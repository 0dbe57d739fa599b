"""Commands as a user runs them: in process, or as a process of their own."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from typer.testing import CliRunner, Result

from service.cli import app
from tests.support.patience import patiently

ROOT = Path(__file__).parents[2]
KEY_VARIABLE = "FANLINE_TEST_CLI_KEY"
API_KEY = "np6-key-that-nobody-may-read-0815"

T = TypeVar("T")


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    """Run a command in process, outside of any event loop; nothing but an exit may come out of it."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin, prog_name="fanline")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    assert "internal error" not in result.output, result.output
    return result


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run asynchronous parts of a synchronous test."""
    return asyncio.run(work)


def lane(name: str, *topics: str, **keys: str) -> str:
    """A lane on the account ``main`` in YAML's flow style."""
    own = {"join": "data.segments.join", "target": "data.identifiers.np6", **keys}
    more = "".join(f", {key}: {value}" for key, value in own.items())
    return f"{name}: {{handler: np6.segments, account: main, topics: [{', '.join(topics)}]{more}}}"


def configuration(
    file: Path,
    bootstrap_servers: str,
    prefix: str,
    *lanes: str,
    base_url: str = "http://127.0.0.1:1/np6/main",
    kafka: str = "topics: {replication: 1}",
    more: str = "",
) -> Path:
    """Write a configuration whose account's key is in the environment variable ``KEY_VARIABLE``."""
    file.write_text(
        f"""\
kafka: {{bootstrap_servers: [{", ".join(f'"{server}"' for server in bootstrap_servers.split(","))}],
         topic_prefix: {prefix}, {kafka}}}
accounts: {{main: {{platform: np6, base_url: "{base_url}", api_key: {{env: {KEY_VARIABLE}}}}}}}
lanes: {{{", ".join(lanes)}}}
{more}
"""
    )
    return file


class Command:
    """A command as a process; what it prints goes to ``<log>.out`` and ``<log>.err``. Ended with the block."""

    def __init__(self, log: Path, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        self.out, self.err = log.with_suffix(".out"), log.with_suffix(".err")
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service", *map(str, arguments)],
                cwd=ROOT,
                env={**os.environ, KEY_VARIABLE: API_KEY, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def until(self, text: str, *, within_s: float = 30.0) -> str:
        """All that was printed, once ``text`` is in it. Raises AssertionError if it ends or takes longer."""
        deadline = time.monotonic() + patiently(within_s)
        while text not in (printed := self.printed()):
            assert self._process.poll() is None, f"ended with {self._process.returncode}:\n{printed}"
            assert time.monotonic() < deadline, f"no {text!r} within {within_s} s:\n{printed}"
            time.sleep(0.02)
        # The two outputs are read one after the other: what the process printed before the text is there now.
        return self.printed()

    def printed(self) -> str:
        """Standard output, then standard error."""
        return self.out.read_text("utf-8", "replace") + self.err.read_text("utf-8", "replace")

    def code(self, *, within_s: float = 30.0) -> int:
        """The exit code. Raises TimeoutExpired."""
        return self._process.wait(patiently(within_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(patiently(10))
