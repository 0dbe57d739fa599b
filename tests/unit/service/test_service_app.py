"""The application: lanes that live and die together."""

import asyncio
from typing import Any, cast

import pytest

from service.app import KINDS, Application
from service.config import loads
from service.delivery.limiter import LimiterPolicy

CONFIG = b"""
kafka: {bootstrap_servers: ["localhost:9"]}
accounts:
  np6: {platform: np6, base_url: "http://127.0.0.1:9", api_key: {env: FANLINE_TEST_KEY}}
lanes:
  one: {handler: np6.segments, account: np6, topics: [contacts], target: data.identifiers.np6, join: "[1]"}
"""


class FakeLane:
    """Runs until it is stopped, and then drains for a while; or dies at once."""

    def __init__(self, dies: bool = False) -> None:
        self.dies = dies
        self.died: str | None = None
        self.drained = False
        self.abandoned = False
        self._stop = asyncio.Event()

    async def run(self) -> None:
        if self.dies:
            raise RuntimeError("a fault of ours")
        await self._stop.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        self.drained = True

    def stop(self) -> None:
        self._stop.set()


def _application(**lanes: FakeLane) -> Application:
    application = Application(loads(CONFIG, KINDS))
    application.lanes = cast("Any", lanes)
    return application


async def test_a_lane_that_dies_lets_the_others_drain_before_the_process_ends() -> None:
    """A fault in one lane costs the other lanes no call that is under way."""
    other = FakeLane()
    dead = FakeLane(dies=True)
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(_application(dead=dead, other=other).run(asyncio.Event()), 5)
    assert [type(error) for error in caught.value.exceptions] == [RuntimeError]
    assert other.drained
    assert dead.died == "RuntimeError"


async def test_stop_drains_every_lane_and_run_returns() -> None:
    """A signal ends the process in order."""
    lanes = [FakeLane(), FakeLane()]
    stop = asyncio.Event()
    running = asyncio.create_task(_application(one=lanes[0], two=lanes[1]).run(stop))
    stop.set()
    await asyncio.wait_for(running, 5)
    assert all(lane.drained for lane in lanes)


async def test_a_lane_that_ends_by_itself_leaves_the_others_at_work() -> None:
    """A lane whose broker refuses a record stops alone."""
    ended, other = FakeLane(), FakeLane()
    ended.stop()
    stop = asyncio.Event()
    running = asyncio.create_task(_application(ended=ended, other=other).run(stop))
    async with asyncio.timeout(5):
        while not ended.drained:  # noqa: ASYNC110 - polls a fake
            await asyncio.sleep(0)
    assert not other.drained
    assert not running.done()
    stop.set()
    await asyncio.wait_for(running, 5)


def test_a_lane_that_does_not_exist_is_named() -> None:
    """--lane with a slip of the pen does not start."""
    with pytest.raises(Exception, match="there is no such lane; the file has: one"):
        Application(loads(CONFIG, KINDS), lanes=["two"])


@pytest.mark.parametrize("adaptive", [True, False])
async def test_an_account_keeps_to_the_limits_of_the_file(adaptive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """``adaptive: false`` leaves the requests in flight as they are, whatever the platform answers."""
    monkeypatch.setenv("FANLINE_TEST_KEY", "k")
    limits = f"limits: {{max_in_flight: 8, requests_per_second: 40, adaptive: {str(adaptive).lower()}}}"
    config = CONFIG.replace(
        b"api_key: {env: FANLINE_TEST_KEY}", f"api_key: {{env: FANLINE_TEST_KEY}}, {limits}".encode()
    )
    async with Application(loads(config, KINDS)) as application:
        limiter = application.accounts["np6"].limiter
        assert limiter.concurrency_limit == 8
        assert limiter._policy == LimiterPolicy(8, 40, adaptive)
