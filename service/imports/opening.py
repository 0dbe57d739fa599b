"""Whether one more import may be opened, beyond that its slot is free.

Where ``slots`` were changed while imports were open, one slot can have several of them by now. Then a slot of another
process that nothing has taken is no right to open one more: what all processes have open is read from the journal once
in an assignment, and again until no slot has two. From there on none ever has, for each slot is one process's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aiokafka.client import AIOKafkaClient

from service.imports.runs import ImportRun
from service.imports.slots import SlotTable, is_crowded
from service.intake.assignment import Assignment
from service.journal.reading import read_journal

CROWDED = "more imports are open than slots: slots were changed meanwhile"


class ReadsSlots(Protocol):
    """Where it is told what all processes have open."""

    async def crowded(self, slots: int) -> bool:
        """Whether one of so many slots has two imports. Raises KafkaError, JournalUnreadableError."""


class JournalSlots:
    """Out of the journal, with a consumer of its own."""

    def __init__(self, connection: Mapping[str, Any], client: AIOKafkaClient, journal: str) -> None:
        self._connection = connection
        self._client = client
        self._topic = journal

    async def crowded(self, slots: int) -> bool:
        """As :class:`ReadsSlots` says."""
        partitions = range(len(self._client.cluster.partitions_for_topic(self._topic) or ()))
        journal = await read_journal(self._connection, self._topic, own=partitions)
        return is_crowded(journal.deliveries, slots)


class Opening:
    """``crowded``: as far as is known, a slot of any process has two imports."""

    def __init__(self, slots: SlotTable, reads: ReadsSlots) -> None:
        self._slots = slots
        self._reads = reads
        self._looked: Assignment | None = None
        self.crowded = False

    def forget(self) -> None:
        """The assignment has ended."""
        self._looked = None
        self.crowded = False

    async def allowed(self, run: ImportRun, runs: Sequence[ImportRun]) -> bool:
        """Whether the run's import may be created now; ``runs``: all of this process, in order. Raises KafkaError,
        JournalUnreadableError."""
        if self._is_behind(run, runs):
            return False
        if self._looked is not run.assignment:
            crowded = await self._counted(runs)
            if not run.assignment.active:
                return False
            self.crowded = crowded
            self._looked = None if crowded else run.assignment
        return not self.crowded

    def _is_behind(self, run: ImportRun, runs: Sequence[ImportRun]) -> bool:
        """Whether another one of its slot is open, or goes first."""
        taken = self._slots.taken_by(run.slot)
        goes_first = True
        for other in runs:
            if other is run:
                goes_first = False
            elif other.key in taken and (other.delivery is not None or goes_first):
                return True
        return False

    async def _counted(self, runs: Sequence[ImportRun]) -> bool:
        if len(self._slots.owned) < self._slots.count:
            return await self._reads.crowded(self._slots.count)
        entries = {(partition, run.key) for run in runs if run.delivery for partition in run.delivery.entries}
        return is_crowded(entries, self._slots.count)
