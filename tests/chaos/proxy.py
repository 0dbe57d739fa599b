"""A TCP proxy on loopback whose connections can be slow, stalled, cut or refused."""

import asyncio
from contextlib import suppress
from types import TracebackType

_CHUNK = 64 * 1024


class Wire:
    """Between one replica and the platform, or a broker. ``mood`` is one of ``plan.WIRES``, or empty: as if it were
    not there. ``hits`` counts what came to harm.

    When one side goes, the other is cut at once: nothing that a dead process has sent is carried on later.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._calm = asyncio.Event()
        self._calm.set()
        self._mood = ""
        self.hits = 0
        self.port = 0

    async def __aenter__(self) -> "Wire":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._calm.set()
        self._cut()
        await asyncio.sleep(0)

    def set(self, mood: str) -> None:
        """From now on."""
        self._mood = mood
        if mood == "stalled":
            self._calm.clear()
        else:
            self._calm.set()
        if mood in ("cut", "refused"):
            self._cut()

    def cut(self) -> None:
        """Break every connection once."""
        self._cut()

    def _cut(self) -> None:
        self.hits += len(self._writers)
        for writer in list(self._writers):
            if writer.transport is not None:
                writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mood == "refused":
            self.hits += 1
            writer.transport.abort()
            return
        try:
            upstream, onward = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, onward}
        pumps = [asyncio.create_task(self._pump(reader, onward)), asyncio.create_task(self._pump(upstream, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for each in (writer, onward):
                self._writers.discard(each)
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                self.hits += bool(self._mood)
                await self._calm.wait()
                if self._mood == "slow":
                    await asyncio.sleep(0.2)
                elif self._mood == "crumbs":
                    await self._crumble(data, writer)
                    continue
                elif self._mood == "cut" and len(data) > 1:
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    return
                writer.write(data)
                await writer.drain()

    @staticmethod
    async def _crumble(data: bytes, writer: asyncio.StreamWriter) -> None:
        size = max(1, len(data) // 5)
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            await writer.drain()
            await asyncio.sleep(0.02)
