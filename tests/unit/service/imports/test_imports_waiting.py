"""What a lane of imports costs while nothing happens but that the platform is asked."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from service.lane import Lane
from tests.support import import_world
from tests.support.fakes import FakeTime, eventually, run
from tests.support.import_world import ImportWorld

WATCHED_S = 30
# Two looks, a heartbeat, and what two imports need that are asked for each two seconds.
WAKES_A_SECOND = 5


async def _wakes_a_second(
    time: FakeTime, patch: pytest.MonkeyPatch, buffer_bytes: int, is_there: Callable[[Lane], bool]
) -> float:
    """How often the process wakes up in a second, once the state is there in which both imports are open."""
    world, right = ImportWorld(time, rules={"takes_s": 10_000.0}), import_world.lane_setup
    world.patches(patch)
    patch.setattr(
        import_world,
        "lane_setup",
        lambda *given, **more: msgspec.structs.replace(right(*given, **more), buffer_bytes=buffer_bytes),
    )
    woken_at: set[int] = set()
    advance = time.advance

    def advanced(seconds: float) -> None:
        advance(seconds)
        woken_at.add(round(time.monotonic() * 1000))

    world.publish(40)
    lane = world.lane()
    running = asyncio.create_task(lane.run())
    await eventually(lambda: world.kinds.count("status") > 3 and is_there(lane), every_s=1)
    patch.setattr(time, "advance", advanced)
    await asyncio.sleep(WATCHED_S)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert lane.died is None
    return len(woken_at) / WATCHED_S


@pytest.mark.parametrize(
    ("buffer_bytes", "full"), [(4_000, True), (1 << 30, False)], ids=["a full buffer", "all has been read"]
)
def test_a_lane_that_waits_for_its_imports_is_seldom_woken(
    monkeypatch: pytest.MonkeyPatch, buffer_bytes: int, full: bool
) -> None:
    """To be woken costs more than what is looked at then: what looks from time to time looks at the same moments."""
    wakes = run(lambda time: _wakes_a_second(time, monkeypatch, buffer_bytes, lambda lane: lane.is_full is full))
    assert wakes <= WAKES_A_SECOND
