"""The reader of the control topic, in front of a consumer that obeys the test."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import ConnectionGroup
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import TopicPartition

from service.control import following
from service.control.following import Follower
from tests.support.fakes import FakeTime, eventually, run

TP = TopicPartition("p.control", 0)


class Topic:
    """The topic's records, and what befalls whoever reads it. ``unparsable`` are offsets that no client can read."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes]] = []
        self.start_faults: list[Exception] = []
        self.faults: list[Exception] = []
        self.unparsable: set[int] = set()
        self.open: set[Consumer] = set()
        self.exists = True
        self.asked_for = 0
        # By which connections it was asked where the topic ends.
        self.asked_by: list[ConnectionGroup] = []

    def consumer(self, **_: Any) -> "Consumer":
        return Consumer(self)


class Consumer:
    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.at = 0
        self._client = SimpleNamespace(send=self._send, close=self._close)
        self._coordinator = self._fetcher = None

    async def start(self) -> None:
        self.topic.open.add(self)
        if self.topic.start_faults:
            raise self.topic.start_faults.pop(0)

    async def stop(self) -> None:
        await self._close()

    async def _close(self) -> None:
        self.topic.open.discard(self)

    def assign(self, tps: list[TopicPartition]) -> None:
        assert tps == [TP]

    async def topics(self) -> set[str]:
        self.topic.asked_for += 1
        return {TP.topic} if self.topic.exists else set()

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {0} if self.topic.exists else None

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.at = offset

    async def position(self, tp: TopicPartition) -> int:
        return self.at

    async def _send(self, _: int, request: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT) -> None:
        assert isinstance(request, OffsetRequest)
        self.topic.asked_by.append(group)

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        await self._client.send(0, OffsetRequest(-1, 0, []))
        return {TP: len(self.topic.records)}

    async def getmany(self, tp: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        await asyncio.sleep(timeout_ms / 1000)
        if self.topic.faults:
            raise self.topic.faults.pop(0)
        if any(offset >= self.at for offset in self.topic.unparsable):
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")
        if not self.topic.exists:
            return {}
        new = self.topic.records[self.at :]
        self.at += len(new)
        return {TP: [SimpleNamespace(key=key, value=value) for key, value in new]}

    async def getone(self, tp: TopicPartition) -> Any:
        if self.at in self.topic.unparsable:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")
        key, value = self.topic.records[self.at]
        self.at += 1
        return SimpleNamespace(key=key, value=value)


class Bench:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.topic = Topic()
        monkeypatch.setattr(following, "AIOKafkaConsumer", self.topic.consumer)
        self.applied: list[tuple[bytes | None, bool]] = []
        self.failed: list[str] = []
        self.follower = Follower({}, "p.control", self._apply, self.failed.append)

    def _apply(self, key: bytes | None, _: bytes | None, old: bool) -> None:
        self.applied.append((key, old))

    def run(self, main: Callable[[], Any]) -> None:
        """``main`` beside the follower."""

        async def both(_: FakeTime) -> None:
            task = asyncio.create_task(self.follower.run())
            try:
                await main()
            finally:
                task.cancel()
                await asyncio.wait([task])

        run(both)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_the_end_is_reached_before_anybody_goes_on(bench: Bench) -> None:
    """Everything ordered before is applied, and known as old; what comes later is new."""
    bench.topic.records = [(b"a", b""), (b"b", b"")]

    async def main() -> None:
        await bench.follower.read_to_end()
        assert bench.applied == [(b"a", True), (b"b", True)]
        bench.topic.records.append((b"c", b""))
        await bench.follower.read_to_end()
        assert bench.applied[2:] == [(b"c", False)]

    bench.run(main)


def test_the_end_is_asked_for_beside_the_request_for_records(bench: Bench) -> None:
    """A broker would answer behind that one, which it keeps for two seconds."""
    bench.run(bench.follower.read_to_end)
    assert bench.topic.asked_by == [ConnectionGroup.COORDINATION]


def test_an_empty_topic_has_an_end_too(bench: Bench) -> None:
    """As on the first day."""
    bench.run(bench.follower.read_to_end)
    assert bench.applied == []


def test_brokers_that_fail_are_asked_again_from_where_it_was(bench: Bench) -> None:
    """Nothing is applied twice, nothing is left out; each consumer that failed is stopped."""
    bench.topic.records = [(b"a", b"")]
    bench.topic.start_faults = [KafkaConnectionError(), KafkaConnectionError()]

    async def main() -> None:
        await eventually(lambda: bool(bench.applied))
        bench.topic.faults = [KafkaConnectionError()]
        bench.topic.records.append((b"b", b""))
        await eventually(lambda: len(bench.applied) == 2)
        await bench.follower.read_to_end()

    bench.run(main)
    assert [key for key, _ in bench.applied] == [b"a", b"b"]
    assert bench.failed == ["KafkaConnectionError"] * 3
    assert not bench.topic.open


def test_whoever_waits_learns_why_it_cannot_be_read(bench: Bench) -> None:
    """A right that is missing is the lane's reason, not a silence."""
    bench.topic.records = [(b"a", b"")]
    bench.topic.faults = [TopicAuthorizationFailedError({"p.control"}) for _ in range(3)]

    async def main() -> None:
        with pytest.raises(TopicAuthorizationFailedError):
            await bench.follower.read_to_end()
        await eventually(lambda: bool(bench.applied))
        await bench.follower.read_to_end()

    bench.run(main)


def test_a_topic_that_is_gone_is_told_of_and_asked_for_seldom(bench: Bench) -> None:
    """A pause could not be heard: lanes have to know. Once it is there again it is read again, as orders of before."""
    bench.topic.records = [(b"a", b"")]

    async def main() -> None:
        await bench.follower.read_to_end()
        assert bench.follower.missing is None
        bench.topic.exists = False
        await eventually(lambda: bench.follower.missing is not None)
        assert "topic p.control is gone" in (bench.follower.missing or "")
        before = bench.topic.asked_for
        await asyncio.sleep(100)
        assert 8 <= bench.topic.asked_for - before <= 14
        bench.topic.exists = True
        bench.topic.records.append((b"b", b""))
        await eventually(lambda: bench.follower.missing is None, within_s=15)
        assert bench.applied == [(b"a", True), (b"a", True), (b"b", True)]
        bench.topic.records.append((b"c", b""))
        await eventually(lambda: bench.applied[3:] == [(b"c", False)])

    bench.run(main)


def test_the_first_orders_of_a_topic_that_was_made_anew_are_read(bench: Bench) -> None:
    """They lie where orders of the old topic lay, which have been read: a pause among them is not passed over."""
    bench.topic.records = [(b"a", b""), (b"b", b"")]

    async def main() -> None:
        await bench.follower.read_to_end()
        bench.topic.exists = False
        await eventually(lambda: bench.follower.missing is not None)
        bench.topic.records = [(b"pause", b""), (b"resume", b"")]
        bench.topic.exists = True
        await eventually(lambda: bench.follower.missing is None, within_s=15)
        await bench.follower.read_to_end()
        assert [key for key, _ in bench.applied[2:]] == [b"pause", b"resume"]

    bench.run(main)


def test_a_foreign_record_that_cannot_be_parsed_is_passed(bench: Bench) -> None:
    """It is no order; those before and behind it are."""
    bench.topic.records = [(b"a", b""), (b"?", b""), (b"b", b"")]
    bench.topic.unparsable = {1}
    bench.run(bench.follower.read_to_end)
    assert [key for key, _ in bench.applied] == [b"a", b"b"]


def test_once_all_is_known_it_is_looked_once_a_second(bench: Bench) -> None:
    """What comes wakes it. Until then whoever waits for the end of an empty topic waits for half a second."""
    waits: list[int] = []
    right = Consumer.getmany

    async def getmany(self: Consumer, tp: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        waits.append(timeout_ms)
        return await right(self, tp, timeout_ms)

    async def main() -> None:
        await bench.follower.read_to_end()
        assert set(waits) == {500}
        await asyncio.sleep(20)
        assert len(waits) <= 24

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Consumer, "getmany", getmany)
        bench.run(main)
