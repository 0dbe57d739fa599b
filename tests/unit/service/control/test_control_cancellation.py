"""The reader of the control topic, and a whole process, cancelled at each of their awaits."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import TopicPartition

from service.app import KINDS, Application
from service.config import loads
from service.control.following import Follower
from tests.support.fakes import FakeTime
from tests.support.lane_world import CONFIGURATION, OPTIONS
from tests.support.suspending import Cancelling, at_every_await

ORDERS = 5
HOP_S = 0.003


class Topic:
    """The control topic: consumers that read it are counted."""

    def __init__(self) -> None:
        self.open: set[TopicConsumer] = set()
        self.fails = 1

    def consumer(self, **options: Any) -> "TopicConsumer":
        return TopicConsumer(self)


class TopicConsumer:
    def __init__(self, topic: Topic) -> None:
        self._topic, self._position = topic, 0
        self._client = SimpleNamespace(send=None, close=self._close)
        self._coordinator = self._fetcher = None

    async def start(self) -> None:
        self._topic.open.add(self)
        await asyncio.sleep(HOP_S)

    async def stop(self) -> None:
        await asyncio.sleep(HOP_S)
        await self._close()

    async def _close(self) -> None:
        self._topic.open.discard(self)

    def assign(self, tps: list[TopicPartition]) -> None:
        self._position = 0

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0}

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._position = offset

    async def position(self, tp: TopicPartition) -> int:
        await asyncio.sleep(0)
        return self._position

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        await asyncio.sleep(HOP_S)
        return dict.fromkeys(tps, ORDERS)

    async def getmany(self, tp: TopicPartition, *, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        await asyncio.sleep(HOP_S)
        if self._position == 3 and self._topic.fails:
            self._topic.fails -= 1
            raise KafkaConnectionError("gone for a moment")
        if self._position == ORDERS:
            await asyncio.sleep(timeout_ms / 1000)
            return {}
        self._position += 1
        return {tp: [SimpleNamespace(key=b"%d" % (self._position - 1), value=b"")]}


def test_the_reader_of_orders_is_cancelled_at_any_await(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its consumer is stopped, the cancellation goes on; whoever follows anew knows every order, in order."""

    async def life(time: FakeTime, cancelling: Cancelling) -> None:
        topic, applied = Topic(), list[int]()
        monkeypatch.setattr("service.control.following.AIOKafkaConsumer", topic.consumer)
        follower = Follower({}, "control", lambda key, value, old: applied.append(int(key or b"")), lambda kind: None)
        for attempt in range(2):
            running = asyncio.create_task(follower.run())
            if not attempt:
                cancelling.watch(running)
            known = asyncio.create_task(_known(follower))
            await asyncio.wait({running, known}, return_when=asyncio.FIRST_COMPLETED)
            cancelling.stop()
            if not running.done():
                assert list(dict.fromkeys(applied)) == list(range(ORDERS)), "told that all is known, and it is not"
            for task in (running, known):
                task.cancel()
            await asyncio.gather(known, running, return_exceptions=True)
            assert running.cancelled(), "the cancellation was swallowed"
            assert not topic.open, "a consumer is left"
        assert applied == sorted(applied)

    assert len(at_every_await(life, most=200)) > 15


async def _known(follower: Follower) -> None:
    """As a lane asks: again when the brokers were away."""
    while True:
        try:
            return await follower.read_to_end()
        except KafkaConnectionError:
            await asyncio.sleep(0.1)


class OtherLane:
    """A lane that takes its time to drain."""

    def __init__(self) -> None:
        self.died: str | None = None
        self.abandoned = False
        self._stopping = asyncio.Event()
        self.running = False

    async def run(self) -> None:
        self.running = True
        try:
            await self._stopping.wait()
            await asyncio.sleep(1)
        finally:
            self.running = False

    def stop(self) -> None:
        self._stopping.set()


def test_a_process_is_cancelled_at_any_await(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it starts, runs and stops: its lanes come to their ends, its accounts are closed, no task is left."""
    monkeypatch.setenv("KEY", "secret-1")
    text = CONFIGURATION.replace("HANDLER", "segments").replace("OPTIONS", OPTIONS["segments"])
    config = loads(text.encode(), KINDS)

    async def life(time: FakeTime, cancelling: Cancelling) -> None:
        topic, lanes = Topic(), [OtherLane()]
        monkeypatch.setattr("service.control.following.AIOKafkaConsumer", topic.consumer)
        monkeypatch.setattr(Application, "_obeying", lambda *_: lanes[0])
        application, stop = Application(config, clock=time), asyncio.Event()

        async def process() -> None:
            async with application:
                asyncio.get_running_loop().call_later(2, stop.set)
                await application.run(stop)

        running = asyncio.create_task(process())
        cancelling.watch(running)
        await asyncio.wait({running})
        cancelling.stop()
        assert running.cancelled() == cancelling.done, "the cancellation was swallowed"
        assert running.cancelled() or running.exception() is None
        assert not lanes[0].running
        assert not topic.open
        for account in application.accounts.values():
            assert account._transport._connector is None, "an account is left open"  # type: ignore[attr-defined]

    assert len(at_every_await(life, most=400)) > 10
