"""Long answers on loopback: what is read as it comes, and what every trouble on the way is called."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from handlers.base import Failure, FailureKind, Request
from service.transport.http import TransportPolicy
from service.transport.streaming import BrokenOffError, Stream, StreamingTransport

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
GET = Request("GET", "/targets/a%2Fb/notifications?start=2026-01-01T00%3A00%3A00Z&sort=asc", (("Accept", "text/x"),))
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def serving(answer: Serve, requests: list[bytes] | None = None) -> AsyncIterator[str]:
    """A server on loopback that reads one request and answers it; gives its base URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if requests is not None:
                requests.append(head)
            await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/np6/main"


def answering(reply: bytes) -> Serve:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        await writer.drain()

    return answer


@asynccontextmanager
async def opened(
    base_url: str, *, total_s: float = 5.0, max_body_bytes: int = 1_000
) -> AsyncIterator[Stream | Failure]:
    policy = TransportPolicy(base_url, connect_s=2.0, total_s=total_s, max_connections=1, max_body_bytes=max_body_bytes)
    async with StreamingTransport(policy, None) as transport, transport.opened(GET, {"X-Key": "k"}) as reply:
        yield reply


async def read(reply: Stream | Failure) -> bytes:
    assert isinstance(reply, Stream), reply
    return b"".join([part async for part in reply.parts()])


async def test_the_request_goes_out_as_it_was_encoded_with_the_credentials() -> None:
    """Path and query byte for byte."""
    requests: list[bytes] = []
    async with (
        serving(answering(EMPTY), requests) as url,
        opened(url) as reply,
    ):
        assert await read(reply) == b"[]"
    head = requests[0].decode()
    assert head.startswith("GET /np6/main" + GET.path + " HTTP/1.1\r\n")
    assert "X-Key: k\r\n" in head
    assert "Accept: text/x\r\n" in head


async def test_parts_are_given_as_they_come() -> None:
    """The first can be used while the second has not been sent."""
    go_on = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"3\r\nabc\r\n")
        await go_on.wait()
        writer.write(b"2\r\nde\r\n0\r\n\r\n")

    async with serving(answer) as url, opened(url) as reply:
        assert isinstance(reply, Stream)
        parts = reply.parts()
        assert await anext(parts) == b"abc"
        go_on.set()
        assert [part async for part in parts] == [b"de"]


async def test_a_compressed_body_is_unpacked() -> None:
    """In parts, too."""
    body = b"0123456789" * 100_000
    packed = gzip.compress(body)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    async with serving(answering(head + packed)) as url, opened(url) as reply:
        assert await read(reply) == body


async def test_a_long_answer_may_take_longer_than_the_account_allows_for_a_part() -> None:
    """The bound counts from one part to the next."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for _ in range(8):
            await asyncio.sleep(0.25)
            writer.write(b"1\r\nx\r\n")
        writer.write(b"0\r\n\r\n")

    async with serving(answer) as url, opened(url, total_s=1.5) as reply:
        assert await read(reply) == b"x" * 8


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_no_answer_in_time() -> None:
    """It may have been sent."""
    async with serving(silence) as url, opened(url, total_s=1) as reply:
        assert isinstance(reply, Failure)
        assert reply.kind is FailureKind.TIMED_OUT


async def test_an_answer_that_falls_silent() -> None:
    """Ends with the bound, after what came."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"3\r\nabc\r\n")
        await reader.read()

    async with serving(answer) as url, opened(url, total_s=1) as reply:
        assert isinstance(reply, Stream)
        parts = reply.parts()
        assert await anext(parts) == b"abc"
        with pytest.raises(BrokenOffError) as broken:
            await anext(parts)
    assert broken.value.failure.kind is FailureKind.TIMED_OUT


@pytest.mark.parametrize(
    "reply",
    [CHUNKED + b"3\r\nabc\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"],
    ids=["chunks without an end", "shorter than announced"],
)
async def test_an_answer_that_breaks_off(reply: bytes) -> None:
    """Is never taken for its end."""
    async with serving(answering(reply)) as url, opened(url) as stream:
        with pytest.raises(BrokenOffError) as broken:
            await read(stream)
    assert broken.value.failure.kind is FailureKind.RESET


async def test_nobody_listens() -> None:
    """Nothing was sent."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with opened(f"http://127.0.0.1:{bound.getsockname()[1]}") as reply:
            assert isinstance(reply, Failure)
            assert reply.kind is FailureKind.NOT_SENT


async def test_no_redirect_is_followed() -> None:
    """It is an answer like any other."""
    moved = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    requests: list[bytes] = []
    async with serving(answering(moved), requests) as url, opened(url) as reply:
        assert isinstance(reply, Stream)
        assert reply.status == 302
    assert len(requests) == 1


async def test_a_short_answer_can_be_read_whole_up_to_a_bound() -> None:
    """As one that is an error is; headers by their lower-case names."""
    body = b'{"Message": "no"}'
    head = b"HTTP/1.1 400 Bad Request\r\nX-Request-Id: r1\r\nContent-Length: %d\r\n\r\n"
    async with serving(answering(head % len(body) + body)) as url, opened(url) as reply:
        assert isinstance(reply, Stream)
        answer = await reply.whole()
    assert (answer.status, answer.body, answer.truncated) == (400, body, False)
    assert answer.headers["x-request-id"] == "r1"
    async with serving(answering(head % 1_500 + b"x" * 1_500)) as url, opened(url) as reply:
        assert isinstance(reply, Stream)
        answer = await reply.whole()
    assert (len(answer.body), answer.truncated) == (1_000, True)


async def test_an_error_of_the_reader_is_its_own() -> None:
    """What the block itself raises is not taken for trouble on the wire, even if it looks so."""
    async with serving(answering(EMPTY)) as url:
        with pytest.raises(BrokenPipeError):
            async with opened(url):
                raise BrokenPipeError
        async with serving(answering(EMPTY)) as url, opened(url) as reply:
            assert await read(reply) == b"[]"


async def test_what_is_not_wanted_is_not_read() -> None:
    """The connection is closed while the answer goes on."""
    gone = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        try:
            while True:
                writer.write(b"3e8\r\n" + b"x" * 1_000 + b"\r\n")
                await writer.drain()
        finally:
            gone.set()

    async with serving(endless) as url:
        async with opened(url) as reply:
            assert isinstance(reply, Stream)
            await anext(reply.parts())
        await asyncio.wait_for(gone.wait(), 5)
