"""The rows of an import's file, from the events that are in it: in an order that a restart finds again, one for each
key, and whose row was sent for whom."""

import heapq
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, islice
from operator import attrgetter, le
from typing import TypeVar

import msgspec
from aiokafka.structs import TopicPartition

from contracts.events import Event
from handlers.base import ExpressionError, Refusal
from handlers.imports.coalescing import merged
from handlers.imports.rows import ImportHandler, Row
from service.intake.assignment import PartitionState
from service.intake.item import Item
from service.turns import Turns, pieces

T = TypeVar("T")
_Change = tuple[int, Row]
Plan = Callable[[Event, bytes | None], Sequence[Row] | Refusal]

_AT_ONCE = 200
# Lines that are one part of a file.
_JOINED_AT_ONCE = 64
_JOINED_BYTES = 64 * 1024
_offset = attrgetter("offset")
_partition = attrgetter("partition")
_timestamp = attrgetter("record.timestamp")


class FileRows(msgspec.Struct):
    """``lines`` of the file in order. ``sent_for``: of each event that has no row of its own in the file, by the place
    of the event among ``items``, the event whose row was sent."""

    items: list[Item]
    lines: list[bytes]
    sent_for: dict[int, Item]


async def in_order(items: Sequence[Item], turns: Turns) -> list[Item]:
    """Events in an order that only the records themselves decide: those of a partition by their offsets, partitions
    merged by their records' timestamps."""
    by_state: dict[PartitionState, list[Item]] = {}
    for start in range(0, len(items), _AT_ONCE):
        # They mostly come a few dozen of a partition together.
        for state, some in groupby(items[start : start + _AT_ONCE], _partition):
            by_state.setdefault(state, []).extend(some)
        await turns.rest()
    by_tp: dict[TopicPartition, list[Item]] = {}
    for state, found in by_state.items():
        by_tp.setdefault(state.tp, []).extend(found)
    parts = [by_tp[tp] for tp in sorted(by_tp)]
    for part in parts:
        part.sort(key=_offset)
        await turns.rest()
    times: list[list[int]] = []
    for part in parts:
        times.append(list(map(_timestamp, part)))
        await turns.rest()
    if all(map(_grows, times)):
        return [item async for piece in _pieces_in_order(parts, times, turns) for item in piece]
    return [item async for item in _in_turns(heapq.merge(*parts, key=_timestamp), turns)]


async def _pieces_in_order(
    parts: Sequence[list[Item]], times: Sequence[list[int]], turns: Turns
) -> AsyncIterator[list[Item]]:
    """Partitions whose timestamps grow are merged by sorting what lies in front of a moment, and then of the next: that
    takes a third of the time."""
    at = [0] * len(parts)
    while any(place < len(part) for place, part in zip(at, parts, strict=True)):
        ahead = [own[place + _AT_ONCE] for place, own in zip(at, times, strict=True) if place + _AT_ONCE < len(own)]
        moment = min(ahead, default=None)
        upto = [len(own) if moment is None else bisect_left(own, moment) for own in times]
        if upto == at and moment is not None:
            # More have this moment than are sorted at once.
            upto = [bisect_right(own, moment) for own in times]
        piece = chain.from_iterable(part[a:b] for part, a, b in zip(parts, at, upto, strict=True))
        yield sorted(piece, key=_timestamp)
        at = upto
        await turns.rest()


async def rows_of(items: Sequence[Item], plan: Plan, turns: Turns) -> FileRows:
    """The file's rows. Events were planned: each has a row at least."""
    rows = FileRows(await in_order(items, turns), [], {})
    keys: set[Hashable] = set()
    count = 0
    for start in range(0, len(items), _AT_ONCE):
        some = list(chain.from_iterable([item.rows for item in rows.items[start : start + _AT_ONCE]]))
        rows.lines += [row.line for row in some]
        keys.update([row.key for row in some])
        count += len(some)
        await turns.rest()
    # A row without a key is never the same as another.
    if len(keys) == count or keys == {None}:
        return rows
    await _coalesce(rows, plan, turns)
    return rows


async def _coalesce(rows: FileRows, plan: Plan, turns: Turns) -> None:
    """One line for each key, and who has none of his own."""
    rows.lines.clear()
    counts: Counter[Hashable] = Counter()
    for start in range(0, len(rows.items), _AT_ONCE):
        counts.update([row.key for item in rows.items[start : start + _AT_ONCE] for row in item.rows])
        await turns.rest()
    lost: Counter[int] = Counter()
    for n, found in enumerate(await _by_key(rows.items, counts, turns)):
        if not n % _AT_ONCE:
            await turns.rest()
        if isinstance(found, Row):
            rows.lines.append(found.line)
            continue
        events = [event async for event in _in_turns((_event_of(rows.items[place]) for place, _ in found), turns)]
        best, line = _coalesced(rows.items, found, events, plan)
        rows.lines.append(line)
        winner = rows.items[best]
        for place, _ in found:
            if place != best:
                lost[place] += 1
                if lost[place] == len(rows.items[place].rows):
                    rows.sent_for[place] = winner


async def _by_key(items: Sequence[Item], counts: Mapping[Hashable, int], turns: Turns) -> list[Row | list[_Change]]:
    """One for each key, where it comes first; a list only where it has several changes: 50,000 lists are work for
    Python's collector."""
    found: list[Row | list[_Change]] = []
    several: dict[Hashable, list[_Change]] = {}
    for place, item in enumerate(items):
        if not place % _AT_ONCE:
            await turns.rest()
        for row in item.rows:
            if row.key is None or counts[row.key] == 1:
                found.append(row)
            elif row.key in several:
                several[row.key].append((place, row))
            else:
                found.append(several.setdefault(row.key, [(place, row)]))
    return found


def parts_of(handler: ImportHandler, group: Hashable, lines: Sequence[bytes]) -> Iterator[bytes]:
    """The file's parts in order: head, lines with what stands between them, tail."""
    yield handler.head(group)
    between = handler.between()
    for n, some in enumerate(pieces(lines, list(map(len, lines)), _JOINED_AT_ONCE, _JOINED_BYTES)):
        if n and between:
            yield between
        yield between.join(some)
    yield handler.tail()


def bundles(items: Sequence[Item]) -> list[list[Item]]:
    """Events that share a row stay together: whatever file one of them is in, the others are in it too."""
    leader: dict[int, int] = {}
    first: dict[Hashable, int] = {}

    def find(place: int) -> int:
        while leader[place] != place:
            leader[place] = place = leader[leader[place]]
        return place

    for place, item in enumerate(items):
        leader[place] = place
        for row in item.rows:
            if row.key is not None:
                other = find(first.setdefault(row.key, place))
                mine = find(place)
                leader[max(mine, other)] = min(mine, other)
    found: dict[int, list[Item]] = {}
    for place, item in enumerate(items):
        found.setdefault(find(place), []).append(item)
    return list(found.values())


def halves(items: Sequence[Item]) -> tuple[list[Item], list[Item]] | None:
    """Two parts of about as many rows each; None if nothing is left to divide."""
    found = bundles(items)
    if len(found) < 2:
        return None
    middle = (len(found) + 1) // 2
    first, second = found[:middle], found[middle:]
    return [item for one in first for item in one], [item for one in second for item in one]


def _event_of(item: Item) -> Event:
    event = item.read_event()
    assert event is not None
    return event


def _coalesced(
    items: Sequence[Item], found: Sequence[_Change], events: Sequence[Event], plan: Plan
) -> tuple[int, bytes]:
    """The newest change of one key, as a place among ``items``, and its row with what it lacks from the others;
    ``events`` are the changes'."""
    best, event = merged(events)
    place, row = found[best]
    if event is events[best]:
        return place, row.line
    try:
        planned = plan(event, items[place].record.key)
    except ExpressionError:
        planned = ()
    if not isinstance(planned, Refusal):
        for one in planned:
            if (one.key, one.group) == (row.key, row.group):
                return place, one.line
    return place, row.line


async def _in_turns(things: Iterable[T], turns: Turns) -> AsyncIterator[T]:
    for n, thing in enumerate(things):
        yield thing
        if not n % _AT_ONCE:
            await turns.rest()


def _grows(numbers: Sequence[int]) -> bool:
    return all(map(le, numbers, islice(numbers, 1, None)))
