"""What an import lane is given to move a file with: where it is kept on the way, and who sends it.

The driver's order of steps, for whoever implements these:

1. The file is spooled (``service.uploading.spool``); its ``sha256`` goes into the journal. A handler whose create
   carries the rows (``carries_rows``) is handed the file's bytes instead, and nothing here is used.
2. ``handler.create`` is sent over the account (pace, breaker, credentials); ``judge_create`` → ``Opened``. A platform
   without a create answers its first reading call with ``Opened`` too, with the id that it knows.
3. ``Uploads.problem``, then ``Uploads.send`` → ``judge_upload``. Where there are several calls (a file, then its
   start), the reply is the one that tells how far it came.
4. ``handler.poll`` over the account, each ``poll.every``, until ``judge_poll`` says the end.

A step is made again after a crash or a retry, so that each may be called several times for one import.
"""

from collections.abc import AsyncIterator
from typing import Protocol

from handlers.base import Hold, Reply
from handlers.imports.verdicts import Opened
from service.transport.account import Transport


class Spooled(Protocol):
    """A file on its way. The same pieces give the same ``sha256``. Removed by ``close``, which may be called twice."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def sha256(self) -> str:
        """In lower-case hexadecimal."""

    def blocks(self) -> AsyncIterator[bytes]:
        """The file from its beginning, in pieces of a MiB at most. Raises SpoolError."""

    def read_at(self, at: int) -> bytes:
        """A block of it, in whatever thread; empty at the end. Raises SpoolError."""

    def close(self) -> None: ...


class FileWay(Protocol):
    """How calls are sent whose body is a file: the rows within a create (``handlers.imports.rows.StreamsRows``), or a
    file that is put first (``handlers.imports.putting.PutsFirst``), with all other calls of those."""

    def transport(self, file: Spooled | None, before: bytes = b"", behind: bytes = b"") -> Transport | None:
        """What sends a request, with ``file`` as its body where there is one, between these two; None: as the account's
        other requests. It may raise SpoolError."""


class Uploads(Protocol):
    """Sends files to where a platform wants them. Nothing here raises for what the network or a platform does."""

    def problem(self, opened: Opened, file: Spooled) -> str | None:
        """Why the file may not be sent there (address, length); the words name the host at most. It holds the lane."""

    async def send(self, opened: Opened, file: Spooled) -> Reply | Hold:
        """Send once; a Hold where nothing was sent, because the address's host leads where no file may go. Each step
        of it (connecting, 64 KiB gone out, the answer) is bounded by the account's time-outs, not the whole."""
