"""When a lane was held or paused: that time does not count against a deadline. Pure state, handed the time.

It is kept for each partition, for a partition may have been held by one owner and not by another, and in the journal,
so that neither a restart nor a takeover makes dead letters of an outage. The kind reading is the rule: what was held
when its owner died counts as held until the next owner takes the partition over.

All times are wall-clock milliseconds.
"""

from collections.abc import Collection, Mapping

from contracts.journal import HeldTime as Entry

# What an entry holds at most; beyond that the two that are closest become one, and what lies between counts as held.
_MOST_INTERVALS = 200

Interval = tuple[int, int]


class HeldTime:
    """The intervals of one partition: apart, ascending, and perhaps one that has not ended."""

    __slots__ = ("_intervals", "_since")

    def __init__(self) -> None:
        self._intervals: list[Interval] = []
        self._since: int | None = None

    def begin(self, from_ms: int) -> None:
        """Held from now on, or from some moment before; nothing changes if it is already."""
        if self._since is None:
            self._since = from_ms

    def end(self, now_ms: int) -> None:
        """The lane goes on."""
        if self._since is not None:
            self._join([(self._since, max(self._since, now_ms))])
            self._since = None

    def since(self, from_ms: float, now_ms: int) -> float:
        """How many milliseconds after ``from_ms`` were held."""
        held = 0.0
        for start, end in self._all(now_ms):
            held += max(0.0, end - max(start, from_ms))
        return held

    def read(self, entry: Entry, now_ms: int) -> None:
        """What the journal says of earlier owners, this process among them. An interval that nobody ended ends now,
        but for one whose end this process knows better."""
        begun = {start for start, _ in self._intervals}
        for start, end in entry.intervals:
            if end is not None:
                self._join([(start, max(start, end))])
            elif start not in begun and start != self._since:
                self._join([(start, max(start, now_ms))])

    def forget(self, before_age_ms: float, now_ms: int) -> None:
        """Drop what no event can need: whoever is older than the end of it has reached that age by time that counts."""
        while self._intervals:
            end = self._intervals[0][1]
            if now_ms - end - self.since(end, now_ms) <= before_age_ms:
                return
            del self._intervals[0]

    def entry(self) -> Entry:
        """For the journal."""
        while len(self._intervals) > _MOST_INTERVALS:
            gaps = [after[0] - before[1] for before, after in zip(self._intervals, self._intervals[1:], strict=False)]
            at = gaps.index(min(gaps))
            self._intervals[at : at + 2] = [(self._intervals[at][0], self._intervals[at + 1][1])]
        still = () if self._since is None else ((self._since, None),)
        return Entry((*self._intervals, *still))

    def _all(self, now_ms: int) -> list[Interval]:
        if self._since is None:
            return self._intervals
        return _merged([*self._intervals, (self._since, max(self._since, now_ms))])

    def _join(self, more: list[Interval]) -> None:
        self._intervals = _merged([*self._intervals, *more])


class HeldTimes:
    """One lane's partitions in this process. ``changed`` is set where the journal may lack something."""

    def __init__(self, keep_ms: float) -> None:
        """``keep_ms``: the greatest age that an event may reach, its held time not counted."""
        self._keep_ms = keep_ms
        self._partitions: dict[int, HeldTime] = {}
        self._owned: frozenset[int] = frozenset()
        self._written: dict[int, Entry] = {}
        self._held_from: int | None = None
        # Since when the lane is held wherever it runs, if it is: an operator's pause.
        self._everywhere_from: int | None = None
        self.changed = False

    def own(self, partitions: Collection[int], now_ms: int) -> None:
        """A new assignment: what is another's now is held by this process no longer."""
        for number in self._owned - set(partitions):
            self._partitions[number].end(now_ms)
        self._owned = frozenset(partitions)
        self._written = {}
        for number in self._owned:
            held = self._partitions.setdefault(number, HeldTime())
            if self._held_from is not None:
                held.begin(now_ms if self._everywhere_from is None else self._everywhere_from)

    def read(self, journal: Mapping[int, Entry], now_ms: int) -> None:
        """What the journal says of the partitions of this assignment."""
        for number in self._owned:
            entry = journal.get(number, Entry())
            self._written[number] = entry
            self._partitions[number].read(entry, now_ms)
            self._partitions[number].forget(self._keep_ms, now_ms)
        self.changed = True

    def begin(self, now_ms: int, from_ms: int | None = None) -> None:
        """The lane is held: in this process, since now; or, with ``from_ms``, everywhere since then."""
        if from_ms is not None:
            self._everywhere_from = min(now_ms, from_ms)
        if self._held_from is None:
            self._held_from = now_ms if from_ms is None else min(now_ms, from_ms)
            self.changed = True
            for number in self._owned:
                self._partitions[number].begin(self._held_from)

    def end(self, now_ms: int) -> None:
        """The lane goes on."""
        if self._held_from is not None:
            self._held_from = self._everywhere_from = None
            self.changed = True
            for number in self._owned:
                self._partitions[number].end(now_ms)

    def since(self, partition: int, from_ms: float, now_ms: int) -> float:
        """How many milliseconds after ``from_ms`` the partition was held."""
        held = self._partitions.get(partition)
        return 0.0 if held is None else held.since(from_ms, now_ms)

    def unwritten(self, now_ms: int) -> dict[int, Entry]:
        """The entries that the journal lacks, of partitions of which it has been read."""
        found: dict[int, Entry] = {}
        for number, written in self._written.items():
            held = self._partitions[number]
            entry = held.entry()
            if not set(entry.intervals) <= set(written.intervals) or _open(entry) != _open(written):
                held.forget(self._keep_ms, now_ms)
                found[number] = held.entry()
        return found

    def written(self, entries: Mapping[int, Entry]) -> None:
        """These are in the journal now."""
        self._written.update(entries)


def _open(entry: Entry) -> int | None:
    return next((start for start, end in entry.intervals if end is None), None)


def _merged(intervals: list[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
