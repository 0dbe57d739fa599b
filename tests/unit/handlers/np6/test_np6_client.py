"""NP6's calls: what is meant is what goes over the wire, and nothing climbs the path."""

import asyncio
from collections.abc import Callable
from urllib.parse import unquote

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from handlers.base import Request
from handlers.np6 import client

READ = (("Accept", "application/json"),)
JSON = (("Content-Type", "application/json"),)
IMPORT = (("Accept", "application/vnd.mperf.v8.import.v1+json"),)
_MEDIA_TYPE = "application/vnd.np6.cm.workflow-v4"
WORKFLOW = (("Content-Type", _MEDIA_TYPE), ("Accept", _MEDIA_TYPE))

SAFE_TARGETS = [
    "000PKXK4",
    "1C0193AB",
    "a b",
    "a/b",
    "é?#&=+%;",
    "%2E%2E",
    "...",
    ".a",
    "~-_",
    "日本",
    "x\x00y\r\nz",
    'a"b\\c',
]
UNSAFE_TARGETS = ["", ".", "..", "../x", "x/..", "a/./b", "a\\..\\b", "\ud800"]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            lambda: client.join_segment("000PKXK4", "501"),
            Request("POST", "/targets/000PKXK4/segments/501", (("Content-Length", "0"),)),
        ),
        (lambda: client.leave_segment("a/b", "-1"), Request("DELETE", "/targets/a%2Fb/segments/-1")),
        (
            lambda: client.segments_of("é"),
            Request("GET", "/targets/%C3%A9/segments", (("Accept", "application/json"),)),
        ),
        (lambda: client.imports(), Request("GET", "/imports", IMPORT)),
        (lambda: client.import_of(23), Request("GET", "/imports/23", IMPORT)),
        (lambda: client.create_import(b"{}"), Request("POST", "/imports", (*JSON, *IMPORT), b"{}")),
        (
            lambda: client.put_source(23, "lane-7.csv"),
            Request(
                "PUT",
                "/imports/23/source",
                (
                    ("Content-Type", "application/octet-stream"),
                    *READ,
                    ("Content-Disposition", 'form-data; filename="lane-7.csv"'),
                ),
            ),
        ),
        (
            lambda: client.execute_import(23, 9),
            Request("POST", "/imports/23/executions", (*JSON, *READ), b'{"binding": 9}'),
        ),
        (lambda: client.execution_state(23), Request("GET", "/imports/23/executions", READ)),
        (lambda: client.execute_once(42, b"{}"), Request("POST", "/scripting/workflows/42/execution", WORKFLOW, b"{}")),
        (
            lambda: client.execute_workflow(42, b"[]"),
            Request("POST", "/scripting/workflows/42/executions", WORKFLOW, b"[]"),
        ),
        (
            lambda: client.duplicate_workflow(42),
            Request("POST", "/scripting/workflows/42/duplication", (("Content-Length", "0"), *READ)),
        ),
        (
            lambda: client.notifications_of("a/b", start=None, end=None, sort=None),
            Request("GET", "/targets/a%2Fb/notifications", READ),
        ),
        (
            lambda: client.notifications_of("1", start="2026-01-01T00:00:00+01:00", end="e", sort="asc"),
            Request("GET", "/targets/1/notifications?start=2026-01-01T00%3A00%3A00%2B01%3A00&end=e&sort=asc", READ),
        ),
        (
            lambda: client.notifications_of("1", start=None, end="e", sort=None),
            Request("GET", "/targets/1/notifications?end=e", READ),
        ),
    ],
)
def test_requests(request_: Callable[[], Request], expected: Request) -> None:
    """Method, path and headers are the documented ones; a POST without body says that its length is 0."""
    assert request_() == expected


def test_the_probe_reads_a_target_that_nobody_has() -> None:
    """Another one each time, so that no answer is remembered on the way."""
    probes = [client.probe() for _ in range(2)]
    for probe in probes:
        name = probe.path.split("/")[2]
        assert probe == client.segments_of(name)
        assert name.startswith("fanline-check-")
    assert probes[0] != probes[1]


@pytest.mark.parametrize("target", UNSAFE_TARGETS)
def test_a_target_that_climbs_is_refused(target: str) -> None:
    """Encoding cannot make dots safe, because servers and proxies take %2E for a dot: no request is built."""
    assert not client.addressable(target)
    for build in (client.join_segment, client.leave_segment):
        with pytest.raises(ValueError, match="part of the path"):
            build(target, "1")
    with pytest.raises(ValueError, match="part of the path"):
        client.segments_of(target)


@given(st.text())
def test_every_addressable_target_is_one_part_of_the_path(target: str) -> None:
    """Whatever the target, the path has four parts, plain ASCII, and decoding gives the target back."""
    if not client.addressable(target):
        return
    path = client.join_segment(target, "7").path
    parts = path.split("/")
    assert parts[:2] == ["", "targets"]
    assert parts[3:] == ["segments", "7"]
    assert unquote(parts[2]) == target
    assert parts[2].isascii()
    assert not set(parts[2]) & set("?#%25 \\") - {"%", "2", "5"}


@pytest.mark.parametrize("secret", ["", "k1\r\nX-Other: 1", " k1", "k1 ", "ké", "k1\x00"])
def test_a_key_that_cannot_stand_in_a_header(secret: str) -> None:
    """The error names the fault and never the key."""
    with pytest.raises(ValueError, match="printable") as caught:
        client.credentials({"api_key": secret})
    assert "k1" not in str(caught.value)


def test_the_key_goes_into_its_header() -> None:
    """The account's key is sent as X-Key."""
    assert client.credentials({"api_key": "k-123"}) == {"X-Key": "k-123"}


@pytest.mark.parametrize("target", SAFE_TARGETS)
def test_a_target_that_stays_where_it_is_can_be_addressed(target: str) -> None:
    """Letters and digits, and whatever else climbs nowhere."""
    assert client.addressable(target)


@pytest.mark.parametrize("target", SAFE_TARGETS)
async def test_what_goes_over_the_wire_is_what_was_meant(target: str) -> None:
    """aiohttp sends the path byte for byte when it is told that it is encoded, and Content-Length once."""
    request = client.join_segment(target, "501")
    sent = await _sent(request)
    line, *headers = sent.split("\r\n")
    assert line == f"POST /base{request.path} HTTP/1.1"
    assert [header for header in headers if header.lower().startswith("content-length")] == ["Content-Length: 0"]


async def _sent(request: Request) -> str:
    """The head of the request as a server reads it from the socket."""
    heads: asyncio.Queue[str] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.put_nowait((await reader.readuntil(b"\r\n\r\n")).decode("ascii"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = URL(f"http://127.0.0.1:{port}/base{request.path}", encoded=True)
    async with server, aiohttp.ClientSession() as session:
        async with session.request(request.method, url, headers=request.headers) as answered:
            assert answered.status == 204
        return await heads.get()
