"""A lane's workers: as many as it may have requests in flight; each carries one load at a time.

A load that waits for its retry is parked and gives its worker free, so that others go on. Nothing is created per load.
"""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Generic, TypeVar

from service.clock import Clock

Load = TypeVar("Load")


class Workers(Generic[Load]):
    """The loads that are ready, those that are carried, and those that are parked.

    ``carry`` brings a load to its end, or puts or parks it again before it returns.
    """

    def __init__(self, count: int, carry: Callable[[Load], Awaitable[None]], clock: Clock) -> None:
        self._carry = carry
        self._clock = clock
        self._ready: deque[Load] = deque()
        # What each worker carries: for a person who asks.
        self._carried: list[Load | None] = [None] * count
        # How many loads were taken up: what waits for a worker goes on as long as this does.
        self.taken = 0
        self._parked: list[tuple[float, int, Load]] = []
        # What an operator's pause keeps back. No worker waits with it: they stay free for what may go on.
        self._aside: list[Load] = []
        self._order = itertools.count()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Work until cancelled. A worker that dies takes all down, and so the lane."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(len(self._carried)):
                    group.create_task(self._work(number))
        finally:
            if self._alarm is not None:
                self._alarm.cancel()

    def put(self, loads: list[Load]) -> None:
        """Behind all that are ready."""
        self._ready.extend(loads)
        for _ in range(min(len(loads), len(self._idle))):
            self._wake_one()

    def put_back(self, load: Load) -> None:
        """The worker that carries it lets it go; it or another takes it up again behind the others."""
        self._ready.append(load)

    def park(self, load: Load, delay_s: float) -> None:
        """The load is ready again after so many seconds, in front of the others."""
        now = self._clock.monotonic()
        heapq.heappush(self._parked, (now + delay_s, next(self._order), load))
        self._set_alarm(now)

    def put_aside(self, load: Load) -> None:
        """The worker that carries it lets it go, and nobody takes it up before ``bring_back``."""
        self._aside.append(load)

    def bring_back(self) -> None:
        """What was put aside is ready, in front of the others and in the order in which it was put."""
        aside, self._aside = self._aside, []
        self._ready.extendleft(reversed(aside))
        for _ in range(min(len(aside), len(self._idle))):
            self._wake_one()

    def keep(self, kept: Callable[[Load], bool]) -> None:
        """Drop what waits and is not ``kept``."""
        self._ready = deque(load for load in self._ready if kept(load))
        self._aside = [load for load in self._aside if kept(load)]
        self._parked = [entry for entry in self._parked if kept(entry[2])]
        heapq.heapify(self._parked)

    @property
    def ready(self) -> int:
        """Loads that wait for a worker."""
        return len(self._ready)

    @property
    def aside(self) -> int:
        """Loads that wait for the end of a pause."""
        return len(self._aside)

    @property
    def parked(self) -> int:
        """Loads that wait for their retry."""
        return len(self._parked)

    def ready_loads(self) -> Iterable[Load]:
        """The loads that wait for a worker, or for the end of a pause."""
        return itertools.chain(self._ready, self._aside)

    def parked_loads(self) -> list[tuple[float, Load]]:
        """When each parked load is due (monotonic), for a person who asks."""
        return [(due, load) for due, _, load in self._parked]

    def carried_loads(self) -> Iterator[Load]:
        """What the workers carry: their calls are under way, or wait for the account."""
        return (load for load in self._carried if load is not None)

    async def _work(self, number: int) -> None:
        while True:
            while not self._ready:
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._idle.append(waiter)
                await waiter
            load = self._carried[number] = self._ready.popleft()
            self.taken += 1
            await self._carry(load)
            self._carried[number] = None
            # Or an idle worker keeps its last load in memory: of imports that is up to 50,000 events for each.
            del load

    def _wake_one(self) -> None:
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _set_alarm(self, now: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._parked:
            delay_s = max(0.0, self._parked[0][0] - now)
            self._alarm = asyncio.get_running_loop().call_later(delay_s, self._unpark)

    def _unpark(self) -> None:
        now = self._clock.monotonic()
        while self._parked and self._parked[0][0] <= now:
            # In front: what was tried before is older than what waits.
            self._ready.appendleft(heapq.heappop(self._parked)[2])
            self._wake_one()
        self._alarm = None
        self._set_alarm(now)
