"""Commands that call a sandbox on loopback."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox import SandboxServer
from service.cli import app
from tests.support.by_hand import KEY, KEY_VARIABLE, account, write_configuration

Call = Callable[..., Awaitable[Result]]


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxServer]:
    """The imitated platform."""
    async with SandboxServer(np6=Np6Sandbox()) as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with the account ``main`` on the sandbox."""
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    return write_configuration(tmp_path / "fanline.yaml", account(sandbox.base_url("np6", "main")))


@pytest.fixture
def call(config: Path) -> Call:
    """Runs ``fanline np6 …`` beside the sandbox; nothing but an exit may come out of it, and no key."""

    async def invoke(*arguments: object, stdin: bytes | None = None, config: Path = config) -> Result:
        words = ["np6", *map(str, arguments), "--config", str(config)]
        options: dict[str, Any] = {"input": stdin, "prog_name": "fanline"}
        result = await asyncio.to_thread(lambda: CliRunner().invoke(app, words, **options))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        assert "internal error" not in result.output, result.output
        assert KEY not in result.output
        return result

    return invoke
