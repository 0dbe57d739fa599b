"""Files given as arguments; ``-`` is standard input."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from service.cli.failures import CommandError, ExitCode

FileArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="Events as NDJSON: one CloudEvent in structured mode (JSON) a line. `-` reads standard input.",
        show_default=False,
    ),
]
STDIN = Path("-")


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """The file for reading bytes. Raises CommandError."""
    if file == STDIN:
        yield sys.stdin.buffer
        return
    try:
        stream = file.open("rb")
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}", ExitCode.USAGE) from None
    with stream:
        yield stream


@contextmanager
def opened_twice(file: Path) -> Iterator[BinaryIO]:
    """Like ``opened``, but can be read again from its beginning: what comes through a pipe is kept on disk."""
    with opened(file) as stream:
        if stream.seekable():
            yield stream
            return
        with tempfile.TemporaryFile() as kept:
            shutil.copyfileobj(stream, kept)
            kept.seek(0)
            yield kept


def size_of(stream: BinaryIO) -> int | None:
    """Bytes of a regular file; None where nobody knows."""
    try:
        size = os.fstat(stream.fileno()).st_size
    except OSError:
        return None
    return size or None


def name_of(file: Path) -> str:
    """How messages call the file."""
    return "<stdin>" if file == STDIN else str(file)
