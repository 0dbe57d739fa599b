"""The rows of an import's file, from the events that are in it: in an order that a restart finds again, one for each
key, and whose row was sent for whom."""

import heapq
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from contracts.events import Event
from handlers.base import ExpressionError, Refusal
from handlers.imports.coalescing import merged
from handlers.imports.rows import ImportHandler, Row
from service.intake.item import Item
from service.turns import Turns

T = TypeVar("T")
_Change = tuple[int, Row]
Plan = Callable[[Event, bytes | None], Sequence[Row] | Refusal]

_AT_ONCE = 200


class FileRows(msgspec.Struct):
    """``lines`` of the file in order. ``sent_for``: of each event that has no row of its own in the file, by the place
    of the event among ``items``, the event whose row was sent."""

    items: list[Item]
    lines: list[bytes]
    sent_for: dict[int, Item]


def in_order(items: Iterable[Item]) -> Iterator[Item]:
    """Events in an order that only the records themselves decide: those of a partition by their offsets, partitions
    merged by their records' timestamps."""
    by_tp: dict[tuple[str, int], list[Item]] = {}
    for item in items:
        by_tp.setdefault(item.partition.tp, []).append(item)
    for found in by_tp.values():
        found.sort(key=_offset)
    return heapq.merge(*(by_tp[tp] for tp in sorted(by_tp)), key=_timestamp)


async def rows_of(items: Sequence[Item], plan: Plan, turns: Turns) -> FileRows:
    """The file's rows. Events were planned: each has a row at least."""
    rows = FileRows([], [], {})
    # A list only where a key has several changes: 50,000 lists are work for Python's collector.
    changes: dict[Hashable, _Change | list[_Change]] = {}
    for place, item in enumerate(in_order(items)):
        if not place % _AT_ONCE:
            await turns.rest()
        rows.items.append(item)
        for n, row in enumerate(item.rows):
            # A row without a key is never the same as another.
            key: Hashable = row.key if row.key is not None else (place, n)
            change = (place, row)
            found = changes.setdefault(key, change)
            if isinstance(found, list):
                found.append(change)
            elif found is not change:
                changes[key] = [found, change]
    lost: Counter[int] = Counter()
    for count, found in enumerate(changes.values()):
        if not count % _AT_ONCE:
            await turns.rest()
        if isinstance(found, tuple):
            rows.lines.append(found[1].line)
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
    return rows


def parts_of(handler: ImportHandler, group: Hashable, lines: Iterable[bytes]) -> Iterator[bytes]:
    """The file's parts in order: head, lines with what stands between them, tail."""
    yield handler.head(group)
    between = b""
    for line in lines:
        if between:
            yield between
        yield line
        between = handler.between()
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


def _offset(item: Item) -> int:
    return item.offset


def _timestamp(item: Item) -> int:
    return item.record.timestamp
