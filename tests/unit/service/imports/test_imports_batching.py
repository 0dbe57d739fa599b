"""Batches that grow while no slot is free: what goes together, what waits, and where an import is full."""

from collections.abc import Sequence
from random import Random
from sys import getsizeof

import pytest
from aiokafka.structs import TopicPartition

from contracts.results import Operation
from handlers.imports.rows import Row
from service.batching.batcher import BatchPolicy, Cause, OpenBatch
from service.imports import behind
from service.imports.batching import BatchingMeans, ImportBatcher, keys_of
from service.imports.growing import Line
from service.imports.growth import Reading
from service.intake.item import Item, item_of
from tests.support.fakes import Source, record

TP = TopicPartition("source", 0)


class Bench:
    """One slot; ``free`` says whether it is, ``reading`` what stops reading for it. ``closed`` are the batches that
    were dispatched."""

    def __init__(self, max_events: int = 10, max_bytes: int = 1_000) -> None:
        self.free = True
        self.reading = Reading(None, None, 1)
        self.closed: list[OpenBatch] = []
        self.causes: list[Cause] = []
        self._state = Source().state()
        self._count = 0
        self.batcher = ImportBatcher(
            BatchPolicy(max_events, max_bytes, 1.0),
            lambda batch, cause: self._dispatched(batch, cause),
            BatchingMeans(lambda partition: 0, lambda slot: self.free, 1_000, lambda slot: self.reading),
        )

    def _dispatched(self, batch: OpenBatch, cause: Cause) -> None:
        self.closed.append(batch)
        self.causes.append(cause)
        self.free = False

    def add(self, key: str, email: str, group: str = "") -> Item:
        """An event of a contact with a row for this address."""
        item = self.read(key.encode(), [(email,)], group)
        self.batcher.add(item, None, 0.0)
        return item

    def read(self, key: bytes | None, keys: Sequence[tuple[str] | None], group: str = "") -> Item:
        """An event with rows of these keys, which is not added."""
        item = item_of(self._state, record(TP, self._count, key, b"{}"), self._count, 0)
        self._count += 1
        item.rows = [Row(Operation("import.row", "c", "e"), one, b"x" * (9 + self._count % 3), group) for one in keys]
        return item

    def ended(self) -> None:
        """The import that is under way has."""
        keys = {key for item in self.closed[-1].items for key in keys_of(item)}
        self.free = True
        self.batcher.release_all(keys, 5.0)

    def stands(self) -> object:
        """What is closed, and what is open, as far as anybody can tell."""
        closed = [[item.offset for item in items] for items in self.took()]
        open_ = [(until, [item.offset for item in items]) for until, items in self.batcher.open_until()]
        return closed, self.causes, open_, self.batcher.waiting, self.free, self.batcher.crowded(0)

    def took(self) -> list[list[Item]]:
        return [batch.items for batch in self.closed]


def test_events_read_together_go_where_each_would_go_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that waited, and those that an import had no room for. With keys of their own or others', several
    rows or rows without a key, in any group; closed batches, what waits and what is free are the same."""
    monkeypatch.setattr(behind, "_AT_ONCE", 3)
    for seed in range(400):
        random = Random(seed)
        max_events, max_bytes = random.choice([3, 10]), random.choice([40, 1_000])
        alone, together = Bench(max_events, max_bytes), Bench(max_events, max_bytes)
        monkeypatch.setattr(alone.batcher, "_put_free", lambda items, others, now: False)
        monkeypatch.setattr(alone.batcher._behind, "_put_free", lambda items, others, now: False)
        contacts = random.choice([4, 30, 1_000])
        for _ in range(12):
            added = []
            for _ in range(random.randrange(1, 9)):
                key = None if random.random() < 0.05 else str(random.randrange(contacts)).encode()
                keys = [
                    None if random.random() < 0.05 else (str(random.randrange(contacts)),)
                    for _ in range(2 if random.random() < 0.05 else 1)
                ]
                added.append((key, keys, random.choice(["", "", "", "vip"])))
            for one in added:
                alone.batcher.add(alone.read(*one), None, 0.0)
            together.batcher.add_all([together.read(*one) for one in added], lambda operation: None, 0.0)
            assert alone.batcher._held.keys() == together.batcher._held.keys()
            for bench in (alone, together):
                bench.batcher.due(0.5)
            if not alone.free and random.random() < 0.5:
                alone.ended()
                together.ended()
            assert alone.stands() == together.stands()


def test_a_rows_key_is_in_one_import_at_a_time() -> None:
    """Another contact with the same address waits for the import that has it, and so does what is behind that one."""
    bench = Bench()
    first = bench.add("a", "one@example.org")
    bench.batcher.due(1.0)
    bench.free = True
    other, behind, free = bench.add("b", "one@example.org"), bench.add("b", "two@example.org"), bench.add("c", "three")
    bench.batcher.due(2.0)
    assert bench.took() == [[first], [free]]
    assert bench.batcher.waiting == 2
    bench.closed.pop()
    bench.ended()
    bench.batcher.due(7.0)
    assert bench.took() == [[first], [other, behind]]


def test_what_may_not_go_together_waits_for_its_elder() -> None:
    """A contact whose set of tags has changed: the older event's import ends first."""
    bench = Bench()
    older, newer = bench.add("a", "one", "vip"), bench.add("a", "one", "")
    bench.batcher.due(1.0)
    bench.free = True
    bench.batcher.due(1.0)
    assert bench.took() == [[older]]
    bench.ended()
    bench.batcher.due(6.0)
    assert bench.took() == [[older], [newer]]


def test_a_batch_grows_and_an_import_takes_what_it_may_hold() -> None:
    """While no slot is free nothing is closed, reading stops where an import would be full, and the rest is next."""
    bench = Bench(max_events=3)
    bench.free = False
    items = [bench.add(f"k{n}", f"address-{n}") for n in range(5)]
    assert bench.batcher.due(50.0) is None
    assert bench.batcher.crowded(0)
    assert bench.batcher.slots_due(50.0) == {0}
    bench.free = True
    bench.batcher.due(50.0)
    assert bench.took() == [items[:3]]
    assert not bench.batcher.crowded(0)
    bench.ended()
    bench.batcher.due(60.0)
    assert bench.took() == [items[:3], items[3:]]


def test_a_file_is_bounded_in_bytes() -> None:
    """Each row takes its line and a byte."""
    bench = Bench(max_bytes=25)
    items = [bench.add(f"k{n}", f"address-{n}") for n in range(3)]
    bench.batcher.due(0.1)
    assert bench.took() == [items[:2]]


def test_one_event_goes_however_large_it_is_and_alone() -> None:
    """It comes first or behind others; none that is read later goes in front of it, however small."""
    line = Line("g", 3.0, 3, 20)
    source = Bench()
    small, large, after, last = (source.read(b"k%d" % n, [(f"row-{n}",)]) for n in range(4))
    assert line.fits(1, 21)
    assert not line.fits(2, 21)
    assert not line.fits(4, 20)
    assert line.fits(3, 20)
    assert line.held_bytes == 0
    line.take([small], [20])
    assert not line.batches[0].is_full
    assert line.full is Cause.BYTES
    assert line.take([large, after, last], [21, 10, 10]) == [
        (line.batches[1], [large]),
        (line.batches[2], [after]),
        (line.batches[2], [last]),
    ]
    assert [(batch.group, batch.opened, batch.is_full) for batch in line.batches] == [
        ("g", 3.0, True),
        ("g", 3.0, True),
        ("g", 3.0, False),
    ]
    assert not line.fits(1, 1)
    assert line.held_bytes == sum(item.size for item in (small, large, after, last))
    assert (line.close(7.0).items, line.opened) == ([small], 7.0)


def test_an_import_takes_as_many_as_it_may_hold() -> None:
    """Also where what came with them has no room."""
    line, source = Line("g", 0.0, 2, 20), Bench()
    items = [source.read(b"k%d" % n, [(f"row-{n}",)]) for n in range(3)]
    line.take(items, [10, 10, 21])
    assert [batch.items for batch in line.batches] == [items[:2], items[2:]]


def test_what_came_to_nothing_goes_in_front() -> None:
    """Events of an import that lapsed are delivered before what waited for them."""
    bench = Bench()
    first = bench.add("a", "one")
    bench.batcher.due(1.0)
    second = bench.add("a", "one")
    bench.free = True
    bench.batcher.take_back([first], lambda item: True)
    while bench.batcher.go_on(2.0):
        pass
    bench.batcher.due(9.0)
    assert bench.took()[1] == [first, second]


def test_nothing_is_left_of_the_keys_of_large_imports() -> None:
    """A set that 6,000 keys have left may have room for 30,000 still, and each event behind them would look through
    it."""
    bench = Bench()
    bench.batcher = ImportBatcher(
        BatchPolicy(20_000, 10_000_000, 1.0),
        lambda batch, cause: bench._dispatched(batch, cause),
        BatchingMeans(lambda partition: 0, lambda slot: bench.free, 10_000_000, lambda slot: bench.reading),
    )
    for first, end in ((0, 10_000), (10_000, 13_000)):
        for n in range(first, end):
            bench.add(f"k{n}", f"address-{n}")
        bench.free = True
        bench.batcher.due(1.0)
    bench.batcher.release_items(bench.closed[0].items, 5.0)
    bench.batcher.release_items(bench.closed[1].items, 5.0)
    assert getsizeof(bench.batcher._held) < 1_000


def test_a_batch_that_cannot_grow_does_not_wait() -> None:
    """The buffer is full: a file begins at once where a slot is free, and waits for one where none is."""
    bench = Bench()
    items = [bench.add(f"k{n}", f"address-{n}") for n in range(3)]
    bench.batcher.due(0.1)
    assert not bench.closed
    bench.free = False
    bench.reading = Reading(sum(item.size for item in items), None, 1)
    bench.batcher.due(0.2)
    assert not bench.closed
    bench.free = True
    bench.batcher.due(0.3)
    assert (bench.took(), bench.causes) == ([items], [Cause.BYTES])


def test_of_several_batches_that_cannot_grow_the_largest_begins() -> None:
    """It makes the most room."""
    bench = Bench()
    bench.add("a", "one", "vip")
    larger = [bench.add("b", "two"), bench.add("c", "three")]
    bench.reading = Reading(8_000, None, 1)
    bench.batcher.due(0.1)
    assert bench.took() == [larger]


def test_a_handful_waits_for_room() -> None:
    """What fills the buffer is on its way, and makes room when it ends: few rows beside it are not worth an import,
    before their linger ends."""
    bench = Bench()
    few = [bench.add("a", "one")]
    bench.reading = Reading(1_000_000, None, 3)
    bench.batcher.due(0.9)
    assert not bench.closed
    bench.batcher.due(1.0)
    assert (bench.took(), bench.causes) == ([few], [Cause.LINGER])


def test_a_batch_whose_partitions_have_no_room_does_not_wait() -> None:
    """A commit could not name more unfinished records; once most of them are the batch's, nothing will change that."""
    bench = Bench()
    items = [bench.add(f"k{n}", f"address-{n}") for n in range(4)]
    bench.reading = Reading(None, 20, 1)
    bench.batcher.due(0.1)
    assert not bench.closed
    bench.reading = Reading(None, 4, 1)
    bench.batcher.due(0.2)
    assert (bench.took(), bench.causes) == ([items], [Cause.SIZE])
