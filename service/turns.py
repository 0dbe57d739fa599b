"""Long work on the event loop is done in turns, so that others wait for milliseconds and not for all of it."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from service.clock import Clock

T = TypeVar("T")

_MOST_S = 0.005


class Turns:
    """Call ``rest`` between two pieces of work: it lets others go on once this task has worked for ``most_s``."""

    def __init__(self, clock: Clock, most_s: float = _MOST_S) -> None:
        self._clock = clock
        self._most_s = most_s
        self._began = clock.monotonic()

    async def rest(self) -> None:
        if self._clock.monotonic() - self._began >= self._most_s:
            await asyncio.sleep(0)
            self._began = self._clock.monotonic()


def pieces(things: Sequence[T], sizes: Sequence[int], most: int, most_size: int) -> Iterator[Sequence[T]]:
    """``things`` in order, at most ``most`` together, and no further one once their sizes reach ``most_size``."""
    start = size = 0
    for end, each in enumerate(sizes, 1):
        size += each
        if end - start >= most or size >= most_size:
            yield things[start:end]
            start, size = end, 0
    if start < len(things):
        yield things[start:]


async def take_in_turns(
    turns: Turns, parts: Iterable[Sequence[T]], take: Callable[[Sequence[T]], None], wanted: Callable[[], bool]
) -> None:
    """``take`` each part, and let others go on in between; no further one once they are not wanted any more."""
    for part in parts:
        if not wanted():
            return
        take(part)
        await turns.rest()
