"""How what a broker answers is read from its connection: the megabytes of a fetch are put together once.

The standard library's reader, which the client uses, adds what comes to one buffer that grows from nothing each time,
copies the answer out of it, and moves up what is left: for the answers of fetches that takes five times as long.
"""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer

# Smaller answers are read as ever.
_LARGE_BYTES = 64 * 1024


class FrameReader(asyncio.StreamReader):
    """What has come is set aside piece by piece, and joined when the answer is whole. It has nothing of its own: a
    reader that a connection has already can become one."""

    # What the base class, of which the types know nothing, goes by.
    _buffer: bytearray
    _eof: bool
    _exception: BaseException | None

    async def readexactly(self, n: int) -> bytes:
        """As the base class does; raises IncompleteReadError with what there was."""
        if n < _LARGE_BYTES or len(self._buffer) >= n or self._exception is not None:
            return await super().readexactly(n)
        pieces: list[bytearray] = []
        missing = n
        while missing:
            if not self._buffer:
                if self._eof:
                    raise asyncio.IncompleteReadError(b"".join(pieces), n)
                await self._wait_for_data("readexactly")  # type: ignore[attr-defined] # as well
                continue
            piece, self._buffer = self._buffer, bytearray()
            if len(piece) > missing:
                self._buffer = piece[missing:]
                del piece[missing:]
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)


def read_whole_frames(consumer: AIOKafkaConsumer) -> None:
    """To be called once the consumer has started: for the connections that it has, and those that it will have."""
    client: Any = consumer._client
    get = client._get_conn

    async def get_conn(*args: Any, **named: Any) -> Any:
        conn = await get(*args, **named)
        # A connection that has been closed meanwhile has none.
        if conn is not None and type(conn._reader) is asyncio.StreamReader:
            conn._reader.__class__ = FrameReader
        return conn

    client._get_conn = get_conn
