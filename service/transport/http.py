"""The one edge to aiohttp: sends a handler's request, and turns every error into a :class:`Failure`.

No redirect is followed, no cookie kept, no environment proxy used, and a body is read up to a bound.
"""

import asyncio
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import aiohttp
import msgspec
from yarl import URL

from handlers.base import Answer, Failure, FailureKind, Reply, Request
from service.transport.deadlines import Deadlines

MAX_BODY_BYTES = 1024 * 1024


class TransportPolicy(msgspec.Struct, frozen=True):
    """How an account is reached; times in seconds."""

    base_url: str
    connect_s: float
    total_s: float
    max_connections: int
    proxy: str | None = None
    max_body_bytes: int = MAX_BODY_BYTES


class _BareRequest(aiohttp.ClientRequest):
    """A request that says no more than it was told to.

    aiohttp would say application/octet-stream of a POST without a body, which a platform may answer with 415.
    """

    POST_METHODS: set[str] = set()  # noqa: RUF012 - declared so by aiohttp


class HttpTransport:
    """HTTP to one account's platform. An async context manager; requests may run concurrently."""

    def __init__(self, policy: TransportPolicy, tls: ssl.SSLContext | None) -> None:
        self._policy = policy
        self._tls = tls
        self._base = URL(policy.base_url.rstrip("/"), encoded=True)
        self._prefix = self._base.raw_path.rstrip("/")
        self._deadlines = Deadlines(policy.total_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=self._policy.max_connections, ssl=self._tls if self._tls is not None else True, keepalive_timeout=30
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            # The whole is bounded by our own deadlines: aiohttp's would cost several timers for each request. Nor
            # connect: it adds only the wait for a place in the pool, which the account's limiter has seen to.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._policy.connect_s),
            auto_decompress=True,
            trust_env=False,
            request_class=_BareRequest,
            proxy=self._policy.proxy,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.close()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, request: Request, credentials: Mapping[str, str]) -> Reply:
        """Send once. Never raises for what the network or the platform does."""
        assert self._session is not None, "the transport is not open"
        headers = dict(request.headers)
        headers.update(credentials)
        task = self._deadlines.begin()
        try:
            async with self._session.request(
                request.method,
                self._url(request.path),
                headers=headers,
                data=request.body,
                allow_redirects=False,
            ) as response:
                body, truncated = await self._read(response)
                return Answer(
                    status=response.status,
                    headers=response.headers,
                    body=body,
                    truncated=truncated,
                )
        except (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            return failure_of(error)
        except asyncio.CancelledError:
            if self._deadlines.passed(task):
                return failure_of(TimeoutError())
            raise
        finally:
            self._deadlines.end(task)

    def _url(self, path: str) -> URL:
        """The address of ``path``, whose parts are encoded already; half the cost of parsing it as a whole."""
        if "?" in path:  # a query that is joined would be encoded anew
            return URL(self._policy.base_url.rstrip("/") + path, encoded=True)
        return self._base.with_path(self._prefix + path, encoded=True)

    async def _read(self, response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
        if response.status == 204 or response.content.at_eof():
            return b"", False
        limit = self._policy.max_body_bytes
        parts: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                # The rest is not wanted, and the connection cannot be used for anything else.
                response.close()
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
    (aiohttp.ClientError, FailureKind.RESET, "the connection broke"),
    (OSError, FailureKind.RESET, "the connection broke"),
    (asyncio.IncompleteReadError, FailureKind.RESET, "the answer broke off"),
)


def failure_of(error: BaseException) -> Failure:
    """Our word for a foreign error. The foreign text is left out: it can hold the URL."""
    for kind, failure, detail in _KINDS:
        if isinstance(error, kind):
            return Failure(failure, detail)
    raise TypeError(f"not an error of the network: {type(error).__name__}") from error
