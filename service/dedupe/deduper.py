"""A lane's windows: which of them hold from one assignment to the next, and which are read back first.

A window depends on the log alone. So one that is here already is as good as one that is read back, whoever had the
partition meanwhile; only what is missing at its end is read.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiokafka.client import AIOKafkaClient
from aiokafka.structs import TopicPartition

from contracts.envelope import decode
from service.clock import Clock
from service.dedupe.events import repeats
from service.dedupe.readback import AROUND, ReadBack, Records, Stretch
from service.dedupe.window import ENTRY_BYTES, DedupeWindow
from service.intake.assignment import Assignment, PartitionState
from service.journal.reading import Starts

# Timestamps may run back by so much behind those around the committed offset and are still judged exactly.
_DISORDER_MS = 60_000


class DedupePolicy(msgspec.Struct, frozen=True):
    """What the operator chose: the window, and the memory that all windows of the lane may take."""

    window_ms: int
    max_bytes: int


class Deduper:
    """The windows of one lane in this process."""

    def __init__(
        self, policy: DedupePolicy, connection: Mapping[str, Any], client: AIOKafkaClient, clock: Clock
    ) -> None:
        self._policy = policy
        self._connection = connection
        self._client = client
        self._clock = clock
        self._disorder_ms = min(policy.window_ms, _DISORDER_MS)
        self._reach_ms = policy.window_ms + self._disorder_ms
        self._windows: dict[TopicPartition, DedupeWindow] = {}
        self._starts: Starts = {}

    def begin(self, assignment: Assignment, starts: Starts) -> None:
        """Give each partition its window, or mark it as one whose window is to be read back before it is read."""
        self._starts = starts
        self._windows = {tp: window for tp, window in self._windows.items() if tp in assignment.tps}
        for state in assignment.partitions.values():
            if state.is_replay:
                continue
            state.window = self._still_good(state)
            state.reading_back = state.window is None

    def forget(self, tp: TopicPartition) -> None:
        """The partition is not what it was: its topic was made anew, or begins somewhere else."""
        self._windows.pop(tp, None)

    async def read_back(self, assignment: Assignment, ready: Callable[[PartitionState], None]) -> None:
        """Read back all windows that the assignment waits for; ``ready`` for each as soon as it can be read.

        Raises KafkaError; called again it goes on with those that are left.
        """
        waiting = {tp: state for tp, state in assignment.partitions.items() if state.reading_back}
        if not waiting:
            return

        def done(tp: TopicPartition) -> None:
            state, window = waiting[tp], windows[tp]
            window.end = max(window.end, committed[tp])
            self._windows[tp] = state.window = window
            state.reading_back = False
            ready(state)

        def take(tp: TopicPartition, records: Records) -> None:
            window = windows[tp]
            for record in records:
                repeats(window, decode(record.value, record.headers), record.timestamp, record.offset)

        committed = {tp: state.ledger.position for tp, state in waiting.items()}
        async with ReadBack(self._connection, self._client) as reading:
            lowest = await reading.lowest_timestamps(committed)
            now_ms = self._clock.wall_ms()
            from_ms = {tp: max(0, lowest.get(tp, now_ms) - self._reach_ms) for tp in waiting}
            begins = await reading.offsets_at(from_ms)
            stretches: dict[TopicPartition, Stretch] = {}
            windows: dict[TopicPartition, DedupeWindow] = {}
            for tp in waiting:
                begin = min(committed[tp], max(begins.get(tp, committed[tp]), _first_offset(self._starts, tp)))
                windows[tp] = self._window(tp, begin, from_ms[tp], committed[tp])
                stretches[tp] = Stretch(max(begin, windows[tp].end), committed[tp])
            await reading.read(stretches, take, done)

    def bound(self) -> list[TopicPartition]:
        """Forget what is oldest where the windows take more memory than they may; of which partitions."""
        shortened: list[TopicPartition] = []
        most = self._policy.max_bytes // ENTRY_BYTES
        while sum(map(len, self._windows.values())) > most:
            tp = max(self._windows, key=lambda tp: len(self._windows[tp]))
            before = len(self._windows[tp])
            self._windows[tp].forget_oldest()
            if len(self._windows[tp]) == before:
                break
            shortened.append(tp)
        return shortened

    def _still_good(self, state: PartitionState) -> DedupeWindow | None:
        """The window of an earlier assignment, if it has all that may be asked of it from the committed offset on."""
        window, offset = self._windows.get(state.tp), state.ledger.position
        if window is None or offset > window.end:
            return None
        lowest_ms = window.lowest_ms_from(max(0, offset - AROUND))
        return window if lowest_ms is not None and lowest_ms - self._reach_ms >= window.complete_from_ms else None

    def _window(self, tp: TopicPartition, begin: int, from_ms: int, committed: int) -> DedupeWindow:
        """The one that is here, to be read on at its end, or a new one."""
        window = self._windows.pop(tp, None)
        if window is not None and window.complete_from_ms <= from_ms and window.end <= committed:
            return window
        return DedupeWindow(
            self._policy.window_ms, begin=begin, complete_from_ms=from_ms, disorder_ms=self._disorder_ms
        )


def _first_offset(starts: Starts, tp: TopicPartition) -> int:
    """Where the lane began with the partition: what lies before it was never the lane's."""
    entry = starts.get((tp.topic, tp.partition))
    return 0 if entry is None or entry.first_offset is None else entry.first_offset
