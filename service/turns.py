"""Long work on the event loop is done in turns, so that others wait for milliseconds and not for all of it."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TypeVar

from service.clock import Clock

T = TypeVar("T")

_MOST_S = 0.005
_DROPPED_AT_ONCE = 500


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


class Portion:
    """How many things are worked on without a pause: ``most``, and fewer while these take longer than ``most_s``."""

    def __init__(self, clock: Clock, most: int, most_s: float = _MOST_S) -> None:
        self._clock = clock
        self._most = most
        self._most_s = most_s
        self._count = most

    def count(self) -> int:
        """As of now, one at least."""
        return self._count

    def work(self, things: Sequence[T], work: Callable[[Sequence[T]], None]) -> None:
        """Work on some of them, and learn how long they take."""
        began = self._clock.monotonic()
        work(things)
        took_s = self._clock.monotonic() - began
        if took_s > self._most_s:
            self._count = max(1, int(len(things) * self._most_s / took_s))
        elif took_s < self._most_s / 4 and len(things) >= self._count:
            self._count = min(self._most, self._count * 2)


def pieces(
    things: Sequence[T], sizes: Sequence[int], most: int | Callable[[], int], most_size: int
) -> Iterator[Sequence[T]]:
    """``things`` in order, at most ``most`` together, and no further one once their sizes reach ``most_size``."""
    start = 0
    while start < len(things):
        end = start + (most if isinstance(most, int) else most())
        if sum(sizes[start:end]) >= most_size:
            reached = accumulate(sizes[start:end])
            end = next(place for place, size in enumerate(reached, start + 1) if size >= most_size)
        yield things[start:end]
        start = end


async def take_in_turns(
    turns: Turns, parts: Iterable[Sequence[T]], take: Callable[[Sequence[T]], None], wanted: Callable[[], bool]
) -> None:
    """``take`` each part, and let others go on in between; no further one once they are not wanted any more."""
    for part in parts:
        if not wanted():
            return
        take(part)
        await turns.rest()


async def drop_in_turns(turns: Turns, things: list[T]) -> None:
    """Empty a list that nothing else holds the things of: to free 40,000 records at once takes 60 ms."""
    while things:
        del things[-_DROPPED_AT_ONCE:]
        await turns.rest()
