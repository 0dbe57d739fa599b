"""The server that carries the imitated platforms.

Low level on purpose (``aiohttp.web.Server``, no routing, no middlewares): benchmarks run against it.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote

from aiohttp import web
from msgspec import structs

from .answering import abort, answer_from, answer_of, until_gone
from .buckets import Buckets
from .calls import Call, CallLog, KeyState
from .control import Control
from .faults import FaultSource
from .outages import Outages
from .platform import Platform, PlatformAnswer, Subject
from .prescriptions import Prescriptions, Step

_PREFIX = "/__sandbox__/"
_NO_STEP = Step()


class SandboxServer:
    """Imitated platforms on a loopback address, as an async context manager.

    ``platforms`` by name, e.g. ``SandboxServer(np6=Np6Sandbox())``; ``listen`` is ``host:port``, port 0 a free
    one. With ``record=False`` calls are only counted, for benchmarks.
    """

    def __init__(self, *, listen: str = "127.0.0.1:0", record: bool = True, **platforms: Platform) -> None:
        self.platforms = platforms
        self.log = CallLog(record=record)
        self.prescriptions = Prescriptions()
        self.outages = Outages()
        self.buckets = Buckets()
        self.faults: FaultSource | None = None
        self._control = Control(self)
        self._host, self._port = _address(listen)
        self._web: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where the server listens, without a slash at the end."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def base_url(self, platform: str, account: str) -> str:
        """The base URL of an account; accounts need no preparation."""
        return f"{self.url}/{platform}/{quote(account, safe='')}"

    async def __aenter__(self) -> "SandboxServer":
        self._web = web.Server(self._answer, access_log=None, keepalive_timeout=75.0)
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close()
        if self._web is not None:
            await self._web.shutdown(0.1)  # calls that hang are cancelled

    def refuse(self, for_s: float) -> None:
        """Nobody listens for so long: new connections are refused, those that are open get closed."""
        self._spawn(self._refuse(for_s))

    def reset(self) -> None:
        """As at the start: no calls, prescriptions, outages, buckets, faults; platforms forget what calls changed."""
        self.log.clear()
        self.prescriptions.clear()
        self.outages = Outages()
        self.buckets = Buckets()
        self.faults = None
        for platform in self.platforms.values():
            platform.reset()

    async def _refuse(self, for_s: float) -> None:
        await asyncio.sleep(0.05)  # the answer to whoever asked for it goes out first
        await self._close()
        if self._web is not None:
            for connection in self._web.connections:
                if connection.transport is not None:
                    connection.transport.close()
        await asyncio.sleep(for_s)
        await self._listen()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self) -> None:
        if self._web is None:
            raise RuntimeError("the sandbox is not running")
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._web, self._host, self._port, backlog=1024, reuse_address=True)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            await asyncio.sleep(0)  # lets the loop close the sockets

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = request.raw_path
        if raw.startswith(_PREFIX):
            return await self._control.answer(request, raw[len(_PREFIX) :])
        name, account, path = _parts(raw)
        platform = self.platforms.get(name)
        if platform is None or not account:
            return web.Response(status=404, text="below /<platform>/<account> only\n")
        method = request.method
        subject = platform.subject(method, path)
        if "?" in raw:
            subject = structs.replace(subject, query=raw.partition("?")[2])
        call = self.log.begin(
            platform=name,
            account=account,
            method=method,
            kind=subject.kind,
            target=subject.target,
            entity=subject.entity,
            key=platform.key_state(account, request.headers) if self.log.record else KeyState.NONE,
            headers=request.headers,
            path=path,
        )
        admitted, rate = self.buckets.take(name, account, time.time())
        deviation, step = self._deviation(name, account, method, subject)
        if not admitted and step is None:
            deviation, step = "rate limit", Step(status=429, headers=rate)
        ended = False
        try:
            # Not read(), which is bounded: a platform takes files.
            body = await request.content.read() if request.body_exists else b""
            if step is None:
                given = platform.answer(account, method, subject, request.headers, body, time.time())
                self.log.end(call, status=given.status, effect=given.effect, client_gone=_gone(request))
                ended = True
                return answer_of(given if not rate else structs.replace(given, headers={**given.headers, **rate}))
            act = _Act(self, call, request, step, deviation)
            ended = True
            return await act.play(
                lambda: platform.answer(account, method, subject, request.headers, body, time.time(), step.items)
            )
        finally:
            if not ended:  # the request's body did not come whole, or the imitation is at fault
                self.log.end(call, status=None, effect=False, deviation="broken", client_gone=_gone(request))

    def _deviation(self, platform: str, account: str, method: str, subject: Subject) -> tuple[str | None, Step | None]:
        """What keeps the platform from answering by itself: an outage, else a prescription, else chance."""
        step = self.outages.step(platform, account, time.monotonic())
        if step is not None:
            return "outage", step
        step = self.prescriptions.take(platform, account, method, subject)
        if step is not None:
            return "prescribed", step
        drawn = self.faults.draw(account, subject) if self.faults is not None else None
        return (None, None) if drawn is None else (f"fault:{drawn[0]}", drawn[1])


class _Act:
    """A call that goes as a step says; its end is recorded exactly once, whatever becomes of it."""

    def __init__(
        self,
        server: SandboxServer,
        call: Call | None,
        request: web.BaseRequest,
        step: Step,
        deviation: str | None,
    ) -> None:
        self._log = server.log
        self._call = call
        self._request = request
        self._step = step
        self._deviation = None if step == _NO_STEP else deviation
        self._effect = False
        self._ended = False

    async def play(self, carry_out: Callable[[], PlatformAnswer]) -> web.StreamResponse:
        try:
            return await self._play(carry_out)
        finally:
            self._end(None)

    async def _play(self, carry_out: Callable[[], PlatformAnswer]) -> web.StreamResponse:
        step = self._step
        if step.delay_s:
            await asyncio.sleep(step.delay_s)
        given = PlatformAnswer(step.status or 200, {"x-request-id": f"sandbox-p{self._log.count}"})
        if step.takes_effect:
            given = carry_out()
            self._effect = given.effect
        if step.delay_after_s:
            await asyncio.sleep(step.delay_after_s)
        if step.hang:
            await until_gone(self._request)
        if step.hang or step.reset is not None:
            self._end(None)
            return abort(self._request)
        status = given.status if step.status is None else step.status
        self._end(status)
        return answer_from(step, given, status)

    def _end(self, status: int | None) -> None:
        if self._ended:
            return
        self._ended = True
        self._log.end(
            self._call,
            status=status,
            effect=self._effect,
            deviation=self._deviation,
            client_gone=_gone(self._request),
        )


async def serve(
    listen: str, *, ready: Callable[[SandboxServer], None], record: bool = True, **platforms: Platform
) -> None:
    """Serves until cancelled; ``ready`` is called once the server listens."""
    async with SandboxServer(listen=listen, record=record, **platforms) as server:
        ready(server)
        await asyncio.Event().wait()


def _gone(request: web.BaseRequest) -> bool:
    return request.transport is None or request.transport.is_closing()


def _parts(raw: str) -> tuple[str, str, str]:
    """Platform, account and the raw rest of ``/<platform>/<account>/…``, without the query."""
    pieces = raw.partition("?")[0].split("/", 3)
    if len(pieces) < 4 or pieces[0]:
        return "", "", ""
    account = unquote(pieces[2]) if "%" in pieces[2] else pieces[2]
    return pieces[1], account, "/" + pieces[3]


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError(f"not host:port: {listen!r}")
    return host.strip("[]") or "127.0.0.1", int(port)
