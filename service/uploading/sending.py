"""One request whose body is a file: the form of an upload, the source of an import.

The same edge as ``service.transport.http``: no redirect is followed, no cookie kept, no environment proxy used, nothing
repeated, the answer read up to a bound, every error of the network a :class:`Failure`. Each request has its own
connection. The account's ``total`` bounds each step forward, not the whole: a long file takes long.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from ipaddress import ip_address
from typing import Protocol

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.streams import EMPTY_PAYLOAD
from yarl import URL

from handlers.base import Answer, Failure, FailureKind, Reply, Request
from service.transport.http import ERRORS, TransportPolicy, failure_of, unconnected
from service.transport.wire import RequestWriter
from service.uploading.spool import SpoolError

# The storage's word for what is wrong stands at the beginning of a short document.
MAX_ANSWER_BYTES = 64 * 1024
# A step forward is so many bytes gone out.
_STEP_BYTES = 64 * 1024
_TOO_EARLY = Failure(FailureKind.RESET, "a success was answered before the file had gone out")

# Says of an IP address why a file may not go there; None: it may.
Judge = Callable[[str], str | None]


class Blocks(Protocol):
    """A file that can be read from its beginning; ``service.uploading.spool.Spool``."""

    @property
    def size(self) -> int:
        """Bytes."""

    def blocks(self) -> AsyncIterator[bytes]:
        """The file in order. Raises SpoolError."""


class Body(msgspec.Struct, frozen=True):
    """A file between what a form has before and behind it."""

    file: Blocks
    before: bytes = b""
    behind: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of all three."""
        return len(self.before) + self.file.size + len(self.behind)

    async def parts(self) -> AsyncIterator[bytes]:
        """All of it in order. Raises SpoolError."""
        yield self.before
        async for block in self.file.blocks():
            yield block
        yield self.behind


class Misled(msgspec.Struct, frozen=True):
    """Nothing was sent: the address's host leads where no file may go."""

    problem: str


class FileSender:
    """Sends files to one account's platform, or to where the platform says."""

    def __init__(
        self, policy: TransportPolicy, tls: ssl.SSLContext | None, *, resolver: AbstractResolver | None = None
    ) -> None:
        """``resolver`` looks names up; the system's unless given."""
        self._policy = policy
        self._tls = tls
        self._names = resolver

    async def send(
        self, base: URL, request: Request, credentials: Mapping[str, str], body: Body, judge: Judge | None = None
    ) -> Reply | Misled:
        """Send once. ``judge`` is asked of each address that the host's name leads to, but not behind a proxy, which
        looks names up itself. Raises SpoolError; ValueError for a request that is none."""
        if judge is not None and (problem := _literal_problem(base, judge)):
            return Misled(problem)
        policy = self._policy
        plain_proxy = policy.proxy is not None and base.scheme == "http"
        head = RequestWriter(base, proxied=plain_proxy).head(request, credentials, body.size)
        resolver = _JudgedResolver(judge, self._names or aiohttp.ThreadedResolver())
        connector = aiohttp.TCPConnector(
            ssl=self._tls if self._tls is not None else True,
            resolver=None if policy.proxy is not None else resolver,
            use_dns_cache=False,
            force_close=True,
        )
        sending = _Sending(head, body, policy)
        try:
            return await sending.over(connector, base)
        except ERRORS as error:
            if sending.trouble is not None:
                raise sending.trouble from None
            if resolver.problem is not None:
                return Misled(resolver.problem)
            return failure_of(error) if sending.connected else unconnected(error)
        finally:
            await connector.close()


class _Sending:
    """One request on its way."""

    def __init__(self, head: bytes, body: Body, policy: TransportPolicy) -> None:
        self.connected = False
        self.trouble: SpoolError | None = None
        self._head = head
        self._body = body
        self._policy = policy
        self._gone_out = False

    async def over(self, connector: aiohttp.TCPConnector, base: URL) -> Reply:
        """Connect, send, read the answer. Raises what the network does; see ``trouble`` then."""
        policy = self._policy
        loop = asyncio.get_running_loop()
        proxy = URL(policy.proxy) if policy.proxy is not None else None
        # Never sent: it tells the connector where to.
        goal = aiohttp.ClientRequest("GET", base, loop=loop, proxy=proxy)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=policy.connect_s)
        async with asyncio.timeout(policy.total_s) as bound:
            connection = await connector.connect(goal, [], timeout)
            try:
                protocol = connection.protocol
                if protocol is None or protocol.transport is None:
                    raise ConnectionError
                self.connected = True
                protocol.set_response_params(read_until_eof=True, auto_decompress=True)
                writing = loop.create_task(self._write(protocol, protocol.transport, bound))
                try:
                    return await self._read(protocol)
                finally:
                    writing.cancel()
                    await asyncio.wait([writing])
            finally:
                connection.close()

    async def _write(self, protocol: ResponseHandler, transport: asyncio.Transport, bound: asyncio.Timeout) -> None:
        """The request. What the network does meanwhile is found by whoever reads."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(*ERRORS):
            try:
                transport.write(self._head)
                async for part in self._body.parts():
                    for at in range(0, len(part), _STEP_BYTES):
                        transport.write(part[at : at + _STEP_BYTES])
                        await protocol._drain_helper()
                        bound.reschedule(loop.time() + self._policy.total_s)
                self._gone_out = True
            except SpoolError as error:
                self.trouble = error
                transport.abort()

    async def _read(self, protocol: ResponseHandler) -> Reply:
        """The answer. It may come before the file has gone out: what is left is not sent then."""
        message, content = await protocol.read()
        while message.code < 200 and message.code != 101:
            message, content = await protocol.read()
        if message.code < 300 and not self._gone_out:
            return _TOO_EARLY
        most = min(self._policy.max_body_bytes, MAX_ANSWER_BYTES)
        body = b""
        if content is not EMPTY_PAYLOAD:
            async for part in content.iter_any():
                body += part
                if len(body) > most:
                    return Answer(message.code, message.headers, body[:most], truncated=True)
        return Answer(message.code, message.headers, body)


class AccountFile:
    """What an account sends a file through (``service.transport.account.Transport``): relative to its address, with
    its credentials."""

    def __init__(self, sender: FileSender, base: URL, body: Body) -> None:
        self._sender = sender
        self._base = base
        self._body = body

    async def send(self, request: Request, credentials: Mapping[str, str]) -> Reply:
        """Send the request with the file as its body. Raises SpoolError."""
        reply = await self._sender.send(self._base, request, credentials, self._body)
        assert not isinstance(reply, Misled), "nobody judges an account's own address"
        return reply


class _JudgedResolver(AbstractResolver):
    """Looks names up; an answer with an address that no file may go to is none."""

    def __init__(self, judge: Judge | None, names: AbstractResolver) -> None:
        self.problem: str | None = None
        self._judge = judge
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._names.resolve(host, port, family)
        if self._judge is not None:
            problems = [self._judge(one["host"]) for one in found]
            self.problem = next(filter(None, problems), None)
            if self.problem is not None:
                raise OSError(None, "an address that no file may go to")
        return found

    async def close(self) -> None:
        """Nothing is kept open."""


def _literal_problem(base: URL, judge: Judge) -> str | None:
    """What is wrong with an address that needs no resolver."""
    try:
        ip_address((base.host or "").partition("%")[0])
    except ValueError:
        return None
    return judge(base.host or "")
