"""Points at which a replica stands still until it is let go: what is a matter of luck otherwise is certain with them.

A halt is a file in a folder: while it is there whoever comes to the point waits, and has said so by another file.
"""

import asyncio
import os
from enum import StrEnum
from pathlib import Path
from typing import Any

FOLDER_VARIABLE = "FANLINE_CHAOS_HALTS"
_LOOK_EVERY_S = 0.02


class Point(StrEnum):
    """Where a replica can be made to wait."""

    RESULTS = "results"  # before a transaction that writes results begins
    ENDING = "ending"  # all of such a transaction is written; it is not ended yet
    TAKEOVER = "takeover"  # before partitions are prepared, while a transaction of before is under way


async def halt(folder: Path, point: Point) -> None:
    """What a replica does at a point."""
    armed = folder / f"{point}.set"
    if not armed.exists():
        return
    (folder / f"{point}.reached").touch()
    while armed.exists():  # noqa: ASYNC110 - polls
        await asyncio.sleep(_LOOK_EVERY_S)


def put_in() -> None:
    """Have the service of this process wait at the points. Nothing changes unless the run has named a folder."""
    name = os.environ.get(FOLDER_VARIABLE)
    if not name:
        return
    folder = Path(name)
    from service.lane.preparing import Preparing
    from service.settling.transactor import Transactor

    commit, end, prepare = Transactor.commit, Transactor._end, Preparing.prepare

    async def halting(
        self: Any, writes: Any, offsets: Any, membership: Any, *, after: Any = (), agreed: Any = None
    ) -> None:
        self.settles = any(write.topic.endswith(".results") for write in writes)
        if self.settles:
            await halt(folder, Point.RESULTS)
        await commit(self, writes, offsets, membership, after=after, agreed=agreed)

    async def ending(self: Any, *, commit: bool) -> None:
        if commit and self.settles:
            await halt(folder, Point.ENDING)
        await end(self, commit=commit)

    async def preparing(self: Any, assignment: Any, takeover: Any) -> None:
        if self._settler.lock.locked():
            await halt(folder, Point.TAKEOVER)
        await prepare(self, assignment, takeover)

    Preparing.prepare = preparing  # type: ignore[method-assign] # a point
    Transactor.commit = halting  # type: ignore[method-assign] # a point
    Transactor._end = ending  # type: ignore[method-assign] # a point
