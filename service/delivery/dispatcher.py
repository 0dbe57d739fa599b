"""Carries batches out: workers that take the chain of one key at a time and bring each of its calls to an end.

A chain that waits for a retry is parked and gives its worker free, so that other keys go on. Only an item's own fault
ends it: everything else is waited for, by the account (pace, breaker, credentials) or by the lane (its hold).
"""

from collections.abc import Callable
from functools import partial
from typing import assert_never

import msgspec

from contracts.outcomes import Outcome, Reason
from handlers.base import (
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
from service.delivery.chain import Chain, Stage, Unit, close
from service.delivery.holding import LaneHold
from service.delivery.lane_delivery import DeliveryMeans, LaneDelivery, LoadHooks, status_of
from service.delivery.retry import EXHAUSTING
from service.intake.assignment import Assignment
from service.intake.item import Item
from service.transport.account import Permit, is_success

_NO_REPLY = Failure(FailureKind.RESET, "handler error")


class DeliveryHooks(msgspec.Struct, frozen=True):
    """What the lane does when something ends."""

    item_ended: Callable[[Item], None]
    chain_ended: Callable[[Chain], None]
    unit_ended: Callable[[Unit], None]


class Dispatcher(LaneDelivery[Chain]):
    """One call for each operation, the operations of a key one after the other."""

    def __init__(self, handler: Handler, means: DeliveryMeans, load_hooks: LoadHooks, hooks: DeliveryHooks) -> None:
        super().__init__(means, load_hooks)
        self._handler = handler
        self._hooks = hooks

    def dispatch(self, chains: list[Chain]) -> None:
        """Take the chains of a batch."""
        self._workers.put(chains)

    # -- what a worker does

    @staticmethod
    def _assignment(chain: Chain) -> Assignment:
        return chain.items[0].partition.assignment

    async def _carry(self, chain: Chain) -> None:
        """Make the chain's calls until it ends, is put back, or its assignment gives its partitions back."""
        assignment = self._assignment(chain)
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
                    trial = await self._pass_gate(unit, partial(self._may_call, unit, assignment))
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

    async def _attempt(self, chain: Chain, unit: Unit, trial: LaneHold | None) -> bool:
        """Call if it may be done now, and carry the verdict out; whether the worker goes on with the chain."""
        assignment = self._assignment(chain)
        permit = self._account.enter_at_once()
        if permit is None:
            permit = await self._account.enter(partial(self._may_call, unit, assignment), unit, self._flow)
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
            self._fault(error)
            return _NO_REPLY, Retry(RetryCause.SERVER_ERROR, f"handler error: {type(error).__name__}")

    async def _call(self, unit: Unit, permit: Permit) -> tuple[Reply, Verdict]:
        """One request and its verdict. From here on the items count as called."""
        handler, operation = self._handler, unit.operation
        acting = unit.stage is Stage.ACT
        self._began()
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
            self._ended()
        verdict = handler.judge(operation, reply) if acting else handler.judge_confirmation(operation, reply)
        if is_success(reply):
            self._account.successes.record(unit, self._clock.monotonic())
        return reply, verdict

    def _act(self, chain: Chain, unit: Unit, reply: Reply, verdict: Verdict, trial: LaneHold | None) -> bool:
        """Carry the verdict out; whether this worker goes on with the chain."""
        match verdict:
            case Settle():
                self._passed(trial)
                self._settle(chain, unit, verdict, status_of(reply))
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
                    self._settle(chain, unit, end, status_of(reply))
                else:
                    self._gate.shut(f"forbidden (403) by account {self._account.name}", unit)
            case _:
                assert_never(verdict)
        return True

    def _retry(self, chain: Chain, unit: Unit, verdict: Retry, reply: Reply) -> bool:
        """Park the chain, or end the unit whose attempts are used up; whether the worker goes on with it."""
        now = self._clock.monotonic()
        unit.last = verdict.cause.value if isinstance(reply, Failure) else f"HTTP {reply.status}"
        # Our own fault is nobody else's success to judge.
        others_succeed = self._account.successes.others_succeed(unit, now, unit.failed_at)
        unit.failed_at = now
        if reply is _NO_REPLY or (verdict.cause in EXHAUSTING and others_succeed):
            unit.counted += 1
            if self._policy.retry.exhausted(unit.counted):
                end = Settle(Outcome.REJECTED, Reason.EXHAUSTED, verdict.detail, verdict.reference)
                self._settle(chain, unit, end, status_of(reply))
                return True
        self._retried(verdict.cause)
        delay_s = self._policy.retry.delay_s(unit.attempts, self._random.random)
        self._workers.park(chain, delay_s)
        return False

    def _settle(self, chain: Chain, unit: Unit, end: Settle, status: int | None) -> None:
        detail = end.detail
        if detail is not None:
            detail = self._masked(detail, (item.event for item, _ in unit.members))
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

    def _expired(self, unit: Unit) -> bool:
        """Whether the deadline of every member has passed: one that may still be delivered keeps the call alive."""
        expires_at_ms = self._expires_at_ms
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
