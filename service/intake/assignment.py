"""What a lane holds of one generation of its consumer group: partitions, their ledgers, and the right to commit.

Everything that is read, planned, delivered and settled belongs to one assignment. At the next rebalance it ends as a
whole: what is unfinished then is unfinished work, to be read again by whoever owns the partition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from aiokafka.structs import TopicPartition

from service.dedupe.window import DedupeWindow
from service.kafka.offsets import CommittedOffset
from service.kafka.private import Membership
from service.offsets.ledger import PartitionLedger

if TYPE_CHECKING:
    from service.intake.item import Item
    from service.journal.deliveries import OpenEntry


# Why a partition is not read yet, or the whole lane.
READING_BACK = "reading back the dedupe window"


class PartitionState:
    """One assigned partition: its ledger and its unfinished records by offset, oldest first."""

    __slots__ = (
        "assignment",
        "committed",
        "crowded",
        "interrupted",
        "is_replay",
        "items",
        "last_commit",
        "ledger",
        "reading_back",
        "tp",
        "window",
    )

    def __init__(
        self,
        assignment: Assignment,
        tp: TopicPartition,
        ledger: PartitionLedger,
        *,
        committed: int | None = None,
        last_commit: CommittedOffset | None = None,
        is_replay: bool,
    ) -> None:
        self.assignment = assignment
        self.tp = tp
        self.ledger = ledger
        self.is_replay = is_replay
        # The offset of the last commit, for a person who asks; None where it is not known.
        self.committed = committed
        # What was committed last, as it was: a transaction that settles nothing here commits it once more.
        self.last_commit = last_commit or CommittedOffset(ledger.low, "")
        # Offsets of deliveries that an earlier owner began, and that are still to be read.
        self.interrupted: dict[int, OpenEntry] = {}
        # Intake of this partition waits: what has finished would no longer fit into its commit.
        self.crowded = False
        # What earlier records had: None where the lane does not dedupe, and while it is read back.
        self.window: DedupeWindow | None = None
        # The partition is not read yet: its window is being read back.
        self.reading_back = False
        # Read and not settled, in the order read: the first is what the commit waits for.
        self.items: dict[int, Item] = {}


class Assignment:
    """One generation's worth of work.

    ``active`` is True until the partitions are given back or lost; it never becomes True again, and whoever holds
    work of an assignment that is not active drops it. ``ready`` is set once offsets are known and reading goes on.
    """

    def __init__(
        self,
        membership: Membership,
        partitions: frozenset[TopicPartition],
        *,
        awake: Callable[[], bool] = lambda: True,
        doubtful: bool = False,
    ) -> None:
        self.membership = membership
        # False once this process stood still for so long that the partitions may be another's.
        self._awake = awake
        # The membership may have ended: it is proved by a commit before anything is called.
        self.doubtful = doubtful
        self.tps = partitions
        self.partitions: dict[TopicPartition, PartitionState] = {}
        # The offsets found at the assignment; what is committed later stands with the partitions.
        self.committed: Mapping[TopicPartition, CommittedOffset] = {}
        # Partitions of which the group told less than the journal, which is right.
        self.behind: frozenset[TopicPartition] = frozenset()
        self.active = True
        self.ready = False
        self.draining = False
        # When the drain ends (monotonic), once it has begun: whoever joins it keeps to it.
        self.drain_until: float | None = None
        # What was unfinished at its end: nobody's any more, and kept for as long as it takes to free it.
        self.left: list[Item] = []

    @property
    def reading_back(self) -> int:
        """How many partitions are not read yet because their dedupe window is being read back."""
        return sum(state.reading_back for state in self.partitions.values())

    def is_idle(self) -> bool:
        """Whether nothing is unfinished, in memory or out of it, and nothing that was begun is to be read again."""
        states = self.partitions.values()
        return self.ready and not any(s.items or s.ledger.deferred or s.interrupted for s in states)

    def may_start(self) -> bool:
        """Whether new calls may begin."""
        return self.active and not self.draining and self._awake()

    def end(self) -> None:
        """The partitions are somebody else's now; unfinished work is dropped."""
        self.active = False
        for state in self.partitions.values():
            self.left.extend(state.items.values())
            state.items.clear()
