"""What a lane knows of one assigned partition: which offsets are unfinished; from it comes the commit.

The rejected ways: committing the consumer's position (loses what is still being delivered), waiting for the
oldest record before anything is committed (delivers all behind a stuck record again after a restart), one
flag per offset of the window (a hole or a stuck record makes the window, and so the memory, as large as the
log).
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence

import msgspec

from .deferred import BYTES_PER_KEY, MOST_KEYS, Deferred
from .metadata import MAX_BYTES, MAX_PAYLOAD_BYTES, encode, fits, runs_bytes

Runs = list[tuple[int, int]]

# Up to this window intake goes on whatever happens in it; the rest up to metadata.MAX_BITMAP_OFFSETS is for
# holes, which the caller cannot foresee when it says how many records it is about to read.
SAFE_WINDOW_OFFSETS = 20_000
# What finished without a call (skipped, invalid) may fill the metadata this far; the rest is kept for what
# must not be called again.
UNCALLED_MAX_BYTES = 3072
# By so much deflated metadata may grow although a run less is in it.
_DEFLATE_NOISE_BYTES = 64
# Greater than any offset.
_BEYOND = 2**64


class SettlePlan(msgspec.Struct, frozen=True, gc=False):
    """What a settling transaction commits of one partition; nothing has changed before it is applied.

    ``kept_back`` are offsets that must not be settled yet, because the metadata would not fit: their results
    do not go into this transaction, and the caller offers them again with the next. ``called_kept_back``
    counts those among them that had a call: they would be called again after a crash. It stays 0 while intake
    asks :meth:`room`.
    """

    commit_offset: int
    metadata: str
    settled: list[int]
    kept_back: list[int]
    called_kept_back: int
    stretches: Runs
    base_before: int
    runs_before: Runs
    base: int
    runs: Runs


class PartitionLedger:
    """The unfinished records of one partition, and the runs of finished ones above the oldest of them.

    Invariant: a commit never passes an unfinished record. ``low`` is the offset of the oldest unfinished
    record, or where reading goes on if there is none; what finished above it are ``runs``, which travel in
    the metadata. A run also covers the holes (commit markers, aborted transactions, compaction) in front of
    its records, so that holes do not split runs.

    A deferred record (``deferred.py``) is unfinished and lies in no memory: in the runs it counts as finished, and
    ``deferred`` has the first of each such key, which the commit does not pass either.

    Runs are never changed in place: a plan is made of new ones, and a transaction that is aborted leaves
    nothing to undo. Reading goes on between ``prepare`` and ``apply``.
    """

    __slots__ = (
        "_base",
        "_behind_hole",
        "_hole_before",
        "_measured",
        "_position",
        "_read_end",
        "_restored_end",
        "_runs",
        "_unfinished",
        "deferred",
    )

    def __init__(
        self, committed: int, finished: Sequence[tuple[int, int]] = (), deferred: Deferred | None = None
    ) -> None:
        """``committed`` is where reading begins; ``finished`` (half-open) and ``deferred`` are what the commit's
        metadata said."""
        # By a key's digest, the offset from which on its records are deferred. Read it, and leave it alone.
        self.deferred: dict[bytes, int] = dict(deferred or {})
        self._unfinished: set[int] = set()
        # Of unfinished records with a hole in front: where the hole begins, and the record behind that place.
        self._hole_before: dict[int, int] = {}
        self._behind_hole: dict[int, int] = {}
        self._base, self._runs = _merge(committed, [], sorted(run for run in finished if run[1] > committed))
        self._restored_end = self._runs[-1][1] if self._runs else self._base
        self._read_end = committed  # behind the record read last
        self._position = committed
        self._measured: tuple[Runs, tuple[int, int], int, int] | None = None

    @property
    def position(self) -> int:
        """The next offset to be read."""
        return self._position

    @property
    def low(self) -> int:
        """What may be committed: the oldest unfinished offset, or where reading goes on."""
        return min(self._low(self._base, len(self._unfinished)), *self.deferred.values(), _BEYOND)

    @property
    def unfinished(self) -> int:
        """How many records were read and are not settled."""
        return len(self._unfinished)

    @property
    def oldest_unfinished(self) -> int | None:
        """The offset that holds the commit."""
        return self.low if self._unfinished or self.deferred else None

    @property
    def runs(self) -> Sequence[tuple[int, int]]:
        """The finished ranges above ``low``, half-open, ascending and apart."""
        return self._runs

    def read(self, offset: int) -> bool:
        """A record was read. False: it finished beyond an earlier commit, and is not delivered again.

        Offsets ascend; between two of them lie only holes. Raises ValueError for one that was passed already.
        """
        if offset != self._read_end or offset < self._restored_end:
            return self._read_with_gap(offset)
        self._unfinished.add(offset)
        self._read_end = self._position = offset + 1
        return True

    def read_run(self, first: int, count: int) -> bool:
        """:meth:`read` of so many records one behind the other, which is what nearly always comes. False, and nothing
        has changed: a hole or what an earlier commit knew is among them."""
        if first != self._read_end or first < self._restored_end:
            return False
        self._read_end = self._position = first + count
        self._unfinished.update(range(first, first + count))
        return True

    def advance(self, position: int) -> None:
        """The consumer passed holes up to ``position`` without a record; less than known changes nothing."""
        if position <= self._position:
            return
        self._position = position
        if self._read_end < self._restored_end:
            self._absorb(self._read_end, position)

    def prepare(self, called: Sequence[int], uncalled: Sequence[int] = ()) -> SettlePlan:
        """What committing these finished offsets would look like. Changes nothing.

        ``uncalled`` ended without a call (skipped, invalid); where the metadata would become too long they
        are kept back first, from the highest down. Raises ValueError for an offset that is not unfinished, or
        given twice.
        """
        settled = sorted([*called, *uncalled])
        if not self._unfinished.issuperset(settled) or len(set(settled)) != len(settled):
            raise ValueError("settled: an offset that is not unfinished, or one twice")
        plan = self._plan(settled, [], 0)
        if len(plan.metadata) <= UNCALLED_MAX_BYTES:
            return plan
        return self._plan_kept_back(plan, called, uncalled)

    def apply(self, plan: SettlePlan) -> None:
        """The transaction of ``plan`` has been committed."""
        if not self._unfinished.issuperset(plan.settled):
            raise ValueError("this plan was applied already")
        if plan.runs_before is self._runs and plan.base_before == self._base:
            self._base, self._runs = plan.base, plan.runs
        else:  # reading has joined restored runs meanwhile
            self._base, self._runs = _merge(self._base, self._runs, plan.stretches)
        self._leave(plan.settled)

    def defer(self, offsets: Sequence[int], firsts: Deferred) -> None:
        """These records were read and leave memory unfinished. ``firsts``: from which offset on their keys are
        deferred, if they were not from a lower one. Raises ValueError for an offset that is not unfinished, and beyond
        ``MOST_KEYS`` keys.
        """
        settled = sorted(offsets)
        if not self._unfinished.issuperset(settled) or len({*self.deferred, *firsts}) > MOST_KEYS:
            raise ValueError("deferred: an offset that is not unfinished, or too many keys")
        for digest, first in firsts.items():
            self.deferred[digest] = min(first, self.deferred.get(digest, first))
        self._base, self._runs = _merge(self._base, self._runs, self._stretches(settled))
        self._leave(settled)

    def recall(self, offsets: Sequence[int], moved: Mapping[bytes, int | None]) -> None:
        """Deferred records are in memory again, unfinished like any other. ``moved``: from which offset on their keys
        are deferred now; None: nothing of them is left in front of the reading position. A key stays deferred while the
        runs of an earlier commit lie ahead, for they may hold more of it."""
        for digest, first in moved.items():
            if first is None and self._position >= self._restored_end:
                self.deferred.pop(digest, None)
            elif first is None:
                self.deferred[digest] = self._position
            else:
                self.deferred[digest] = max(first, self.deferred[digest])
        points = sorted(offsets)
        if points:
            self._unfinished.update(points)
            self._base, self._runs = _without(self._base, self._runs, points)

    def room(self, more: int = 500) -> bool:
        """Whether intake may read ``more`` records: whatever finished first, the metadata would still fit.

        A window of 20,000 offsets always does, as a bitmap. In a larger one the number of runs is what
        counts, and there are never more runs than unfinished records. Call it with the most records that one
        read can return, and with few (500) where a stuck record should leave room to the others.
        """
        return self.room_without(0, more)

    def room_without(self, fewer: int, more: int, keys: int = 0) -> bool:
        """Whether there would be room if so many of the unfinished were deferred, of so many further keys."""
        low = self.low
        window = self._position + more - low
        if window <= SAFE_WINDOW_OFFSETS:
            return True
        unfinished = len(self._unfinished) - fewer + more
        left_bytes = MAX_PAYLOAD_BYTES - 1 - BYTES_PER_KEY * (len(self.deferred) + keys)
        if worst_case_runs_bytes(unfinished, window) <= left_bytes:
            return True
        return self._worst_case_from_here(low, unfinished, window) <= left_bytes

    def _worst_case_from_here(self, low: int, unfinished: int, window: int) -> int:
        """How long the runs can get, whatever finishes first, seen from those that there are.

        What finishes in a stretch of n unfinished records adds at most a run for two of them, of two numbers; a number
        takes a second byte for each 128 offsets of the stretch at most, holes included.
        """
        if self._measured is None or self._measured[0] is not self._runs or self._measured[1] != (self._base, low):
            runs = [(low, self._base), *self._runs] if low < self._base else self._runs
            finished = sum(end - start for start, end in runs)
            self._measured = (self._runs, (self._base, low), runs_bytes(low - 1, runs), finished)
        _, _, length, finished = self._measured
        return length + unfinished + (window - finished) // 64 + 8

    def _leave(self, offsets: Sequence[int]) -> None:
        self._unfinished.difference_update(offsets)
        if self._hole_before:
            for offset in offsets:
                hole = self._hole_before.pop(offset, None)
                if hole is not None:
                    del self._behind_hole[hole]

    def _low(self, base: int, unfinished: int) -> int:
        return self._behind_hole.get(base, base) if unfinished else max(base, self._position)

    def _read_with_gap(self, offset: int) -> bool:
        if offset < self._position:
            raise ValueError(f"offset {offset} read again: reading is at {self._position}")
        hole = self._read_end
        if hole < self._restored_end:
            # Among restored runs holes are absorbed at once: their edges may have been compacted away.
            finished = self._is_finished(offset)
            self._absorb(hole, offset + 1 if finished else offset)
            self._read_end = self._position = offset + 1
            if finished:
                return False
        elif hole < offset:
            if self._unfinished:
                self._hole_before[offset] = hole
                self._behind_hole[hole] = offset
            else:
                self._base = offset
        self._unfinished.add(offset)
        self._read_end = self._position = offset + 1
        return True

    def _is_finished(self, offset: int) -> bool:
        if offset < self._base:
            return True
        index = bisect_right(self._runs, (offset, _BEYOND)) - 1
        return index >= 0 and offset < self._runs[index][1]

    def _absorb(self, start: int, end: int) -> None:
        """Nothing in ``start`` to ``end`` is unfinished."""
        if start < end:
            self._base, self._runs = _merge(self._base, self._runs, [(start, end)])
        self._read_end = max(self._read_end, end)

    def _plan(self, settled: list[int], kept_back: list[int], called_kept_back: int) -> SettlePlan:
        stretches = self._stretches(settled)
        base, runs = _merge(self._base, self._runs, stretches)
        low = self._low(base, len(self._unfinished) - len(settled))
        first = min(self.deferred.values(), default=low)
        ranges = runs
        if first < low:
            end = low if len(self._unfinished) == len(settled) else base
            ranges = [(first, end), *runs] if first < end else runs
            low = first
        return SettlePlan(
            commit_offset=low,
            metadata=encode(low, ranges, self.deferred),
            settled=settled,
            kept_back=kept_back,
            called_kept_back=called_kept_back,
            stretches=stretches,
            base_before=self._base,
            runs_before=self._runs,
            base=base,
            runs=runs,
        )

    def _plan_kept_back(self, plan: SettlePlan, called: Sequence[int], uncalled: Sequence[int]) -> SettlePlan:
        """Keep back as little as needed: first what had no call, then, beyond the hard bound, what had one."""
        candidates = sorted(uncalled, reverse=True)
        everything = plan.settled
        if candidates:
            plan = self._keep_fewest(everything, candidates, len(candidates), 0, UNCALLED_MAX_BYTES)
        if fits(plan.metadata):
            return plan
        candidates.extend(sorted(called, reverse=True))
        return self._keep_fewest(everything, candidates, len(uncalled), len(uncalled), MAX_BYTES)

    def _keep_fewest(
        self, everything: list[int], candidates: list[int], uncalled: int, at_least: int, max_bytes: int
    ) -> SettlePlan:
        """Halve towards the fewest of ``candidates``, from the first on, without which the metadata fits.

        Keeping all back leaves about what the last commit had. What makes the metadata no longer than that
        may go on too, or the oldest record, which alone shortens it, could be kept back for ever.
        """
        too_few, enough = at_least - 1, len(candidates)
        best = self._keep(everything, candidates, enough, uncalled)
        max_bytes = min(MAX_BYTES, max(max_bytes, len(best.metadata) + _DEFLATE_NOISE_BYTES))
        while enough - too_few > 1:
            count = (too_few + enough) // 2
            tried = self._keep(everything, candidates, count, uncalled)
            if len(tried.metadata) <= max_bytes:
                best, enough = tried, count
            else:
                too_few = count
        return best

    def _keep(self, everything: list[int], candidates: list[int], count: int, uncalled: int) -> SettlePlan:
        kept = set(candidates[:count])
        settled = [offset for offset in everything if offset not in kept]
        return self._plan(settled, sorted(kept), max(0, count - uncalled))

    def _stretches(self, settled: list[int]) -> Runs:
        """Ascending offsets as runs, each record with the hole in front of it."""
        if not settled:
            return []
        holes = self._hole_before
        if not holes and settled[-1] - settled[0] == len(settled) - 1:
            return [(settled[0], settled[-1] + 1)]
        stretches: Runs = []
        start = end = holes.get(settled[0], settled[0])
        for offset in settled:
            begin = holes.get(offset, offset)
            if begin != end:
                stretches.append((start, end))
                start = begin
            end = offset + 1
        stretches.append((start, end))
        return stretches


def worst_case_runs_bytes(unfinished: int, window: int) -> int:
    """How long the runs of a window can get, whatever finishes first, with this many unfinished records in
    it.

    At most one run per unfinished record, two numbers each, one byte per number; a further byte takes a
    number of 128 at least, and all numbers together are not more than the window.
    """
    numbers = 2 * unfinished
    longest = max(1, (window.bit_length() + 6) // 7)
    return numbers + min(window // 128, numbers * (longest - 1))


def _merge(base: int, runs: Runs, stretches: Runs) -> tuple[int, Runs]:
    """Join finished stretches with the runs, and what touches the base with the base."""
    if not stretches:
        return base, runs
    pieces = sorted(runs + stretches) if runs else stretches
    if len(pieces) == 1 and pieces[0][0] <= base:
        return max(base, pieces[0][1]), []
    merged: Runs = []
    start = end = base
    for piece_start, piece_end in pieces:
        if piece_start <= end:
            if piece_end > end:
                end = piece_end
        else:
            merged.append((start, end))
            start, end = piece_start, piece_end
    merged.append((start, end))
    return merged[0][1], merged[1:]


def _without(base: int, runs: Runs, points: Sequence[int]) -> tuple[int, Runs]:
    """Base and runs when ``points`` (ascending) in them are unfinished again."""
    pieces = [(min(base, points[0]), base), *runs]
    left: Runs = []
    index = 0
    for start, end in pieces:
        while index < len(points) and points[index] < end:
            point = points[index]
            index += 1
            if point < start:
                continue
            if start < point:
                left.append((start, point))
            start = point + 1
        if start < end:
            left.append((start, end))
    return (points[0], left) if points[0] < base else (base, left)
