"""How late the event loop was, as ``/metrics`` tells it."""

import asyncio

from service.http.looplag import watch_loop
from service.telemetry import Telemetry
from service.telemetry import metrics as m
from tests.support.fakes import FakeTime, run


def test_what_blocks_the_loop_is_counted_by_how_late_it_made_others() -> None:
    """Of four looks a second all are told; one of them came 80 ms late, the others in time."""

    async def main(time: FakeTime) -> None:
        telemetry = Telemetry()
        watching = asyncio.create_task(watch_loop(telemetry.metrics, time))
        await asyncio.sleep(0.6)
        time.advance(0.23)  # something of this loop does not give way
        await asyncio.sleep(0.3)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        told = telemetry.metrics[m.EVENT_LOOP_LAG_SECONDS].histogram("")
        buckets = dict(told.cumulative())
        assert (buckets["0.001"], buckets["0.05"], buckets["0.1"]) == (3, 3, 4)
        assert round(told.sum, 3) == 0.08

    run(main)
