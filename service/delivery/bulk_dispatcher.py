"""Carries bulks out: requests that carry several events and must not be repeated blindly.

Each call has its entry in the journal first, written once pace, breaker and permit are had; what an answer proves not
to have taken effect is taken out again before anything waits. A bulk that waits for its retry is parked, and others
go on. What may have taken effect ends in doubt, or is sent again with the same ids where the lane says so.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf

import msgspec

from contracts.ids import ResultIds
from contracts.outcomes import Outcome, Reason
from handlers.base import (
    BatchHandler,
    BatchVerdict,
    Failure,
    FailureKind,
    Forbidden,
    Hold,
    HoldScope,
    InDoubt,
    Member,
    Reply,
    Request,
    Retry,
    RetryCause,
    Settle,
    Split,
)
from service.delivery.bulk import Bulk, Part
from service.delivery.guard import Guard
from service.delivery.holding import LaneHold
from service.delivery.lane_delivery import DeliveryMeans, LaneDelivery, LoadHooks, status_of
from service.delivery.retry import EXHAUSTING
from service.intake.assignment import Assignment
from service.intake.item import Item, name_items
from service.journal.deliveries import OpenDelivery
from service.journal.writer import JournalWriter
from service.transport.account import Permit, is_success

_CAUSES = {FailureKind.TIMED_OUT: RetryCause.TIMED_OUT, FailureKind.RESET: RetryCause.RESET}

End = Settle | InDoubt
_EXPIRED = Settle(Outcome.EXPIRED, Reason.DEADLINE)
_EXPIRED_IN_DOUBT = InDoubt("in doubt, and its deadline has passed before it could be repeated")


class BulkHooks(msgspec.Struct, frozen=True):
    """What the lane does when something ends."""

    ended: Callable[[Sequence[Item]], None]
    released: Callable[[set[bytes | None]], None]  # keys none of whose records is under way any more
    operations_ended: Callable[[str, Outcome, int], None]


class BulkDispatcher(LaneDelivery[Bulk]):
    """One request for each part of a bulk, the parts one after the other."""

    def __init__(
        self,
        handler: BatchHandler,
        means: DeliveryMeans,
        load_hooks: LoadHooks,
        hooks: BulkHooks,
        journal: JournalWriter,
        ids: ResultIds,
    ) -> None:
        super().__init__(means, load_hooks)
        self._handler = handler
        self._hooks = hooks
        self._journal = journal
        self._ids = ids

    def dispatch(self, bulk: Bulk) -> None:
        """Take a batch."""
        self._workers.put([bulk])

    # -- what a worker does

    @staticmethod
    def _assignment(bulk: Bulk) -> Assignment:
        return bulk.assignment

    async def _carry(self, bulk: Bulk) -> None:
        """Deliver part after part until the bulk ends, is put away, or its assignment gives its partitions back."""
        assignment = bulk.assignment
        while bulk.parts and assignment.may_start():
            if self._gate.paused is not None:
                self._workers.put_aside(bulk)
                return
            part = bulk.current
            if not self._has_unexpired(bulk, part):
                continue
            trial = None
            if self._gate.hold is not None:
                trial = await self._pass_gate(part, partial(self._may_call, assignment))
                if self._gate.hold is not trial:
                    self._workers.put_back(bulk)
                    return
            try:
                if not await self._attempt(bulk, part, trial):
                    return
            finally:
                if trial is not None:
                    self._gate.end_trial(trial)

    async def _attempt(self, bulk: Bulk, part: Part, trial: LaneHold | None) -> bool:
        """Call if it may be done now, and carry the verdict out; whether the worker goes on with the bulk."""
        assignment = bulk.assignment
        permit = self._account.enter_at_once()
        if permit is None:
            permit = await self._account.enter(partial(self._may_call, assignment), part, self._flow)
            if permit is None:
                return True
        waits = not self._may_call(assignment) or self._gate.hold is not trial
        if waits or not self._has_unexpired(bulk, part):
            # While it waited in line, the lane began to hold, to pause or to drain, or the deadline passed.
            self._account.abandon(permit)
            return True
        if permit is Permit.PROBE:
            part = bulk.split_probe()
        self._began()
        try:
            return await self._deliver(bulk, part, permit, trial)
        finally:
            self._ended()

    async def _deliver(self, bulk: Bulk, part: Part, permit: Permit, trial: LaneHold | None) -> bool:
        """Enter the part in the journal, call, and carry the verdict out. Every way out gives the permit back."""
        members = self._members(part)
        request = self._request(bulk, members)
        if request is None:
            self._account.abandon(permit)
            return self._split(bulk, part, Settle(Outcome.INVALID, Reason.HANDLER_ERROR), None)
        delivery = self._journal.delivery(bulk.id, part.items)
        try:
            began = await self._journal.enter(delivery)
        except BaseException:
            self._account.abandon(permit)
            raise
        if began is None or not self._still_may(bulk.assignment, permit, trial, began):
            self._account.abandon(permit)
            return await self._journal.take_out(delivery)
        reply = await self._call(part, request, permit)
        if not bulk.assignment.active:
            return False
        return await self._act(bulk, part, delivery, reply, self._judged(part, members, reply), trial)

    def _still_may(self, assignment: Assignment, permit: Permit, trial: LaneHold | None, began: float) -> bool:
        """Whether, behind the journal's transaction, the call may still be made: not one that is late, for whoever
        reads the journal by now takes it for done; and not into an outage that began meanwhile."""
        if self._clock.monotonic() - began > self._journal.policy.call_within_s:
            return False
        if not self._may_call(assignment) or self._gate.hold is not trial:
            return False
        return permit is not Permit.NORMAL or self._account.holding() is None

    def _may_call(self, assignment: Assignment) -> bool:
        return assignment.may_start() and self._gate.paused is None

    def _members(self, part: Part) -> list[Member]:
        name_items([item for item in part.items if item.result_id is None], self._ids)
        # Whatever has a payload has an envelope, and its id is known by now.
        return [
            Member(item.operations[0], item.payload, item.envelope, item.result_id, item.record.timestamp)  # type: ignore[arg-type]
            for item in part.items
        ]

    def _request(self, bulk: Bulk, members: Sequence[Member]) -> Request | None:
        """The request; None where the handler errs: halves of it find the event that it cannot write."""
        try:
            return self._handler.batch_request(members, bulk.id)
        except Exception as error:  # noqa: BLE001 - one event must not stop the lane again and again
            self._fault(error)
            return None

    async def _call(self, part: Part, request: Request, permit: Permit) -> Reply:
        """One request."""
        part.attempts += 1
        part.called_at = self._clock.monotonic()
        try:
            reply = await self._account.send(request, permit, self._requests, part)
        finally:
            part.called_at = None
        # Not in front of the call, for now they are looked at in any case. Without an end of it they never end here.
        for item in part.items:
            item.called = True
            item.operations[0].attempts += 1
        if is_success(reply):
            self._account.successes.record(part, self._clock.monotonic())
        return reply

    def _judged(self, part: Part, members: Sequence[Member], reply: Reply) -> BatchVerdict:
        """The verdict. A handler that errs leaves in doubt what the request has done."""
        try:
            verdict = self._handler.judge_batch(members, reply)
            if not isinstance(verdict, Retry | Hold | Forbidden | Split | InDoubt) and len(verdict) != len(members):
                raise ValueError("a verdict with more or fewer ends than members")
        except Exception as error:  # noqa: BLE001 - one event must not stop the lane again and again
            self._fault(error)
            # Our own fault is nobody else's success to judge: it uses up an attempt.
            part.counted += 1
            return InDoubt(f"handler error: {type(error).__name__}")
        return verdict

    # -- what becomes of it

    async def _act(
        self,
        bulk: Bulk,
        part: Part,
        delivery: OpenDelivery,
        reply: Reply,
        verdict: BatchVerdict,
        trial: LaneHold | None,
    ) -> bool:
        """Carry the verdict out; whether this worker goes on with the bulk."""
        match verdict:
            case InDoubt() | Retry() if trial is not None:
                self._gate.put_off(trial)
            case Hold():
                pass
            case Forbidden() if not self._successes.others_succeed(part, self._clock.monotonic()):
                verdict = Hold(HoldScope.LANE, f"forbidden (403) by account {self._account.name}")
            case _:
                self._passed(trial)
        match verdict:
            case InDoubt():
                return self._finish(bulk, part, [verdict] * len(part.items), reply)
            case Retry():
                return await self._retry(bulk, part, delivery, verdict, reply)
            case Hold():
                return await self._hold(part, delivery, verdict)
            case Forbidden() | Split():
                reason = Reason.REFUSED if isinstance(verdict, Forbidden) else verdict.reason
                end = Settle(Outcome.REJECTED, reason, verdict.detail, verdict.reference)
                if len(part.items) > 1 and not await self._journal.take_out(delivery):
                    return False
                return self._split(bulk, part, end, reply)
            case _:
                return self._finish(bulk, part, verdict, reply)

    async def _hold(self, part: Part, delivery: OpenDelivery, verdict: Hold) -> bool:
        """Nobody's item is at fault, and nothing took effect: the lane or the account waits."""
        if verdict.scope is HoldScope.ACCOUNT:
            self._account.refuse(verdict.reason)
        else:
            self._gate.shut(verdict.reason, part)
        return await self._journal.take_out(delivery)

    def _split(self, bulk: Bulk, part: Part, end: Settle, reply: Reply | None) -> bool:
        """Halve the part, or end the one that is at fault for its refusal."""
        if len(part.items) > 1:
            bulk.halve()
        else:
            self._end(bulk, part.items, [end], [], None if reply is None else status_of(reply))
        return True

    async def _retry(self, bulk: Bulk, part: Part, delivery: OpenDelivery, verdict: Retry, reply: Reply) -> bool:
        """Nothing took effect: out of the journal, and again after a while. What a platform's failure may have done,
        and a handler repeats all the same, ends in doubt once its attempts are used up."""
        if verdict.cause in EXHAUSTING and self._exhausted(part, reply):
            return self._finish(bulk, part, [InDoubt(verdict.detail, verdict.reference)] * len(part.items), reply)
        if not await self._journal.take_out(delivery):
            return False
        self._park(bulk, part, verdict.cause, reply)
        bulk.rejoin_probe()
        return False

    def _finish(self, bulk: Bulk, part: Part, ends: Sequence[End], reply: Reply) -> bool:
        """End the members, but those in doubt that the lane repeats; whether the worker goes on with the bulk.

        What is repeated keeps its entry in the journal: it may have taken effect whatever comes next.
        """
        if all(type(end) is InDoubt for end in ends):
            # At once, not when half of ten have failed: an outage costs no more than what was in flight.
            self._account.breaker.trip(self._clock.monotonic())
        again: list[Item] = []
        items, some = part.items, ends
        doubted = self._policy.repeat_in_doubt and any(type(end) is InDoubt for end in ends)
        if doubted and not self._exhausted(part, reply):
            again = [item for item, end in zip(items, ends, strict=True) if type(end) is InDoubt]
            kept = [(item, end) for item, end in zip(items, ends, strict=True) if type(end) is not InDoubt]
            items, some = [item for item, _ in kept], [end for _, end in kept]
        self._end(bulk, items, some, again, status_of(reply))
        if not again:
            return True
        for item in again:
            item.doubted = True
        bulk.let_others_pass()
        cause = _CAUSES.get(reply.kind) if isinstance(reply, Failure) else None
        self._park(bulk, part, cause or RetryCause.SERVER_ERROR, reply)
        return False

    def _exhausted(self, part: Part, reply: Reply) -> bool:
        """Count the attempt if it may have been the events' own doing; whether that was the last one."""
        now = self._clock.monotonic()
        others_succeed = self._account.successes.others_succeed(part, now, part.failed_at)
        part.failed_at = now
        if is_success(reply) or others_succeed:
            part.counted += 1
        return self._policy.retry.exhausted(part.counted)

    def _park(self, bulk: Bulk, part: Part, cause: RetryCause, reply: Reply) -> None:
        part.last = cause.value if isinstance(reply, Failure) else f"HTTP {reply.status}"
        self._retried(cause)
        self._workers.park(bulk, self._policy.retry.delay_s(part.attempts, self._random.random))

    def _has_unexpired(self, bulk: Bulk, part: Part) -> bool:
        """End the members whose deadline has passed; whether any is left."""
        expires_at_ms = self._expires_at_ms
        if expires_at_ms is None:
            return True
        now_ms = self._clock.wall_ms()
        if now_ms <= part.expires_from_ms:
            return True
        left: list[Item] = []
        expired: list[Item] = []
        soonest = inf
        for item in part.items:
            expires_at = expires_at_ms(item)
            if expires_at is not None and now_ms > expires_at:
                expired.append(item)
                continue
            left.append(item)
            if expires_at is not None and expires_at < soonest:
                soonest = expires_at
        # A deadline only ever moves away: while the lane holds, time does not count.
        part.expires_from_ms = soonest
        if expired:
            ends = [_EXPIRED_IN_DOUBT if item.doubted else _EXPIRED for item in expired]
            self._end(bulk, expired, ends, left, None)
        return bool(left)

    def _end(
        self, bulk: Bulk, items: Sequence[Item], ends: Sequence[End], left: list[Item], status: int | None
    ) -> None:
        """Write the ends to the bulk's first part, of which ``left`` stays."""
        bulk.keep(left)
        if not items:
            return
        if self._end_delivered(items, ends, status):
            self._tell(bulk, items, {Outcome.DELIVERED: len(items)})
            return
        whole = len(ends) > 1 and all(end is ends[0] for end in ends)
        detail = (
            self._masked(ends[0].detail, (item.read_event() for item in items)) if whole and ends[0].detail else None
        )
        outcomes: list[Outcome] = []
        for item, end in zip(items, ends, strict=True):
            operation = item.operations[0]
            if type(end) is Settle:
                outcome, reason = end.outcome, end.reason
            else:
                outcome, reason = Outcome.IN_DOUBT, Reason.INTERRUPTED
            item.outcome = operation.outcome = outcome
            item.reason = operation.reason = reason
            if end.detail is not None:
                item.detail = detail if whole else self._masked(end.detail, [item.read_event()])
            operation.detail = item.detail
            operation.status, operation.reference = status, end.reference
            item.remaining = 0
            outcomes.append(outcome)
        self._tell(bulk, items, Counter(outcomes))

    @staticmethod
    def _end_delivered(items: Sequence[Item], ends: Sequence[End], status: int | None) -> bool:
        """Write the ends if all are deliveries of which the platform said nothing, as nearly always; whether they
        were."""
        delivered = Outcome.DELIVERED
        for end in ends:
            if type(end) is not Settle or end.outcome is not delivered or end.detail is not None:
                return False
        for item, end in zip(items, ends, strict=True):
            operation = item.operations[0]
            item.outcome = operation.outcome = delivered
            operation.status, operation.reference = status, end.reference
            item.remaining = 0
        return True

    def _tell(self, bulk: Bulk, items: Sequence[Item], outcomes: Mapping[Outcome, int]) -> None:
        for outcome, count in outcomes.items():
            self._hooks.operations_ended(items[0].operations[0].kind, outcome, count)
        if Outcome.DELIVERED in outcomes:
            # What has ended here is another operation than whatever is left of its part.
            self._successes.record(outcomes, self._clock.monotonic())
        if self._guard is not None and self._guarded(self._guard, items, outcomes):
            self._gate.shut(self._guard.describe(), forever=True)
        self._hooks.ended(items)
        keys = {item.record.key for item in items}
        self._hooks.released(keys - bulk.keys() if bulk.parts else keys)

    def _guarded(self, guard: Guard, items: Sequence[Item], outcomes: Mapping[Outcome, int]) -> bool:
        """Tell the guard; whether it has the lane hold."""
        if outcomes.get(Outcome.DELIVERED) == len(items):
            return guard.record_delivered(len(items))
        tripped = [guard.record(item.reason) for item in items if item.outcome is not Outcome.EXPIRED]
        return any(tripped)
