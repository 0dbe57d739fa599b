"""PURE: when a lane stands still although it waits for nothing that is anybody's right.

A partition that has work, has not moved for ``stall_s`` and was not excused in all that time has stalled. The first
stall restarts the lane; another one within ``again_within_s`` fails the process's liveness. A wrong restart is worse
than a late one: whatever is not known counts as an excuse, and a process that stood still itself begins anew.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec
from aiokafka.structs import TopicPartition


class StallPolicy(msgspec.Struct, frozen=True):
    """In seconds. ``stall_s`` is longer than any request with its retry, and any transaction with its recovery."""

    stall_s: float = 120.0
    again_within_s: float = 600.0
    # A look that comes later than this says that the process stood still: the time is nobody's fault.
    look_gap_s: float = 15.0


class Sight(msgspec.Struct, frozen=True):
    """A partition at one look. ``moved`` is anything that changes when something is read, delivered or settled."""

    moved: tuple[int, ...]
    has_work: bool
    excused: bool


class Verdict(StrEnum):
    """What a look asks for."""

    FINE = "fine"
    RESTART = "restart"
    FAIL = "fail"


class Stalls:
    """One lane's partitions over time. ``now`` is monotonic, in seconds."""

    def __init__(self, policy: StallPolicy) -> None:
        self._policy = policy
        self._still: dict[TopicPartition, tuple[tuple[int, ...], float]] = {}
        self._looked_at: float | None = None
        self._restarted_at: float | None = None

    def look(self, sights: Mapping[TopicPartition, Sight], now: float) -> tuple[Verdict, list[TopicPartition]]:
        """The verdict, and the partitions that have stalled."""
        policy, last = self._policy, self._looked_at
        if last is not None and now - last > policy.look_gap_s:
            self._still.clear()
        self._looked_at = now
        still: dict[TopicPartition, tuple[tuple[int, ...], float]] = {}
        for tp, sight in sights.items():
            if sight.has_work and not sight.excused:
                before = self._still.get(tp)
                still[tp] = before if before is not None and before[0] == sight.moved else (sight.moved, now)
        self._still = still
        stalled = [tp for tp, (_, since) in still.items() if now - since >= policy.stall_s]
        if not stalled:
            return Verdict.FINE, []
        again = self._restarted_at is not None and now - self._restarted_at < policy.again_within_s
        if again:
            return Verdict.FAIL, stalled
        self._restarted_at = now
        self._still.clear()
        return Verdict.RESTART, stalled
