"""The service with points at which an import stands still, so that a kill hits between two certain steps; and with a
clock that a test sets.

A process is told by ``HALTS`` which lane waits where (JSON: lane -> point), and tells by a file of the lane's name in
the folder ``FOLDER`` that it has come there. It waits there until it is killed. By ``FREEZES`` (JSON: a list of lane
and point) it is told where to stop itself as a whole, once at each, in this order; it tells by a file of the point's
name, and goes on with the next step when it is thawed.
"""

import asyncio
import json
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from tests.chaos.entry import step_clock

HALTS = "FANLINE_TEST_HALTS"
FREEZES = "FANLINE_TEST_FREEZES"
FOLDER = "FANLINE_TEST_HALTS_FOLDER"
CLOCK_FILE = "clock"
MODULE = "tests.support.import_halts"


class Point(StrEnum):
    """Where an import stands still."""

    ENTERING = "entering"  # before `intended` is written
    INTENDED = "intended"  # it is written, and nothing was called
    CREATED_UNWRITTEN = "created, unwritten"  # answered, and the entry says `intended`
    CREATED = "created"  # the entry says so; no upload has begun
    UPLOADED_UNWRITTEN = "uploaded, unwritten"  # answered, and the entry says less
    UPLOADED = "uploaded"  # the entry says so; nothing was asked yet
    ENDED = "ended"  # the platform has told the end; nothing is settled
    HALF_PUT = "half put"  # some bytes lie on the FTP server
    MOVED = "moved"  # the file has its name there; the answer was not read


def environment(folder: Path, halts: Mapping[str, Point]) -> dict[str, str]:
    """What a process is told."""
    return {FOLDER: str(folder), HALTS: json.dumps(halts)}


def freezing(folder: Path, freezes: Sequence[tuple[str, Point]]) -> dict[str, str]:
    """What a process is told that freezes."""
    return {**environment(folder, {}), FREEZES: json.dumps(freezes)}


def main() -> None:
    folder = Path(os.environ[FOLDER])
    freezes = [(lane, Point(point)) for lane, point in json.loads(os.environ.get(FREEZES, "[]"))]
    _put_in(folder, {lane: Point(point) for lane, point in json.loads(os.environ[HALTS]).items()}, freezes)
    step_clock(folder / CLOCK_FILE)
    from service.__main__ import main as service
    from service.imports import carrying

    # A clock that was set is seen at once.
    carrying._LAPSE_LOOK_S = 0.2  # type: ignore[misc]
    service()


class _Halts:
    def __init__(self, folder: Path, points: Mapping[str, Point], freezes: Sequence[tuple[str, Point]]) -> None:
        self._folder = folder
        self._points = points
        self._freezes = list(freezes)

    def reach(self, place: str, *points: Point) -> bool:
        """Whether the lane that ``place`` (a topic, a transactional id, a path) is of stands still here."""
        place = f".{place}.".replace("/", ".")
        if self._freezes and self._freezes[0][1] in points and f".{self._freezes[0][0]}." in place:
            (self._folder / self._freezes.pop(0)[1].name).touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        for lane, point in self._points.items():
            if point in points and f".{lane}." in place:
                (self._folder / lane).touch()
                return True
        return False


def _put_in(folder: Path, points: Mapping[str, Point], freezes: Sequence[tuple[str, Point]]) -> None:
    from contracts.journal import DeliveryState
    from service.journal.writer import JournalWriter
    from service.settling.transactor import Transactor
    from service.uploading.ftp import _Visit

    halts = _Halts(folder, points, freezes)
    enter, rewrite, commit = JournalWriter.enter, JournalWriter.rewrite, Transactor.commit
    before = {DeliveryState.CREATED: Point.CREATED_UNWRITTEN, DeliveryState.UPLOADED: Point.UPLOADED_UNWRITTEN}
    behind = {DeliveryState.CREATED: Point.CREATED, DeliveryState.UPLOADED: Point.UPLOADED}

    async def wait(place: str, *at: Point) -> None:
        if halts.reach(place, *at):
            await asyncio.Event().wait()

    async def entering(self: Any, delivery: Any) -> Any:
        await wait(self._deliveries._topic, Point.ENTERING)
        began = await enter(self, delivery)
        await wait(self._deliveries._topic, Point.INTENDED)
        return began

    async def rewriting(self: Any, delivery: Any) -> Any:
        await wait(self._deliveries._topic, before[delivery.record.state])
        began = await rewrite(self, delivery)
        await wait(self._deliveries._topic, behind[delivery.record.state])
        return began

    async def committing(self: Any, writes: Sequence[Any], *more: Any, **named: Any) -> None:
        if any(write.topic.endswith(".results") for write in writes):
            await wait(self._id, Point.ENDED)
        await commit(self, writes, *more, **named)

    JournalWriter.enter = entering  # type: ignore[method-assign] # a point
    JournalWriter.rewrite = rewriting  # type: ignore[method-assign] # a point
    Transactor.commit = committing  # type: ignore[method-assign] # a point
    put, carry_out = _Visit._put, _Visit.carry_out

    def putting(self: Any, name: str, file: Any) -> Any:
        return put(self, name, _Halving(file) if halts.reach(self._ftp.pwd(), Point.HALF_PUT) else file)

    def carrying_out(self: Any, request: Any, credentials: Any, file: Any) -> Any:
        reply = carry_out(self, request, credentials, file)
        if request.method == "MOVE" and halts.reach(request.path, Point.MOVED):
            threading.Event().wait()
        return reply

    _Visit._put = putting  # type: ignore[method-assign] # a point
    _Visit.carry_out = carrying_out  # type: ignore[method-assign] # a point


class _Halving:
    """A file whose second half never comes."""

    def __init__(self, file: Any) -> None:
        self.size = file.size
        self._file = file

    def read_at(self, at: int) -> bytes:
        if at:
            threading.Event().wait()
        block: bytes = self._file.read_at(0)
        return block[: self.size // 2]


if __name__ == "__main__":
    main()
