"""``fanline np6 imports``."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handlers.sandbox import Prescription, SandboxServer, Step
from handlers.sandbox.prescriptions import Match
from tests.support.vendor import vendor_bytes, vendor_example
from tests.unit.service.cli.np6.conftest import Call


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    file = tmp_path / "import.json"
    file.write_bytes(vendor_bytes("np6-import-request.json"))
    return file


def calls_of(sandbox: SandboxServer, kind: str) -> int:
    return sum(call.kind == kind for call in sandbox.log.calls())


async def test_an_import_is_made_shown_and_listed(call: Call, definition: Path) -> None:
    """As tables, and whole as the platform answered."""
    made = await call("imports", "create", definition)
    assert made.exit_code == 0, made.output
    assert "Newsletter readers" in made.stdout
    assert "report, database, duplicate, segmentation, normalization" in " ".join(made.stdout.split())
    shown = await call("imports", "show", "23", "--json")
    document = json.loads(shown.stdout)
    assert document["features"] == vendor_example("np6-import-request.json")["features"]
    table = await call("imports", "list")
    assert "23 - Newsletter readers" in " ".join(table.stdout.split())
    assert table.stderr == "1 import\n"
    assert json.loads((await call("imports", "list", "--json")).stdout) == [document]


async def test_a_name_that_is_taken_makes_no_second_import(
    call: Call, sandbox: SandboxServer, definition: Path
) -> None:
    """It is told by its id."""
    await call("imports", "create", definition)
    again = await call("imports", "create", definition)
    assert (again.exit_code, again.stdout) == (1, "")
    assert "import 23 has this name already; nothing was made" in again.stderr
    assert calls_of(sandbox, "create_import") == 1


@pytest.mark.parametrize("step", [Step(status=500), Step(reset="after"), Step(hang=True)])
async def test_a_create_without_an_answer_is_in_doubt(
    call: Call, sandbox: SandboxServer, definition: Path, step: Step
) -> None:
    """It is not sent again."""
    sandbox.prescriptions.add([Prescription([step], Match(kind="create_import"))])
    result = await call("imports", "create", definition)
    assert result.exit_code == 1
    assert "In doubt: an import named Newsletter readers may have been made" in result.stderr
    assert calls_of(sandbox, "create_import") == 1


async def test_an_import_that_is_not_known(call: Call) -> None:
    """Exit 1, and it is named."""
    result = await call("imports", "show", "99")
    assert (result.exit_code, result.stderr) == (1, "account main: the platform knows no import 99 (404)\n")


@pytest.mark.parametrize("missing", ["name", "binding", "source"])
async def test_a_definition_that_is_none(call: Call, sandbox: SandboxServer, tmp_path: Path, missing: str) -> None:
    """Wrong use: nothing is sent."""
    given: dict[str, Any] = vendor_example("np6-import-request.json")
    del given[missing]
    file = tmp_path / "import.json"
    file.write_bytes(msgspec.json.encode(given))
    result = await call("imports", "create", file)
    assert result.exit_code == 2
    assert f"{missing} is required" in result.stderr
    assert sandbox.log.count == 0


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
async def test_a_file_that_is_no_json_object(call: Call, tmp_path: Path, content: bytes) -> None:
    """Wrong use; the file is named."""
    file = tmp_path / "import.json"
    file.write_bytes(content)
    result = await call("imports", "create", file)
    assert result.exit_code == 2
    assert "is no JSON object" in result.stderr


@pytest.mark.parametrize("body", ["null", "{}", "[1]", "<html>"])
async def test_an_answer_that_is_no_list(call: Call, sandbox: SandboxServer, body: str) -> None:
    """The address may be wrong."""
    sandbox.prescriptions.add([Prescription([Step(status=200, body=body)])])
    result = await call("imports", "list")
    assert result.exit_code == 1
    assert "the platform answered no imports" in result.stderr
