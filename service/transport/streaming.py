"""HTTP for answers that are too long to be held: read as they come, by whoever asked.

The same edge as ``http.py``: no redirect is followed, no cookie kept, no environment proxy used, and every error of the
network becomes a :class:`Failure`. The account's ``total`` bounds the wait for the answer's beginning and for each
further part of it, not the whole: a long answer takes long.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from handlers.base import Answer, Failure, Request
from service.errors import FanlineError
from service.transport.http import TransportPolicy, failure_of

_NETWORK = (aiohttp.ClientError, OSError, asyncio.IncompleteReadError)


class BrokenOffError(FanlineError):
    """The answer has begun and will not end; ``failure`` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class Stream:
    """An answer whose body has not been read. Headers are found by their lower-case names."""

    def __init__(self, response: aiohttp.ClientResponse, max_body_bytes: int) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._max_body_bytes = max_body_bytes

    async def parts(self) -> AsyncIterator[bytes]:
        """The body, in whichever parts it comes. Raises BrokenOffError."""
        while True:
            try:
                part = await self._response.content.readany()
            except _NETWORK as error:
                raise BrokenOffError(failure_of(error)) from None
            if not part:
                return
            yield part

    async def whole(self) -> Answer:
        """The answer with its body up to the policy's bound. Raises BrokenOffError."""
        body = b""
        async for part in self.parts():
            body += part
            if len(body) > self._max_body_bytes:
                return Answer(self.status, self.headers, body[: self._max_body_bytes], truncated=True)
        return Answer(self.status, self.headers, body)


class StreamingTransport:
    """HTTP to one account's platform for long answers. An async context manager."""

    def __init__(self, policy: TransportPolicy, tls: ssl.SSLContext | None) -> None:
        self._policy = policy
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        policy = self._policy
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=policy.max_connections, ssl=self._tls if self._tls is not None else True
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=policy.connect_s, sock_read=policy.total_s),
            trust_env=False,
            proxy=policy.proxy,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def opened(self, request: Request, credentials: Mapping[str, str]) -> AsyncIterator[Stream | Failure]:
        """Send once; the answer, still to be read, or why there is none. What is left unread when the block ends is
        not wanted, and the connection is closed."""
        assert self._session is not None, "the transport is not open"
        address = URL(self._policy.base_url.rstrip("/") + request.path, encoded=True)
        try:
            response = await self._session.request(
                request.method,
                address,
                headers={**dict(request.headers), **credentials},
                data=request.body,
                allow_redirects=False,
            )
        except _NETWORK as error:
            yield failure_of(error)
            return
        try:
            yield Stream(response, self._policy.max_body_bytes)
        finally:
            response.close()
