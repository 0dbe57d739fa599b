"""Writes the journal: what is about to be called, and what may be forgotten, in transactions of their own.

Each is a transaction of the lane's committer under the lane's lock, with the concerned partitions' offsets as they
were last committed: the group coordinator refuses it from whoever is not a member any more, so that a former owner
writes no entry and makes no call. Deliveries that wait at the same time share one.

Unlike a settlement, a lost transaction of this kind cannot be looked up: it moves no offset. It is written again,
which changes nothing where it was there already; nothing is called before one of them is proved.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Sequence

import msgspec
from aiokafka.structs import TopicPartition

from service.clock import Clock
from service.errors import FencedError, RefusedError, TransactorLostError
from service.intake.assignment import Assignment
from service.intake.item import Item
from service.journal.deliveries import Leaving, OpenDeliveries, OpenDelivery
from service.settling.settler import Committer, SettleHooks, Settler
from service.settling.transactor import Committed


class JournalPolicy(msgspec.Struct, frozen=True):
    """``call_within_s``: a call starts at most so long after its entry began to be written. ``pause_s``: between two
    transactions; the broker still ends the last one."""

    call_within_s: float = 5.0
    pause_s: float = 0.02
    recovery_pause_s: float = 0.2
    recovery_pause_max_s: float = 5.0


class _Order:
    """One thing to be written: a delivery's entries, or their removal."""

    __slots__ = ("again", "delivery", "done", "removes")

    def __init__(self, delivery: OpenDelivery, removes: bool, again: bool = False) -> None:
        self.delivery = delivery
        self.removes = removes
        # The entries are there already: only what they say is another.
        self.again = again
        # When the transaction that holds it began; None: the assignment is over.
        self.done: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()

    def end(self, began: float | None) -> None:
        if not self.done.done():
            self.done.set_result(began)


class JournalWriter:
    """The one writer of a lane's ``delivery/`` entries, beside the settlement that takes them out."""

    def __init__(
        self,
        committer: Committer,
        settler: Settler,
        deliveries: OpenDeliveries,
        hooks: SettleHooks,
        assignment: Callable[[], Assignment | None],
        clock: Clock,
        kind: str,
        policy: JournalPolicy | None = None,
    ) -> None:
        self._committer = committer
        self._settler = settler
        self._deliveries = deliveries
        self._hooks = hooks
        self._assignment = assignment
        self._clock = clock
        self._kind = kind
        self.policy = policy or JournalPolicy()
        self._orders: list[_Order] = []
        self._wake = asyncio.Event()
        deliveries.wake = self._wake.set
        self._ended_at = float("-inf")
        self._losses = 0
        # An id is never used again: the entry of a batch that is begun anew must not be that of the former one.
        self._token = secrets.token_hex(4)
        self._numbers = itertools.count()

    def delivery(self, batch_id: str, items: Sequence[Item]) -> OpenDelivery:
        """What would be entered for a request that carries these items."""
        return OpenDelivery(self.new_id(batch_id), self._kind, items, self._clock.wall_ms())

    def new_id(self, batch_id: str) -> str:
        """The id of a delivery of this batch, which no other has."""
        return f"{batch_id}.{self._token}{next(self._numbers):x}"

    async def enter(self, delivery: OpenDelivery) -> float | None:
        """Write the entries; when the proved transaction began. None: no call, and ``take_out`` has to follow."""
        order = self._order(delivery, removes=False)
        try:
            async with asyncio.timeout(self.policy.call_within_s):
                return await order.done
        except TimeoutError:
            return None

    async def rewrite(self, delivery: OpenDelivery) -> float | None:
        """Write what the entries of an open delivery say by now, however long it takes; when the proved transaction
        began. None once the assignment is over."""
        return await self._order(delivery, removes=False, again=True).done

    async def take_out(self, delivery: OpenDelivery) -> bool:
        """Take the entries out, however long it takes; False once the assignment is over."""
        return await self._order(delivery, removes=True).done is not None

    def forget(self) -> None:
        """Answer what is ordered for assignments that have ended."""
        orders, self._orders = self._orders, []
        for order in orders:
            if order.delivery.assignment.active:
                self._orders.append(order)
            else:
                order.end(None)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(max(0.0, self._ended_at + self._pause_s() - self._clock.monotonic()))
            async with self._settler.lock:
                self._wake.clear()
                self.forget()
                await self._write(self._ordered())
                self._ended_at = self._clock.monotonic()

    def _ordered(self) -> list[_Order]:
        """What is wanted still. Nobody else keeps it: an order holds up to 50,000 events, which whoever waits for the
        next one would hold until then, and free in one turn."""
        orders, self._orders = self._orders, []
        return [order for order in orders if not order.done.done()]

    def _order(self, delivery: OpenDelivery, *, removes: bool, again: bool = False) -> _Order:
        order = _Order(delivery, removes, again)
        if delivery.assignment.active:
            self._orders.append(order)
            self._wake.set()
        else:
            order.end(None)
        return order

    def _pause_s(self) -> float:
        if not self._losses:
            return self.policy.pause_s
        doubled_s = self.policy.recovery_pause_s * 2.0 ** min(self._losses - 1, 16)
        return min(doubled_s, self.policy.recovery_pause_max_s)

    async def _write(self, orders: list[_Order]) -> None:
        """One transaction for all orders and for what is unproven. The caller holds the lock."""
        entered = [order.delivery for order in orders if not order.removes]
        removed = [order.delivery for order in orders if order.removes and order.delivery.attempted]
        unproven = list(self._deliveries.unproven)
        assignment = orders[0].delivery.assignment if orders else self._assignment()
        if assignment is None or not assignment.ready or not assignment.active:
            return
        if not entered and not removed and not unproven:
            for order in orders:
                order.end(self._clock.monotonic())
            return
        fresh = [order.delivery for order in orders if not order.removes and not order.again]
        leaving = self._deliveries.leaving(item for delivery in fresh for item in delivery.items)
        began = self._clock.monotonic()
        if not await self._committed(assignment, entered, removed, leaving):
            self._refile(orders, assignment)
            return
        self._losses = 0
        if not assignment.active:
            # Whoever owns the partitions now reads from the journal what has been written here.
            self._refile(orders, assignment)
            return
        self._deliveries.left(leaving)
        for delivery in fresh:
            self._deliveries.begun(delivery)
        for delivery in removed:
            self._deliveries.taken_out(delivery)
        del self._deliveries.unproven[: len(unproven)]
        for order in orders:
            order.end(began)

    def _refile(self, orders: list[_Order], assignment: Assignment) -> None:
        """Nothing was written, as far as we know: again, or never, if the assignment is over."""
        if assignment.active:
            self._orders[:0] = orders
            self._wake.set()
            return
        for order in orders:
            order.end(None)

    async def _committed(
        self, assignment: Assignment, entered: list[OpenDelivery], removed: list[OpenDelivery], leaving: Leaving
    ) -> bool:
        now_ms = self._clock.wall_ms()
        closing = [*leaving.closing, *(entry for delivery in removed for entry in delivery.entries.values())]
        writes = self._deliveries.entry_writes(entered, now_ms)
        removals = self._deliveries.removal_writes([*closing, *self._deliveries.unproven], now_ms)
        for delivery in entered:
            delivery.attempted = True
        try:
            await self._committer.commit(
                writes, _offsets(assignment, [*entered, *removed]), assignment.membership, after=removals
            )
        except FencedError:
            self._hooks.fenced(assignment)
            return False
        except RefusedError as error:
            self._hooks.refused(error)
            return False
        except TransactorLostError as error:
            self._losses += 1
            self._hooks.lost(str(error))
            await self._settler.reopen(lambda: assignment.active)
            if assignment.active and self._committer.healthy:
                self._hooks.recovered()
            return False
        return True


def _offsets(assignment: Assignment, deliveries: list[OpenDelivery]) -> dict[TopicPartition, Committed]:
    """The concerned partitions' offsets, unchanged: what fences the transaction. All of them, if none is named."""
    tps = {tp for delivery in deliveries for tp in delivery.tps} or assignment.partitions.keys()
    commits = {tp: assignment.partitions[tp].last_commit for tp in tps}
    return {tp: Committed(commit.offset, commit.metadata) for tp, commit in commits.items()}
