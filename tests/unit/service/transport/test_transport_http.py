"""The edge to HTTP on loopback: what goes over the wire, and what every trouble on it is called."""

import asyncio
import errno
import gzip
import inspect
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from handlers.base import Answer, Failure, FailureKind, Reply, Request
from service.transport.http import HttpTransport, TransportPolicy, failure_of
from tests.support.tls import Certificates, make_certificates

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 204 No Content\r\n\r\n"
POST = Request("POST", "/targets/T/segments/1", (("Content-Length", "0"),))
GET = Request("GET", "/targets/T/segments")


@asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server on loopback; gives its base URL."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    finally:
        server.close()


def policy(base_url: str, **options: object) -> TransportPolicy:
    """Times that are long enough for loopback and short enough for tests."""
    return TransportPolicy(**({"base_url": base_url, "connect_s": 2, "total_s": 5, "max_connections": 4} | options))


async def ask(base_url: str, request: Request = POST, tls: ssl.SSLContext | None = None, **options: object) -> Reply:
    """The reply to one request."""
    async with HttpTransport(policy(base_url, **options), tls) as transport:
        return await transport.send(request, {"X-Key": "secret-key"})


def answering(reply: bytes, requests: list[bytes] | None = None) -> Serve:
    """Reads requests without a body and answers each alike, on one connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if requests is not None:
                requests.append(head)
            writer.write(reply)
            await writer.drain()

    return serve


def with_body(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def fields(head: bytes) -> list[tuple[str, str]]:
    """The header fields of a request as they went over the wire."""
    lines = head.decode().split("\r\n")[1:-2]
    return [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]


# -- what is sent


async def test_a_post_without_a_body_says_its_length_and_no_content_type() -> None:
    """Without Content-Length: 0 the platform answers 411; with a Content-Type it may answer 415."""
    requests: list[bytes] = []
    async with serving(answering(OK, requests)) as base:
        assert isinstance(await ask(base), Answer)
        assert isinstance(await ask(base, Request("POST", "/x")), Answer)
    for head in requests:
        sent = fields(head)
        assert [value for name, value in sent if name == "content-length"] == ["0"]
        assert "content-type" not in dict(sent)
        assert "transfer-encoding" not in dict(sent)


async def test_headers_are_sent_as_given_with_the_credentials_once() -> None:
    """The handler's, and the account's, which no header of the request replaces."""
    requests: list[bytes] = []
    async with serving(answering(with_body(b"[]"), requests)) as base:
        await ask(base, Request("GET", "/x", (("Accept", "application/json"), ("X-Key", "another"))))
    sent = fields(requests[0])
    assert ("accept", "application/json") in sent
    assert [value for name, value in sent if name == "x-key"] == ["secret-key"]
    assert not {"cookie", "authorization", "referer"} & set(dict(sent))


async def test_a_body_is_sent_with_the_type_that_its_handler_names() -> None:
    """Byte for byte."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.extend([head, await reader.readexactly(int(dict(fields(head))["content-length"]))])
        writer.write(OK)

    async with serving(serve) as base:
        await ask(base, Request("POST", "/x", (("Content-Type", "application/json"),), b'{"a":1}'))
    assert dict(fields(seen[0]))["content-type"] == "application/json"
    assert seen[1] == b'{"a":1}'


@pytest.mark.parametrize(
    "path",
    ["/targets/a%2Fb%3F%23/segments/1", "/targets/%C3%A9%20%25/x", "/x?page=1&name=a%20b%26c%2B&empty=", "/%2E%2E/x"],
)
@pytest.mark.parametrize("prefix", ["", "/api", "/api/"])
async def test_a_path_goes_over_the_wire_as_its_handler_encoded_it(path: str, prefix: str) -> None:
    """Behind the base URL's own path; nothing is decoded, encoded again or climbed."""
    requests: list[bytes] = []
    async with serving(answering(OK, requests)) as base:
        await ask(base + prefix, Request("GET", path))
    assert requests[0].split(b" ")[1].decode() == prefix.rstrip("/") + path


async def test_connections_are_used_again_and_not_more_than_allowed() -> None:
    """Twelve requests at once over at most four connections."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(OK)(reader, writer)

    async with serving(serve) as base, HttpTransport(policy(base), None) as transport:
        replies = await asyncio.gather(*(transport.send(POST, {}) for _ in range(12)))
        assert [isinstance(reply, Answer) for reply in replies] == [True] * 12
        assert connections <= 4


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the one that the account names."""
    requests: list[bytes] = []
    async with serving(answering(OK)) as base, serving(answering(OK, requests)) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        assert isinstance(await ask(base), Answer)
        assert requests == []
        assert isinstance(await ask(base, proxy=proxy), Answer)
        assert requests[0].startswith(b"POST http://127.0.0.1")


async def test_a_cookie_is_not_kept() -> None:
    """What one answer sets, the next request does not carry."""
    requests: list[bytes] = []
    reply = b"HTTP/1.1 204 No Content\r\nSet-Cookie: a=b; Path=/\r\n\r\n"
    async with serving(answering(reply, requests)) as base, HttpTransport(policy(base), None) as transport:
        await transport.send(POST, {})
        await transport.send(POST, {})
    assert "cookie" not in dict(fields(requests[1]))


# -- what is answered


async def test_an_answer_has_status_headers_and_body() -> None:
    """Headers are found by their lower-case names."""
    async with serving(answering(with_body(b"[1,2]", "200 OK", "X-Request-ID: r-1", "Retry-After: 7"))) as base:
        reply = await ask(base, GET)
    assert isinstance(reply, Answer)
    assert (reply.status, reply.body, reply.truncated) == (200, b"[1,2]", False)
    assert (reply.headers["x-request-id"], reply.headers.get("retry-after")) == ("r-1", "7")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    """The key would go with it: the answer is handed on as what it is."""
    elsewhere: list[bytes] = []
    async with serving(answering(OK, elsewhere)) as other:
        reply_bytes = with_body(b"", f"{status} Moved", f"Location: {other}/")
        async with serving(answering(reply_bytes)) as base:
            for request in (POST, GET):
                reply = await ask(base, request)
                assert isinstance(reply, Answer)
                assert reply.status == status
    assert elsewhere == []


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_body_is_read_up_to_a_bound(compressed: bool) -> None:
    """Also one that is small only on the wire; the connection is not used for another request."""
    body = b"x" * 3_000_000
    wire = with_body(gzip.compress(body), "200 OK", "Content-Encoding: gzip") if compressed else with_body(body)
    async with serving(answering(wire)) as base, HttpTransport(policy(base, max_body_bytes=1000), None) as transport:
        for _ in range(2):
            reply = await transport.send(GET, {})
            assert isinstance(reply, Answer)
            assert (reply.body, reply.truncated) == (b"x" * 1000, True)


async def test_a_body_of_exactly_the_bound_is_whole() -> None:
    """The bound itself is within it."""
    async with serving(answering(with_body(b"x" * 1000))) as base:
        reply = await ask(base, GET, max_body_bytes=1000)
        assert isinstance(reply, Answer)
        assert (len(reply.body), reply.truncated) == (1000, False)


async def test_a_body_without_end_ends_at_the_bound() -> None:
    """A chunked answer that goes on for ever is cut, not waited for."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"400\r\n" + b"y" * 1024 + b"\r\n")
            await writer.drain()

    async with serving(serve) as base:
        reply = await ask(base, GET)
        assert isinstance(reply, Answer)
        assert (len(reply.body), reply.truncated) == (1024 * 1024, True)


# -- trouble


def failed(reply: Reply) -> FailureKind:
    assert isinstance(reply, Failure), reply
    assert "secret-key" not in reply.detail
    assert "127.0.0.1" not in reply.detail
    return reply.kind


async def test_a_refused_connection_was_not_sent() -> None:
    """Nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert failed(await ask(base)) is FailureKind.NOT_SENT


async def test_an_unknown_name_was_not_sent() -> None:
    """The top-level name ``invalid`` never exists."""
    assert failed(await ask("http://platform.invalid")) is FailureKind.NOT_SENT


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port whose queue of connections is full: another one gets no answer at all."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            waiting.append(client)
        yield listener.getsockname()[1]
        for client in waiting:
            client.close()


async def test_no_connection_in_time_was_not_sent(deaf_port: int) -> None:
    """The connect time-out, long before the total one."""
    async with asyncio.timeout(4):
        assert failed(await ask(f"http://127.0.0.1:{deaf_port}", connect_s=0.3, total_s=30)) is FailureKind.NOT_SENT


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_a_tls_handshake_that_never_ends_was_not_sent() -> None:
    """It counts as connecting."""
    async with serving(silent) as base, asyncio.timeout(4):
        assert failed(await ask(base.replace("http", "https"), connect_s=0.3, total_s=30)) is FailureKind.NOT_SENT


async def test_tls_towards_a_port_that_speaks_none_was_not_sent() -> None:
    """No request can have gone out."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(serve) as base:
        assert failed(await ask(base.replace("http", "https"))) is FailureKind.NOT_SENT


async def test_no_answer_in_time_may_have_been_sent() -> None:
    """The total time-out, behind the request."""
    async with serving(silent) as base:
        assert failed(await ask(base, total_s=1)) is FailureKind.TIMED_OUT


async def test_half_an_answer_in_time_is_a_time_out_too() -> None:
    """A body that dribbles does not keep its worker for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        await reader.read()

    async with serving(serve) as base:
        assert failed(await ask(base, GET, total_s=1)) is FailureKind.TIMED_OUT


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


@pytest.mark.parametrize("hard", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    "answered",
    [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"],
    ids=["nothing", "half a line", "half a body"],
)
async def test_a_connection_that_breaks_behind_the_request_is_a_reset(answered: bytes, hard: bool) -> None:
    """Nobody knows whether it took effect."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answered)
        await writer.drain()
        if hard:
            reset(writer)

    async with serving(serve) as base:
        assert failed(await ask(base)) is FailureKind.RESET


@pytest.mark.parametrize(
    "garbage",
    [
        b"garbage\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: " + b"b" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n\r\nno gzip",
        b"HTTP/1.1 200 OK\r\nA\0: b\r\n\r\n",
    ],
    ids=lambda garbage: repr(garbage[:30]),
)
async def test_an_answer_that_is_not_http_is_a_reset(garbage: bytes) -> None:
    """It never raises, and is no answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(garbage)
        await writer.drain()

    async with serving(serve) as base:
        assert failed(await ask(base, GET)) is FailureKind.RESET


@pytest.mark.parametrize("request_", [POST, GET], ids=lambda request_: request_.method)
async def test_a_kept_connection_that_was_closed_meanwhile(request_: Request) -> None:
    """The platform closed it between two requests: the next one goes over another connection, or is a reset; what was
    handed over is never sent twice by itself, whatever the method."""
    read = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal read
        await reader.readuntil(b"\r\n\r\n")
        read += 1
        writer.write(OK)
        await writer.drain()

    async with serving(serve) as base, HttpTransport(policy(base), None) as transport:
        replies = [await transport.send(request_, {}) for _ in range(20)]
        assert all(isinstance(reply, Answer) or reply.kind is FailureKind.RESET for reply in replies)
        assert read == sum(isinstance(reply, Answer) for reply in replies)


async def test_a_reset_of_a_second_request_is_not_made_again() -> None:
    """The platform read it and broke the connection: nobody but the lane decides whether to repeat."""
    read = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal read
        while True:
            await reader.readuntil(b"\r\n\r\n")
            read += 1
            if read == 2:
                return
            writer.write(OK)
            await writer.drain()

    async with serving(serve) as base, HttpTransport(policy(base), None) as transport:
        assert isinstance(await transport.send(GET, {}), Answer)
        assert failed(await transport.send(GET, {})) is FailureKind.RESET
        assert read == 2


async def test_what_nobody_asked_for_is_taken_for_no_answer() -> None:
    """A second answer on a kept connection must not become the next request's."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(with_body(b"first") + with_body(b"stray"))
        await writer.drain()
        await reader.read()

    async with serving(serve) as base, HttpTransport(policy(base), None) as transport:
        for _ in range(3):
            reply = await transport.send(GET, {})
            assert isinstance(reply, Answer)
            assert reply.body == b"first"


async def test_what_comes_before_the_answer_is_passed_over() -> None:
    """100 and 103 announce an answer and are none."""
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with serving(answering(early + with_body(b"[1]"))) as base:
        reply = await ask(base, GET)
    assert isinstance(reply, Answer)
    assert (reply.status, reply.body) == (200, b"[1]")


async def test_a_request_that_is_none_is_refused_before_anything_is_sent() -> None:
    """Our own mistake is no failure of the network."""
    async with serving(answering(OK)) as base:
        with pytest.raises(ValueError, match="percent-encoded"):
            await ask(base, Request("GET", "/a b"))


async def test_nothing_is_in_doubt_before_the_connection_is_there(deaf_port: int) -> None:
    """The whole time runs out while there is no connection yet: it was not sent."""
    reply = await ask(f"http://127.0.0.1:{deaf_port}", connect_s=5, total_s=0.3)
    assert failed(reply) is FailureKind.NOT_SENT


async def test_a_cancelled_request_is_cancelled() -> None:
    """It is no failure of the network."""
    async with serving(silent) as base, HttpTransport(policy(base), None) as transport:
        task = asyncio.create_task(transport.send(POST, {}))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# -- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def server_context(store: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(store)
    return context


async def test_a_trusted_certificate_is_taken_and_an_unknown_authority_is_not(certificates: Certificates) -> None:
    """With the account's own authority, and with the system's alone."""
    async with serving(answering(OK), server_context(certificates.server_store)) as base:
        assert isinstance(await ask(base, tls=certificates.client_context()), Answer)
        assert failed(await ask(base)) is FailureKind.BAD_CERTIFICATE


async def test_a_certificate_of_another_name_is_bad(certificates: Certificates) -> None:
    """Trusted, and somebody else's."""
    async with serving(answering(OK), server_context(certificates.client_store)) as base:
        assert failed(await ask(base, tls=certificates.client_context())) is FailureKind.BAD_CERTIFICATE


# -- the mapping is complete

EXPECTED: dict[str, FailureKind] = {
    "ClientError": FailureKind.RESET,
    "ClientResponseError": FailureKind.RESET,
    "ContentTypeError": FailureKind.RESET,
    "WSServerHandshakeError": FailureKind.RESET,
    "ClientHttpProxyError": FailureKind.NOT_SENT,
    "TooManyRedirects": FailureKind.RESET,
    "ClientConnectionError": FailureKind.RESET,
    "ClientConnectionResetError": FailureKind.RESET,
    "ClientOSError": FailureKind.RESET,
    "ClientConnectorError": FailureKind.NOT_SENT,
    "ClientConnectorDNSError": FailureKind.NOT_SENT,
    "ClientProxyConnectionError": FailureKind.NOT_SENT,
    "UnixClientConnectorError": FailureKind.NOT_SENT,
    "ClientSSLError": FailureKind.NOT_SENT,
    "ClientConnectorSSLError": FailureKind.NOT_SENT,
    "ClientConnectorCertificateError": FailureKind.BAD_CERTIFICATE,
    "ServerConnectionError": FailureKind.RESET,
    "ServerDisconnectedError": FailureKind.RESET,
    "ServerTimeoutError": FailureKind.TIMED_OUT,
    "ConnectionTimeoutError": FailureKind.NOT_SENT,
    "SocketTimeoutError": FailureKind.TIMED_OUT,
    "ServerFingerprintMismatch": FailureKind.BAD_CERTIFICATE,
    "ClientPayloadError": FailureKind.RESET,
    "UploadAbortedError": FailureKind.RESET,
    "InvalidURL": FailureKind.NOT_SENT,
    "InvalidUrlClientError": FailureKind.NOT_SENT,
    "InvalidUrlRedirectClientError": FailureKind.NOT_SENT,
    "RedirectClientError": FailureKind.RESET,
    "NonHttpUrlClientError": FailureKind.NOT_SENT,
    "NonHttpUrlRedirectClientError": FailureKind.NOT_SENT,
}


def subclasses(kind: type[BaseException]) -> set[type[BaseException]]:
    """The class itself and all that aiohttp derives from it."""
    below = {found for child in kind.__subclasses__() for found in subclasses(child)}
    return {kind, *below} if kind.__module__.startswith("aiohttp") else below


ALL = sorted(subclasses(aiohttp.ClientError), key=lambda kind: kind.__name__)


def test_every_error_of_aiohttp_is_known() -> None:
    """A new version that brings another one is noticed here. What an older one lacks is no harm."""
    assert {kind.__name__ for kind in ALL} <= EXPECTED.keys()
    assert len(ALL) >= 25


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_of_aiohttp_is_mapped(kind: type[BaseException]) -> None:
    """To the kind that its moment means; the foreign text, which can hold an address, is left out."""
    failure = failure_of(made(kind))
    assert failure.kind is EXPECTED[kind.__name__]
    assert "secret" not in failure.detail


def made(kind: type[BaseException]) -> BaseException:
    """An error of the class, whatever its constructor wants, with a secret in whatever it says."""
    key = ConnectionKey("secret", 1, False, True, None, None, None)
    os_error = OSError(errno.ECONNREFUSED, "secret")
    info = aiohttp.RequestInfo(URL("http://secret/"), "GET", headers={}, real_url=URL("http://secret/"))  # type: ignore[arg-type] # any mapping does
    candidates: list[tuple[object, ...]] = [
        (key, os_error),
        (info, ()),
        ("path", key, os_error),
        (b"a", b"b", "secret", 1),
        ("secret",),
    ]
    for arguments in candidates:
        try:
            inspect.signature(kind).bind(*arguments)
            return kind(*arguments)
        except (TypeError, ValueError):
            continue
    return kind("secret")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), FailureKind.TIMED_OUT),
        (ConnectionResetError(), FailureKind.RESET),
        (BrokenPipeError(), FailureKind.RESET),
        (OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH)), FailureKind.RESET),
        (asyncio.IncompleteReadError(b"", 1), FailureKind.RESET),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_that_are_not_aiohttps_own(error: BaseException, kind: FailureKind) -> None:
    """What Python itself raises on a connection that exists may have been sent."""
    assert failure_of(error).kind is kind


def test_what_is_no_error_of_the_network_is_not_swallowed() -> None:
    """A fault of ours comes out."""
    with pytest.raises(TypeError):
        failure_of(KeyError("x"))
