"""Which rows a file has, and in which order: a restart makes the same file of the same records."""

import asyncio
import heapq
from random import Random

import pytest
from aiokafka.structs import TopicPartition

from contracts.events import CONTACT_CHANGED, ContactChanged, Event
from contracts.results import Operation
from handlers.base import Refusal
from handlers.imports.rows import Row
from service.imports import files
from service.imports.files import in_order, parts_of, rows_of
from service.intake.item import Item
from service.turns import Turns
from tests.support.fakes import START_WALL_MS, FakeTime, Source

TPS = [TopicPartition("b", 0), TopicPartition("a", 10), TopicPartition("a", 9), TopicPartition("b", 1)]


def items_of(random: Random, count: int, *, disorder_ms: int = 0, keys: int | None = None) -> list[Item]:
    """Records whose timestamps grow, but for that; ``keys``: so many different ones, or None where rows have none."""
    source = Source(*TPS)
    found = []
    for n in range(count):
        timestamp = START_WALL_MS + n // 3 - random.randrange(disorder_ms + 1)
        item = source.item(tp=random.choice(TPS), timestamp=timestamp)
        key = None if keys is None else (str(random.randrange(keys)),)
        item.event = Event("e", "s", CONTACT_CHANGED, ContactChanged("c", "updated"))
        item.rows = [Row(Operation("import.row", "c", "e"), key, b"%d\r\n" % n)]
        found.append(item)
    random.shuffle(found)
    return found


def never(event: Event, key: bytes | None) -> Refusal:
    """A plan that is not asked for: no change has a part that another lacks."""
    raise AssertionError


@pytest.mark.parametrize("at_once", [1, 5, 200])
@pytest.mark.parametrize("disorder_ms", [0, 1, 50])
def test_the_order_is_that_of_the_records(monkeypatch: pytest.MonkeyPatch, disorder_ms: int, at_once: int) -> None:
    """Partitions are merged by the timestamps of their next records, also where these go back within a partition; of
    equal ones the first partition's comes first. In whatever order events are handed over."""
    monkeypatch.setattr(files, "_AT_ONCE", at_once)
    for seed in range(20):
        random = Random(seed)
        items = items_of(random, random.choice([1, 7, 300]), disorder_ms=disorder_ms)
        parts = [
            sorted((item for item in items if item.partition.tp == tp), key=lambda item: item.offset)
            for tp in sorted(TPS)
        ]
        expected = list(heapq.merge(*parts, key=lambda item: item.record.timestamp))
        assert asyncio.run(in_order(items, Turns(FakeTime()))) == expected


@pytest.mark.parametrize("keys", [1, 40, 1_000_000, None])
def test_a_key_has_one_row_where_its_first_change_stands(keys: int | None) -> None:
    """The row of what comes last; whoever has none of its own is told whose was sent. Rows without a key all stay."""
    items = items_of(Random(7), 500, keys=keys)
    rows = asyncio.run(rows_of(items, never, Turns(FakeTime())))
    last: dict[object, Item] = {}
    for item in rows.items:
        last[id(item) if keys is None else item.rows[0].key] = item
    assert rows.lines == [item.rows[0].line for item in last.values()]
    sent = [rows.sent_for.get(place, item) for place, item in enumerate(rows.items)]
    assert sent == [last[id(item) if keys is None else item.rows[0].key] for item in rows.items]


class Frame:
    """What stands around rows: of CSV, or of a list in JSON."""

    def __init__(self, between: bytes) -> None:
        self._between = between

    def head(self, group: object) -> bytes:
        return b"[%r " % group

    def between(self) -> bytes:
        return self._between

    def tail(self) -> bytes:
        return b" ]"


@pytest.mark.parametrize("between", [b"", b","])
def test_lines_are_put_together_with_what_stands_between_them(between: bytes) -> None:
    """However many, and however long, they are: a part of a file has some of them, and is not much longer than a
    block."""
    random = Random(3)
    for count in (0, 1, 2, 63, 64, 65, 300):
        for longest in (3, 100_000):
            lines = [b"x" * random.randrange(longest) for _ in range(count)]
            parts = list(parts_of(Frame(between), 7, lines))  # type: ignore[arg-type] # no more is asked for
            assert b"".join(parts) == b"[7 " + between.join(lines) + b" ]"
            assert max(map(len, parts)) <= 64 * 1024 + 100_000 + 64
            assert len(parts) <= 2 + 2 * (count // 64 + 1) or longest > 3
