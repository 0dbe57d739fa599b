"""How late the event loop wakes up what is due: what blocks it delays every lane of the process."""

import asyncio

from service.clock import Clock
from service.telemetry import Metrics
from service.telemetry import metrics as m

_EVERY_S = 0.25


async def watch_loop(metrics: Metrics, clock: Clock) -> None:
    """Measure until cancelled."""
    histogram = metrics[m.EVENT_LOOP_LAG_SECONDS].histogram("")
    while True:
        due = clock.monotonic() + _EVERY_S
        await asyncio.sleep(_EVERY_S)
        histogram.observe(max(0.0, clock.monotonic() - due))
