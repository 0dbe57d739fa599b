"""A dispatcher with an account, a platform and a clock that obey the test; it notes all that the lane would be told."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random

from handlers.base import Handler, RetryCause
from handlers.np6.segments import SegmentsHandler
from service.delivery.breaker import Breaker, BreakerPolicy
from service.delivery.chain import Chain, Unit, chains_of
from service.delivery.dispatcher import DeliveryHooks, Dispatcher
from service.delivery.guard import Guard
from service.delivery.lane_delivery import DeliveryMeans, DeliveryPolicy, LoadHooks
from service.delivery.limiter import AccountLimiter, LimiterPolicy
from service.delivery.retry import RetryPolicy
from service.intake.item import Item
from service.transport.account import Account
from tests.support.fakes import (
    FakeAccountObserver,
    FakeCredentials,
    FakePlatform,
    FakeTime,
    Source,
    eventually,
    join,
)

# A breaker that does not open, for tests of something else.
NEVER = BreakerPolicy(min_requests=1_000_000)


def segments_handler() -> SegmentsHandler:
    """A handler whose operations are given by the tests, not planned."""
    return SegmentsHandler(lambda *_: None, lambda *_: None, lambda *_: None)


def account_for(
    time: FakeTime,
    platform: FakePlatform,
    *,
    credentials: FakeCredentials | None = None,
    limits: LimiterPolicy | None = None,
    breaker: BreakerPolicy = NEVER,
    weights: Mapping[str, float] | None = None,
) -> Account:
    """An account on the platform, open."""
    account = Account(
        "np6-main",
        transport=platform,
        limiter=AccountLimiter(limits or LimiterPolicy()),
        credentials=credentials or FakeCredentials(),
        clock=time,
        breaker=Breaker(breaker),
        weights=weights,
    )
    account.open()
    return account


class Bench:
    """One lane's dispatcher. ``chain_done`` and ``item_done`` are what its hooks were told, in order."""

    def __init__(
        self,
        time: FakeTime,
        platform: FakePlatform | None = None,
        *,
        account: Account | None = None,
        handler: Handler | None = None,
        concurrency: int = 4,
        retry: RetryPolicy | None = None,
        guard: Guard | None = None,
        seed: int = 0,
    ) -> None:
        self.time = time
        self.platform = platform or FakePlatform(time)
        self.account = account or account_for(time, self.platform)
        self.handler = handler or segments_handler()
        self.concurrency = concurrency
        self.source = Source()
        self.item_done: list[Item] = []
        self.chain_done: list[Chain] = []
        self.unit_done: list[Unit] = []
        self.retries: list[RetryCause] = []
        self.holds: list[str | None] = []
        self.requests = FakeAccountObserver()
        self.faults: list[BaseException] = []
        self.deadline_ms: dict[int, float] = {}
        self.dispatcher = Dispatcher(
            self.handler,
            DeliveryMeans(
                account=self.account,
                policy=DeliveryPolicy(concurrency, retry or RetryPolicy()),
                guard=guard,
                requests=self.requests,
                clock=time,
                random=Random(seed),
            ),
            LoadHooks(
                retried=self.retries.append,
                hold_changed=self._hold_changed,
                expires_at_ms=lambda item: self.deadline_ms.get(item.offset),
                fault=self.faults.append,
            ),
            DeliveryHooks(
                item_ended=self._item_ended, chain_ended=self.chain_done.append, unit_ended=self.unit_done.append
            ),
        )

    def _item_ended(self, item: Item) -> None:
        assert item.outcome is not None
        assert item.remaining == 0
        assert all(operation.outcome is not None for operation in item.operations)
        assert id(item) not in {id(other) for other in self.item_done}, "an item ended twice"
        assert item.partition.assignment.active
        self.item_done.append(item)

    def _hold_changed(self) -> None:
        self.holds.append(None if self.dispatcher.hold is None else self.dispatcher.hold.reason)

    def deliver(self, *items: Item) -> None:
        """A batch of these items."""
        self.dispatcher.dispatch(chains_of(items, self.handler))

    def joins(self, targets: Sequence[str]) -> list[Item]:
        """One event per target, whose key it is; dispatched as one batch."""
        items = [self.source.item(target.encode(), join(target)) for target in targets]
        self.deliver(*items)
        return items

    async def until(self, done: int) -> None:
        """Wait until so many items have ended in all."""
        await eventually(lambda: len(self.item_done) >= done)

    async def all_workers_work(self) -> None:
        """No worker and no permit was lost: as many calls as the lane may have run at once, and all end."""
        self.platform.most_in_flight = 0
        before = len(self.item_done)
        self.joins([f"check{n}" for n in range(3 * self.concurrency)])
        await self.until(before + 3 * self.concurrency)
        await asyncio.sleep(0)
        assert self.platform.most_in_flight == self.concurrency
        assert self.nothing_is_left()

    def nothing_is_left(self) -> bool:
        """No call, no chain, no permit."""
        dispatcher, account = self.dispatcher, self.account
        counts = (dispatcher.in_flight, dispatcher.ready, dispatcher.retrying, account.limiter.in_flight)
        return counts == (0, 0, 0, 0)


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[Bench]:
    """The dispatcher at work; an error of a worker comes out here."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bench.dispatcher.run())
        yield bench
        task.cancel()
