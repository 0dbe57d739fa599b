"""``fanline copernica import``."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from handlers.copernica.sandbox import CopernicaSandbox, Rules
from handlers.sandbox import Prescription, SandboxServer, Step
from handlers.sandbox.prescriptions import Match
from tests.support.by_hand import account, write_configuration
from tests.support.calling import Call, caller

TOKEN = "copernica-token-that-nobody-may-read"
PARAMETERS = {
    "database": 1,
    "name": "nightly",
    "action": "update or add",
    "keyFields": ["Email"],
    "location": "https://files.example/contacts.csv",
    "format": "csv",
    "delimiter": ";",
}


@pytest.fixture
async def platform() -> AsyncIterator[SandboxServer]:
    """The imitated platform, which knows one token."""
    async with SandboxServer(copernica=CopernicaSandbox({"crm": Rules(tokens={TOKEN})})) as server:
        yield server


@pytest.fixture(params=[3, 4])
def call(request: Any, tmp_path: Path, platform: SandboxServer, monkeypatch: pytest.MonkeyPatch) -> Call:
    """By either version of the API."""
    monkeypatch.setenv("FANLINE_TEST_KEY", "np6")
    monkeypatch.setenv("FANLINE_TEST_TOKEN", TOKEN)
    base = platform.base_url("copernica", "crm")
    version = "api_version: 3, i_know: true" if request.param == 3 else f'token_url: "{base}/token"'
    entry = f'  crm: {{platform: copernica, base_url: "{base}", access_token: {{env: FANLINE_TEST_TOKEN}}, {version}}}'
    file = write_configuration(tmp_path / "fanline.yaml", account("http://127.0.0.1:1"), entry)
    return caller("copernica", file, [TOKEN])


def written(tmp_path: Path, **changed: Any) -> Path:
    file = tmp_path / "import.json"
    given = {**PARAMETERS, **changed}
    file.write_text(json.dumps({name: value for name, value in given.items() if value is not None}))
    return file


async def test_an_import_from_a_location(call: Call, platform: SandboxServer, tmp_path: Path) -> None:
    """Created once; then its number is asked about."""
    created = await call("import", "create", written(tmp_path))
    assert (created.exit_code, created.stderr) == (0, "Created.\n"), created.output
    number = created.stdout.strip()
    shown = await call("import", number, "--json")
    told = json.loads(shown.stdout)
    assert (told["account"], told["import"], told["status"]["status"]) == ("crm", number, "ready for start")
    table = await call("import", number)
    assert table.stdout.split()[:6] == ["import", "status", "lines", "processed", "error", number]
    assert [seen.kind for seen in platform.log.calls() if seen.kind == "create"] == ["create"]


async def test_an_import_that_the_platform_does_not_know(call: Call) -> None:
    """Its own words, and exit 1."""
    result = await call("import", "7")
    assert result.exit_code == 1
    assert "the platform refused (400): No import with this id" in result.stderr


async def test_a_refused_token(call: Call, platform: SandboxServer) -> None:
    """A 400 that says so is the credentials', told by their key."""
    platform.platforms["copernica"].configure("crm", {"tokens": ["another"]})
    result = await call("import", "7")
    assert result.exit_code == 1
    assert "access_token" in result.stderr


@pytest.mark.parametrize("step", [Step(status=500), Step(status=303), Step(reset="after")])
async def test_a_create_without_an_end_is_in_doubt(
    call: Call, platform: SandboxServer, tmp_path: Path, step: Step
) -> None:
    """It is not sent again, and whoever asked is told to look."""
    platform.prescriptions.add([Prescription([step], Match(kind="create"))])
    result = await call("import", "create", written(tmp_path))
    assert result.exit_code == 1
    assert "In doubt: an import may have been created" in result.stderr
    assert [seen.kind for seen in platform.log.calls() if seen.kind == "create"] == ["create"]


async def test_a_create_that_is_refused(call: Call, platform: SandboxServer, tmp_path: Path) -> None:
    """With the platform's words; nothing was created."""
    platform.platforms["copernica"].configure("crm", {"databases": {"2": []}})
    result = await call("import", "create", written(tmp_path))
    assert result.exit_code == 1
    assert "Unknown database" in result.stderr
    assert "Nothing was created." in result.stderr


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"database": None}, "database is required"),
        ({"action": None}, "action is required"),
        ({"location": None}, "location is required"),
        ({"removeMissing": True}, "deletes every profile"),
    ],
)
async def test_parameters_that_are_not_sent(
    call: Call, platform: SandboxServer, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    """Wrong use: nothing is sent."""
    result = await call("import", "create", written(tmp_path, **changed))
    assert result.exit_code == 2
    assert said in result.stderr
    assert platform.log.count == 0


@pytest.mark.parametrize("arguments", [["x"], ["create"], ["1", "file"], ["1/../2"]])
async def test_wrong_use(call: Call, platform: SandboxServer, arguments: list[str]) -> None:
    """Neither a number nor ``create`` with a file."""
    assert (await call("import", *arguments)).exit_code == 2
    assert platform.log.count == 0
