"""A file on its way over loopback: what goes over the wire, and what every trouble on it is called."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from handlers.base import Answer, Failure, FailureKind, Hold, HoldScope, Reply, Request
from handlers.imports.form import content_type
from handlers.imports.verdicts import Opened, Upload
from service.clock import SystemClock
from service.transport.http import TransportPolicy
from service.uploading.sending import AccountFile, Body, FileSender, Misled
from service.uploading.spool import BLOCK_BYTES, Spool
from service.uploading.upload import FormPolicy, FormUploads, upload_problem
from tests.support.tls import make_certificates

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
DONE = b"HTTP/1.1 204 No Content\r\n\r\n"
PUT = Request("PUT", "/imports/23/source?x=%C3%A9", (("Content-Type", "application/octet-stream"),))
CONTENT = b"email;city\r\n" + b"a@example.com;Hull\r\n" * 9


@asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server on loopback; gives its base URL."""

    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(
                ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError
            ):
                await serve(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(one, "127.0.0.1", 0, ssl=tls)
    async with server:
        scheme = "http" if tls is None else "https"
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Storage:
    """Takes one request whole and answers it."""

    def __init__(self, reply: bytes = DONE) -> None:
        self.head, self.body = b"", b""
        self.connections = 0
        self._reply = reply

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.head = await reader.readuntil(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in self.head.decode().split("\r\n")[1:-2])
        self.body = await reader.readexactly(int(lines["Content-Length"]))
        writer.write(self._reply)
        await writer.drain()
        await reader.read()


def sender(
    *, total_s: float = 5.0, tls: ssl.SSLContext | None = None, names: AbstractResolver | None = None
) -> FileSender:
    policy = TransportPolicy("http://unused", connect_s=2.0, total_s=total_s, max_connections=1)
    return FileSender(policy, tls, resolver=names)


@asynccontextmanager
async def file_of(content: bytes) -> AsyncIterator[Spool]:
    async with Spool(SystemClock()) as spool:
        await spool.write([content])
        await spool.finish()
        yield spool


async def put(url: str, content: bytes = CONTENT, **how: float) -> Reply:
    async with file_of(content) as file:
        reply = await sender(**how).send(URL(url), PUT, {"X-Key": "k"}, Body(file))  # type: ignore[arg-type] # seconds
    assert not isinstance(reply, Misled)
    return reply


async def test_a_file_is_the_body_with_its_length() -> None:
    """Streamed from the disk, in one request, never in chunks: storages refuse those."""
    content = bytes(range(256)) * 8_192 + b"end"
    storage = Storage()
    async with serving(storage) as url:
        reply = await put(url, content)
    assert isinstance(reply, Answer)
    assert reply.status == 204
    assert storage.body == content
    head = storage.head.decode()
    assert head.startswith("PUT /imports/23/source?x=%C3%A9 HTTP/1.1\r\n")
    assert f"Content-Length: {len(content)}\r\n" in head
    assert "Transfer-Encoding" not in head
    assert "X-Key: k\r\n" in head


async def test_a_file_for_the_account_goes_below_its_address() -> None:
    """With the account's credentials."""
    storage = Storage()
    async with serving(storage) as url, file_of(CONTENT) as file:
        through = AccountFile(sender(), URL(f"{url}/np6/main"), Body(file))
        reply = await through.send(PUT, {"X-Key": "k"})
    assert isinstance(reply, Answer)
    assert storage.head.startswith(b"PUT /np6/main/imports/23/source")
    assert storage.body == CONTENT


async def test_nobody_listens() -> None:
    """Nothing was sent."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        reply = await put(f"http://127.0.0.1:{bound.getsockname()[1]}")
    assert isinstance(reply, Failure)
    assert reply.kind is FailureKind.NOT_SENT


async def test_no_redirect_is_followed() -> None:
    """Nor is a file sent twice."""
    storage = Storage(b"HTTP/1.1 307 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
    async with serving(storage) as url:
        reply = await put(url)
    assert isinstance(reply, Answer)
    assert (reply.status, storage.connections) == (307, 1)


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_connection_that_ends_without_an_answer(method: str) -> None:
    """May have taken effect, and is not made again by itself."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")

    async with serving(serve) as url, file_of(CONTENT) as file:
        reply = await sender().send(URL(url), Request(method, "/x"), {}, Body(file))
    assert isinstance(reply, Failure)
    assert (reply.kind, connections) == (FailureKind.RESET, 1)


async def test_a_silent_platform_is_not_waited_for() -> None:
    """Whether it does not answer or does not read: each step has the account's time."""

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    for content in (CONTENT, bytes(32 * BLOCK_BYTES)):
        async with serving(silence) as url:
            reply = await put(url, content, total_s=1)
        assert isinstance(reply, Failure)
        assert reply.kind is FailureKind.TIMED_OUT


async def test_a_long_file_may_take_longer_than_the_accounts_time() -> None:
    """As long as it goes on."""

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        left = 24 * BLOCK_BYTES
        while left > 0:
            left -= len(await reader.read(BLOCK_BYTES))
            await asyncio.sleep(0.02)
        writer.write(DONE)
        await reader.read()

    began = asyncio.get_running_loop().time()
    async with serving(slowly) as url:
        reply = await put(url, bytes(24 * BLOCK_BYTES), total_s=1.0)
    assert isinstance(reply, Answer), reply
    assert asyncio.get_running_loop().time() - began > 1.0


async def test_a_refusal_before_the_end_is_read() -> None:
    """And what is left of the file is not sent."""
    got = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        await reader.readuntil(b"\r\n\r\n")
        body = b"<Error><Code>EntityTooLarge</Code></Error>"
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        while part := await reader.read(BLOCK_BYTES):
            got += len(part)
            await asyncio.sleep(0.02)

    async with serving(refuse) as url:
        reply = await put(url, bytes(64 * BLOCK_BYTES))
    assert isinstance(reply, Answer)
    assert (reply.status, reply.body) == (400, b"<Error><Code>EntityTooLarge</Code></Error>")
    assert got < 32 * BLOCK_BYTES


async def test_a_success_before_the_end_is_not_believed() -> None:
    """Nobody can have the file yet."""

    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(DONE)
        await asyncio.sleep(5)

    async with serving(hasty) as url:
        reply = await put(url, bytes(64 * BLOCK_BYTES))
    assert isinstance(reply, Failure)
    assert reply.kind is FailureKind.RESET


async def test_an_endless_answer_is_cut() -> None:
    """At a bound far above what a storage says of an error."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(CONTENT))
        assert head
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 999999999\r\n\r\n")
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()

    async with serving(endless) as url:
        reply = await put(url)
    assert isinstance(reply, Answer)
    assert (reply.status, reply.truncated, len(reply.body)) == (403, True, 65_536)


async def test_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    """Nothing is sent; with the right authority it is."""
    certificates = make_certificates(tmp_path)
    serve = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serve.load_cert_chain(certificates.server_store)
    storage = Storage()
    async with serving(storage, serve) as url, file_of(CONTENT) as file:
        reply = await sender().send(URL(url), PUT, {}, Body(file))
        assert isinstance(reply, Failure)
        assert (reply.kind, storage.head) == (FailureKind.BAD_CERTIFICATE, b"")
        reply = await sender(tls=certificates.client_context()).send(URL(url), PUT, {}, Body(file))
        assert isinstance(reply, Answer)
    assert storage.body == CONTENT


# -- forms


class Names(AbstractResolver):
    """Leads every name to one address."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = ResolveResult(
            hostname=host, host=self._address, port=port, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST
        )
        return [found]

    async def close(self) -> None:
        pass


FIELDS = (("key", "imports/a b"), ("policy", "e30="), ("x-amz-signature", "ff"))
LOCAL = FormPolicy([], 50_000_000, plain_loopback=True)


async def test_a_form_has_every_field_unchanged_and_the_file_last() -> None:
    """Without anything that would prove who we are."""
    storage = Storage()
    async with serving(storage) as url, file_of(CONTENT) as file:
        uploads = FormUploads(sender(), LOCAL)
        opened = Opened("i-1", Upload(f"{url}/uploads/i-1?a=%2F", FIELDS, None))
        assert uploads.problem(opened, file) is None
        reply = await uploads.send(opened, file)
    assert isinstance(reply, Answer)
    head = storage.head.decode()
    assert head.startswith("POST /uploads/i-1?a=%2F HTTP/1.1\r\n")
    assert "authorization" not in head.lower()
    [boundary] = [line.partition("boundary=")[2] for line in head.split("\r\n") if "boundary=" in line]
    assert f"Content-Type: {content_type(boundary)}" in head
    first, *parts, last = storage.body.split(b"--" + boundary.encode())
    assert (first, last) == (b"", b"--\r\n")
    assert [part.partition(b"\r\n\r\n")[2] for part in parts] == [
        *(value.encode() + b"\r\n" for _, value in FIELDS),
        CONTENT + b"\r\n",
    ]
    assert b'name="file"' in parts[-1]
    assert b"Content-Type: text/csv" in parts[-1]


@pytest.mark.parametrize(
    ("address", "hosts", "problem"),
    [
        ("127.0.0.1", ["storage.example:{port}"], "this machine"),
        ("10.9.8.7", ["*.example:{port}"], "private network"),
        ("169.254.169.254", ["storage.example:{port}"], "no host"),
    ],
)
async def test_a_name_that_leads_where_no_file_may_go(address: str, hosts: list[str], problem: str) -> None:
    """Nothing connects, and the lane holds."""
    storage = Storage()
    async with serving(storage) as url, file_of(CONTENT) as file:
        port = URL(url).port
        policy = FormPolicy([host.format(port=port) for host in hosts], 50_000_000)
        uploads = FormUploads(sender(names=Names(address)), policy)
        opened = Opened("i-1", Upload(f"https://storage.example:{port}/x", FIELDS, None))
        assert uploads.problem(opened, file) is None
        verdict = await uploads.send(opened, file)
    assert isinstance(verdict, Hold)
    assert verdict.scope is HoldScope.LANE
    assert problem in verdict.reason
    assert storage.connections == 0


@pytest.mark.parametrize(
    ("upload", "size", "problem"),
    [
        (Upload("http://storage.example/x", (), None), 10, "not https"),
        (Upload("https://evil.example/x", (), None), 10, "none of upload_hosts"),
        (Upload("https://10.0.0.1/x", (), None), 10, "none of upload_hosts"),
        (Upload("https://127.0.0.1/x", (), None), 10, "this machine"),
        (Upload("https://storage.example/x", (), None), 1_001, "takes 1000 bytes"),
        (Upload("https://storage.example/x", (), None), 0, "no file below 1 bytes"),
        (Upload("https://storage.example/x", (('a"', "b"),), None), 10, "no form can carry"),
        (Upload("https://storage.example/x", (("a", "b"),), None), 10, None),
    ],
)
def test_what_is_not_uploaded(upload: Upload, size: int, problem: str | None) -> None:
    """By address, length and form, before anything is sent."""
    told = upload_problem(upload, size, FormPolicy(["storage.example", "127.0.0.1"], 1_000))
    assert told is None if problem is None else problem in (told or "")


async def test_a_file_that_cannot_be_read_is_no_fault_of_the_platforms() -> None:
    """The status tells how much of it came."""
    async with serving(Storage()) as url, file_of(bytes(BLOCK_BYTES)) as file:
        file.close()
        reply = await FormUploads(sender(), LOCAL).send(Opened("i", Upload(f"{url}/x", (), None)), file)
    assert isinstance(reply, Failure)
    assert "gone" in reply.detail
