"""What the entry of a delivery names, and that others go on while that is found out."""

import asyncio
from itertools import pairwise
from random import Random

import pytest
from aiokafka.structs import TopicPartition

from contracts.journal import Delivery, DeliveryKey, decode_entry
from service.imports.runs import ImportDelivery
from service.intake.item import Item
from service.journal.deliveries import OpenDeliveries, OpenDelivery, OpenEntry, named_at_once, named_in_turns
from service.turns import Turns
from tests.support.fakes import FakeTime, Source, run

TPS = [TopicPartition("b", 0), TopicPartition("a", 10), TopicPartition("a", 9), TopicPartition("b", 1)]


def items_of(random: Random, count: int, gaps: float) -> list[Item]:
    """Items in any order; ``gaps``: how many records are not among them."""
    source = Source(*TPS)
    read = [source.item(tp=random.choice(TPS[: random.choice([1, 4])])) for _ in range(count)]
    random.shuffle(read)
    return [item for item in read[1:] if random.random() >= gaps] + read[:1]


@pytest.mark.parametrize("gaps", [0.0, 0.001, 0.5, 0.99])
def test_ranges_name_each_record_and_no_other(gaps: float) -> None:
    """In order and apart, whichever way they are found; each partition counts its own."""
    for seed, count in enumerate([1, 2, 500, 501, 3_000]):
        items = items_of(Random(seed), count, gaps)
        named = asyncio.run(named_in_turns(items, Turns(FakeTime())))
        assert named == named_at_once(items)
        offsets = {(item.partition.tp, item.offset) for item in items}
        for ranges in named.ranges.values():
            assert list(ranges) == sorted(ranges)
            for one, following in pairwise(ranges):
                assert one[0] < following[0] or one[2] < following[1]
        found = [
            (TopicPartition(topic, partition), offset)
            for topic, ranges in named.ranges.items()
            for partition, first, end in ranges
            for offset in range(first, end)
        ]
        assert len(found) == len(items)
        assert set(found) == offsets
        assert sum(named.counts.values()) == len(items)
        assert all(count == sum(tp == one for one, _ in offsets) for tp, count in named.counts.items())


class Ticking(FakeTime):
    """Whoever looks at the clock has worked for a millisecond."""

    def monotonic(self) -> float:
        self.advance(0.001)
        return super().monotonic()


def test_others_go_on_while_an_import_is_named() -> None:
    """20,000 records of which every second is another's are not named in one turn, gathered or joined."""

    async def main(_: FakeTime) -> None:
        source = Source(TPS[0])
        items = [source.item() for _ in range(40_000)][::2]
        others = 0

        async def beside() -> None:
            nonlocal others
            while True:
                others += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(beside())
        named = await named_in_turns(items, Turns(Ticking()))
        task.cancel()
        # 80 pieces, and five milliseconds until others have their turn.
        assert others >= 10
        delivery = ImportDelivery("b.1", "apsis.imports", items, 7, 0, named)
        entry = decode_entry(DeliveryKey("b.1"), delivery.value)
        assert isinstance(entry, Delivery)
        assert len(entry.ranges["b"]) == 20_000
        assert entry.ranges == OpenDelivery("b.1", "k", items, 7).record.ranges

    run(main)


def test_others_go_on_while_what_nothing_is_left_of_is_taken_out() -> None:
    """A takeover finds 20,000 entries whose records are settled: their removals are written in turns, and are those
    that would be written at once."""

    async def main(_: FakeTime) -> None:
        entries = [OpenEntry(f"b-{n}.1", n % 3) for n in range(20_000)]
        others = 0

        async def beside() -> None:
            nonlocal others
            while True:
                others += 1
                await asyncio.sleep(0)

        deliveries = OpenDeliveries("vip.journal")
        task = asyncio.create_task(beside())
        writes = await deliveries.removals_in_turns(entries, 7, Turns(Ticking()))
        task.cancel()
        assert others >= 6
        assert [(one.partition, one.records) for one in writes] == [
            (one.partition, one.records) for one in deliveries.removal_writes(entries, 7)
        ]

    run(main)
