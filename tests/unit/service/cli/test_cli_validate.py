"""``fanline validate``, and what it shares with ``publish``."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.service.cli.conftest import Run

SECRET_VALUE = "somebody@example.org"


def contact(**data: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "e1",
        "source": "crm",
        "type": "contact.changed.v1",
        "data": {"contact_id": "c1", "change": "updated", **data},
    }


def written(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Faults on lines 2, 4 and 5; line 3 is empty."""
    return written(
        tmp_path / "events.ndjson",
        contact(),
        contact(contact_id=None),
        "",
        '{"specversion": "1.0", "id"',
        contact(identifiers={"email": 5}, attributes={"email": SECRET_VALUE}),
        contact(contact_id="c2"),
    )


def test_each_fault_is_a_line_with_its_place(run: Run, faulty: Path) -> None:
    """FILE:LINE: PATH: PROBLEM, counting empty lines, and exit 1."""
    result = run("validate", faulty)
    assert result.exit_code == 1
    assert [line.removeprefix(f"{faulty}:") for line in result.stdout.splitlines()] == [
        "2: data.contact_id: missing",
        "4: not JSON at character 27",
        "5: data.identifiers.*: expected a string",
    ]
    assert result.stderr == "2 valid events, 3 faults\n"


def test_no_value_is_shown(run: Run, faulty: Path) -> None:
    """A fault in an event never quotes the event."""
    assert SECRET_VALUE not in run("validate", faulty).output
    assert SECRET_VALUE not in run("validate", "--json", faulty).output


def test_valid_events_end_with_0(run: Run, tmp_path: Path) -> None:
    """Both types, unknown fields, CRLF, and a last line without an end."""
    notification = {
        **contact(),
        "type": "notification.occurred.v1",
        "data": {
            "notification_key": 1,
            "target": "T1",
            "action": "activation",
            "occurred_at": "2026-01-01T00:00:00Z",
            "unknown": [],
        },
    }
    file = tmp_path / "events.ndjson"
    file.write_bytes(json.dumps(contact()).encode() + b"\r\n\r\n" + json.dumps(notification).encode())
    result = run("validate", file)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "2 valid events, 0 faults\n"


def test_an_unknown_type_is_a_fault(run: Run, tmp_path: Path) -> None:
    """Nobody would deliver it."""
    result = run("validate", written(tmp_path / "e", contact() | {"type": "order.placed.v1"}))
    assert result.exit_code == 1
    assert ":1: type: neither contact.changed.v1 nor notification.occurred.v1" in result.stdout


def test_standard_input_and_json(run: Run, faulty: Path) -> None:
    """``-`` reads standard input; --json prints one document."""
    result = run("validate", "--json", "-", stdin=faulty.read_bytes())
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (document["file"], document["valid"], document["invalid"]) == ("<stdin>", 2, 3)
    assert document["faults"][0] == {"line": 2, "problem": "data.contact_id: missing"}


def test_bytes_that_are_no_text_are_a_fault(run: Run, tmp_path: Path) -> None:
    """Invalid UTF-8 and a byte order mark are told, and what follows is still read."""
    file = tmp_path / "events"
    file.write_bytes(b'{"a": "\xff"}\n\xef\xbb\xbf{}\n' + json.dumps(contact()).encode())
    result = run("validate", file)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2
    assert "1 valid event, 2 faults" in result.stderr


@pytest.mark.parametrize("command", [["validate"], ["publish", "--topic", "t", "--config", "CONFIG"]])
def test_a_file_that_is_not_there_ends_with_2(
    run: Run, command: list[str], tmp_path: Path, configuration: Path
) -> None:
    """The file is named; publish says so before it looks for Kafka."""
    arguments = [configuration if part == "CONFIG" else part for part in command]
    result = run(*arguments, tmp_path / "nope")
    assert result.exit_code == 2
    assert "nope: No such file or directory" in result.stderr


def test_publishing_to_a_topic_of_ours_is_refused(run: Run, configuration: Path, faulty: Path) -> None:
    """An event among the results would be read as a result."""
    for topic in ("fanline.results", "fanline.vip.dead-letters", "fanline.control"):
        result = run("publish", "--config", configuration, "--topic", topic, faulty)
        assert result.exit_code == 2
        assert f"--topic {topic}: Fanline itself writes this topic" in result.stderr


def test_a_key_field_that_is_no_path_is_refused(run: Run, configuration: Path, faulty: Path) -> None:
    """Names with points between them."""
    result = run("publish", "--config", configuration, "--topic", "t", "--key-field", "data..x", faulty)
    assert result.exit_code == 2
    assert "--key-field" in result.stderr
