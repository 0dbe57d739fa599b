"""``fanline np6 notifications`` without Kafka: what is asked for, what is printed, and what becomes of trouble."""

import json
from pathlib import Path
from typing import Any

import pytest

from handlers.sandbox import Match, Prescription, SandboxServer, Step
from service.cli.np6 import reading
from service.delivery.retry import RetryPolicy
from tests.support.by_hand import KEY, without_request
from tests.unit.service.cli.np6.conftest import Call

NOON = "2026-03-01T12:00:00Z"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked again is asked at once."""
    monkeypatch.setattr(reading, "RETRY", RetryPolicy(first_delay_s=0.01, max_delay_s=0.01, max_attempts=4))


def configure(sandbox: SandboxServer, **rules: Any) -> None:
    sandbox.platforms["np6"].configure("main", rules)


def row(key: int, target: str = "T", **times: Any) -> dict[str, Any]:
    return {"notification_key": key, "target": target, "libelle": "Spring", **times}


def prescribe(sandbox: SandboxServer, *answers: Any, target: str | None = None, repeat: bool = False) -> None:
    steps = [answer if isinstance(answer, Step) or answer is None else Step(status=answer) for answer in answers]
    sandbox.prescriptions.add([Prescription(steps, Match(target=target), repeat=repeat)])


def body(*rows: dict[str, Any]) -> Step:
    return Step(status=200, body=json.dumps(rows))


def events(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


def told(stdout: str) -> list[tuple[str, int, str]]:
    """Target, key and action of each event that was printed."""
    return [(data["target"], data["notification_key"], data["action"]) for data in (e["data"] for e in events(stdout))]


def asked(sandbox: SandboxServer) -> list[str | None]:
    return [seen.target for seen in sandbox.log.calls()]


async def test_lines_for_people(call: Call, sandbox: SandboxServer) -> None:
    """Time, action, target, key and label of each happening; a summary on standard error."""
    configure(sandbox, notifications={"T": [row(7, impression=NOON, dismiss="2026-03-01T12:00:05"), row(8)]})
    result = await call("notifications", "T")
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["2026-03-01T12:00:00.000Z", "impression", "T", "7", "Spring"],
        ["2026-03-01T12:00:05.000Z", "dismiss", "T", "7", "Spring"],
    ]
    assert result.stderr == "1 target (0 without notifications), 1 row, 2 events, 0 happenings outside the window\n"


async def test_foreign_text_does_not_command_the_terminal(call: Call, sandbox: SandboxServer) -> None:
    """A label is printed on one line."""
    configure(sandbox, notifications={"T": [{**row(7, impression=NOON), "libelle": "a\x1b[31m\nb\tc"}]})
    result = await call("notifications", "T")
    assert result.stdout.endswith("  a?[31m b c\n")


async def test_events_for_programs(call: Call, sandbox: SandboxServer) -> None:
    """One a line, the same bytes each time; ``fanline validate`` takes them."""
    configure(sandbox, notifications_per_target=20)
    first, second = [await call("notifications", "T", "U", "--json") for _ in range(2)]
    assert first.exit_code == 0
    assert first.stdout == second.stdout
    found = events(first.stdout)
    assert len({event["id"] for event in found}) == len(found) > 40
    assert {event["source"] for event in found} == {"np6/main"}
    assert all(event["time"] == event["data"]["occurred_at"] for event in found)


async def test_the_window_and_the_order_are_asked_for_and_kept(call: Call, sandbox: SandboxServer) -> None:
    """A row that has one happening inside brings others with it: these are left out and counted."""
    rows = [
        row(7, impression="2026-03-01T11:59:59.999Z", activation=NOON, dismiss="2026-03-01T12:01:00Z"),
        row(8, impression="2026-03-01T12:00:30"),
        row(9, impression="2026-02-01T12:00:30"),
    ]
    configure(sandbox, notifications={"T": rows})
    window = ["--start", "2026-03-01T13:00:00+01:00", "--end", "2026-03-01 12:01:00"]
    upwards = await call("notifications", "T", "--json", *window)
    assert told(upwards.stdout) == [("T", 7, "activation"), ("T", 8, "impression")]
    assert "2 rows, 2 events, 2 happenings outside the window" in upwards.stderr
    downwards = await call("notifications", "T", "--json", "--sort", "desc", "--start", "2026-03-01")
    assert told(downwards.stdout) == [
        ("T", 8, "impression"),
        ("T", 7, "dismiss"),
        ("T", 7, "activation"),
        ("T", 7, "impression"),
    ]


async def test_targets_from_a_file(call: Call, sandbox: SandboxServer, tmp_path: Path) -> None:
    """Each once, in order; empty lines are passed over. Standard input does as well."""
    file = tmp_path / "targets"
    file.write_bytes(b"B\r\n\n  A  \nC\nB\nE\xc3\xa9")
    result = await call("notifications", "A", "--targets", file, "--json")
    assert result.exit_code == 0
    assert asked(sandbox) == ["A", "B", "C", "Eé"]
    sandbox.reset()
    await call("notifications", "--targets", "-", "--json", stdin=b"X\nY\n")
    assert asked(sandbox) == ["X", "Y"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give at least one"),
        ([".."], "is no target id"),
        (["T", "--start", "yesterday"], "expected a time such as"),
        (["T", "--end", "2026-13-01"], "expected a time such as"),
        (["T", "--start", "1960-01-01"], "expected a time such as"),
        (["T", "--start", NOON, "--end", NOON], "must lie behind"),
        (["T", "--sort", "up"], "up"),
        (["T", "--topic", "x"], "has no meaning without"),
        (["--targets", "nowhere"], "nowhere"),
        (["T", "--publish", "--topic", "fanline.results"], "Fanline itself writes this topic"),
    ],
)
async def test_wrong_use(call: Call, sandbox: SandboxServer, arguments: list[str], said: str) -> None:
    """Exit 2, before anything is sent."""
    result = await call("notifications", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert sandbox.log.count == 0


@pytest.mark.parametrize("line", [b"..", b"\xff", b"a/../b"])
async def test_a_line_that_is_no_target(call: Call, sandbox: SandboxServer, tmp_path: Path, line: bytes) -> None:
    """Is named by its number, before anything is sent."""
    file = tmp_path / "targets"
    file.write_bytes(b"A\n" + line + b"\n")
    result = await call("notifications", "--targets", file)
    assert (result.exit_code, result.stderr) == (2, f"{file}:2: no target id\n")
    assert sandbox.log.count == 0


@pytest.mark.parametrize("rules", [{}, {"unknown_have_none": True}])
async def test_unknown_targets_have_none(call: Call, sandbox: SandboxServer, rules: dict[str, Any]) -> None:
    """Whether the platform says so by a 404 or by an empty list; that is no failure."""
    configure(sandbox, unknown_targets=["U"], **rules)
    result = await call("notifications", "U", "T", "--json")
    assert result.exit_code == 0
    assert {target for target, _, _ in told(result.stdout)} == {"T"}
    assert result.stderr.startswith("2 targets (1 without notifications), 3 rows, ")


async def test_a_row_that_cannot_be_read(call: Call, sandbox: SandboxServer) -> None:
    """Is told by target, number and field, without its values; all others come out. Exit 1."""
    rows = [row(7, impression=NOON), row(2**31, impression=NOON), row(9, impression="then", dismiss=NOON)]
    prescribe(sandbox, body(*rows))
    result = await call("notifications", "T", "--json")
    assert result.exit_code == 1
    assert told(result.stdout) == [("T", 7, "impression"), ("T", 9, "dismiss")]
    assert result.stderr.splitlines() == [
        "target T, row 2: notification_key: expected an int32",
        "target T, row 3: impression: expected a date-time",
        "1 target (0 without notifications), 3 rows, 2 events, 0 happenings outside the window, 2 problems",
    ]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Step(status=400, body='{"Message": "of bob@example.org"}'), "the platform refused (400): of •••"),
        (Step(status=200, body="<html>"), "the answer is no list of notifications"),
        (Step(status=200, body="{}"), "the answer is no list of notifications"),
        (Step(status=200, body='[{"notification_key": 7'), "the answer is cut off or no JSON after row 0"),
        (Step(status=200, body="[", cut=True), "the answer broke off, after row 0"),
        (Step(status=200, endless=True), "row 1 is longer than 1048576 bytes"),
    ],
)
async def test_a_target_that_cannot_be_read_stops_no_other(
    call: Call, sandbox: SandboxServer, answer: Step, said: str
) -> None:
    """It is named; exit 1."""
    prescribe(sandbox, answer, target="U")
    result = await call("notifications", "U", "T", "--json")
    assert result.exit_code == 1
    assert {target for target, _, _ in told(result.stdout)} == {"T"}
    first = without_request(result.stderr.splitlines()[0])
    assert first.startswith("target U: ")
    assert said in first
    assert asked(sandbox) == ["U", "T"]


async def test_what_came_before_an_answer_broke_off_counts(call: Call, sandbox: SandboxServer) -> None:
    """It has been handed on, and is not asked for again behind one's back."""
    prescribe(sandbox, Step(status=200, body=json.dumps([row(7, impression=NOON)])[:-1], cut=True))
    result = await call("notifications", "T", "--json")
    assert result.exit_code == 1
    assert told(result.stdout) == [("T", 7, "impression")]
    assert "target T: the answer broke off, after row 1" in result.stderr
    assert sandbox.log.count == 1


@pytest.mark.parametrize("answer", [500, 503, 429, 408, Step(reset="before"), Step(hang=True)])
async def test_a_read_is_repeated(call: Call, sandbox: SandboxServer, answer: Any) -> None:
    """As long as nothing of it was handed on: trouble that passes is not told."""
    prescribe(sandbox, answer)
    result = await call("notifications", "T", "--json")
    assert result.exit_code == 0
    assert told(result.stdout)
    assert asked(sandbox) == ["T", "T"]


async def test_an_outage_ends_the_run(call: Call, sandbox: SandboxServer) -> None:
    """After a few tries; it says how much was not read."""
    prescribe(sandbox, Step(status=500, body='{"Message": "down"}'), target="U", repeat=True)
    result = await call("notifications", "T", "U", "V", "--json")
    assert result.exit_code == 1
    assert {target for target, _, _ in told(result.stdout)} == {"T"}
    said = without_request(result.stderr)
    assert "the platform fails (500): down; try again later. 2 targets not read to the end" in said
    assert asked(sandbox) == ["T", "U", "U", "U", "U"]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "the platform refuses our credentials (401); see accounts.main.api_key. 2 targets not read to the end"),
        (403, "the account may not do this (403)"),
        (405, "this is not where the platform's API is (405)"),
    ],
)
async def test_what_is_no_targets_fault_ends_the_run_at_once(
    call: Call, sandbox: SandboxServer, status: int, said: str
) -> None:
    """The next target would fare no better."""
    prescribe(sandbox, status, repeat=True)
    result = await call("notifications", "T", "U", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in without_request(result.stderr)
    assert sandbox.log.count == 1


async def test_many_targets_in_a_row_that_cannot_be_read(call: Call, sandbox: SandboxServer, tmp_path: Path) -> None:
    """End the run: the address answers, but not as NP6 does."""
    prescribe(sandbox, Step(status=200, body="<html>"), repeat=True)
    file = tmp_path / "targets"
    file.write_text("".join(f"T{n}\n" for n in range(100)))
    result = await call("notifications", "--targets", file)
    assert result.exit_code == 1
    assert "So it went with 10 targets in a row. 91 targets not read to the end" in result.stderr
    assert sandbox.log.count == 10


async def test_patience_that_is_asked_for_is_told(call: Call, sandbox: SandboxServer) -> None:
    """And kept, for as long as the platform says."""
    prescribe(sandbox, Step(status=429, headers={"Retry-After": "3"}))
    result = await call("notifications", "T", "--json")
    assert result.exit_code == 0
    assert "account main: the platform asks for patience; going on in 3 s" in result.stderr
    first, second = sandbox.log.calls()
    assert second.started_s - first.started_s >= 2.9
    assert KEY not in result.output
