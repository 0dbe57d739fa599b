"""Carries imports from their create to their end.

Each step that changes the platform has its entry in the journal first, or is told by the one that is there; what an
answer proves not to have opened anything is taken out again. Between its steps an import is parked, and costs nothing.
"""

from functools import partial

import msgspec
from aiokafka.errors import KafkaError

from contracts.journal import DeliveryState, ImportEntry
from contracts.outcomes import Outcome, Reason
from handlers.base import Answer, Failure, FailureKind, Hold, HoldScope, Reply, Request, Retry
from handlers.imports.verdicts import (
    Completed,
    CreateVerdict,
    Divide,
    Failed,
    Lapsed,
    MayBeOpen,
    Opened,
    Pending,
    Unclear,
    Unnamed,
    Uploaded,
)
from service.delivery.bulk import Part
from service.delivery.holding import LaneHold
from service.delivery.lane_delivery import status_of
from service.delivery.retry import server_wall_s
from service.errors import JournalUnreadableError
from service.imports.carrying import ImportCarrying
from service.imports.ending import DELIVERED
from service.imports.files import halves
from service.imports.judging import Divided, had_file, judge_end
from service.imports.pace import Now
from service.imports.policy import CLOCKS_APART_S
from service.imports.runs import Ends, ImportDelivery, ImportRun, Stage
from service.imports.torn import apart, budget_share
from service.journal.deliveries import named_in_turns
from service.lifecycle import PACED, WAITING_FOR_SLOT
from service.transport.account import Permit, Transport, is_success
from service.uploading.spool import SpoolError

# Where more imports are open than slots, they are counted so often.
_COUNT_AGAIN_S = 5.0


class ImportDispatcher(ImportCarrying):
    """One worker carries a run from step to step."""

    # -- what a worker does

    async def _carry(self, run: ImportRun) -> None:
        """From step to step, until the run has ended, waits, or its assignment gives its partitions back."""
        goes_on = True
        while goes_on and run.assignment.may_start():
            if run.ends is not None:
                goes_on = await self._end(run, run.ends)
                continue
            if run.stage is Stage.LAPSE:
                goes_on = await self._lapsed(run)
                continue
            if run.is_acting and self._gate.paused is not None:
                self._workers.put_aside(run)
                return
            trial = None
            if self._gate.hold is not None:
                trial = await self._pass_gate(run.current, partial(self._may_call, run))
                if self._gate.hold is not trial:
                    self._workers.put_back(run)
                    return
            try:
                goes_on = await self._step(run, trial)
            finally:
                if trial is not None:
                    self._gate.end_trial(trial)

    def _may_call(self, run: ImportRun) -> bool:
        return run.assignment.may_start() and (self._gate.paused is None or not run.is_acting)

    async def _step(self, run: ImportRun, trial: LaneHold | None) -> bool:
        """One step; whether the worker goes on with the run."""
        try:
            match run.stage:
                case Stage.CREATE:
                    return await self._create(run, trial)
                case Stage.UPLOAD:
                    return await self._upload(run, trial)
                case _:
                    return await self._ask(run, trial)
        except SpoolError as error:
            self._gate.shut(str(error), run.current)
            return True

    async def _permit(self, run: ImportRun, trial: LaneHold | None) -> Permit | None:
        """The right to send one request now; None: look again."""
        part = run.current
        permit = self._account.enter_at_once()
        if permit is None:
            permit = await self._account.enter(partial(self._may_call, run), part, self._flow)
        if permit is not None and (not self._may_call(run) or self._gate.hold is not trial):
            self._account.abandon(permit)
            return None
        return permit

    async def _send(self, part: Part, request: Request, permit: Permit, through: Transport | None = None) -> Reply:
        self._began()
        part.called_at = self._clock.monotonic()
        try:
            reply = await self._account.send(request, permit, self._requests, part, through)
        finally:
            part.called_at = None
            self._ended()
        if is_success(reply):
            self._account.successes.record(part, self._clock.monotonic())
        return reply

    # -- create

    async def _create(self, run: ImportRun, trial: LaneHold | None) -> bool:
        if not await self._has_unexpired(run):
            return run.assignment.active and self._next_part(run)
        if not await self._may_open(run):
            return False
        if wait_s := self.pace.wait_s(run.slot, Now.of(self._clock)):
            run.current.last = PACED
            self._workers.park(run, wait_s)
            return False
        if run.file is None and not await self._build(run):
            # Divided, or at its end; a run that has ended is no more among the others.
            return run in self.runs
        if not self._is_prepared(run):
            return await self._prepare(run, trial)
        permit = await self._permit(run, trial)
        if permit is None:
            return True
        # A drain waits from here on: the entry is not left behind for nothing.
        self._began()
        try:
            return await self._create_with(run, permit, trial)
        finally:
            self._ended()

    async def _create_with(self, run: ImportRun, permit: Permit, trial: LaneHold | None) -> bool:
        part = run.current
        try:
            request = await self._create_request(run)
            # Not between the entry and the call, which has to start soon behind it.
            await self._account.prepare()
            named = await named_in_turns(run.items, self._turns)
            began_ms = self._clock.wall_ms()
            delivery = ImportDelivery(self._delivery_id(run), self._handler.name, run.items, began_ms, run.slot, named)
            run.delivery = delivery
            self._intend(run, delivery)
            began = await self._journal.enter(delivery)
        except BaseException:
            self._account.abandon(permit)
            raise
        if began is None or not self._still_may(run, permit, trial, began):
            self._account.abandon(permit)
            return await self._journal.take_out(delivery)
        part.attempts += 1
        for item in run.items:
            item.called = True
            for operation in item.operations:
                operation.attempts += 1
        reply = await self._send_create(run, request, permit)
        if not isinstance(reply, Failure) or reply.kind is not FailureKind.NOT_SENT:
            self.pace.ended(run.slot, Now.of(self._clock))
        if not run.assignment.active:
            return False
        verdict = self._handler.judge_create(reply)
        if not isinstance(verdict, Retry | Hold):
            self._passed(trial)
        elif trial is not None and isinstance(verdict, Retry):
            self._gate.put_off(trial)
        return await self._created(run, delivery, verdict, reply)

    @property
    def crowded(self) -> bool:
        """Whether a slot of any process has two imports, and somebody looks how long."""
        return self.opening.crowded and any(run.stage is Stage.CREATE and run.delivery is None for run in self.runs)

    async def _may_open(self, run: ImportRun) -> bool:
        """Whether one more may be opened now; else the run is parked, or dropped."""
        try:
            allowed = await self.opening.allowed(run, self.runs)
        except KafkaError:
            allowed = False
        except JournalUnreadableError as error:
            self._gate.shut(str(error), run.current)
            allowed = False
        if not allowed and run.assignment.active:
            run.current.last = WAITING_FOR_SLOT
            self._workers.park(run, _COUNT_AGAIN_S)
        return allowed

    def _is_prepared(self, run: ImportRun) -> bool:
        """Whether all is done that comes before the create."""
        return True

    async def _prepare(self, run: ImportRun, trial: LaneHold | None) -> bool:
        """What comes before the create; whether the worker goes on with the run."""
        raise NotImplementedError("nothing comes before the create")

    def _delivery_id(self, run: ImportRun) -> str:
        """What no other entry is called."""
        return self._journal.new_id(run.id)

    def _intend(self, run: ImportRun, delivery: ImportDelivery) -> None:
        """What the entry says before the create, beside that there will be one."""

    async def _create_request(self, run: ImportRun) -> Request:
        assert run.file is not None
        content = b""
        if self._handler.carries_rows:
            content = b"".join([block async for block in run.file.blocks()])
        return self._handler.create(run.items[0].rows[0].group, content)

    async def _send_create(self, run: ImportRun, request: Request, permit: Permit) -> Reply:
        return await self._send(run.current, request, permit)

    def _still_may(self, run: ImportRun, permit: Permit, trial: LaneHold | None, began: float) -> bool:
        """Whether, behind the journal's transaction, the call may still be made."""
        if self._clock.monotonic() - began > self._journal.policy.call_within_s:
            return False
        if not self._may_call(run) or self._gate.hold is not trial or self.pace.wait_s(run.slot, Now.of(self._clock)):
            return False
        return permit is not Permit.NORMAL or self._account.holding() is None

    async def _created(self, run: ImportRun, delivery: ImportDelivery, verdict: CreateVerdict, reply: Reply) -> bool:
        match verdict:
            case Opened():
                return await self._opened(run, delivery, verdict, reply)
            case Completed():
                return await self._end(run, msgspec.structs.replace(DELIVERED, status=status_of(reply)))
            case MayBeOpen() | Unnamed():
                if isinstance(verdict, Unnamed):
                    self._gate.shut(verdict.detail, run.current, forever=self._handler.carries_rows)
                if self._handler.carries_rows and not self._handler.repeatable:
                    await self._doubt(run, verdict.detail, status_of(reply))
                return self._lapse(run, None)
            case Divide():
                return await self._journal.take_out(delivery) and await self._divide(run, alone(verdict, reply))
            case Retry():
                return await self._again_later(run, verdict, reply, await self._journal.take_out(delivery))
            case Hold():
                self._hold(run, verdict)
                return await self._journal.take_out(delivery)

    async def _opened(self, run: ImportRun, delivery: ImportDelivery, opened: Opened, reply: Reply) -> bool:
        assert run.file is not None
        assert run.rows is not None
        upload, now_ms = opened.upload, self._clock.wall_ms()
        entry = ImportEntry(run.slot, len(run.rows.lines), run.file.sha256)
        if upload is None:
            state, entry = DeliveryState.UPLOADED, msgspec.structs.replace(entry, uploaded_at_ms=now_ms)
            run.stage = Stage.POLL
        else:
            state, expires = DeliveryState.CREATED, upload.expires_at_ms
            if expires is None:
                expires = now_ms + int(self._imports.policy.orphan_life_s * 1000)
            elif isinstance(reply, Answer):
                # It is told by the platform's clock, and looked at by ours.
                expires += now_ms - int(server_wall_s(reply.headers, now_ms / 1000) * 1000)
            entry = msgspec.structs.replace(entry, url=upload.url, fields=upload.fields, expires_at_ms=expires)
            run.stage = Stage.UPLOAD
        run.word = None
        run.current.counted = 0
        delivery.becomes(state=state, opened=entry, reference=opened.import_id)
        run.proved_at = await self._journal.rewrite(delivery)
        return run.proved_at is not None and (run.stage is Stage.UPLOAD or self._poll_later(run))

    # -- upload

    async def _upload(self, run: ImportRun, trial: LaneHold | None) -> bool:
        delivery, uploads = run.delivery, self._imports.uploads
        assert delivery is not None
        assert uploads is not None
        if self._expired(run):
            return await self._address_ends(run)
        if run.file is None and not await self._built_again(run):
            return False
        assert run.file is not None
        if (problem := uploads.problem(run.opened, run.file)) is not None:
            self._gate.shut(problem, run.current)
            return True
        self._began()
        try:
            if run.proved_at is None or self._clock.monotonic() - run.proved_at > self._journal.policy.call_within_s:
                # Whoever took the partitions over meanwhile uploads it, or has: this is refused to us then.
                run.proved_at = await self._journal.rewrite(delivery)
            if run.proved_at is None or not self._may_call(run) or self._gate.hold is not trial:
                return run.proved_at is not None
            part = run.current
            part.called_at = self._clock.monotonic()
            try:
                reply = await uploads.send(run.opened, run.file)
            finally:
                part.called_at = None
            if isinstance(reply, Hold):
                self._hold(run, reply)
            if isinstance(reply, Hold) or not run.assignment.active:
                return run.assignment.active
            return await self._uploaded(run, trial, reply)
        finally:
            self._ended()

    async def _uploaded(self, run: ImportRun, trial: LaneHold | None, reply: Reply) -> bool:
        verdict = self._handler.judge_upload(reply, expired=self._expired(run))
        if not isinstance(verdict, Retry | Hold):
            self._passed(trial)
        match verdict:
            case Uploaded():
                return await self._has_file(run) and self._poll_later(run)
            case Unclear():
                run.stage, run.asks = Stage.POLL, True
                return self._poll_later(run)
            case Lapsed():
                return await self._address_ends(run)
            case Divide():
                # The import stays open without its file, until its address ends.
                self._lapse(run, self._expires_ms(run) + int(CLOCKS_APART_S * 1000))
                if run.share.others:
                    # Smaller it is as each of us sends his own.
                    await self._give_back(run)
                elif (found := halves(run.items)) is not None:
                    run.divide(*found)
                else:
                    await self._end_detached(run, alone(verdict, reply))
                return True
            case Retry():
                return await self._again_later(run, verdict, reply, True)
            case Hold():
                self._hold(run, verdict)
                return True

    async def _has_file(self, run: ImportRun) -> bool:
        """The platform has it: from here on it is polled. False once the assignment is over."""
        delivery = run.delivery
        assert delivery is not None
        run.stage, run.asks = Stage.POLL, False
        entry = msgspec.structs.replace(
            delivery.opened, url=None, fields=(), expires_at_ms=None, uploaded_at_ms=self._clock.wall_ms()
        )
        delivery.becomes(state=DeliveryState.UPLOADED, opened=entry)
        if run.file is not None:
            run.file.close()
            run.file = None
        return await self._journal.rewrite(delivery) is not None

    # -- poll

    async def _ask(self, run: ImportRun, trial: LaneHold | None) -> bool:
        permit = await self._permit(run, trial)
        if permit is None:
            return True
        delivery = run.delivery
        assert delivery is not None
        reply = await self._send(run.current, self._handler.poll(run.opened.import_id), permit)
        if not run.assignment.active:
            return False
        verdict = self._handler.judge_poll(reply, delivery.opened.rows)
        if not isinstance(verdict, Retry | Hold):
            self._passed(trial)
            run.current.counted = 0
        match verdict:
            case Pending():
                return await self._pending(run, verdict)
            case Completed() | Failed():
                return await self._told_end(run, verdict, reply)
            case Retry():
                return await self._again_later(run, verdict, reply, True)
            case Hold():
                self._hold(run, verdict)
                return True

    async def _pending(self, run: ImportRun, verdict: Pending) -> bool:
        run.word = verdict.state
        if run.asks and verdict.has_file is False:
            if not run.share.sends:
                return await self._waits_for_sender(run)
            run.stage = Stage.UPLOAD
            return True
        if run.asks and verdict.has_file and not await self._has_file(run):
            return False
        delivery = run.delivery
        assert delivery is not None
        since_ms = delivery.opened.uploaded_at_ms or delivery.record.begun_at_ms
        late = self._clock.wall_ms() - since_ms > self._handler.poll_settings.deadline_s * 1000
        if late and not run.asks and run.items and not run.unread:
            await self._doubt(
                run, f"the import has not ended within {self._handler.poll_settings.deadline_s:g} s", None
            )
        return self._poll_later(run)

    async def _told_end(self, run: ImportRun, verdict: Completed | Failed, reply: Reply) -> bool:
        delivery = run.delivery
        assert delivery is not None
        if (
            isinstance(verdict, Failed)
            and run.asks
            and not had_file(verdict, expired=self._expired(run, CLOCKS_APART_S))
        ):
            return await self._create_anew(run)
        budget = self._handler.split_budget if run.budget is None else run.budget
        ends = judge_end(verdict, delivery.opened.rows, divides=budget is not None)
        if isinstance(ends, Divided) and self._waits_for_records(run):
            # A restart found it, and only who has all of its events can divide them.
            return False
        whole = bool(run.items) and not run.unread and all(planned[0] is None for planned in run.planned.values())
        if isinstance(ends, Divided) and not whole:
            ends = ends.otherwise
        if isinstance(ends, Divided):
            run.budget = budget
            if run.share.others:
                return await self._sent_by_each(run, msgspec.structs.replace(ends.otherwise, status=status_of(reply)))
            divided = self._halved(run, ends)
            if divided is None:
                return await self._journal.take_out(delivery) and self._from_the_start(run)
            ends = divided
        return await self._end(run, msgspec.structs.replace(ends, status=status_of(reply)))

    async def _sent_by_each(self, run: ImportRun, otherwise: Ends) -> bool:
        """What failed was of several processes: each sends its own events, in an import of its own that is divided
        further. Those whose row is another's too end instead: in which order they would be sent again, nobody could
        say."""
        if not await self._others_read(run):
            return False
        assert run.budget is not None
        budget = budget_share(run.budget, len(run.items), run.share)
        own, shared = apart(run.items, run.others or ())
        delivery = run.delivery
        if run.others_gone or budget < 1 or not own or delivery is None:
            return await self._end(run, otherwise)
        run.current.items, run.budget = own, budget - 1
        if not await self._end_items(run, shared, otherwise):
            return False
        return await self._journal.take_out(delivery) and self._from_the_start(run)

    def _halved(self, run: ImportRun, ends: Divided) -> Ends | None:
        """Two parts instead of one, within the budget: None; or the end of what cannot be divided."""
        found = halves(run.items)
        if found is None:
            return ends.alone
        assert run.budget is not None
        if run.budget < 2:
            return ends.otherwise
        run.budget -= 2
        run.divide(*found)
        return None

    # -- what becomes of it

    async def _again_later(self, run: ImportRun, verdict: Retry, reply: Reply, goes_on: bool) -> bool:
        """Parked until the next try. A create that fails again and again holds the lane; polls go on."""
        if not goes_on:
            return False
        part = run.current
        part.counted += 1
        part.last = verdict.cause.value if isinstance(reply, Failure) else f"HTTP {reply.status}"
        self._retried(verdict.cause)
        if run.stage is Stage.CREATE and self._policy.retry.exhausted(part.counted):
            part.counted = 0
            self._gate.shut(f"no import can be created: {verdict.detail or part.last}", part)
            return True
        self._workers.park(run, self._policy.retry.delay_s(max(1, part.counted), self._random.random))
        return False

    def _poll_later(self, run: ImportRun) -> bool:
        self._workers.park(run, self._handler.poll_settings.every_s)
        return False

    def _hold(self, run: ImportRun, verdict: Hold) -> None:
        if verdict.scope is HoldScope.ACCOUNT:
            self._account.refuse(verdict.reason)
        else:
            self._gate.shut(verdict.reason, run.current)


def alone(verdict: Divide, reply: Reply) -> Ends:
    """The end of an event whose file is refused also without any other."""
    reason = Reason.TOO_LARGE if verdict.too_large else Reason.REFUSED
    return Ends(Outcome.REJECTED, reason, verdict.detail, status_of(reply))
