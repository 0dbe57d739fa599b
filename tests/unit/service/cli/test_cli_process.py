"""What a process of the service has around its lanes while they work."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from service.cli import run as command
from service.cli.failures import ExitCode


async def test_lanes_work_under_the_eyes_of_the_watchdog_and_tell_what_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of /livez, the reports and the watchdog are there before the lanes begin, and until they have ended;
    Kafka was looked at before anything."""
    told: list[str] = []

    def beside(name: str, value: object = None) -> Any:
        @asynccontextmanager
        async def context(*_: object) -> AsyncIterator[object]:
            told.append(name)
            yield value
            told.append(f"end of {name}")

        return context

    async def looked_at(*_: object) -> None:
        told.append("Kafka")

    class Application:
        def __init__(self, *_: object, **__: object) -> None:
            self.instance = "i"
            self.lanes: dict[str, Any] = {"vip": SimpleNamespace(board=SimpleNamespace(state=None, reason=None))}

        async def __aenter__(self) -> "Application":
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        async def run(self, stop: asyncio.Event) -> None:
            told.append("lanes")

    for name, value in {
        "_refuse_in_vain": looked_at,
        "Application": Application,
        "_http_server": beside("http"),
        "reporting": beside("reports"),
        "watching": beside("watchdog"),
        "tune_collector": lambda: None,
    }.items():
        monkeypatch.setattr(command, name, value)
    nothing: Any = None
    loop = asyncio.get_running_loop()
    try:
        assert await command._Process(nothing, ["vip"], 25.0, nothing).run() is ExitCode.DONE
    finally:
        for number in command._SIGNALS:
            loop.remove_signal_handler(number)
        loop.set_exception_handler(None)
    began = ["Kafka", "http", "reports", "watchdog", "lanes"]
    assert told == [*began, "end of watchdog", "end of reports", "end of http"]
