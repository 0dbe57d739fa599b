"""How turns of the event loop are counted: what is done in each, and how many others had."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Others:
    """Counts how often others had a turn."""

    def __init__(self) -> None:
        self.turns = 0

    async def run(self) -> None:
        while True:
            self.turns += 1
            await asyncio.sleep(0)


@asynccontextmanager
async def beside() -> AsyncIterator[Others]:
    others = Others()
    task = asyncio.create_task(others.run())
    try:
        yield others
    finally:
        task.cancel()


class ByTurns:
    """How many things were done in each turn of the event loop in which any was."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self._goes_on = False

    def did(self, count: int) -> None:
        """So many more, in this turn."""
        if not self._goes_on:
            self.counts.append(0)
            asyncio.get_running_loop().call_soon(self._turn_ends)
        self._goes_on = True
        self.counts[-1] += count

    def _turn_ends(self) -> None:
        self._goes_on = False
