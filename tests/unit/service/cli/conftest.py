"""Commands run in process, and files for them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli import app

SECRET = "np6-key-that-nobody-may-read"
CONFIGURATION = """\
kafka: {bootstrap_servers: ["127.0.0.1:1"]}
accounts:
  main: {platform: np6, base_url: "http://127.0.0.1:1/np6/main", api_key: {env: FANLINE_TEST_KEY}}
lanes:
  vip:
    handler: np6.segments
    account: main
    topics: [contacts.changed]
    target: data.identifiers.np6
    join: data.segments.join
    leave: data.segments.leave
"""

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Runs a command; nothing but an exit may come out of it."""

    def invoke(*arguments: object, stdin: bytes | None = None) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin, prog_name="fanline")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        return result

    return invoke


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration that is in order, for a Kafka and a platform that are not there."""
    monkeypatch.setenv("FANLINE_TEST_KEY", SECRET)
    file = tmp_path / "fanline.yaml"
    file.write_text(CONFIGURATION)
    return file
