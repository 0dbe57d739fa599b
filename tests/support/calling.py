"""Commands that call a platform by hand, beside its sandbox."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from typer.testing import CliRunner, Result

from service.cli import app

Call = Callable[..., Awaitable[Result]]


def caller(command: str, config: Path, secrets: list[str]) -> Call:
    """Runs ``fanline COMMAND …``; nothing but an exit may come out of it, and none of the secrets."""

    async def invoke(*arguments: object) -> Result:
        words = [command, *map(str, arguments), "--config", str(config)]
        result = await asyncio.to_thread(lambda: CliRunner().invoke(app, words, prog_name="fanline"))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        assert not any(secret in result.output for secret in secrets)
        return result

    return invoke
