"""What an event waits for is told in words, at every station of its way, without its key or target."""

import asyncio
import re
from types import SimpleNamespace
from typing import Any

from aiokafka.structs import TopicPartition

from handlers.base import Reply
from service.batching.batcher import Batcher, BatchPolicy
from service.delivery.breaker import BreakerPolicy
from service.delivery.limiter import LimiterPolicy
from service.delivery.retry import RetryPolicy
from service.intake.item import Item
from service.status.waiting import Waits
from tests.support.dispatching import Bench, account_for, running
from tests.support.fakes import DONE, Call, FakePlatform, FakeTime, Source, answer, eventually, join, leave, run


class Stage:
    """A lane of a real dispatcher and batcher, in front of a platform that answers when it is told to."""

    def __init__(self, time: FakeTime, *, concurrency: int = 2, **account: Any) -> None:
        self.time = time
        self.answers = asyncio.Event()
        self.reply: Reply = DONE
        platform = FakePlatform(time, self._answer)
        retry = RetryPolicy(first_delay_s=50, max_delay_s=60, max_attempts=1000)
        self.bench = Bench(
            time, platform, account=account_for(time, platform, **account), concurrency=concurrency, retry=retry
        )
        self.batcher = Batcher(BatchPolicy(500, 1 << 20, 0.2), self._dispatch)
        self.lane: Any = SimpleNamespace(
            batcher=self.batcher,
            dispatcher=self.bench.dispatcher,
            account=self.bench.account,
            kafka_trouble=None,
            setup=SimpleNamespace(delivery=SimpleNamespace(concurrency=concurrency)),
        )

    async def _answer(self, call: Call) -> Reply:
        await self.answers.wait()
        return self.reply

    def _dispatch(self, batch: Any, cause: Any) -> None:
        for item in batch.items:
            item.batch_id = "batch"
        self.bench.deliver(*batch.items)

    def deliver(self, *items: Item) -> None:
        """Into a batch of its own, and out."""
        for item in items:
            self.batcher.add(item, None, self.time.monotonic())
        self.batcher.flush()

    def words(self, item: Item) -> str:
        """What the item waits for now."""
        return Waits(self.lane, self.time.monotonic()).of(item).words


def test_before_and_after_delivery() -> None:
    """In an open batch; ended and to be settled; ended while Kafka is away."""

    async def main(time: FakeTime) -> None:
        stage, source = Stage(time), Source()
        item = source.item(b"secret", join("T"))
        stage.batcher.add(item, None, time.monotonic())
        time.advance(0.12)
        assert stage.words(item) == "in a batch that closes in 0.1 s"
        ended = source.ended(b"other")
        assert stage.words(ended) == "to be settled"
        stage.lane.kafka_trouble = "no leader"
        assert stage.words(ended) == "to be settled; kafka: no leader"

    run(main)


def test_in_flight_and_behind_it() -> None:
    """The call is told with its age and attempt; who waits for a worker, or behind its key, says so."""

    async def main(time: FakeTime) -> None:
        stage = Stage(time, concurrency=1)
        other = TopicPartition("more", 0)
        source = Source(TopicPartition("contacts", 0), other)
        first, second = source.item(b"secret-a", join("T")), source.item(b"secret-b", join("U"))
        later = source.item(b"secret-a", join("T", 2))
        elsewhere = source.item(b"secret-a", join("T", 3), tp=other)
        async with running(stage.bench):
            stage.deliver(first)
            stage.deliver(second)
            stage.deliver(later, elsewhere)
            await asyncio.sleep(1.5)
            assert stage.words(first) == "in flight for 1.5 s, attempt 1"
            assert stage.words(second) == "one of the lane's 1 workers, all are busy"
            assert stage.words(later) == "behind an earlier event of its key at offset 0"
            assert stage.words(elsewhere) == "behind an earlier event of its key at contacts-0 offset 0"

    run(main)


def test_behind_an_earlier_event_in_one_batch() -> None:
    """Two operations of one key that cannot be merged: the second event waits for the first one's call."""

    async def main(time: FakeTime) -> None:
        stage, source = Stage(time), Source()
        first, second = source.item(b"k", join("T")), source.item(b"k", leave("T"))
        async with running(stage.bench):
            stage.deliver(first, second)
            await asyncio.sleep(0.5)
            assert stage.words(first) == "in flight for 0.5 s, attempt 1"
            assert stage.words(second) == "behind an earlier event of its key at offset 0"

    run(main)


def test_a_retry_says_why_and_when() -> None:
    """The status of the last answer, which attempt comes next, and in how many seconds."""

    async def main(time: FakeTime) -> None:
        stage, source = Stage(time), Source()
        item = source.item(b"k", join("T"))
        stage.reply = answer(500)
        stage.answers.set()
        async with running(stage.bench):
            stage.deliver(item)
            await eventually(lambda: stage.bench.dispatcher.retrying == 1, every_s=0.001)
            [(due, _)] = stage.bench.dispatcher.parked_loads()
            left = due - time.monotonic()
            assert stage.words(item) == f"retrying (HTTP 500), attempt 2 in {left:.1f} s"

    run(main)


def test_an_account_that_asked_us_to_wait() -> None:
    """Whoever could send is told how long it lasts."""

    async def main(time: FakeTime) -> None:
        stage, source = Stage(time, limits=LimiterPolicy()), Source()
        throttled, waiting = source.item(b"a", join("T")), source.item(b"b", join("U"))
        stage.reply = answer(429, retry_after="30")
        stage.answers.set()
        async with running(stage.bench):
            stage.deliver(throttled)
            await eventually(lambda: stage.bench.dispatcher.retrying == 1, every_s=0.001)
            stage.deliver(waiting)
            await asyncio.sleep(0.5)
            assert re.fullmatch(r"account np6-main: asked us to wait, 29\.\d s left", stage.words(waiting))
            retrying = r"retrying \(HTTP 429\), attempt 2 in \d+\.\d s; account np6-main: asked us to wait, .*"
            assert re.fullmatch(retrying, stage.words(throttled))

    run(main)


def test_an_account_whose_breaker_is_open() -> None:
    """When the next try may be; and, while it is under way, that it is."""

    async def main(time: FakeTime) -> None:
        stage, source = Stage(time, breaker=BreakerPolicy(min_requests=1)), Source()
        failed, waiting = source.item(b"a", join("T")), source.item(b"b", join("U"))
        stage.reply = answer(500)
        stage.answers.set()
        async with running(stage.bench):
            stage.deliver(failed)
            await eventually(lambda: stage.bench.dispatcher.retrying == 1, every_s=0.001)
            stage.answers.clear()
            stage.deliver(waiting)
            await asyncio.sleep(1)
            assert re.fullmatch(r"account np6-main: breaker open, next try in [34]\.\d s", stage.words(waiting))
            await asyncio.sleep(5)
            later = source.item(b"c", join("V"))
            stage.deliver(later)
            await asyncio.sleep(0)
            assert stage.words(waiting).startswith("in flight for ")
            assert stage.words(later) == "account np6-main: breaker open, one request is finding out"

    run(main)


def test_credentials_that_are_refused() -> None:
    """The account's own reason is told."""

    async def main(time: FakeTime) -> None:
        stage, source = Stage(time), Source()
        item = source.item(b"a", join("T"))
        stage.bench.account.refuse("credentials refused (401)")
        async with running(stage.bench):
            stage.deliver(item)
            await asyncio.sleep(0.1)
            assert stage.words(item) == "account np6-main: credentials refused (401)"

    run(main)


def test_a_lane_that_holds_by_itself() -> None:
    """Its reason goes before the account's, with when it is tried again."""

    async def main(time: FakeTime) -> None:
        stage, source = Stage(time), Source()
        item = source.item(b"a", join("T"))
        stage.reply = answer(405)
        stage.answers.set()
        async with running(stage.bench):
            stage.deliver(item)
            await eventually(lambda: stage.bench.dispatcher.hold is not None, every_s=0.001)
            hold = stage.bench.dispatcher.hold
            assert hold is not None
            assert re.fullmatch(rf"{re.escape(hold.reason)}; next try in (300\.0|299\.9) s", stage.words(item))

    run(main)


def test_all_places_in_flight_are_taken() -> None:
    """By other lanes of the account too."""

    async def main(time: FakeTime) -> None:
        stage, source = Stage(time, limits=LimiterPolicy(max_in_flight=1)), Source()
        first, second = source.item(b"a", join("T")), source.item(b"b", join("U"))
        async with running(stage.bench):
            stage.deliver(first, second)
            await asyncio.sleep(0.5)
            assert stage.words(first) == "in flight for 0.5 s, attempt 1"
            assert stage.words(second) == "account np6-main: all 1 requests that may be in flight are"

    run(main)


def test_nothing_of_the_event_is_told() -> None:
    """Neither key nor target, wherever it is."""

    async def main(time: FakeTime) -> None:
        stage, source = Stage(time, concurrency=1), Source()
        items = [source.item(b"secret-key", join("secret-target", n)) for n in range(3)]
        stage.reply = answer(500)
        async with running(stage.bench):
            stage.deliver(items[0], items[1])
            stage.batcher.add(items[2], None, time.monotonic())
            for _ in range(40):
                await asyncio.sleep(1)
                assert not any("secret" in stage.words(item) for item in items)
                stage.answers.set()

    run(main)
