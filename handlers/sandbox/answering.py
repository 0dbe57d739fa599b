"""How an answer, or what stands in its place, goes over the wire."""

import asyncio
import contextlib
import socket
import struct

from aiohttp import web

from .platform import PlatformAnswer
from .prescriptions import Step

# An endless body does end, should its reader be as patient as it is long.
_ENDLESS_BYTES = 1 << 30
_CHUNK = b"[" * 65_536
_MISSING_BYTES = 1_000
_LOOK_EVERY_S = 0.02


def answer_of(given: PlatformAnswer) -> web.Response:
    """The platform's own answer."""
    return web.Response(status=given.status, headers=given.headers or None, body=given.body or None)


def answer_from(step: Step, given: PlatformAnswer, status: int) -> web.StreamResponse:
    """The answer that a step asks for."""
    body = given.body if step.body is None else step.body.encode()
    headers = {**given.headers, **step.headers}
    if step.endless:
        status = 200 if status == 204 else status  # a 204 has no body
        return _Endless(status=status, headers=headers)
    if step.cut:
        return _Cut(body, status=status, headers=headers)
    return web.Response(status=status, headers=headers, body=body or None)


def abort(request: web.BaseRequest) -> web.StreamResponse:
    """Resets the connection (RST, not FIN). What is returned goes nowhere."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # the client was faster
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=500)


async def until_gone(request: web.BaseRequest) -> None:
    """Waits until the client has closed the connection."""
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 (no event tells)
        await asyncio.sleep(_LOOK_EVERY_S)


class _Endless(web.StreamResponse):
    """A body without an end. It goes out when the server writes the end of the answer."""

    async def write_eof(self, data: bytes = b"") -> None:
        for _ in range(_ENDLESS_BYTES // len(_CHUNK)):
            await self.write(_CHUNK)
        await super().write_eof(data)


class _Cut(web.StreamResponse):
    """A body that is shorter than was announced, and then no connection."""

    def __init__(self, body: bytes, *, status: int, headers: dict[str, str]) -> None:
        super().__init__(status=status, headers=headers)
        self._sent = body
        self.content_length = len(body) + _MISSING_BYTES

    async def write_eof(self, data: bytes = b"") -> None:
        await self.write(self._sent + data)
        transport = self._req.transport if self._req is not None else None
        if transport is not None:
            transport.close()
