"""How what a broker answers is read from its connection: the megabytes of a fetch are put together once.

The standard library's reader, which the client uses, adds what comes to one buffer that grows from nothing each time,
copies the answer out of it, and moves up what is left: for the answers of fetches that takes five times as long.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, SupportsIndex

from aiokafka import AIOKafkaConsumer

# Smaller answers are read as ever.
_LARGE_BYTES = 64 * 1024


class FrameReader(asyncio.StreamReader):
    """What comes of a large answer is set aside piece by piece, as it came, and joined when the answer is whole: nobody
    is woken before. It has nothing of its own until then: a reader that a connection has already can become one."""

    # What the base class, of which the types know nothing, goes by.
    _buffer: bytearray
    _eof: bool
    _exception: BaseException | None
    # The pieces of a large answer while it comes, and how many bytes of it are still to come.
    _pieces: list[bytes] | None = None
    _missing = 0

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """As the base class does."""
        pieces = self._pieces
        if pieces is None or self._missing <= 0:
            super().feed_data(data)
            return
        piece = bytes(data)  # a copy only of what may change
        pieces.append(piece)
        self._missing -= len(piece)
        if self._missing <= 0:
            self._wakeup_waiter()  # type: ignore[attr-defined] # the base class's

    async def readexactly(self, n: int) -> bytes:
        """As the base class does; raises IncompleteReadError with what there was."""
        if n < _LARGE_BYTES or len(self._buffer) >= n or self._exception is not None:
            return await super().readexactly(n)
        pieces, self._missing = [bytes(self._buffer)], n - len(self._buffer)
        self._buffer, self._pieces = bytearray(), pieces
        try:
            while self._missing > 0:
                if self._eof:
                    raise asyncio.IncompleteReadError(b"".join(pieces), n)
                await self._wait_for_data("readexactly")  # type: ignore[attr-defined] # as well
        except asyncio.IncompleteReadError:
            raise
        except BaseException:
            self._buffer[:0] = b"".join(pieces)
            raise
        finally:
            self._pieces = None
        if self._missing < 0:
            # The next answer has begun, and more of it may have come meanwhile.
            self._buffer[:0] = pieces[-1][self._missing :]
            pieces[-1] = pieces[-1][: self._missing]
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
