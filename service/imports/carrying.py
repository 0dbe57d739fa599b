"""What an import's steps have in common: its file, its lapse, the ends of its events."""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from itertools import chain

import msgspec
from aiokafka.errors import KafkaError

from contracts.ids import ResultIds
from contracts.masking import mask_detail, personal_strings, standing_in
from contracts.outcomes import Outcome, Reason
from handlers.imports.rows import ImportHandler
from service.delivery.bulk import Part
from service.delivery.bulk_dispatcher import BulkHooks
from service.delivery.lane_delivery import DeliveryMeans, LaneDelivery, LoadHooks
from service.imports.ending import Ending
from service.imports.files import halves, parts_of, rows_of
from service.imports.opening import Opening, ReadsSlots
from service.imports.others import ReadsOthers
from service.imports.pace import pace_of
from service.imports.policy import CLOCKS_APART_S, ImportPolicy
from service.imports.runs import Ends, ImportRun, Stage
from service.imports.seams import FileWay, Uploads
from service.imports.slots import SlotTable
from service.imports.torn import WHOLE
from service.intake.assignment import Assignment
from service.intake.item import Item
from service.journal.deliveries import OpenDeliveries
from service.journal.writer import JournalWriter
from service.turns import Turns, drop_in_turns
from service.uploading.spool import Spools

# What was found in the journal waits at most so long for its records to be read again, and looks so often.
_REREAD_WITHIN_S = 60.0
_LOOK_AGAIN_S = 0.2
_LAPSE_LOOK_S = 60.0
# Where another process is to send the file: so long behind the address's end nothing of it is under way any more.
_SENT_WITHIN_S = 60.0
_ENDED_AT_ONCE = 250
_EXPIRED = Ends(Outcome.EXPIRED, Reason.DEADLINE)


class ImportHooks(msgspec.Struct, frozen=True):
    """What the lane does: ``released``: events with these keys have ended, and others may go on, a few with each call
    of ``go_on``, which says whether there are more; ``again``: nothing of a run took effect, and its events are
    delivered anew, a few with each call of ``go_on`` too; ``finished``: nothing of a run is open any more. ``slots``:
    what has taken them."""

    released: Callable[[Sequence[Hashable]], None]
    go_on: Callable[[], bool]
    again: Callable[[ImportRun], None]
    finished: Callable[[ImportRun], None]
    slots: SlotTable


class ImportMeans(msgspec.Struct, frozen=True):
    """What imports are carried out with, beside what every lane delivers with."""

    handler: ImportHandler
    policy: ImportPolicy
    uploads: Uploads | None  # None where the create carries the rows
    journal: JournalWriter
    deliveries: OpenDeliveries
    ids: ResultIds
    others: ReadsOthers
    open_slots: ReadsSlots
    way: FileWay | None = None  # where files are put first, or stand in the create


class ImportCarrying(LaneDelivery[ImportRun]):
    """``runs``: everything of the newest assignment that is open or on its way."""

    def __init__(
        self, imports: ImportMeans, means: DeliveryMeans, load_hooks: LoadHooks, bulk: BulkHooks, hooks: ImportHooks
    ) -> None:
        super().__init__(means, load_hooks)
        self._handler = imports.handler
        self._imports = imports
        self._journal = imports.journal
        self._deliveries = imports.deliveries
        self._hooks = hooks
        self.ending = Ending(
            bulk, imports.ids, lambda detail, items: self._masked(detail, (i.read_event() for i in items))
        )
        self._turns = Turns(means.clock)
        self._spools = Spools(means.clock)
        self.pace = pace_of(imports.policy.create_every_s, imports.policy.create_turns)
        self.opening = Opening(hooks.slots, imports.open_slots)
        self.runs: list[ImportRun] = []

    async def run(self) -> None:
        """Work until cancelled; no file is left behind."""
        try:
            await super().run()
        finally:
            for run in self.runs:
                run.close_file()

    def begin(self, runs: Sequence[ImportRun]) -> None:
        """Take batches, or what was found in the journal."""
        self.runs.extend(runs)
        self._workers.put(list(runs))

    def forget(self) -> None:
        """Drop what is of assignments that have ended."""
        super().forget()
        self.opening.forget()
        for run in self.runs:
            if not run.assignment.active:
                run.close_file()
        self.runs = [run for run in self.runs if run.assignment.active]

    @staticmethod
    def _assignment(run: ImportRun) -> Assignment:
        return run.assignment

    # -- the file

    async def _build(self, run: ImportRun) -> bool:
        """Make the file of the run's events, with those that others have; False where they were divided, or dropped,
        instead. Raises SpoolError."""
        rows = await rows_of([*run.items, *(run.others or ())], self._handler.plan, self._turns)
        if not run.assignment.active:
            return False
        file = await self._spools.write(parts_of(self._handler, run.items[0].rows[0].group, rows.lines))
        if not run.assignment.active:
            file.close()
            return False
        run.rows, run.file, run.others = rows, file, None
        if file.size > self._imports.policy.max_file_bytes:
            detail = f"a file of {file.size} bytes; the platform takes {self._imports.policy.max_file_bytes}"
            await self._divide(run, Ends(Outcome.REJECTED, Reason.TOO_LARGE, detail))
            return False
        return True

    async def _built_again(self, run: ImportRun) -> bool:
        """After a restart: the same file of the same records. False: not yet, or it is another, and what was opened for
        it lapses. Raises SpoolError."""
        assert run.delivery is not None
        if self._waits_for_records(run):
            return False
        same = not run.unread and bool(run.items) and all(planned[0] is None for planned in run.planned.values())
        if same and not await self._others_read(run):
            return False
        same = same and not run.others_gone and all(item.rows for item in run.others or ())
        if same and await self._build(run) and run.file is not None:
            if run.file.sha256 == run.delivery.opened.sha256:
                return True
            run.close_file()
        if run.assignment.active and run.delivery is not None:
            await self._address_ends(run)
            await self._lapsed(run)
        return False

    def _waits_for_records(self, run: ImportRun) -> bool:
        """Whether records of it are still to be read, and the time for it has not passed; it is parked then."""
        if not run.unread or not run.known:
            return False
        now = self._clock.monotonic()
        run.waits_since = now if run.waits_since is None else run.waits_since
        if now - run.waits_since >= _REREAD_WITHIN_S:
            return False
        self._workers.park(run, _LOOK_AGAIN_S)
        return True

    # -- what others have of it

    async def _others_read(self, run: ImportRun) -> bool:
        """Read the records of it that others own, unless they cannot be had; False: not yet, and the run is parked, or
        dropped."""
        if not run.share.others or run.others is not None or run.others_gone:
            return True
        now = self._clock.monotonic()
        run.others_since = now if run.others_since is None else run.others_since
        try:
            run.others = await self._imports.others.read(run.share, run.assignment)
        except (KafkaError, TimeoutError):
            if self._clock.monotonic() - run.others_since < _REREAD_WITHIN_S:
                self._workers.park(run, _LOOK_AGAIN_S)
                return False
        run.others_gone, run.others_since = run.others is None, None
        return run.assignment.active

    async def _waits_for_sender(self, run: ImportRun) -> bool:
        """Another process is to send the file; where it has not until the address has ended, nobody will."""
        if self._clock.wall_ms() < self._expires_ms(run) + int(_SENT_WITHIN_S * 1000):
            self._workers.park(run, self._handler.poll_settings.every_s)
            return False
        return await self._create_anew(run)

    # -- what may be open, and nobody can say

    def _expires_ms(self, run: ImportRun) -> int:
        """When the upload's address ends."""
        assert run.delivery is not None
        expires = run.delivery.opened.expires_at_ms
        return self._imports.policy.lapses_at_ms(run.delivery.record.begun_at_ms) if expires is None else expires

    def _expired(self, run: ImportRun, early_s: float = 0.0) -> bool:
        """``early_s``: or may have by a clock that is ahead of ours by so much."""
        return self._clock.wall_ms() >= self._expires_ms(run) - int(early_s * 1000)

    async def _address_ends(self, run: ImportRun) -> bool:
        """No file will be sent there: the slot is taken until the address has ended by the platform's clock too."""
        self._lapse(run, self._expires_ms(run) + int(CLOCKS_APART_S * 1000))
        if run.known:
            await self._give_back(run)
        return True

    def _lapse(self, run: ImportRun, until_ms: int | None) -> bool:
        """From now on it is not asked about: its slot is taken until then, or for as long as an import without its file
        may stay open that was opened just now."""
        run.stage = Stage.LAPSE
        run.lapses_at_ms = self._clock.wall_ms() + int(self._imports.policy.orphan_life_s * 1000)
        if until_ms is not None:
            run.lapses_at_ms = until_ms
        return True

    async def _lapsed(self, run: ImportRun) -> bool:
        """Parked until it has; then its events, if it has any, begin anew."""
        left_s = (run.lapses_at_ms - self._clock.wall_ms()) / 1000
        if left_s > 0:
            self._workers.park(run, min(left_s, _LAPSE_LOOK_S))
            return False
        if run.delivery is not None and not await self._journal.take_out(run.delivery):
            return False
        return self._next_part(run) if not run.items else self._from_the_start(run)

    async def _create_anew(self, run: ImportRun) -> bool:
        """Nothing took effect, and nothing is open any more."""
        delivery = run.delivery
        assert delivery is not None
        if not await self._journal.take_out(delivery):
            return False
        if not run.known:
            return self._from_the_start(run)
        put_back = self._give_back(run)
        goes_on = self._next_part(run)
        await put_back
        return goes_on

    # -- ends

    async def _has_unexpired(self, run: ImportRun) -> bool:
        """End the events whose deadline has passed; whether any is left."""
        if self._expires_at_ms is None:
            return True
        now_ms = self._clock.wall_ms()
        items = run.items
        expired: list[Item] = []
        left: list[Item] = []
        for start in range(0, len(items), _ENDED_AT_ONCE):
            for item in items[start : start + _ENDED_AT_ONCE]:
                expires_at = self._expires_at_ms(item)
                (expired if expires_at is not None and now_ms > expires_at else left).append(item)
            await self._turns.rest()
        if expired:
            run.close_file()
            run.current.items = left
            await self._end_items(run, expired, _EXPIRED)
        return bool(left)

    async def _end(self, run: ImportRun, ends: Ends) -> bool:
        """The import of the current part has ended. Records that are still to be read are waited for, a while."""
        run.ends = ends
        if self._waits_for_records(run):
            return False
        items = run.items
        if run.known and items and all(item.rows for item in items):
            if not await self._others_read(run):
                return False
            run.rows = None
            if not run.others_gone:
                run.rows = await rows_of([*items, *(run.others or ())], self._handler.plan, self._turns)
            if not run.assignment.active:
                return False
        delivery = run.delivery
        if not await self._end_items(run, items, ends):
            return False
        if delivery is not None:
            if run.detached or not delivery.items:
                if not await self._journal.take_out(delivery):
                    return False
            else:
                # What has no record left closes with nobody.
                self._deliveries.close(entry for entry in delivery.entries.values() if entry.left <= 0)
        if not run.unread:
            run.ends = None
        goes_on = self._next_part(run)
        # What was settled before is freed here.
        if delivery is not None:
            await drop_in_turns(self._turns, delivery.items)
        await drop_in_turns(self._turns, items)
        return goes_on

    async def _end_items(self, run: ImportRun, items: Sequence[Item], ends: Ends) -> bool:
        """End these events, in turns. False if the assignment has ended over it."""
        if not items:
            return True
        reference = None if run.delivery is None else run.delivery.record.reference
        if run.rows is not None:
            self.ending.name_those_sent(run.rows)
        ends = await self._masked_in_turns(ends, items)
        keys: list[list[Hashable]] = []
        for start in range(0, len(items), _ENDED_AT_ONCE):
            if not run.assignment.active:
                return False
            some = items[start : start + _ENDED_AT_ONCE]
            self.ending.end(some, ends, reference, told=not run.is_dry)
            keys.append(_keys(some))
            await self._turns.rest()
        if not run.is_dry:
            self._tell_guard(items, ends)
        return await self._release(run, items, keys)

    async def _release(self, run: ImportRun, items: Sequence[Item], ended: list[list[Hashable]]) -> bool:
        """Others with these keys may go on, in turns, but for those of which the run has another event still. False if
        the assignment has ended over it: another one's keys are not these."""
        still: set[Hashable] = set()
        for part in run.parts:
            if part.items is not items:
                for start in range(0, len(part.items), _ENDED_AT_ONCE):
                    still.update(_keys(part.items[start : start + _ENDED_AT_ONCE]))
                    await self._turns.rest()
        for keys in ended:
            if not run.assignment.active:
                return False
            self._hooks.released([key for key in keys if key not in still] if still else keys)
            await self._turns.rest()
            await self._others_go_on(run)
        return run.assignment.active

    async def _masked_in_turns(self, ends: Ends, items: Sequence[Item]) -> Ends:
        """As ``Ending.masked``, but 50,000 events have half a million texts: half a second."""
        if ends.detail is None:
            return ends
        found: list[str] = [*self._account.secrets()]
        for start in range(0, len(items), _ENDED_AT_ONCE):
            for item in items[start : start + _ENDED_AT_ONCE]:
                if (event := item.read_event()) is not None:
                    found += standing_in(ends.detail, personal_strings(event))
            await self._turns.rest()
        return msgspec.structs.replace(ends, detail=mask_detail(ends.detail, found))

    def _tell_guard(self, items: Sequence[Item], ends: Ends) -> None:
        if ends.outcome is Outcome.DELIVERED:
            self._successes.record(ends, self._clock.monotonic())
        guard = self._guard
        if guard is None or ends.outcome is Outcome.EXPIRED:
            return
        if ends.outcome is Outcome.DELIVERED:
            tripped = guard.record_delivered(len(items))
        else:
            # All of them are told, whatever the first one does.
            tripped = [guard.record(item.reason) for item in items][-1]
        if tripped:
            self._gate.shut(guard.describe(), forever=True)

    async def _end_detached(self, run: ImportRun, ends: Ends) -> None:
        """The events end, and what is open on the platform stays so: its entry too, which holds none of them for as
        long as that may be."""
        items, delivery = run.items, run.delivery
        self._deliveries.detach(items)
        await self._end_items(run, items, ends)
        run.let_go()
        run.detached = True
        if delivery is not None:
            await drop_in_turns(self._turns, delivery.items)
        await drop_in_turns(self._turns, items)

    async def _doubt(self, run: ImportRun, detail: str | None, status: int | None) -> None:
        await self._end_detached(run, Ends(Outcome.IN_DOUBT, Reason.INTERRUPTED, detail, status))

    async def _divide(self, run: ImportRun, alone: Ends) -> bool:
        """Halves, each an import of its own; what cannot be divided has that end. Nothing of it is open."""
        found = halves(run.items)
        if found is None:
            run.delivery = None
            return await self._end(run, alone)
        run.divide(*found)
        return self._from_the_start(run)

    def _from_the_start(self, run: ImportRun) -> bool:
        run.delivery = None
        run.stage = Stage.CREATE
        run.asks = run.known = run.detached = False
        run.share, run.others = WHOLE, None
        return True

    def _give_back(self, run: ImportRun) -> Awaitable[None]:
        """What was found in the journal took no effect: its events are planned as they are now, and go into whatever
        import is next. They are the run's no more from here on; what is returned puts them there, in turns."""
        self._deliveries.detach(run.items)
        self._hooks.again(run)
        run.let_go()
        if run.delivery is not None:
            run.delivery.items = []
        return self._others_go_on(run)

    async def _others_go_on(self, run: ImportRun) -> None:
        while run.assignment.active and self._hooks.go_on():
            await self._turns.rest()

    def _next_part(self, run: ImportRun) -> bool:
        run.close_file()
        # Who remembers that the request succeeded need not remember 50,000 events.
        run.parts.popleft().items = []
        if run.parts:
            return self._from_the_start(run)
        run.parts.append(Part([]))
        self.runs.remove(run)
        self._hooks.finished(run)
        return False


def _keys(items: Sequence[Item]) -> list[Hashable]:
    """Those of the events' rows and of the events, some of them several times: in the order in which they lie in
    memory, and not in a set's, they are freed in two thirds of the time."""
    keys: list[Hashable] = [row.key for row in chain.from_iterable([item.rows for item in items])]
    keys += [item.record.key for item in items]
    return keys
