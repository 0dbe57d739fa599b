"""Requests as bytes: one request stays one, and each header stands once."""

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from yarl import URL

from handlers.base import Request
from service.transport.wire import RequestWriter

KEY = {"X-Key": "secret-key"}


def written(request: Request, base: str = "https://api.example.com", **options: bool) -> bytes:
    return RequestWriter(URL(base), **options).write(request, KEY)


async def parsed(wire: bytes) -> tuple[RawRequestMessage, bytes]:
    """What a server reads from the bytes: exactly one request and nothing behind it."""
    loop = asyncio.get_running_loop()
    parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16)
    messages, _, rest = parser.feed_data(wire)
    ((head, content),) = messages
    assert not rest
    assert content.is_eof()
    return head, await content.read()


@pytest.mark.parametrize(
    ("request_", "length", "body"),
    [
        (Request("GET", "/x"), None, b""),
        (Request("DELETE", "/x"), None, b""),
        (Request("POST", "/x"), "0", b""),
        (Request("POST", "/x", (("content-length", "0"),)), "0", b""),
        (Request("PUT", "/x", body=b""), "0", b""),
        (Request("POST", "/x", body=b"\r\n\r\nGET / HTTP/1.1\r\n"), "20", b"\r\n\r\nGET / HTTP/1.1\r\n"),
    ],
)
async def test_a_server_reads_the_same_request(request_: Request, length: str | None, body: bytes) -> None:
    """Method, path, body, and a length wherever one is due, once."""
    head, seen = await parsed(written(request_))
    assert (head.method, head.path, seen) == (request_.method, "/x", body)
    assert head.headers.getall("Content-Length", []) == ([] if length is None else [length])


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "/x HTTP/1.1\r\nHost: other"),
        Request("GET", "/x\r\n\r\nDELETE /y"),
        Request("GET", "x"),
        Request("GET", "/é"),
        Request("GET\r\n", "/x"),
        Request("GET", "/x", (("A", "b\r\nX-Key: other"),)),
        Request("GET", "/x", (("A", "b\n"),)),
        Request("GET", "/x", (("A\r\nB", "c"),)),
        Request("GET", "/x", (("A:", "c"),)),
        Request("POST", "/x", (("Content-Length", "5"),), b"abc"),
    ],
)
def test_what_would_make_another_request_of_it_is_refused(request_: Request) -> None:
    """Nothing that stands in a path or a header can end it; the message quotes none of it."""
    with pytest.raises(ValueError, match=r"^a path is|^a header's name is|^the length of a body") as raised:
        written(request_)
    assert "other" not in str(raised.value)


def test_the_head_of_a_body_that_is_sent_apart() -> None:
    """The same lines as with a body, and the length it will have; a request that has a body already is refused."""
    writer = RequestWriter(URL("https://api.example.com/v1/"))
    request = Request("POST", "/x", (("X-A", "b"),))
    whole = writer.write(Request("POST", "/x", (("X-A", "b"),), b"abc"), KEY)
    assert writer.head(request, KEY, 3) + b"abc" == whole
    assert whole.startswith(b"POST /v1/x HTTP/1.1\r\n")
    for wrong in (Request("POST", "/x", body=b""), Request("POST", "/x", (("Content-Length", "0"),))):
        with pytest.raises(ValueError, match=r"^the body and its length come from elsewhere$"):
            writer.head(wrong, KEY, 3)


async def test_the_account_has_the_last_word() -> None:
    """Neither its credentials nor the host can be said anew by a handler, in whatever case."""
    head, _ = await parsed(
        written(Request("GET", "/x", (("x-key", "another"), ("HOST", "evil.example"), ("accept", "a/b"))))
    )
    said = {name: head.headers.getall(name) for name in ("Accept", "Host", "X-Key")}
    assert said == {"Accept": ["a/b"], "Host": ["api.example.com"], "X-Key": ["secret-key"]}


def test_new_credentials_are_written_at_once() -> None:
    """What was made once is made anew with them."""
    writer = RequestWriter(URL("https://api.example.com"))
    request = Request("GET", "/x", (("Accept", "a/b"),))
    assert b"secret-key" in writer.write(request, KEY)
    again = writer.write(request, {"X-Key": "renewed"})
    assert b"renewed" in again
    assert b"secret-key" not in again


def test_headers_that_differ_each_time_are_not_kept_for_ever() -> None:
    """A handler may name something of its own in each request."""
    writer = RequestWriter(URL("https://api.example.com"))
    for n in range(1000):
        assert b"X-Number: %d\r\n" % n in writer.write(Request("GET", "/x", (("X-Number", str(n)),)), KEY)
        assert len(writer._blocks) <= 64


def test_lines_are_made_once_for_the_same_headers() -> None:
    """Most requests of a handler have the same."""
    writer = RequestWriter(URL("https://api.example.com"))
    request = Request("GET", "/x", (("X-A", "b"),))
    before = writer.write(request, KEY)
    writer._block = None  # type: ignore[assignment,method-assign] # whoever asks for it fails
    assert writer.write(request, KEY) == before


@pytest.mark.parametrize(
    ("base", "host"),
    [
        ("https://api.example.com", "api.example.com"),
        ("https://api.example.com:443", "api.example.com"),
        ("https://api.example.com:8443/v1", "api.example.com:8443"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://[::1]", "[::1]"),
    ],
)
async def test_the_host_is_named_as_the_base_url_names_it(base: str, host: str) -> None:
    """With its port only where that is not the scheme's own."""
    head, _ = await parsed(written(Request("GET", "/x"), base))
    assert head.headers["Host"] == host


async def test_a_plain_proxy_is_told_the_whole_address() -> None:
    """Absolute form, as RFC 9112 asks for."""
    head, _ = await parsed(written(Request("GET", "/x?a=b"), "http://127.0.0.1:8080/v1", proxied=True))
    assert head.path == "http://127.0.0.1:8080/v1/x?a=b"
