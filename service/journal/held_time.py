"""Writes to the journal when a lane's partitions were held: at the beginning of a hold and at its end.

A transaction of its own, with unchanged offsets, as for every entry that only an owner may write. What cannot be
written now is written with the next change, or when the partitions can be read.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping

from aiokafka.structs import TopicPartition

from contracts.journal import HeldTime, HeldTimeKey, encode_entry, encode_key
from service.clock import Clock
from service.delivery.held_time import HeldTimes
from service.errors import FencedError, RefusedError, TransactorLostError
from service.intake.assignment import Assignment
from service.settling.batches import PartitionWrite
from service.settling.settler import Committer, SettleHooks, Settler
from service.settling.transactor import Committed

_RETRY_S = 0.5
_KEY = encode_key(HeldTimeKey())


class HeldTimeWriter:
    """The one writer of a lane's ``held-time`` entries."""

    def __init__(
        self,
        committer: Committer,
        settler: Settler,
        held: HeldTimes,
        hooks: SettleHooks,
        assignment: Callable[[], Assignment | None],
        clock: Clock,
        topic: str,
    ) -> None:
        self._committer = committer
        self._settler = settler
        self._held = held
        self._hooks = hooks
        self._assignment = assignment
        self._clock = clock
        self._topic = topic
        self._wake = asyncio.Event()

    def changed(self) -> None:
        """A hold began or ended, or the partitions are others."""
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            async with self._settler.lock:
                assignment = self._assignment()
                written = assignment is None or not assignment.active or await self._write(assignment)
            if not written:
                self._wake.set()
                await asyncio.sleep(_RETRY_S)

    async def _write(self, assignment: Assignment) -> bool:
        """Write what the journal lacks; False: it has to be tried again. The caller holds the lock."""
        now_ms = self._clock.wall_ms()
        entries = self._held.unwritten(now_ms)
        offsets = _offsets(assignment, entries)
        if not entries:
            return True
        if not offsets:
            # Again when the lane's state is looked at: the offsets may be known by then.
            self._held.changed = True
            return True
        try:
            await self._committer.commit(_writes(self._topic, entries, now_ms), offsets, assignment.membership)
        except FencedError:
            self._hooks.fenced(assignment)
            return True
        except RefusedError as error:
            self._hooks.refused(error)
            return True
        except TransactorLostError as error:
            self._hooks.lost(str(error))
            await self._settler.reopen(lambda: assignment.active)
            if assignment.active and self._committer.healthy:
                self._hooks.recovered()
            return False
        if assignment.active:
            self._held.written(entries)
        return True


def _writes(topic: str, entries: Mapping[int, HeldTime], now_ms: int) -> list[PartitionWrite]:
    return [
        PartitionWrite(topic, number, [(now_ms, _KEY, encode_entry(entry), [])]) for number, entry in entries.items()
    ]


def _offsets(assignment: Assignment, numbers: Collection[int]) -> dict[TopicPartition, Committed]:
    """Offsets as they were committed last: of the partitions concerned, or of any, for all prove the membership.

    None where the lane holds because all of its offsets are lost: then there is nothing to prove it with.
    """
    if assignment.ready:
        commits = {tp: state.last_commit for tp, state in assignment.partitions.items()}
    else:
        commits = dict(assignment.committed)
    concerned = {tp: commit for tp, commit in commits.items() if tp.partition in numbers} or commits
    return {tp: Committed(commit.offset, commit.metadata) for tp, commit in concerned.items()}
