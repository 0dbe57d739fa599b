"""The file of an import on disk: what it holds, what it costs, and that nothing of it stays."""

import asyncio
import hashlib
import os
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.clock import SystemClock
from service.uploading.spool import BLOCK_BYTES, Spool, SpoolError, Spools
from tests.support.fakes import eventually
from tests.support.patience import patiently

LINES = [b"a@example.com,Hull\r\n", b'"b,""c"\n",x\r\n', b"\xc3\xa9\xf0\x9f\x98\x80,\r\n"]


async def read(spool: Spool) -> bytes:
    return b"".join([block async for block in spool.blocks()])


def spool_in(folder: Path) -> Spool:
    return Spool(SystemClock(), folder=str(folder))


async def test_the_file_is_what_was_written(tmp_path: Path) -> None:
    """Bytes, size and hash, across blocks, as often as it is read."""
    parts = [bytes([n % 251]) * 70_001 for n in range(40)]
    whole = b"".join(parts)
    async with spool_in(tmp_path) as spool:
        await spool.write(parts[:25])
        await spool.write(parts[25:])
        await spool.finish()
        assert (spool.size, spool.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
        first, second = await asyncio.gather(read(spool), read(spool))
        assert first == second == whole


async def test_the_file_has_no_name(tmp_path: Path) -> None:
    """Nobody finds it in the folder, be it while it is written or read, or behind a process that was killed."""
    async with spool_in(tmp_path) as spool:
        await spool.write(LINES)
        assert list(tmp_path.iterdir()) == []
        await spool.finish()
        assert await read(spool) == b"".join(LINES)
        assert list(tmp_path.iterdir()) == []


async def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Mode 0600, whatever the process's mask is."""
    before = os.umask(0)
    try:
        async with spool_in(tmp_path) as spool:
            assert spool._file is not None
            assert os.fstat(spool._file.fileno()).st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


async def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    """However they come: a file that is made again is told by its hash."""
    hashes = set()
    for lines in (LINES, iter(LINES), (line for line in LINES)):
        spool = await Spools(SystemClock(), folder=str(tmp_path)).write(lines)
        assert spool.read() == b"".join(LINES)
        hashes.add((spool.size, spool.sha256))
        spool.close()
    assert len(hashes) == 1


async def test_rows_that_cannot_be_made_leave_no_file(tmp_path: Path) -> None:
    """What making them raises is passed on, and the descriptor is closed."""

    def rows() -> Iterator[bytes]:
        yield b"x" * BLOCK_BYTES
        raise LookupError

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(LookupError):
        await Spools(SystemClock(), folder=str(tmp_path)).write(rows())
    assert len(os.listdir("/proc/self/fd")) == before


async def test_memory_is_a_block_and_not_the_file(tmp_path: Path) -> None:
    """Thirty blocks are written and read in the memory of some."""

    def rows() -> Iterator[bytes]:
        for n in range(30 * 1024):
            yield b"%d" % n + b"x" * 1_017 + b"\r\n"

    async with spool_in(tmp_path) as spool:
        tracemalloc.start()
        try:
            await spool.write(rows())
            await spool.finish()
            async for _ in spool.blocks():
                pass
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert spool.size > 29 * BLOCK_BYTES
    assert peak < 6 * BLOCK_BYTES


async def test_others_go_on_while_rows_are_made(tmp_path: Path) -> None:
    """Rows of 100 microseconds each do not hold the loop for as long as all of them take."""
    clock = SystemClock()
    turns = 0

    def slow_rows() -> Iterator[bytes]:
        for _ in range(1_000):
            until = clock.monotonic() + 0.0001
            while clock.monotonic() < until:
                pass
            yield b"row"

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    async with spool_in(tmp_path) as spool:
        await spool.write(slow_rows())
    counting.cancel()
    assert turns >= 8


async def test_a_disk_that_takes_nothing_is_told() -> None:
    """With the folder, and without what was to be written."""
    with pytest.raises(SpoolError, match=r"/nowhere/at/all.*No such file"):
        async with Spool(SystemClock(), folder="/nowhere/at/all"):
            pass


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
async def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """As an error of ours; what was written is gone."""
    async with spool_in(tmp_path) as spool:
        assert spool._file is not None
        os.dup2(os.open("/dev/full", os.O_WRONLY), spool._file.fileno())
        with pytest.raises(SpoolError, match="No space left"):
            await spool.write([b"secret" * BLOCK_BYTES])


async def test_a_write_that_nobody_waits_for_ends_on_its_own_file(tmp_path: Path) -> None:
    """Cancelled in the middle: the descriptor is not closed under the thread's hands, and is closed behind it."""
    at_work, go_on = threading.Event(), threading.Event()
    spool = spool_in(tmp_path)
    append = spool._append

    def held_up(parts: list[bytes]) -> int:
        at_work.set()
        assert go_on.wait(10)
        return append(parts)

    spool._append = held_up  # type: ignore[method-assign]
    async with spool:
        writing = asyncio.create_task(spool.write([b"x" * BLOCK_BYTES]))
        await eventually(at_work.is_set, within_s=patiently(5), every_s=0.01)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    assert spool._file is not None
    assert not spool._file.closed
    go_on.set()
    await eventually(lambda: spool._file is None, within_s=patiently(5), every_s=0.01)


async def test_a_file_that_is_gone_is_not_read(tmp_path: Path) -> None:
    """Nor is one closed twice a fault."""
    async with spool_in(tmp_path) as spool:
        await spool.write(LINES)
        await spool.finish()
    spool.close()
    with pytest.raises(SpoolError, match="gone"):
        await read(spool)
