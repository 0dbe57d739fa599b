"""``fanline status`` without a service: wrong use, nobody there, somebody else there; and what it prints."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from service.cli import app, status, status_view
from service.status import BreakerStatus, LaneStatus, PartitionStatus, StatusDocument, encode_status
from service.status.document import ImportStatus, LaneReport, SlotStatus, Waiting
from tests.unit.service.cli.conftest import CONFIGURATION, Run

NOW_MS = 1_772_438_500_000
SINCE, UNTIL = "2026-03-02T08:00:00.000Z", "2026-03-02T08:00:05.000Z"


def lane(
    name: str, state: str, reason: str | None, *partitions: PartitionStatus, until: str | None = None
) -> LaneStatus:
    breaker = BreakerStatus("closed" if until is None else "open", until)
    return LaneStatus(
        name, "np6.segments", "main", state, reason, SINCE, "01234567", list(partitions), 3, 1, breaker, None, [], 0, 7
    )


DOCUMENT = StatusDocument(
    "instance-1",
    "0.1.0",
    [
        lane(
            "vip",
            "holding",
            "breaker open",
            PartitionStatus("contacts", 2, 10, 8, 15, 5, 2, 3.5, "an [odd] word"),
            until=UNTIL,
        ),
        lane("news", "running", None, PartitionStatus("contacts", 2, 10, 10, 10, 0, 0, None, None)),
        lane("unknown", "running", None, PartitionStatus("contacts", 2, 10, 10, None, None, 0, None, None)),
    ],
)


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server on loopback that always answers the same; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_it_tells_state_reason_lag_and_what_is_waited_for() -> None:
    """Lanes, why one holds and until when, and the partitions that wait; an unknown lag is no number."""
    with answering(200, encode_status(DOCUMENT)) as url:
        result = CliRunner().invoke(app, ["status", "--url", url])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    row = ["vip", "instance-1", "holding", "1", "5", "2", "3.5", "s", "3", "1", "open", "0", "7"]
    assert any(line.split() == row for line in lines), lines
    row = ["unknown", "instance-1", "running", "1", "?", "0", "3", "1", "closed", "0", "7"]
    assert any(line.split() == row for line in lines), lines
    assert f"vip instance-1 holding: breaker open (since {SINCE}; next try at {UNTIL})" in lines
    assert any(line.endswith("an [odd] word") for line in lines)


def test_json_is_the_document_itself() -> None:
    """For programs; a slash at the end of the URL, or the whole address of the document, does no harm."""
    with answering(200, encode_status(DOCUMENT)) as url:
        for given in (url, f"{url}/", f"{url}/status"):
            result = CliRunner().invoke(app, ["status", "--json", "--url", given])
            assert result.exit_code == 0
            assert '"waits_for": "an [odd] word"' in result.stdout


@pytest.mark.parametrize(
    ("status", "body", "word"),
    [(404, b"{}", "answered 404"), (200, b"<html>", "is no status"), (200, b"\xff", "is no")],
)
def test_somebody_else_there(status: int, body: bytes, word: str) -> None:
    """The address and what came; exit code 1, no traceback."""
    with answering(status, body) as url:
        result = CliRunner().invoke(app, ["status", "--url", url])
    assert result.exit_code == 1
    assert f"{url}/status" in result.stderr
    assert word in result.stderr
    assert "Traceback" not in result.stderr


def test_nobody_there() -> None:
    """The address, and what to look at; exit code 1."""
    result = CliRunner().invoke(app, ["status", "--url", "http://127.0.0.1:1"])
    assert result.exit_code == 1
    assert "http://127.0.0.1:1/status: nobody answers" in result.stderr


def report(status: LaneStatus, instance: str, *waiting: Waiting) -> LaneReport:
    fields = {name: getattr(status, name) for name in LaneStatus.__struct_fields__}
    return LaneReport(**fields, instance=instance, version="0.1.0", time=SINCE, interval_s=5.0, waiting=list(waiting))


REPORTS = {
    b"vip/b": (NOW_MS - 2_000, report(DOCUMENT.lanes[0], "b", Waiting("contacts", 2, 8, "an [odd] word", 3, UNTIL))),
    b"vip/a": (NOW_MS - 31_000, report(DOCUMENT.lanes[1], "a")),
    b"gone/c": (NOW_MS - 29_000, report(lane("gone", "paused", "paused by ops@host: mending"), "c")),
}


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A status topic with these reports."""

    async def read(*_: object) -> dict[bytes, tuple[int, LaneReport]]:
        return REPORTS

    monkeypatch.setattr(status, "read_reports", read)
    monkeypatch.setattr(status.time, "time_ns", lambda: NOW_MS * 1_000_000)


def test_every_process_is_told_of(run: Run, configuration: Path, fleet: None) -> None:
    """In the order of the configuration's lanes; who has been silent for 30 s last, with what it was doing; the event
    that blocks a partition by its offset; and a lane that nobody runs."""
    configuration.write_text(CONFIGURATION + CONFIGURATION[CONFIGURATION.index("  vip:") :].replace("vip", "idle"))
    lines = run("status", "--config", configuration).stdout.splitlines()
    assert lines[0] == "3 instances, 1 of them silent, version 0.1.0"
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["vip", "b", "holding"],
        ["gone", "c", "paused"],
        ["news", "a", "silent"],
    ]
    assert "news a silent: nothing heard for 31.0 s; it was running then" in lines
    assert f"gone c paused: paused by ops@host: mending (since {SINCE})" in lines
    blocked = next(line for line in lines if "contacts-2" in line)
    assert blocked.split()[:3] == ["vip", "b", "contacts-2"]
    assert blocked.split()[3:] == ["5", "2", "3.5", "s", "8", "an", "[odd]", "word"]
    assert lines[-1] == "idle no process has told of it in the last 15 minutes: nobody runs it"


def test_a_terminal_of_100_columns_holds_it(run: Run, configuration: Path, fleet: None, monkeypatch: Any) -> None:
    """No cell of the lanes' table is broken over two lines, with names and numbers as they are."""
    busy = PartitionStatus("contacts", 2, 10, 8, 200_015, 200_005, 41_234, 3_599.5, "its turn")
    status_ = msgspec.structs.replace(lane("apsis-profiles", "standby", None, busy), in_flight=32, retrying=1_024)
    REPORTS[b"apsis-profiles/fanline-0"] = (NOW_MS, report(status_, "fanline-0"))
    monkeypatch.setattr(status_view, "console", lambda: Console(highlight=False, width=100))
    try:
        lines = run("status", "--config", configuration).stdout.splitlines()
    finally:
        del REPORTS[b"apsis-profiles/fanline-0"]
    assert [line.split()[0] for line in lines[1:6]] == ["lane", "vip", "apsis-profiles", "gone", "news"]
    assert "200,005" in lines[3]


def test_open_imports_are_told_with_rows_age_and_slot(run: Run, configuration: Path, fleet: None) -> None:
    """Five of them one by one, one whose id nobody knows yet too; a process of an earlier version names no slot."""
    imports = [
        ImportStatus("imp-7", "in_progress", 41_000, 75.0, 2),
        ImportStatus("", "intended", 3, 2.5, 0),
        *(ImportStatus(f"old-{n}", "queued", 1, 5.0) for n in range(4)),
    ]
    status_ = msgspec.structs.replace(
        lane("apsis-profiles", "running", None), open_imports=imports, slots=SlotStatus(owned=3, free=0)
    )
    REPORTS[b"apsis-profiles/fanline-0"] = (NOW_MS, report(status_, "fanline-0"))
    try:
        lines = run("status", "--config", configuration).stdout.splitlines()
    finally:
        del REPORTS[b"apsis-profiles/fanline-0"]
    assert "apsis-profiles fanline-0 import slots: 3 owned, 0 free" in lines
    assert "apsis-profiles fanline-0 import imp-7: in_progress, 41,000 rows, for 1 m, slot 2" in lines
    assert "apsis-profiles fanline-0 import (no id yet): intended, 3 rows, for 2.5 s, slot 0" in lines
    assert "apsis-profiles fanline-0 import old-2: queued, 1 rows, for 5.0 s" in lines
    assert "apsis-profiles fanline-0 and 1 more imports" in lines


def test_all_processes_as_json(run: Run, configuration: Path, fleet: None) -> None:
    """Each report as its process wrote it, with its age."""
    document = json.loads(run("status", "--config", configuration, "--json").stdout)
    assert document["unheard"] == []
    assert [(lane["lane"], lane["instance"], lane["age_s"], lane["silent"]) for lane in document["lanes"]] == [
        ("vip", "b", 2.0, False),
        ("gone", "c", 29.0, False),
        ("news", "a", 31.0, True),
    ]
    assert document["lanes"][0]["waiting"][0]["attempt"] == 3


@pytest.mark.parametrize("arguments", [[], ["--url", "localhost:8080"]])
def test_wrong_use(arguments: list[str]) -> None:
    """Exit code 2."""
    assert CliRunner().invoke(app, ["status", *arguments]).exit_code == 2
