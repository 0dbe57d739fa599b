"""``fanline status`` without a service: wrong use, nobody there, somebody else there; and what it prints."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.status import BreakerStatus, LaneStatus, PartitionStatus, StatusDocument, encode_status

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
    assert any(line.split() == ["vip", "holding", "main", "1", "5", "2", "3", "1", "7"] for line in lines), lines
    assert any(line.split() == ["unknown", "running", "main", "1", "?", "0", "3", "1", "7"] for line in lines), lines
    assert f"vip holding: breaker open (since {SINCE}; next try at {UNTIL})" in lines
    assert any(line.split("  ")[-1].strip() == "an [odd] word" for line in lines)


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


def config(tmp_path: Path, http: str) -> str:
    file = tmp_path / "fanline.yaml"
    file.write_text(
        f"""
kafka: {{bootstrap_servers: ["127.0.0.1:9092"]}}
{http}
accounts:
  main: {{platform: np6, base_url: "https://api-cm.np6.com", api_key: {{env: KEY}}}}
lanes:
  vip: {{handler: np6.segments, account: main, topics: [contacts.changed], target: data.identifiers.np6,
         join: data.segments.join, leave: data.segments.leave}}
"""
    )
    return str(file)


def test_the_address_comes_from_the_configuration(tmp_path: Path) -> None:
    """``http.listen``; where that is every address, loopback is asked."""
    with answering(200, encode_status(DOCUMENT)) as url:
        port = url.rpartition(":")[2]
        for host in ("127.0.0.1", "0.0.0.0"):
            file = config(tmp_path, f'http: {{listen: "{host}:{port}"}}')
            result = CliRunner().invoke(app, ["status", "--config", file])
            assert result.exit_code == 0, result.stderr
            assert "instance-1" in result.stdout


@pytest.mark.parametrize(
    ("http", "word"), [("", "has no http.listen"), ('http: {listen: "127.0.0.1:0"}', "takes any free port")]
)
def test_a_configuration_without_an_address_is_wrong_use(tmp_path: Path, http: str, word: str) -> None:
    """Exit code 2, and why."""
    result = CliRunner().invoke(app, ["status", "--config", config(tmp_path, http)])
    assert result.exit_code == 2
    assert word in result.stderr


@pytest.mark.parametrize("arguments", [[], ["--url", "localhost:8080"]])
def test_wrong_use(arguments: list[str]) -> None:
    """Exit code 2."""
    assert CliRunner().invoke(app, ["status", *arguments]).exit_code == 2
