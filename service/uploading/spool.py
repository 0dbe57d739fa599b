"""The file of an import on its way to a platform: on disk, because 50 MB are too much for memory and too much to send
while rows are still being made.

The file has no name: it is gone with the process, however that ends, and nobody can open it beside us. It lies in the
folder for temporary files (``TMPDIR``). Its bytes are a function of the rows alone, so that one that is made again of
the same offsets can be told by its SHA-256.
"""

import asyncio
import hashlib
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import IO, Any, Self, TypeVar

from service.clock import Clock
from service.errors import FanlineError
from service.turns import Turns

T = TypeVar("T")

# Written and read in such blocks, off the event loop: the disk may take its time.
BLOCK_BYTES = 1024 * 1024
# So many parts are taken before others may go on; one is rarely made in more than some microseconds.
_PARTS_AT_ONCE = 64

# Runs a function somewhere where it may block; ``asyncio.to_thread``, and in tests the loop itself.
Offload = Callable[..., Awaitable[Any]]


class SpoolError(FanlineError, OSError):
    """The disk does not take the file, or does not give it back. The message names the folder and why, never the
    content."""


class Spool:
    """One file: written once by :meth:`write`, closed for writing by :meth:`finish`, then read as often as needed.

    An async context manager; with its end the file is gone. ``sha256`` and ``size`` hold what was written so far.
    Memory: one block and what a line has.
    """

    def __init__(self, clock: Clock, *, folder: str | None = None, offload: Offload = asyncio.to_thread) -> None:
        self._turns = Turns(clock)
        self._folder = folder or tempfile.gettempdir()
        self._offload = offload
        self._file: IO[bytes] | None = None
        # Held by whoever works on the file, in another thread as a rule, even if nobody waits for him any more: a
        # descriptor that is closed under his hands may by then be another file's.
        self._at_work = threading.Lock()
        self._unwanted = False
        self._hash = hashlib.sha256()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self.size = 0
        self.finished = False

    async def __aenter__(self) -> Self:
        try:
            await self._run(self._create)
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """The file is gone, now or as soon as nobody works on it. May be called again."""
        self._held.clear()
        self._unwanted = True
        self._close_if_unwanted()

    @property
    def sha256(self) -> str:
        """Hex digits of the hash of the whole file."""
        assert self.finished, "the file is not whole yet"
        return self._hash.hexdigest()

    async def write(self, parts: Iterable[bytes]) -> None:
        """Add to the file; what makes the parts runs on the event loop, in turns. Raises SpoolError."""
        assert not self.finished, "the file is whole"
        for n, part in enumerate(parts):
            self._held.append(part)
            self._held_bytes += len(part)
            if self._held_bytes >= BLOCK_BYTES:
                await self._put()
            if not n % _PARTS_AT_ONCE:
                await self._turns.rest()

    async def finish(self) -> None:
        """Nothing more comes. Raises SpoolError."""
        await self._put()
        self.finished = True

    async def blocks(self) -> AsyncIterator[bytes]:
        """The file from its beginning; several may read at once. Raises SpoolError."""
        assert self.finished, "the file is not whole yet"
        at = 0
        while at < self.size:
            block = await self._run(partial(self._read, at))
            if not block:
                raise SpoolError(f"the file in {self._folder} is shorter than what was written")
            at += len(block)
            yield block

    def read(self) -> bytes:
        """All of it at once, for what must have it in one piece. Raises SpoolError."""
        return b"".join(self.read_at(at) for at in range(0, self.size, BLOCK_BYTES))

    def read_at(self, at: int) -> bytes:
        """A block, in whatever thread; empty at the end. Raises SpoolError."""
        assert self.finished, "the file is not whole yet"
        try:
            return self._alone(partial(self._read, at))
        except OSError as error:
            raise self._told(error) from error

    async def _put(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        if held:
            self.size += await self._run(partial(self._append, held))

    # -- off the event loop

    def _create(self) -> None:
        # Without a name from the first moment on (O_TMPFILE), or without one a moment later; mode 0600 either way.
        self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - closed by close()

    def _append(self, parts: list[bytes]) -> int:
        block = b"".join(parts)
        self._hash.update(block)
        left = memoryview(block)
        while left:
            left = left[self._open().write(left) :]
        return len(block)

    def _read(self, at: int) -> bytes:
        return os.pread(self._open().fileno(), BLOCK_BYTES, at)

    def _open(self) -> IO[bytes]:
        if self._file is None or self._unwanted:
            raise SpoolError("the file is gone")
        return self._file

    def _alone(self, work: Callable[[], T]) -> T:
        try:
            with self._at_work:
                return work()
        finally:
            if self._unwanted:
                self._close_if_unwanted()

    def _close_if_unwanted(self) -> None:
        # Whoever is at work looks again behind it.
        if self._at_work.acquire(blocking=False):
            try:
                if self._file is not None:
                    self._file.close()
                    self._file = None
            finally:
                self._at_work.release()

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            done: T = await self._offload(self._alone, work)
        except OSError as error:
            raise self._told(error) from error
        return done

    def _told(self, error: OSError) -> SpoolError:
        if isinstance(error, SpoolError):
            return error
        return SpoolError(f"a file in {self._folder} for temporary files: {error.strerror or error}")


class Spools:
    """Makes files of pieces; implements ``service.imports.seams.Spools``."""

    def __init__(self, clock: Clock, *, folder: str | None = None, offload: Offload = asyncio.to_thread) -> None:
        self._clock = clock
        self._folder = folder
        self._offload = offload

    async def write(self, pieces: Iterable[bytes]) -> Spool:
        """A whole file, which is gone when it is closed. Raises SpoolError, and what making the pieces raises."""
        async with AsyncExitStack() as stack:
            spool = await stack.enter_async_context(Spool(self._clock, folder=self._folder, offload=self._offload))
            await spool.write(pieces)
            await spool.finish()
            stack.pop_all()
        return spool
