"""A lane's workers: what they have done is nothing that they remember."""

import asyncio
import weakref

from service.clock import SystemClock
from service.delivery.workers import Workers


class Load:
    """What a worker carries; of imports it holds all events of a file."""


async def test_an_idle_worker_keeps_no_load() -> None:
    """Its last one is freed at once: as many imports as workers would stay in memory for as long as nothing comes."""
    carried = 0

    async def carry(load: Load) -> None:
        nonlocal carried
        await asyncio.sleep(0)
        carried += 1

    workers = Workers(3, carry, SystemClock())
    running = asyncio.create_task(workers.run())
    loads = [Load() for _ in range(3)]
    left = [weakref.ref(load) for load in loads]
    workers.put(loads)
    loads.clear()
    async with asyncio.timeout(10):
        while carried < 3:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [ref() for ref in left] == [None] * 3
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
