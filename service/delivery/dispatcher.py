"""Carries batches out: workers that take the chain of one key at a time and bring each of its calls to an end.

A chain that waits for a retry is parked and gives its worker free, so that other keys go on. Only an item's own fault
ends it: everything else is waited for, by the account (pace, breaker, credentials) or by the lane (its hold).
"""

import asyncio
from collections.abc import Callable, Iterable
from random import Random
from typing import assert_never

import msgspec

from contracts.masking import mask_detail, personal_strings
from contracts.outcomes import Outcome, Reason
from handlers.base import (
    Answer,
    Confirm,
    Failure,
    FailureKind,
    Forbidden,
    Handler,
    Hold,
    HoldScope,
    Reply,
    Retry,
    RetryCause,
    Settle,
    Verdict,
)
from service.clock import Clock
from service.delivery.chain import Chain, Stage, Unit, close
from service.delivery.gate import LaneGate
from service.delivery.guard import Guard
from service.delivery.holding import HoldPolicy, LaneHold
from service.delivery.retry import RetryPolicy
from service.delivery.success import Successes
from service.delivery.workers import Workers
from service.intake.assignment import Assignment
from service.intake.item import Item
from service.transport.account import Account, AccountObserver, LaneFlow, Permit, is_success

# Only what may have been the item's own doing uses up its attempts.
_EXHAUSTING = frozenset({RetryCause.TIMED_OUT, RetryCause.RESET, RetryCause.SERVER_ERROR})
_NO_REPLY = Failure(FailureKind.RESET, "handler error")


class DeliveryPolicy(msgspec.Struct, frozen=True):
    """What the operator chose about delivery."""

    concurrency: int
    retry: RetryPolicy
    hold: HoldPolicy = HoldPolicy()
    weight: float = 1.0  # beside the other lanes on the account


class DeliveryHooks(msgspec.Struct, frozen=True):
    """What the lane does when something ends."""

    item_ended: Callable[[Item], None]
    chain_ended: Callable[[Chain], None]
    unit_ended: Callable[[Unit], None]
    retried: Callable[[RetryCause], None]
    hold_changed: Callable[[], None]
    expires_at_ms: Callable[[Item], float | None] | None  # None: the lane has no deadline
    fault: Callable[[BaseException], None]  # a handler's own error, after the plan


class Dispatcher:
    """The lane's workers, the chains that are ready, and those that are parked until their retry."""

    def __init__(
        self,
        handler: Handler,
        account: Account,
        policy: DeliveryPolicy,
        guard: Guard | None,
        hooks: DeliveryHooks,
        requests: AccountObserver,
        clock: Clock,
        random: Random,
    ) -> None:
        self._handler = handler
        self._account = account
        self._policy = policy
        self._guard = guard
        self._hooks = hooks
        self._requests = requests
        self._clock = clock
        self._random = random
        self._workers = Workers(policy.concurrency, self._carry, clock)
        self._successes = Successes()
        self._gate = LaneGate(policy.hold, clock, hooks.hold_changed)
        self._flow = LaneFlow(policy.weight)
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.in_flight = 0

    # -- what the lane calls

    def dispatch(self, chains: list[Chain]) -> None:
        """Take the chains of a batch."""
        self._workers.put(chains)

    async def run(self) -> None:
        """Work until cancelled. A worker that dies takes all down, and so the lane."""
        await self._workers.run()

    async def quiet(self) -> None:
        """Return once no request is in flight. The caller has ended or drained the assignment, and bounds the time."""
        await self._quiet.wait()

    def forget(self) -> None:
        """Drop chains of assignments that have ended."""
        self._workers.keep(lambda chain: _assignment(chain).active)

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
        """Chains that wait for a worker."""
        return self._workers.ready + self._workers.aside

    @property
    def retrying(self) -> int:
        """Chains that wait for their retry."""
        return self._workers.parked

    def parked_chains(self) -> list[tuple[float, Chain]]:
        """When each parked chain is due (monotonic), for a person who asks."""
        return self._workers.parked_loads()

    def carried_chains(self) -> Iterable[Chain]:
        """The chains that workers carry: their calls are under way, or wait for the account."""
        return self._workers.carried_loads()

    def ready_chains(self) -> Iterable[Chain]:
        """The chains that wait for a worker."""
        return self._workers.ready_loads()

    # -- what a worker does

    async def _carry(self, chain: Chain) -> None:
        """Make the chain's calls until it ends, is put back, or its assignment gives its partitions back."""
        assignment = _assignment(chain)
        while assignment.may_start():
            unit = chain.current
            if self._barred(unit):
                self._workers.put_aside(chain)
                return
            if self._expired(unit):
                self._settle(chain, unit, Settle(Outcome.EXPIRED, Reason.DEADLINE), None)
            else:
                trial = None
                if self._gate.hold is not None:
                    trial = await self._pass_gate(unit, assignment)
                    if self._gate.hold is not trial:
                        self._workers.put_back(chain)
                        return
                try:
                    if not await self._attempt(chain, unit, trial):
                        return
                finally:
                    if trial is not None:
                        self._gate.end_trial(trial)
            if chain.position >= len(chain.units):
                self._hooks.chain_ended(chain)
                return

    async def _pass_gate(self, unit: Unit, assignment: Assignment) -> LaneHold | None:
        """Wait while the lane holds; the hold, if this unit may try whether its cause has gone. Waits no longer
        where the lane holds for this very unit and others, that could find out, have no worker."""

        def wanted() -> bool:
            hold = self._gate.hold
            steps_back = hold is not None and hold.failed is unit and self._workers.ready
            return self._may_call(unit, assignment) and not steps_back

        return await self._gate.enter(unit, wanted)

    async def _attempt(self, chain: Chain, unit: Unit, trial: LaneHold | None) -> bool:
        """Call if it may be done now, and carry the verdict out; whether the worker goes on with the chain."""
        assignment = _assignment(chain)
        permit = self._account.enter_at_once()
        if permit is None:
            permit = await self._account.enter(lambda: self._may_call(unit, assignment), unit, self._flow)
            if permit is None:
                return True
        if not self._may_call(unit, assignment) or self._gate.hold is not trial or self._expired(unit):
            # While it waited in line, the lane began to hold, to pause or to drain, or the deadline passed.
            self._account.abandon(permit)
            return True
        reply, verdict = await self._try_call(unit, permit)
        return assignment.active and self._act(chain, unit, reply, verdict, trial)

    async def _try_call(self, unit: Unit, permit: Permit) -> tuple[Reply, Verdict]:
        """A call whose handler may err: it is reported, and counts as an attempt, so that it ends."""
        try:
            return await self._call(unit, permit)
        except Exception as error:  # noqa: BLE001 - one event must not stop the lane again and again
            self._hooks.fault(error)
            return _NO_REPLY, Retry(RetryCause.SERVER_ERROR, f"handler error: {type(error).__name__}")

    async def _call(self, unit: Unit, permit: Permit) -> tuple[Reply, Verdict]:
        """One request and its verdict. From here on the items count as called."""
        handler, operation = self._handler, unit.operation
        acting = unit.stage is Stage.ACT
        if not self.in_flight:
            self._quiet.clear()
        self.in_flight += 1
        try:
            try:
                request = handler.request(operation) if acting else handler.confirmation(operation)
            except BaseException:
                self._account.abandon(permit)
                raise
            unit.attempts += 1
            unit.called_at = self._clock.monotonic()
            for item, _ in unit.members:
                item.called = True
            reply = await self._account.send(request, permit, self._requests, unit)
        finally:
            unit.called_at = None
            self.in_flight -= 1
            if not self.in_flight:
                self._quiet.set()
        verdict = handler.judge(operation, reply) if acting else handler.judge_confirmation(operation, reply)
        if is_success(reply):
            self._account.successes.record(unit, self._clock.monotonic())
        return reply, verdict

    def _act(self, chain: Chain, unit: Unit, reply: Reply, verdict: Verdict, trial: LaneHold | None) -> bool:
        """Carry the verdict out; whether this worker goes on with the chain."""
        match verdict:
            case Settle():
                self._passed(trial)
                self._settle(chain, unit, verdict, _status(reply))
            case Confirm():
                self._passed(trial)
                unit.stage = Stage.CONFIRM
            case Retry():
                if trial is not None:
                    self._gate.put_off(trial)
                return self._retry(chain, unit, verdict, reply)
            case Hold() if verdict.scope is HoldScope.ACCOUNT:
                self._account.refuse(verdict.reason)
            case Hold():
                self._gate.shut(verdict.reason, unit)
            case Forbidden():
                if self._successes.others_succeed(unit, self._clock.monotonic()):
                    self._passed(trial)
                    end = Settle(Outcome.REJECTED, Reason.REFUSED, verdict.detail, verdict.reference)
                    self._settle(chain, unit, end, _status(reply))
                else:
                    self._gate.shut(f"forbidden (403) by account {self._account.name}", unit)
            case _:
                assert_never(verdict)
        return True

    def _passed(self, trial: LaneHold | None) -> None:
        """A trial got through: its hold ends. Before the settlement, by which the guard may begin another."""
        if trial is not None and self._gate.hold is trial:
            self._gate.open()

    def _retry(self, chain: Chain, unit: Unit, verdict: Retry, reply: Reply) -> bool:
        """Park the chain, or end the unit whose attempts are used up; whether the worker goes on with it."""
        now = self._clock.monotonic()
        unit.last = verdict.cause.value if isinstance(reply, Failure) else f"HTTP {reply.status}"
        # Our own fault is nobody else's success to judge.
        others_succeed = self._account.successes.others_succeed(unit, now, unit.failed_at)
        unit.failed_at = now
        if reply is _NO_REPLY or (verdict.cause in _EXHAUSTING and others_succeed):
            unit.counted += 1
            if self._policy.retry.exhausted(unit.counted):
                end = Settle(Outcome.REJECTED, Reason.EXHAUSTED, verdict.detail, verdict.reference)
                self._settle(chain, unit, end, _status(reply))
                return True
        self._hooks.retried(verdict.cause)
        delay_s = self._policy.retry.delay_s(unit.attempts, self._random.random)
        self._workers.park(chain, delay_s)
        return False

    def _settle(self, chain: Chain, unit: Unit, end: Settle, status: int | None) -> None:
        detail = end.detail
        if detail is not None:
            detail = self._masked(unit, detail)
        done = unit.settle(end, status, detail)
        chain.position += 1
        self._hooks.unit_ended(unit)
        if end.outcome is Outcome.DELIVERED:
            self._successes.record(unit, self._clock.monotonic())
        if self._guard is not None and end.outcome is not Outcome.EXPIRED and self._guard.record(end.reason):
            self._gate.shut(self._guard.describe(), forever=True)
        for item in done:
            close(item)
            self._hooks.item_ended(item)

    def _may_call(self, unit: Unit, assignment: Assignment) -> bool:
        return assignment.may_start() and not self._barred(unit)

    def _barred(self, unit: Unit) -> bool:
        """Whether an operator's pause keeps this call from starting: one that only asks the platform may."""
        return self._gate.paused is not None and unit.stage is Stage.ACT

    def _masked(self, unit: Unit, detail: str) -> str:
        secrets: list[str] = [*self._account.secrets()]
        for item, _ in unit.members:
            if item.event is not None:
                secrets.extend(personal_strings(item.event))
        return mask_detail(detail, secrets)

    def _expired(self, unit: Unit) -> bool:
        """Whether the deadline of every member has passed: one that may still be delivered keeps the call alive."""
        expires_at_ms = self._hooks.expires_at_ms
        if expires_at_ms is None or unit.stage is not Stage.ACT:
            return False
        now_ms: int | None = None
        for item, _ in unit.members:
            expires_at = expires_at_ms(item)
            if expires_at is None:
                return False
            if now_ms is None:
                now_ms = self._clock.wall_ms()
            if now_ms <= expires_at:
                return False
        return True


def _assignment(chain: Chain) -> Assignment:
    return chain.items[0].partition.assignment


def _status(reply: Reply) -> int | None:
    return reply.status if isinstance(reply, Answer) else None
