"""The server of ``/livez``, ``/readyz``, ``/metrics`` and ``/status``.

Nobody is asked who they are: it listens on loopback unless told otherwise, only answers GET, and shows no key,
target or header of an event.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import hdrs, web

from service.app import Application
from service.errors import StartError
from service.http.looplag import watch_loop
from service.status import Health, Status, encode_status, live, ready, set_gauges
from service.telemetry import CONTENT_TYPE

_SHUTDOWN_S = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Endpoint(msgspec.Struct, frozen=True):
    """Where the server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@asynccontextmanager
async def serve(app: Application, listen: str) -> AsyncIterator[Endpoint]:
    """Serve an application that has been entered; ``listen`` is ``host:port``, port 0 a free one.

    Raises StartError if nobody may listen there.
    """
    host, _, port = listen.rpartition(":")
    runner = web.AppRunner(routes(app), access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    watcher = asyncio.create_task(watch_loop(app.telemetry.metrics, app.clock), name="event loop lag")
    try:
        host = host.strip("[]") or "127.0.0.1"
        try:
            await web.TCPSite(runner, host, int(port)).start()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise StartError(f"http.listen: cannot listen on {listen}: {reason}; choose another address") from error
        yield Endpoint(host, runner.addresses[0][1])
    finally:
        watcher.cancel()
        await runner.cleanup()


def routes(app: Application) -> web.Application:
    """The endpoints as an aiohttp application."""
    status = Status(app)

    async def livez(_: web.Request) -> web.Response:
        return _health(live(app))

    async def readyz(_: web.Request) -> web.Response:
        return _health(ready(app))

    async def metrics(_: web.Request) -> web.Response:
        set_gauges(app, await status.readings())
        return web.Response(body=app.telemetry.metrics.render(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})

    async def status_(_: web.Request) -> web.Response:
        return _json(200, encode_status(await status.document()))

    site = web.Application(middlewares=[_errors_as_json])
    for path, handler in (("/livez", livez), ("/readyz", readyz), ("/metrics", metrics), ("/status", status_)):
        site.router.add_get(path, handler, allow_head=False)
    site.on_response_prepare.append(_add_headers)
    return site


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        answer = _problem(405, "only GET")
        answer.headers[hdrs.ALLOW] = ", ".join(sorted(error.allowed_methods))
        return answer
    except web.HTTPException as error:
        return _problem(error.status, "no such path; there are /livez, /readyz, /metrics and /status")


async def _add_headers(_: web.Request, answer: web.StreamResponse) -> None:
    answer.headers[hdrs.CACHE_CONTROL] = "no-store"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    # Which versions run here is nobody's business.
    answer.headers[hdrs.SERVER] = "fanline"


def _health(health: Health) -> web.Response:
    return _json(200 if health.ok else 503, msgspec.json.encode(health))


def _problem(status: int, text: str) -> web.Response:
    content: dict[str, Any] = {"error": text}
    return _json(status, msgspec.json.encode(content))


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body + b"\n", content_type="application/json")
