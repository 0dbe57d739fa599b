"""Compares what existed with what was told of it. Pure: the reader of topics feeds it, and the verdict is read off.

A partition's window is ``first`` to before ``end``. What the group had not finished when the audit looked is pending,
whatever has been told of it since.
"""

from collections import Counter

import msgspec
import numpy as np

from contracts.outcomes import DEAD, Outcome
from service.auditing.marks import (
    CODE_MASK,
    CODES,
    DEAD_LETTER,
    DEAD_LETTERS,
    EXISTS,
    OLD,
    OLD_DEAD,
    OUTCOMES,
    REPEATED,
    TWO_OUTCOMES,
    Flags,
    Marks,
    Page,
    Ranges,
)

_EXAMPLES = 5
_DEAD_CODES = np.array(sorted(CODES[outcome] for outcome in DEAD), dtype=np.uint16)


class Window(msgspec.Struct, frozen=True):
    """What is asked of one partition. ``started`` is where the lane began with it; ``first`` the first offset that is
    compared: what lies between them is past. ``finished``: committed, or named in the commit's metadata."""

    started: int
    first: int
    end: int
    finished: Ranges
    lost: Ranges = Ranges()
    is_replay: bool = False


class Terms(msgspec.Struct, frozen=True):
    """How the lane publishes. ``skipped_published`` false: an event without result may have been skipped.
    ``at_least_once``: a result may appear again, and an ``in_doubt`` one after another."""

    skipped_published: bool = True
    at_least_once: bool = False


class LaneAudit(msgspec.Struct):
    """What an audit found of a lane; counts are of records, replayed ones included."""

    events: int = 0
    results: dict[str, int] = {}
    missing: int = 0
    duplicate: int = 0
    contradictory: int = 0
    pending: int = 0
    unknown: int = 0
    past: int = 0
    lost: int = 0
    unproven: int = 0
    # Of those, beyond what the design names: results that appeared again, where that may happen; replays among the
    # events; results of offsets that hold no record (compaction took it).
    repeated: int = 0
    replays: int = 0
    of_no_record: int = 0
    examples: list[str] = []

    @property
    def proven(self) -> bool:
        """Whether nothing is missing, duplicate or contradictory."""
        return not (self.missing or self.duplicate or self.contradictory)


Place = tuple[str, int]


class LaneTally:
    """Collects marks of one lane's partitions. Feed it first, then read :meth:`verdict`."""

    def __init__(self, windows: dict[Place, Window], terms: Terms) -> None:
        self._windows = windows
        self._terms = terms
        self._marks = {place: Marks() for place in windows}
        self._deleted: dict[Place, list[tuple[int, int]]] = {}
        # Dead letters of replays name their first origin: they are joined by the id of the result.
        self._replays: set[str] = set()
        self._promised: Counter[str] = Counter()
        self._dead_replays: Counter[str] = Counter()

    def record(
        self, topic: str, partition: int, offset: int, result_id: str, *, old: bool = False, old_dead: bool = False
    ) -> None:
        """A record exists, and what the id of its result is. ``old``: its result may have been deleted; ``old_dead``:
        its dead letter may have."""
        marks = self._marks_at(topic, partition, offset)
        if marks is None:
            return
        marks.add(offset, EXISTS | (OLD if old else 0) | (OLD_DEAD if old_dead else 0))
        window = self._windows[topic, partition]
        if window.is_replay and not old and not old_dead and window.finished.holds(offset):
            self._replays.add(result_id)

    def deleted(self, topic: str, partition: int, first: int, end: int) -> None:
        """Records that the audit wanted to read, and that were deleted before: they are past, whatever they were. In
        order, and none twice."""
        window = self._windows[topic, partition]
        self._deleted.setdefault((topic, partition), []).append((max(first, window.first), min(end, window.end)))

    def result(self, topic: str, partition: int, offset: int, outcome: Outcome, result_id: str) -> None:
        """A result names the record."""
        if (marks := self._marks_at(topic, partition, offset)) is not None:
            marks.result(offset, outcome)
            if outcome in DEAD and self._windows[topic, partition].is_replay:
                self._promised[result_id] += 1

    def dead_letter(self, topic: str, partition: int, offset: int, result_id: str, replays: int) -> None:
        """A dead letter; place of its first source record."""
        if replays:
            self._dead_replays[result_id] += 1
        elif (marks := self._marks_at(topic, partition, offset)) is not None:
            marks.dead_letter(offset)

    def verdict(self) -> LaneAudit:
        """What holds."""
        found = LaneAudit(results=dict.fromkeys((outcome.value for outcome in OUTCOMES), 0))
        for (topic, partition), marks in sorted(self._marks.items()):
            window = self._windows[topic, partition]
            found.past += max(0, window.first - window.started) - window.lost.count(window.started, window.first)
            found.lost += window.lost.count(window.started, window.end)
            deleted = self._deleted.get((topic, partition), [])
            found.past += sum(end - first - window.lost.count(first, end) for first, end in deleted)
            for first, page in marks.pages():
                self._judge(found, f"{topic}-{partition}", window, first, page)
                told = (page & CODE_MASK != 0) & (page & EXISTS == 0)
                found.of_no_record += int((told & ~Ranges(tuple(deleted)).over(first, len(page))).sum())
        self._judge_replays(found)
        found.results = {name: count for name, count in found.results.items() if count}
        return found

    def _marks_at(self, topic: str, partition: int, offset: int) -> Marks | None:
        window = self._windows.get((topic, partition))
        if window is None or not window.first <= offset < window.end:
            return None
        return self._marks[topic, partition]

    def _judge(self, found: LaneAudit, name: str, window: Window, first: int, page: Page) -> None:
        codes = page & CODE_MASK
        exists, told = (page & EXISTS) != 0, codes != 0
        finished = window.finished.over(first, len(page))
        lost = window.lost.over(first, len(page))
        found.events += int(exists.sum())
        if window.is_replay:
            found.replays += int(exists.sum())
        for code, count in enumerate(np.bincount(codes[exists])):
            if code:
                found.results[OUTCOMES[code - 1].value] += int(count)
        found.pending += int((exists & ~told & ~finished & ~lost).sum())
        silent = exists & ~told & finished & ~lost
        old = (page & OLD) != 0
        found.unknown += int((silent & old).sum())
        silent &= ~old
        if self._terms.skipped_published:
            found.missing += self._example(found, "missing", name, first, silent)
        else:
            found.unproven += int(silent.sum())
        self._judge_twice(found, name, first, page)
        self._judge_dead_letters(found, name, window, first, page, finished)

    def _judge_twice(self, found: LaneAudit, name: str, first: int, page: Page) -> None:
        again, differing = (page & REPEATED) != 0, (page & TWO_OUTCOMES) != 0
        if self._terms.at_least_once:
            # One in doubt after another outcome is the former owner's last word, or the new one's: the first counts.
            found.repeated += int((again | differing).sum())
            return
        found.duplicate += self._example(found, "duplicate", name, first, again & ~differing)
        found.contradictory += self._example(found, "two outcomes", name, first, differing)

    def _judge_dead_letters(
        self, found: LaneAudit, name: str, window: Window, first: int, page: Page, finished: Flags
    ) -> None:
        if window.is_replay:
            return
        promised = np.isin(page & CODE_MASK, _DEAD_CODES)
        there = (page & DEAD_LETTER) != 0
        old, old_dead = (page & OLD) != 0, (page & OLD_DEAD) != 0
        without_letter = promised & ~there & finished & ~old_dead
        found.contradictory += self._example(found, "a result without its dead letter", name, first, without_letter)
        if not self._terms.at_least_once:
            without_result = there & ~promised & finished & ~old
            found.contradictory += self._example(found, "a dead letter without its result", name, first, without_result)
            more = (page & DEAD_LETTERS) != 0
            found.contradictory += self._example(found, "more than one dead letter", name, first, more)

    def _judge_replays(self, found: LaneAudit) -> None:
        if self._terms.at_least_once:
            return
        for what, ids in (
            ("a replay's dead letter without its result", self._dead_replays - self._promised),
            ("a replay's result without its dead letter", self._promised - self._dead_replays),
        ):
            # What is not yet, or no more, among the replays that are looked at says nothing.
            known = sorted(one for one in ids.elements() if one in self._replays)
            found.contradictory += len(known)
            found.examples += [f"{what}: result {one}" for one in known[:_EXAMPLES]]

    def _example(self, found: LaneAudit, what: str, name: str, first: int, where: Flags) -> int:
        count = int(where.sum())
        if count:
            told = sum(example.startswith(f"{what}: ") for example in found.examples)
            for index in np.flatnonzero(where)[: max(0, _EXAMPLES - told)]:
                found.examples.append(f"{what}: {name} offset {first + int(index)}")
        return count
