"""The batched way of delivery of a lane: its journal, its dispatcher, and what an earlier owner left open."""

from collections.abc import Mapping, Sequence

from aiokafka.structs import TopicPartition

from contracts.ids import ResultIds
from contracts.journal import Delivery
from contracts.outcomes import Outcome, Reason
from handlers.base import BatchHandler
from service.delivery.bulk import Bulk
from service.delivery.bulk_dispatcher import BulkDispatcher, BulkHooks
from service.delivery.lane_delivery import DeliveryMeans, LoadHooks
from service.intake.assignment import Assignment, PartitionState
from service.intake.item import Item
from service.intake.starts import Begin
from service.journal.deliveries import OpenDeliveries
from service.journal.recovery import Recovered, recover
from service.journal.writer import JournalWriter
from service.settling.batches import PartitionWrite
from service.turns import Turns

INTERRUPTED = "begun before a restart or a takeover: whether it took effect is not known"


class BulkWay:
    """What a lane whose handler sends several events in one request has beside all lanes."""

    def __init__(
        self,
        lane: str,
        handler: BatchHandler,
        means: DeliveryMeans,
        load_hooks: LoadHooks,
        hooks: BulkHooks,
        deliveries: OpenDeliveries,
        journal: JournalWriter,
    ) -> None:
        self._kind = handler.name
        self._repeats = means.policy.repeat_in_doubt
        self._clock = means.clock
        self._hooks = hooks
        self.deliveries = deliveries
        self.journal = journal
        self.dispatcher = BulkDispatcher(handler, means, load_hooks, hooks, journal, ResultIds(lane))

    def deliver(self, batch_id: str, items: list[Item]) -> None:
        """Take a batch."""
        self.dispatcher.dispatch(Bulk(batch_id, items))

    def forget(self) -> None:
        """Drop what is of assignments that have ended."""
        self.deliveries.forget()
        self.journal.forget()

    # -- what an earlier owner left open

    def recover(
        self, deliveries: Mapping[tuple[int, str], Delivery], begins: Mapping[TopicPartition, Begin]
    ) -> Recovered:
        """Which records were begun and are not finished. Raises JournalUnreadableError."""
        return recover(deliveries, begins, self._kind)

    async def removals(self, recovered: Recovered) -> Sequence[PartitionWrite]:
        """What takes the entries out that nothing is left of."""
        return await self.deliveries.removals_in_turns(recovered.stale, self._clock.wall_ms(), Turns(self._clock))

    def begin(self, assignment: Assignment, recovered: Recovered) -> None:
        """The assignment's partitions are read from now on."""
        self.deliveries.found(recovered.entries)
        for tp, offsets in recovered.interrupted.items():
            assignment.partitions[tp].interrupted = offsets

    def take_interrupted(self, item: Item) -> bool:
        """A record that was read, and whose delivery was begun: it ends in doubt, or is delivered once more. False: it
        goes on as any other.

        Its plan says what was sent, never that nothing was: the configuration may be another one by now.
        """
        entry = item.entry = item.partition.interrupted.pop(item.offset)
        if self._repeats:
            item.doubted = True
            return False
        item.outcome, item.reason, item.detail = Outcome.IN_DOUBT, Reason.INTERRUPTED, INTERRUPTED
        item.batch_id = entry.batch_id
        item.called = True
        item.remaining = 0
        for operation in item.operations:
            operation.outcome, operation.reason, operation.detail = item.outcome, item.reason, item.detail
            operation.attempts = 1
            self._hooks.operations_ended(operation.kind, item.outcome, 1)
        return False

    def finished_before(self, state: PartitionState, offset: int) -> None:
        """The record was settled in front of the restart: nothing of it is in doubt."""
        self.deliveries.gone(state.interrupted.pop(offset), 1)

    def pass_gone(self, state: PartitionState) -> list[int]:
        """Records that were begun and that reading has passed without finding them; their entries need not wait."""
        position = state.ledger.position
        gone = sorted(offset for offset in state.interrupted if offset < position)
        for offset in gone:
            self.deliveries.gone(state.interrupted.pop(offset), 1)
        return gone
