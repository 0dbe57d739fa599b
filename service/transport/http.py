"""The one edge to the network: sends a handler's request, and turns every error into a :class:`Failure`.

No redirect is followed, no cookie kept, no environment proxy used, nothing repeated, and a body is read up to a bound.
"""

import asyncio
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import aiohttp
import msgspec
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD
from yarl import URL

from handlers.base import Answer, Failure, FailureKind, Reply, Request
from service.transport.deadlines import Deadlines
from service.transport.wire import RequestWriter

MAX_BODY_BYTES = 1024 * 1024
# A kept connection is used again for less than the five seconds after which many servers close it: a request that meets
# the closing may or may not have been read, and what must not be repeated is then in doubt.
_KEPT_S = 4.0


class TransportPolicy(msgspec.Struct, frozen=True):
    """How an account is reached; times in seconds."""

    base_url: str
    connect_s: float
    total_s: float
    max_connections: int
    proxy: str | None = None
    max_body_bytes: int = MAX_BODY_BYTES


class HttpTransport:
    """HTTP to one account's platform. An async context manager; requests may run concurrently.

    aiohttp connects (names, TLS, proxies, the pool) and parses the answers. The request is written here, because its
    session costs three times as much, and because it makes some requests twice by itself where a kept connection was
    closed meanwhile: whether to repeat is not its to decide.
    """

    def __init__(self, policy: TransportPolicy, tls: ssl.SSLContext | None) -> None:
        self._policy = policy
        self._tls = tls
        base = URL(policy.base_url.rstrip("/"), encoded=True)
        self._base = base
        self._writer = RequestWriter(base, proxied=policy.proxy is not None and base.scheme == "http")
        self._deadlines = Deadlines(policy.total_s)
        # Only the connection: the whole is bounded by our own deadlines.
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=policy.connect_s)
        self._connector: aiohttp.TCPConnector | None = None
        self._goal: aiohttp.ClientRequest | None = None

    async def __aenter__(self) -> Self:
        self._connector = aiohttp.TCPConnector(
            limit=self._policy.max_connections,
            ssl=self._tls if self._tls is not None else True,
            keepalive_timeout=_KEPT_S,
        )
        proxy = URL(self._policy.proxy) if self._policy.proxy is not None else None
        # Never sent: it tells the connector where to.
        self._goal = aiohttp.ClientRequest("GET", self._base, loop=asyncio.get_running_loop(), proxy=proxy)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.close()
        if self._connector is not None:
            await self._connector.close()
            self._connector = None

    async def send(self, request: Request, credentials: Mapping[str, str]) -> Reply:
        """Send once. Never raises for what the network or the platform does; ValueError for a request that is none."""
        assert self._connector is not None, "the transport is not open"
        assert self._goal is not None
        wire = self._writer.write(request, credentials)
        task = self._deadlines.begin()
        connection: aiohttp.connector.Connection | None = None
        try:
            connection = await self._connector.connect(self._goal, [], self._timeout)
            protocol = connection.protocol
            if protocol is None or protocol.transport is None:
                return _CLOSED
            answer = await self._exchange(connection, protocol, protocol.transport, wire)
            # Back into the pool, unless the answer says that it is to be closed.
            connection.release()
            connection = None
            return answer
        except ERRORS as error:
            return failure_of(error) if connection is not None else unconnected(error)
        except asyncio.CancelledError:
            if self._deadlines.passed(task):
                return failure_of(TimeoutError()) if connection is not None else unconnected(TimeoutError())
            raise
        finally:
            self._deadlines.end(task)
            if connection is not None:
                connection.close()

    async def _exchange(
        self,
        connection: aiohttp.connector.Connection,
        protocol: ResponseHandler,
        transport: asyncio.Transport,
        wire: bytes,
    ) -> Answer:
        if protocol._parser is None:
            # Once for each connection.
            protocol.set_response_params(read_until_eof=True, auto_decompress=True)
        transport.write(wire)
        message, content = await protocol.read()
        while message.code < 200 and message.code != 101:
            message, content = await protocol.read()
        body, truncated = b"", False
        if content is not EMPTY_PAYLOAD:
            body, truncated = await self._read(content)
        if truncated:
            # The rest is not wanted, and the connection cannot be used for anything else.
            connection.close()
        return Answer(status=message.code, headers=message.headers, body=body, truncated=truncated)

    async def _read(self, content: aiohttp.StreamReader) -> tuple[bytes, bool]:
        limit = self._policy.max_body_bytes
        parts: list[bytes] = []
        size = 0
        async for chunk in content.iter_any():
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                return b"".join(parts)[:limit], True
        return b"".join(parts), False


# From the most particular to the most general: the first that fits counts. What stands before a connection was
# made is "not sent"; everything later may have reached the platform.
_KINDS: tuple[tuple[type[BaseException], FailureKind, str], ...] = (
    (aiohttp.ClientConnectorCertificateError, FailureKind.BAD_CERTIFICATE, "the certificate is not trusted"),
    (aiohttp.ClientConnectorDNSError, FailureKind.NOT_SENT, "the name was not found"),
    (aiohttp.ClientConnectorSSLError, FailureKind.NOT_SENT, "TLS failed"),
    (aiohttp.ClientProxyConnectionError, FailureKind.NOT_SENT, "the proxy cannot be reached"),
    (aiohttp.ClientHttpProxyError, FailureKind.NOT_SENT, "the proxy refused"),
    (aiohttp.ConnectionTimeoutError, FailureKind.NOT_SENT, "no connection in time"),
    (aiohttp.ClientConnectorError, FailureKind.NOT_SENT, "no connection"),
    (aiohttp.ServerFingerprintMismatch, FailureKind.BAD_CERTIFICATE, "the certificate is not trusted"),
    (aiohttp.InvalidURL, FailureKind.NOT_SENT, "the URL is not valid"),
    (aiohttp.NonHttpUrlClientError, FailureKind.NOT_SENT, "the URL is not valid"),
    (TimeoutError, FailureKind.TIMED_OUT, "no answer in time"),
    (aiohttp.ServerDisconnectedError, FailureKind.RESET, "the connection was closed before the answer"),
    (aiohttp.ClientPayloadError, FailureKind.RESET, "the answer broke off"),
    (aiohttp.ClientResponseError, FailureKind.RESET, "the answer is not HTTP"),
    (HttpProcessingError, FailureKind.RESET, "the answer is not HTTP"),
    (aiohttp.ClientError, FailureKind.RESET, "the connection broke"),
    (OSError, FailureKind.RESET, "the connection broke"),
    (asyncio.IncompleteReadError, FailureKind.RESET, "the answer broke off"),
)


_CLOSED = Failure(FailureKind.NOT_SENT, "the connection was closed before anything was sent")
# What the network does, each of them known to ``failure_of``.
ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError, asyncio.IncompleteReadError)


def failure_of(error: BaseException) -> Failure:
    """Our word for a foreign error. The foreign text is left out: it can hold the URL."""
    for kind, failure, detail in _KINDS:
        if isinstance(error, kind):
            return Failure(failure, detail)
    raise TypeError(f"not an error of the network: {type(error).__name__}") from error


def unconnected(error: BaseException) -> Failure:
    """The failure of a request of which no byte was handed over."""
    failure = failure_of(error)
    if failure.kind in (FailureKind.NOT_SENT, FailureKind.BAD_CERTIFICATE):
        return failure
    return Failure(
        FailureKind.NOT_SENT, "no connection in time" if isinstance(error, TimeoutError) else "no connection"
    )
