"""Imports whose file is put in its place first (``handlers.imports.putting``): look, put, start, poll.

Looking and putting have no entry in the journal, for they change nothing, and are done again whenever the start did
not come about. The start has one, which names the import from the beginning: whoever finds it asks, and what runs then
is ours; what has ended may be another's, so that the events are in doubt. Where what was put can be withdrawn as long
as it was not begun, that is tried before: the entry's id tells under which name it was put.
"""

from functools import cached_property

from contracts.journal import DeliveryState
from contracts.outcomes import Outcome, Reason
from handlers.base import Hold, Reply, Request, Retry
from handlers.imports.putting import Begun, Free, PutsFirst
from handlers.imports.verdicts import Completed, CreateVerdict, Divide, Failed, MayBeOpen, Uploaded
from service.delivery.bulk import Part
from service.delivery.holding import LaneHold
from service.delivery.lane_delivery import status_of
from service.imports.dispatcher import ImportDispatcher, alone
from service.imports.runs import Ends, ImportDelivery, ImportRun, Stage
from service.imports.seams import Spooled
from service.transport.account import Permit, Transport

# In an entry's id, in front of what the file's name has behind the batch's.
_PUT_AS = "_"
_NOT_OURS = "the last execution has ended, and whether it was this one is not known"


class PuttingDispatcher(ImportDispatcher):
    """What is different where files are put first."""

    # -- before the start

    def _is_prepared(self, run: ImportRun) -> bool:
        return run.put_as is not None

    async def _prepare(self, run: ImportRun, trial: LaneHold | None) -> bool:
        """Nothing runs there, and the file is in its place."""
        if (missing := self._puts.missing()) is not None:
            return await self._find(run, missing, trial)
        reply = await self._call(run, self._puts.look(), trial)
        if reply is None:
            return run.assignment.active
        looked = self._puts.judge_look(reply)
        if not isinstance(looked, Free):
            return await self._not_yet(run, looked, reply)
        name = self._journal.new_id(run.id)
        reply = await self._call(run, self._puts.put(name), trial, run.file)
        if reply is None:
            return run.assignment.active
        put = self._puts.judge_put(reply)
        match put:
            case Uploaded():
                self._passed(trial)
                run.put_as = name
                return True
            case Divide():
                return await self._divide(run, alone(put, reply))
        return await self._not_yet(run, put, reply)

    async def _find(self, run: ImportRun, missing: Request, trial: LaneHold | None) -> bool:
        """Ask the platform for what it alone can say of the import."""
        permit = await self._permit(run, trial)
        if permit is None:
            return True
        reply = await super()._send(run.current, missing, permit)
        if not run.assignment.active:
            return False
        trouble = self._puts.learn(reply)
        if trouble is not None:
            return await self._not_yet(run, trouble, reply)
        self._passed(trial)
        return True

    async def _call(
        self, run: ImportRun, request: Request, trial: LaneHold | None, file: Spooled | None = None
    ) -> Reply | None:
        """One request of the steps before the start; None: look again."""
        permit = await self._permit(run, trial)
        if permit is None:
            return None
        reply = await self._sent(run.current, request, permit, file)
        return reply if run.assignment.active else None

    async def _not_yet(self, run: ImportRun, verdict: Retry | Hold, reply: Reply) -> bool:
        if isinstance(verdict, Hold):
            self._hold(run, verdict)
            return True
        return await self._again_later(run, verdict, reply, True)

    # -- the start

    def _delivery_id(self, run: ImportRun) -> str:
        assert run.put_as is not None
        return f"{super()._delivery_id(run)}{_PUT_AS}{run.put_as.partition('.')[2]}"

    def _intend(self, run: ImportRun, delivery: ImportDelivery) -> None:
        delivery.becomes(state=DeliveryState.INTENDED, opened=delivery.opened, reference=self._puts.import_id())

    async def _create_request(self, run: ImportRun) -> Request:
        assert run.put_as is not None
        return self._puts.start(run.put_as)

    async def _created(self, run: ImportRun, delivery: ImportDelivery, verdict: CreateVerdict, reply: Reply) -> bool:
        if isinstance(verdict, MayBeOpen):
            run.stage, run.asks, run.begun = Stage.POLL, True, False
            return True
        if isinstance(verdict, Retry | Hold):
            # Whatever happens there meanwhile: it is looked at, and put, anew.
            run.put_as = None
        return await super()._created(run, delivery, verdict, reply)

    # -- after it

    async def _ask(self, run: ImportRun, trial: LaneHold | None) -> bool:
        if (missing := self._puts.missing()) is not None:
            return await self._find(run, missing, trial)
        if run.asks and not run.begun and (request := self._puts.withdraw(_put_as(run))) is not None:
            return await self._withdraw(run, request, trial)
        return await super()._ask(run, trial)

    async def _withdraw(self, run: ImportRun, request: Request, trial: LaneHold | None) -> bool:
        """Nobody knows whether it was begun: if it was not, it never is any more, and goes anew."""
        if self._gate.paused is not None:
            return self._poll_later(run)
        reply = await self._call(run, request, trial)
        if reply is None:
            return run.assignment.active
        match verdict := self._puts.judge_withdraw(reply):
            case Free():
                self._passed(trial)
                run.put_as = None
                return await self._create_anew(run)
            case Begun():
                self._passed(trial)
                run.begun = True
                return True
        return await self._not_yet(run, verdict, reply)

    async def _told_end(self, run: ImportRun, verdict: Completed | Failed, reply: Reply) -> bool:
        if run.asks:
            return await self._end(run, Ends(Outcome.IN_DOUBT, Reason.INTERRUPTED, _NOT_OURS, status_of(reply)))
        return await super()._told_end(run, verdict, reply)

    # -- over which way

    async def _send(self, part: Part, request: Request, permit: Permit, through: Transport | None = None) -> Reply:
        return await self._sent(part, request, permit, None)

    async def _sent(self, part: Part, request: Request, permit: Permit, file: Spooled | None) -> Reply:
        way = self._imports.way.transport(file) if self._imports.way is not None else None
        if way is None or not self._puts.elsewhere:
            return await super()._send(part, request, permit, way)
        self._began()
        part.called_at = self._clock.monotonic()
        try:
            # Paced and held like the account's requests, and nothing that it would be judged by.
            self._account.abandon(permit)
            return await way.send(request, {})
        finally:
            part.called_at = None
            self._ended()

    @cached_property
    def _puts(self) -> PutsFirst:
        assert isinstance(self._handler, PutsFirst)
        return self._handler


def _put_as(run: ImportRun) -> str:
    """Under which name the file of an import was put."""
    assert run.delivery is not None
    return f"{run.id}.{run.delivery.id.rpartition(_PUT_AS)[2]}"
