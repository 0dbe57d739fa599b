"""Long work gives others a turn."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from contracts.outcomes import Outcome
from contracts.results import Operation
from service.settling.batches import PartitionWrite, build
from service.settling.producing import BatchBuilder
from service.settling.settler import SettleHooks, SettlePolicy, Settler
from service.turns import Portion, Turns, drop_in_turns, pieces, take_in_turns
from tests.support.fakes import START_WALL_MS, FakeBroker, FakeTime, Source, eventually, run
from tests.support.turns import Others, beside


def test_pieces_are_bounded_by_count_and_size() -> None:
    """In order, nothing left out; one that is larger than the bound goes alone or ends its piece."""
    assert [list(piece) for piece in pieces("abcdefg", [1] * 7, 3, 100)] == [list("abc"), list("def"), ["g"]]
    assert [list(piece) for piece in pieces("abcd", [1, 9, 9, 1], 3, 9)] == [["a", "b"], ["c"], ["d"]]
    assert list(pieces("", [], 3, 9)) == []


def test_what_takes_long_is_worked_on_in_smaller_portions() -> None:
    """Expressions of a lane may take half a millisecond an event: 64 of these would be a turn of 32. As many as ever
    once they are quick again, and one at a time however long that takes."""

    async def main(time: FakeTime) -> None:
        portion = Portion(time, 64, most_s=0.005)
        counts: list[int] = []

        def worked(each_s: float) -> Callable[[Sequence[int]], None]:
            def work(part: Sequence[int]) -> None:
                counts.append(len(part))
                time.advance(len(part) * each_s)

            return work

        for each_s, count in ((0.000_01, 128), (0.000_4, 100), (0.1, 14), (0.000_01, 191)):
            for part in pieces(range(count), [1] * count, portion.count, 1_000):
                portion.work(part, worked(each_s))
        assert counts == [64, 64, 64, 12, 12, 12, 12, 1, 1, 1, 2, 4, 8, 16, 32, 64, 64]

    run(main)


def test_others_go_on_once_the_turn_is_over() -> None:
    """Not before: a pause for each piece of work would cost more than it gives."""

    async def main(time: FakeTime) -> None:
        turns = Turns(time, most_s=0.005)
        async with beside() as others:
            for _ in range(4):
                await turns.rest()
            assert others.turns == 0
            for expected in (1, 2):
                time.advance(0.006)
                await turns.rest()
                await turns.rest()
                assert others.turns == expected

    run(main)


def test_what_is_not_wanted_any_more_is_not_taken() -> None:
    """The partitions went while others had their turn: what is left is their next owner's."""

    async def main(time: FakeTime) -> None:
        taken: list[int] = []

        def take(part: Sequence[int]) -> None:
            taken.extend(part)
            time.advance(0.01)

        async with beside() as others:
            parts = pieces(range(100), [1] * 100, 10, 1_000)
            await take_in_turns(Turns(time), parts, take, lambda: others.turns < 3)
        assert taken == list(range(30))

    run(main)


class Costly:
    """To free one takes a tenth of a millisecond."""

    def __init__(self, time: FakeTime) -> None:
        self.time = time

    def __del__(self) -> None:
        self.time.advance(0.0001)


def test_what_is_left_is_freed_while_others_go_on() -> None:
    """2,000 things, 500 at once, and none is left."""

    async def main(time: FakeTime) -> None:
        left = [Costly(time) for _ in range(2_000)]
        began = time.monotonic()
        async with beside() as others:
            await drop_in_turns(Turns(time), left)
            assert others.turns >= 4
        assert left == []
        assert time.monotonic() - began == pytest.approx(0.2)

    run(main)


@pytest.mark.parametrize(("size", "count"), [(10, 3), (400_000, 3)], ids=["here", "in a thread"])
async def test_large_batches_are_built_aside_and_are_the_same(size: int, count: int) -> None:
    """Byte for byte, whichever way."""
    records = [(START_WALL_MS, b"k", b"v" * size, [("h", b"1")]) for _ in range(count)]
    write = PartitionWrite("t", 0, list(records))
    batches = await BatchBuilder().built(write, producer_id=1, producer_epoch=2, base_sequence=3, transactional=True)
    assert batches == build(records, producer_id=1, producer_epoch=2, base_sequence=3, transactional=True)


async def test_others_go_on_while_batches_are_built() -> None:
    """While one is built in a thread, and between those of several partitions."""
    async with beside() as others:
        for size, writes in ((2_000_000, 1), (200_000, 8)):
            before, builder = others.turns, BatchBuilder()
            for partition in range(writes):
                write = PartitionWrite("t", partition, [(START_WALL_MS, None, b"v" * size, [])])
                await builder.built(write, producer_id=-1, producer_epoch=-1, base_sequence=-1, transactional=False)
            assert others.turns >= before + (1 if writes == 1 else 7)


class SlowDocuments:
    """Each call takes twenty microseconds per item of the loop's time, and tells how many it was given, and when."""

    def __init__(self, time: FakeTime) -> None:
        self.time = time
        self.counts: list[int] = []
        self.others = Others()
        self.turns: set[int] = set()

    results_topic = "results"

    def partitions_of(self, items: Sequence[object]) -> list[int]:
        """All in one."""
        return [0] * len(items)

    def writes(self, items: Sequence[object], now_ms: int, partitions: Sequence[int]) -> list[PartitionWrite]:
        assert len(partitions) == len(items)
        self.counts.append(len(items))
        self.turns.add(self.others.turns)
        self.time.advance(len(items) * 0.00002)
        first = sum(self.counts) - len(items)
        return [PartitionWrite("results", 0, [(now_ms, None, b"%d" % (first + n), []) for n in range(len(items))])]


@pytest.mark.parametrize(("operations", "most"), [(1, 250), (100, 20)])
def test_a_large_settlement_lets_others_go_on(operations: int, most: int) -> None:
    """2,000 results are written in pieces with turns between them, in order, and committed together; fewer at once
    where they have many operations."""

    async def main(time: FakeTime) -> None:
        source, broker, documents = Source(), FakeBroker(), SlowDocuments(time)
        settled: list[int] = []
        hooks = SettleHooks(
            settled=lambda items, _: settled.append(len(items)),
            fenced=lambda _: None,
            refused=lambda _: None,
            lost=lambda _: None,
            recovered=lambda: None,
        )
        settler = Settler(broker, documents, SettlePolicy(), hooks, time, broker.read_offsets)  # type: ignore[arg-type]
        items = [source.ended(outcome=Outcome.DELIVERED) for _ in range(2_000)]
        for item in items:
            item.operations = [Operation("segment.join", "t", "501")] * operations
        settler.add_all(items)
        async with beside() as documents.others:
            task = asyncio.create_task(settler.run())
            while not broker.busy:
                assert not task.done(), "it died"
                await asyncio.sleep(0)
        await eventually(lambda: bool(settled))
        task.cancel()
        # A turn of others every 5 ms at least, or after each piece that takes longer.
        assert len(documents.turns) >= (4 if most == 250 else 7)
        assert settled == [2_000]
        assert max(documents.counts) == most
        (write,) = broker.written
        assert [value for _, _, value, _ in write.records] == [b"%d" % n for n in range(2_000)]

    run(main)


def test_large_events_are_freed_in_turns_once_they_are_settled() -> None:
    """14 of 1 MiB, settled together, take 1 ms and more each."""

    async def main(time: FakeTime) -> None:
        source, broker, documents = Source(), FakeBroker(), SlowDocuments(time)
        beside: list[asyncio.Task[None]] = []
        turns, freed = 0, list[int]()

        async def others() -> None:
            nonlocal turns
            while turns < 100:
                turns += 1
                await asyncio.sleep(0)

        hooks = SettleHooks(
            settled=lambda items, _: beside.append(asyncio.create_task(others())),
            fenced=lambda _: None,
            refused=lambda _: None,
            lost=lambda _: None,
            recovered=lambda: None,
        )
        settler = Settler(broker, documents, SettlePolicy(), hooks, time, broker.read_offsets)  # type: ignore[arg-type]

        class Large:
            def __del__(self) -> None:
                time.advance(0.002)
                freed.append(turns)

        for _ in range(14):
            item = source.ended(outcome=Outcome.DELIVERED)
            item.bytes, item.event = 1024 * 1024, Large()  # type: ignore[assignment]
            settler.add(item)
            del item
        task = asyncio.create_task(settler.run())
        await eventually(lambda: len(freed) == 14)
        task.cancel()
        # 28 ms, and a turn of others every 5 or so.
        assert len(set(freed)) >= 4

    run(main)
