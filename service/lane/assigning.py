"""Takes partitions over and gives them back, in the order of steps that was measured to be safe.

At an assignment: pause and capture the membership before the first await; open the transactor, which ends what a
predecessor left open; read stable offsets; only then seek and resume. Work carries the assignment that it was read
under and is dropped with it.
"""

import asyncio
from collections.abc import Callable

from aiokafka import ConsumerRebalanceListener
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import TopicPartition

from service.errors import FencedError, JournalUnreadableError, RefusedError, TopicTooNarrowError, TransactorLostError
from service.intake.assignment import Assignment, PartitionState
from service.intake.item import Item
from service.kafka.displaced import Place, TakingBack, displaced_text, doubted_text, place_of
from service.kafka.private import Membership
from service.lane.core import Core
from service.lane.delivering import Delivering
from service.lane.denials import denial_of
from service.lane.preparing import Preparing
from service.lane.takeover import Takeover
from service.turns import Turns, drop_in_turns

_RETRY_S = 0.5
# Of the session timeout: heartbeats go out each fifth of it, so that the last one may be older by that.
_LEASE = 0.8


class Assigning:
    """The consumer's rebalances, carried out."""

    def __init__(
        self,
        core: Core,
        delivering: Delivering,
        preparing: Preparing,
        *,
        changed: Callable[[], None],
        died: Callable[[BaseException], None],
        halt: Callable[[str], None],
    ) -> None:
        """``changed``: the lane's state may be another; ``died``: an error of ours, of which the lane ends; ``halt``:
        it ends for that reason."""
        self._setup = core.setup
        self._observer = core.means.observer
        self._clock = core.means.clock
        self._group = core.group
        self._buffer = core.buffer
        self._troubles = core.troubles
        self._held_times = core.held_times
        self._deduper = core.deduper
        self._settler = core.settler
        self._hooks = core.hooks
        self._delivering = delivering
        self._preparing = preparing
        self._changed = changed
        self._died = died
        self._halt = halt
        self._client = core.means.client
        self._task: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[Place]] = set()
        self._taking_back = TakingBack()
        # Until the group has dealt partitions to the member that took the place.
        self._taking_place = False
        self._over = False
        self._awake_at = self._clock.monotonic()

    def end(self) -> None:
        """The lane goes down: what is assigned from now on is not taken over."""
        self._over = True
        if self._group.assignment is not None:
            self._group.assignment.end()
        if self._task is not None:
            self._task.cancel()
        for asking in self._asking:
            asking.cancel()

    # -- taking over

    def assigned(self, tps: frozenset[TopicPartition]) -> None:
        """A new generation. Nothing here awaits: records are handed out as soon as the caller does."""
        if self._over:
            # The consumer is being stopped, and leaves the group: whoever began to prepare now would never end.
            return
        self._taking_place = False
        self._take_over(Assignment(self._group.joined(), tps, awake=self._awake))

    def prepare_again(self) -> None:
        """Look at all partitions again, from the committed offsets on: the next offset is gone from one of them, or
        this process stood still. Under the same membership: a newer one, or none while the group is joined anew,
        would not be fenced."""
        old = self._group.assignment
        if old is not None and old.active and old.ready and not old.draining:
            self._take_over(Assignment(old.membership, old.tps, awake=self._awake, doubtful=True))

    def loss_accepted(self) -> None:
        """What the lane lost may have been given up: look again."""
        assignment = self._group.assignment
        if self._troubles.gap is not None and assignment is not None and assignment.active and not assignment.ready:
            self._troubles.gap = None
            self._start_preparing(assignment)
            self._changed()

    def _take_over(self, assignment: Assignment) -> None:
        assert self._group.consumer is not None
        self._group.consumer.pause(*assignment.tps)
        left: list[Item] = []
        if self._group.assignment is not None:
            self._group.assignment.end()
            left, self._group.assignment.left = self._group.assignment.left, left
        self._group.assignment = assignment
        self._held_times.own({tp.partition for tp in assignment.tps}, self._clock.wall_ms())
        self._reset()
        if self._task is not None:
            self._task.cancel()
        self._start_preparing(assignment, left)
        self._changed()

    def _reset(self) -> None:
        """Nothing of an earlier assignment goes on."""
        self._settler.forget()
        self._delivering.forget()
        self._buffer.reset()
        self._troubles.forget()

    def _start_preparing(self, assignment: Assignment, left: list[Item] | None = None) -> None:
        self._task = asyncio.get_running_loop().create_task(self._prepare(assignment, left or []))
        self._task.add_done_callback(self._prepared)

    def _prepared(self, task: asyncio.Task[None]) -> None:
        """A preparation that died of our own fault takes the lane down: an error in a callback would be lost."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._died(error)

    async def _prepare(self, assignment: Assignment, left: list[Item]) -> None:
        """Offsets, ledgers, seek, resume; tried again for as long as the assignment lasts. First what is ``left`` of
        the one before is freed, which would keep the loop otherwise."""
        takeover = Takeover(self._clock)
        await drop_in_turns(Turns(self._clock), left)
        while assignment.active and not assignment.ready and self._troubles.gap is None:
            try:
                await self._preparing.prepare(assignment, takeover)
            except FencedError:
                self._hooks.fenced(assignment)
            except (KafkaError, TransactorLostError) as error:
                self._hooks.lost(denial_of(error) or str(error) or type(error).__name__)
                await asyncio.sleep(_RETRY_S)
            except TopicTooNarrowError as error:
                self._troubles.narrow = str(error)
                self._hooks.recovered()
                await asyncio.sleep(_RETRY_S)
            except JournalUnreadableError as error:
                self._troubles.gap = str(error)
            except RefusedError as error:
                self._hooks.refused(error)
                return
        self._changed()
        await self._read_back(assignment)

    async def _read_back(self, assignment: Assignment) -> None:
        """Partitions that still lack their dedupe window begin as soon as it has been read back."""

        def ready(state: PartitionState) -> None:
            if assignment.active and not self._buffer.stopped and self._group.consumer is not None:
                self._group.consumer.resume(state.tp)
            self._changed()

        waiting, began = assignment.reading_back, self._clock.monotonic()
        while self._deduper is not None and assignment.active and assignment.reading_back:
            try:
                await self._deduper.read_back(assignment, ready)
            except (KafkaError, IllegalStateError) as error:
                self._observer.kafka_error(type(error).__name__)
                await asyncio.sleep(_RETRY_S)
        if waiting and assignment.active:
            self._observer.read_back(waiting, self._clock.monotonic() - began)

    # -- giving back

    async def revoked(self) -> None:
        """The group is joined anew: drain and let go. Raises CancelledError, which keeps the client from joining, if
        another process has this one's instance id."""
        assignment = self._group.assignment
        lost = assignment is not None and self._group.has_lost(assignment.membership)
        # First of all: nothing more is called while it is not known whose the partitions are.
        await self.give_back()
        if lost and await self.displaced():
            raise asyncio.CancelledError

    async def displaced(self) -> bool:
        """Whether another process has this one's instance id; the lane ends then. It may be a former life of this one:
        its place is taken back. A lane that is to stop meanwhile does not wait for the answer."""
        assignment = self._group.assignment
        if assignment is None or self._over or self._taking_place:
            return False
        if await self._asked_place(assignment.membership) is not Place.TAKEN:
            return False
        if self._taking_back.may(self._clock.monotonic()):
            self._observer.place_taken_back()
            self._taking_place = True
            self._group.take_place()
            return False
        self._halt(displaced_text(assignment.membership))
        return True

    async def _asked_place(self, membership: Membership) -> Place:
        def doubted() -> None:
            self._troubles.place = doubted_text(membership)
            self._changed()

        def wanted() -> bool:
            return not self._group.joined_anew(membership)

        asking = asyncio.create_task(place_of(self._client, membership, doubted=doubted, wanted=wanted))
        self._asking.add(asking)
        try:
            await asyncio.wait({asking})
        finally:
            asking.cancel()
            self._asking.discard(asking)
            self._troubles.place = None
            self._changed()
        return Place.UNTOLD if asking.cancelled() else asking.result()

    async def give_back(self) -> None:
        """Drain and let go. The old generation may still commit until all members have joined again. A stop in the
        middle of a revocation, or the other way round, waits for the same end: there is one deadline for both."""
        assignment = self._group.assignment
        if assignment is None or not assignment.active:
            return
        began = self._clock.monotonic()
        if assignment.drain_until is None:
            assignment.drain_until = began + self._setup.drain_s
        assignment.draining = True
        self._group.draining = True
        self._changed()
        try:
            async with asyncio.timeout(max(0.0, assignment.drain_until - began)):
                # What has not been called yet is left to the next owner; what has been is brought home.
                await self._delivering.dispatcher.quiet()
                await self._settler.drained()
        except TimeoutError:
            pass
        finally:
            self._let_go(assignment, began)

    def _let_go(self, assignment: Assignment, began: float) -> None:
        """Whoever waited first for the drain's end; the other one finds it done."""
        if assignment.drain_until is None:
            return
        assignment.drain_until = None
        self._group.draining = False
        unfinished = sum(len(state.items) for state in assignment.partitions.values())
        assignment.end()
        self._observer.revoked(unfinished, self._clock.monotonic() - began)

    # -- standing still

    def wake(self) -> None:
        """The lane begins to look at the clock."""
        self._awake_at = self._clock.monotonic()

    def look_at_the_clock(self) -> None:
        """To be called several times a second: after a silence the partitions are looked at again."""
        if not self._awake():
            self.prepare_again()
        self.wake()

    def _awake(self) -> bool:
        """Whether this process was never silent for so long that its partitions may be another's."""
        return self._clock.monotonic() - self._awake_at < self._setup.session_timeout_s * _LEASE


class Rebalances(ConsumerRebalanceListener):
    """aiokafka's callbacks. An exception here would be logged and swallowed: nothing in them may raise. A
    CancelledError ends the client's coordination: it never joins again."""

    def __init__(self, assigning: Assigning) -> None:
        self._assigning = assigning

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._assigning.assigned(frozenset(assigned))

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._assigning.revoked()
