"""``fanline contracts export``."""

import json
from pathlib import Path

import jsonschema
import yaml

from tests.unit.service.cli.conftest import CONFIGURATION, Run


def test_everything_is_written_and_named(run: Run, tmp_path: Path) -> None:
    """AsyncAPI, a schema for each record, the configuration's schema; each file is printed, the folder is made."""
    target = tmp_path / "a" / "b"
    result = run("contracts", "export", target)
    assert result.exit_code == 0
    written = {str(file.relative_to(target)) for file in target.rglob("*.json")}
    assert {"asyncapi.json", "configuration.schema.json", "schemas/sync.result.v1.json"} <= written
    assert {line.removeprefix(f"{target}/") for line in result.stdout.splitlines()} == written
    assert json.loads((target / "asyncapi.json").read_bytes())["asyncapi"] == "3.0.0"


def test_a_second_export_changes_no_byte(run: Run, tmp_path: Path) -> None:
    """So that a difference in version control is a change of a contract."""
    run("contracts", "export", tmp_path)
    first = {file: file.read_bytes() for file in tmp_path.rglob("*.json")}
    run("contracts", "export", tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.json")} == first


def test_the_schemas_judge_real_documents(run: Run, tmp_path: Path) -> None:
    """The exported files are usable by a tool that is not ours."""
    run("contracts", "export", tmp_path)
    schema = json.loads((tmp_path / "configuration.schema.json").read_bytes())
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(CONFIGURATION))


def test_a_folder_that_cannot_be_made_ends_with_1(run: Run, tmp_path: Path) -> None:
    """The place is named."""
    (tmp_path / "file").write_text("")
    result = run("contracts", "export", tmp_path / "file" / "x")
    assert result.exit_code == 1
    assert "file" in result.stderr
