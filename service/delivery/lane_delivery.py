"""What every way of delivery has: workers, the lane's gate and guard, and who waits for what.

The lane calls the methods here, whatever its loads are: the chain of one key, or a whole batch.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from random import Random
from typing import Generic, TypeVar

import msgspec

from contracts.events import Event
from contracts.masking import mask_detail, personal_strings
from handlers.base import Answer, Reply, RetryCause
from service.clock import Clock
from service.delivery.gate import LaneGate
from service.delivery.guard import Guard
from service.delivery.holding import HoldPolicy, LaneHold
from service.delivery.retry import RetryPolicy
from service.delivery.success import Successes
from service.delivery.workers import Workers
from service.intake.assignment import Assignment
from service.intake.item import Item
from service.transport.account import Account, AccountObserver, LaneFlow

Load = TypeVar("Load")


class DeliveryPolicy(msgspec.Struct, frozen=True):
    """What the operator chose about delivery."""

    concurrency: int
    retry: RetryPolicy
    hold: HoldPolicy = HoldPolicy()
    weight: float = 1.0  # of the account's limits, beside its other lanes
    repeat_in_doubt: bool = False  # what may have taken effect is sent again


class DeliveryMeans(msgspec.Struct, frozen=True):
    """What a lane delivers with."""

    account: Account
    policy: DeliveryPolicy
    guard: Guard | None
    requests: AccountObserver
    clock: Clock
    random: Random


class LoadHooks(msgspec.Struct, frozen=True):
    """What the lane does, whatever its loads are."""

    retried: Callable[[RetryCause], None]
    hold_changed: Callable[[], None]
    expires_at_ms: Callable[[Item], float | None] | None  # None: the lane has no deadline
    fault: Callable[[BaseException], None]  # a handler's own error, after the plan


class LaneDelivery(ABC, Generic[Load]):
    """The lane's workers, the loads that are ready, and those that are parked until their retry."""

    def __init__(self, means: DeliveryMeans, hooks: LoadHooks) -> None:
        self._account = means.account
        self._policy = means.policy
        self._guard = means.guard
        self._requests = means.requests
        self._clock = means.clock
        self._random = means.random
        self._retried = hooks.retried
        self._expires_at_ms = hooks.expires_at_ms
        self._fault = hooks.fault
        self._workers: Workers[Load] = Workers(means.policy.concurrency, self._carry, means.clock)
        self._successes = Successes()
        self._gate = LaneGate(means.policy.hold, means.clock, hooks.hold_changed)
        self._flow = LaneFlow(means.policy.weight)
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.in_flight = 0
        self._calls = 0

    @abstractmethod
    async def _carry(self, load: Load) -> None:
        """Bring the load to its end, or put it back, aside or away until its retry."""

    @staticmethod
    @abstractmethod
    def _assignment(load: Load) -> Assignment:
        """What the load belongs to."""

    # -- what the lane calls

    async def run(self) -> None:
        """Work until cancelled. A worker that dies takes all down, and so the lane."""
        await self._workers.run()

    async def quiet(self) -> None:
        """Return once no request is in flight. The caller has ended or drained the assignment, and bounds the time."""
        await self._quiet.wait()

    def forget(self) -> None:
        """Drop loads of assignments that have ended."""
        self._workers.keep(lambda load: self._assignment(load).active)

    def resume(self) -> None:
        """An operator has mended the cause: the guard begins anew and calls may start."""
        if self._guard is not None:
            self._guard.resume()
        self._gate.open()

    def pause(self, reason: str) -> None:
        """An operator's order: no call that changes the platform starts; what has begun is brought to its end."""
        self._gate.pause(reason)

    def unpause(self) -> None:
        """The order has been taken back: go on where it stopped."""
        self._gate.unpause()
        self._workers.bring_back()

    @property
    def paused(self) -> str | None:
        """By whom and why an operator has paused the lane; None if nobody has."""
        return self._gate.paused

    @property
    def hold(self) -> LaneHold | None:
        """Why the lane holds by itself; None if it does not."""
        return self._gate.hold

    @property
    def ready(self) -> int:
        """Loads that wait for a worker."""
        return self._workers.ready + self._workers.aside

    @property
    def retrying(self) -> int:
        """Loads that wait for their retry."""
        return self._workers.parked

    def parked_loads(self) -> list[tuple[float, Load]]:
        """When each parked load is due (monotonic), for a person who asks."""
        return self._workers.parked_loads()

    def carried_loads(self) -> Iterable[Load]:
        """What workers carry: calls that are under way, or wait for the account."""
        return self._workers.carried_loads()

    def ready_loads(self) -> Iterable[Load]:
        """What waits for a worker."""
        return self._workers.ready_loads()

    @property
    def progress(self) -> int:
        """Grows with each load that a worker takes up and with each call that begins."""
        return self._workers.taken + self._calls

    # -- what a worker does in both ways

    def _began(self) -> None:
        """Something begins that a drain has to wait for."""
        if not self.in_flight:
            self._quiet.clear()
        self.in_flight += 1
        self._calls += 1

    def _ended(self) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self._quiet.set()

    async def _pass_gate(self, who: object, wanted: Callable[[], bool]) -> LaneHold | None:
        """Wait while the lane holds; the hold, if ``who`` may try whether its cause has gone. Waits no longer where
        the lane holds for this very one and others, that could find out, have no worker."""

        def still_wanted() -> bool:
            hold = self._gate.hold
            steps_back = hold is not None and hold.failed is who and self._workers.ready
            return wanted() and not steps_back

        return await self._gate.enter(who, still_wanted)

    def _passed(self, trial: LaneHold | None) -> None:
        """A trial got through: its hold ends. Before the settlement, by which the guard may begin another."""
        if trial is not None and self._gate.hold is trial:
            self._gate.open()

    def _masked(self, detail: str, events: Iterable[Event | None]) -> str:
        """The platform's words without our credentials and without what is personal in the events."""
        secrets: list[str] = [*self._account.secrets()]
        for event in events:
            if event is not None:
                secrets.extend(personal_strings(event))
        return mask_detail(detail, secrets)


def status_of(reply: Reply) -> int | None:
    """The HTTP status; None without an answer."""
    return reply.status if isinstance(reply, Answer) else None
