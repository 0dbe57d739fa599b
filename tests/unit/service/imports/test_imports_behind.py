"""What waits behind an import goes on in slices: between two of them all is whole."""

from collections import defaultdict
from collections.abc import Hashable
from itertools import pairwise
from random import Random

import pytest
from aiokafka.structs import TopicPartition

from contracts.events import CONTACT_CHANGED, ContactChanged, Event
from contracts.results import Operation
from handlers.imports.rows import Row
from service.batching.batcher import BatchPolicy, Cause, OpenBatch
from service.imports import behind, returning
from service.imports.batching import BatchingMeans, ImportBatcher, keys_of
from service.imports.growth import Reading
from service.intake.item import Item, item_of
from tests.support.fakes import Source, record

TP = TopicPartition("source", 0)


class World:
    """One lane's batcher, and the imports that it begins: any of their keys may be freed while others are not.

    Held throughout: a key is in one import at a time, and its events in the order in which they came.
    """

    def __init__(self, random: Random, max_events: int, max_bytes: int, vips: float) -> None:
        self.random = random
        self.state = Source().state()
        self.max_events, self.max_bytes, self.vips = max_events, max_bytes, vips
        self.free = 2
        self.batcher = ImportBatcher(
            BatchPolicy(self.max_events, self.max_bytes, 1.0),
            self._dispatched,
            BatchingMeans(lambda _: 0, lambda _: self.free > 0, max_bytes, lambda _: Reading(None, None, 1)),
        )
        self.items: list[Item] = []
        self.sent: list[Item] = []
        # The imports under way, as the keys of each that are not freed; those of which nothing is, with their events;
        # the events of each key that are not sent.
        self.under_way: list[set[Hashable]] = []
        self.whole: list[tuple[set[Hashable], list[Item]]] = []
        self.unsent: dict[Hashable, list[Item]] = defaultdict(list)
        # The keys of events that are on their way back: they are nobody else's to free.
        self.coming: set[Hashable] = set()

    def _dispatched(self, batch: OpenBatch, cause: Cause) -> None:
        assert len(batch.items) <= self.max_events
        assert len(batch.items) == 1 or batch.bytes <= self.max_bytes
        assert batch.starts() == OpenBatch.starts(batch)
        assert batch.operations() == OpenBatch.operations(batch)
        keys = {key for item in batch.items for key in keys_of(item)}
        assert all(keys.isdisjoint(others) for others in self.under_way)
        for item in batch.items:
            for key in keys_of(item):
                assert self.unsent[key].pop(0) is item
        self.sent += batch.items
        self.under_way.append(keys)
        self.whole.append((keys, batch.items))
        self.free -= 1

    def read(self, contacts: int) -> Item:
        """The next event: of any contact, with any of as many addresses, or two."""
        random, offset = self.random, len(self.items)
        item = item_of(self.state, record(TP, offset, b"%d" % random.randrange(contacts), b"{}"), offset, 0)
        rows = [
            Row(Operation("import.row", "c", "e"), (str(random.randrange(contacts)),), b"x" * random.randrange(20), "")
            for _ in range(random.choice([1, 1, 1, 2]))
        ]
        if random.random() < self.vips:
            rows = [Row(row.operation, row.key, row.line, "vip") for row in rows]
        item.hold_rows(_event(), rows, timed=False)
        for key in keys_of(item):
            self.unsent[key].append(item)
        self.items.append(item)
        return item

    def end_some(self) -> None:
        """Some keys of an import are freed, or the last ones, with which it ends."""
        keys = self.random.choice(self.under_way)
        self.whole = [(others, items) for others, items in self.whole if others is not keys]
        some = set(self.random.sample(sorted(keys, key=str), min(len(keys), 3)))
        keys -= some
        if not keys:
            self.under_way.remove(keys)
            self.free += 1
        self.batcher.free(some)

    def take_back(self) -> None:
        """Nothing of an import took effect."""
        keys, items = self.whole.pop(self.random.randrange(len(self.whole)))
        self.under_way = [others for others in self.under_way if others is not keys]
        self.free += 1
        taken = set(map(id, items))
        self.sent = [item for item in self.sent if id(item) not in taken]
        for item in reversed(items):
            for key in keys_of(item):
                self.unsent[key].insert(0, item)
        self.batcher.take_back(items, lambda item: True)
        self.coming |= keys

    def step(self, now: float, contacts: int) -> None:
        """Anything that may happen between two slices."""
        match self.random.randrange(7):
            case 0:
                self.batcher.add(self.read(contacts), None, now)
            case 1:
                some = [self.read(contacts) for _ in range(self.random.randrange(1, 6))]
                self.batcher.add_all(some, lambda _: None, now)
            case 2:
                self.batcher.due(now)
            case 3:
                self.batcher.go_on(now)
            case 4 if self.whole:
                self.take_back()
            case 5:
                # What has ended before ends once more.
                if not self.batcher.go_on(now):
                    self.coming.clear()
                busy = {key for keys in self.under_way for key in keys} | self.coming
                self.batcher.free({(str(n),) for n in range(contacts)} - busy)
            case _ if self.under_way:
                self.end_some()


def _event() -> Event:
    return Event("e", "crm", CONTACT_CHANGED, ContactChanged("c", "updated"))


@pytest.mark.parametrize("contacts", [3, 20, 400])
def test_whatever_happens_between_two_slices_each_event_goes_once_and_in_order(
    contacts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events come, batches close, imports end while what an earlier one freed is still looked through."""
    monkeypatch.setattr(behind, "_AT_ONCE", 2)
    monkeypatch.setattr(returning, "_AT_ONCE", 2)
    for seed in range(40):
        random, now = Random(seed), 0.0
        world = World(random, random.choice([3, 8]), random.choice([40, 1_000]), vips=0.2)
        for _ in range(80):
            now += 0.1
            world.step(now, contacts)
        while len(world.sent) < len(world.items):
            now += 1.1
            before = len(world.sent), sum(map(len, world.under_way)), world.batcher.waiting
            while world.batcher.go_on(now):
                pass
            if world.under_way:
                world.end_some()
            world.batcher.due(now)
            assert before != (len(world.sent), sum(map(len, world.under_way)), world.batcher.waiting), "it stands still"
        assert world.batcher.waiting == 0


def test_of_what_waits_for_one_contact_a_few_go_on_at_a_time() -> None:
    """1,000 changes of one contact: to put all of them at once takes milliseconds, and 25,000 took 80."""
    world = World(Random(1), 10_000, 100_000, vips=0.0)
    for _ in range(1_001):
        world.batcher.add(world.read(1), None, 0.0)
        if len(world.items) == 1:
            world.batcher.due(2.0)
    assert world.batcher.waiting == 1_000
    world.batcher.free({key for item in world.items for key in keys_of(item)})
    left = [1_000]
    while world.batcher.go_on(3.0):
        left.append(world.batcher.waiting)
    assert max(before - after for before, after in pairwise(left)) == behind._AT_ONCE
    assert world.batcher.waiting == 0


def test_of_an_import_that_came_to_nothing_a_few_events_come_back_at_a_time() -> None:
    """50,000 of them at once took a tenth of a second. None goes before all are back, in front of what came
    meanwhile."""
    world = World(Random(1), 10_000, 100_000, vips=0.0)
    world.batcher.add_all([world.read(10_000) for _ in range(1_000)], lambda _: None, 0.0)
    world.batcher.due(2.0)
    _, items = world.whole[0]
    restored: list[Item] = []

    def restore(item: Item) -> bool:
        restored.append(item)
        return item is not items[0]

    world.batcher.take_back(items, restore)
    count, steps = len(items), [0]
    assert not world.batcher.is_waiting(Source().item())
    while len(restored) < count:
        assert world.batcher.waiting == count - (1 if items[0] in restored else 0)
        assert world.batcher.is_waiting(items[-1])
        assert world.batcher.go_on(3.0)
        steps.append(len(restored))
    assert max(after - before for before, after in pairwise(steps)) == returning._AT_ONCE
    assert restored[-1] is not items[-1]
    assert sorted(item.offset for item in restored) == [item.offset for item in items]
    while world.batcher.go_on(3.0):
        pass
    assert len(world.batcher._lines[0, ""].batches[-1].items) == count - 1


def test_what_waits_is_told_in_its_order_while_it_is_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has been looked at and stays, then what is still to be looked at; nothing that went."""
    monkeypatch.setattr(behind, "_AT_ONCE", 2)
    went: list[Item] = []

    def put(item: Item, keys: set[Hashable], now: float) -> bool:
        went.append(item)
        return True

    source = Source()
    items = [source.item() for _ in range(6)]
    waits = behind.Behind(lambda items, others, now: False, put)
    for item, key in zip(items, "abacba", strict=True):
        waits.add(item, {key})
    waits.free({"b", "nobody's"})
    told = [(len(waits), list(waits.items()), sorted(waits.keys, key=str))]
    while waits.look(0.0):
        told.append((len(waits), list(waits.items()), sorted(waits.keys, key=str)))
    kept = [item for item in items if item not in (items[1], items[4])]
    assert told == [
        (6, items, ["a", "b", "c"]),
        (5, [items[0], *items[2:]], ["a", "b", "c"]),
        (5, [items[0], *items[2:]], ["a", "b", "c"]),
    ]
    assert (list(waits.items()), sorted(waits.keys, key=str), went) == (kept, ["a", "c"], [items[1], items[4]])
    waits.free({"b"})
    assert not waits.look(0.0)
