"""The settler: done means committed, whatever the broker answers and whenever an assignment ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random

import msgspec
import pytest
from aiokafka.structs import TopicPartition

from contracts.outcomes import Outcome, Reason
from service.errors import FencedError, RefusedError, TransactorLostError
from service.intake.item import Item
from service.offsets.metadata import decode
from service.settling.settler import SettlePolicy
from tests.support.fakes import AfterCommit, FakeBroker, FakeTime, Source, eventually, run, settle_down, values
from tests.support.settling import DEAD_LETTERS, SettlingBench

TP = TopicPartition("contacts", 0)
LOST = TransactorLostError("no answer")


@asynccontextmanager
async def running(bench: SettlingBench) -> AsyncIterator[SettlingBench]:
    """The settler at work; its errors come out here."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bench.settler.run())
        yield bench
        task.cancel()


def test_nothing_is_done_before_it_is_committed() -> None:
    """While the transaction runs, the items are unfinished and nobody is told."""

    async def main(time: FakeTime) -> None:
        source, broker = Source(), FakeBroker(takes_s=1)
        async with running(SettlingBench(time, broker)) as bench:
            items = [source.ended(), source.ended(outcome=Outcome.REJECTED)]
            bench.add(*items)
            await asyncio.sleep(1.9)
            assert broker.commits != []
            assert (bench.settled, len(source.state().items)) == ([], 2)
            assert source.state().ledger.unfinished == 2
            await bench.settler.drained()
            assert bench.settled == items
            assert source.state().items == {}
            assert (source.state().ledger.low, source.state().committed) == (2, 2)
            assert broker.offsets[TP].offset == 2
            assert bench.published() == [("contacts", 0, 0), ("contacts", 0, 1)]
            assert len(values(broker.written, DEAD_LETTERS)) == 1

    run(main)


def test_what_ends_beyond_an_unfinished_record_travels_in_the_metadata() -> None:
    """The commit stays in front of it, and tells what has finished behind."""

    async def main(time: FakeTime) -> None:
        source = Source()
        async with running(SettlingBench(time)) as bench:
            stuck = source.item()
            bench.add(source.ended(), source.ended())
            await bench.settler.drained()
            committed = bench.broker.offsets[TP]
            assert committed.offset == 0
            assert decode(0, committed.metadata) == ([(1, 3)], None)
            stuck.outcome = Outcome.DELIVERED
            bench.add(stuck)
            await bench.settler.drained()
            assert bench.broker.offsets[TP].offset == 3

    run(main)


def test_a_chunk_is_bounded_in_events_and_in_bytes() -> None:
    """Events that end together are settled in several transactions, in order, and a large one goes alone."""

    async def main(time: FakeTime) -> None:
        source = Source()
        policy = SettlePolicy(max_events=3, max_bytes=10_000)
        async with running(SettlingBench(time, policy=policy)) as bench:
            sizes = [0, 0, 0, 0, 5000, 5000, 50_000, 0]
            bench.add(*[source.ended(value=b"x" * size) for size in sizes])
            await bench.settler.drained()
            offsets = [next(iter(commit.values())).offset for commit in bench.broker.commits]
            assert offsets == [3, 5, 6, 7, 8]
            assert [offset for _, _, offset in bench.published()] == list(range(8))

    run(main)


def test_of_what_was_settled_together_a_few_are_let_go_of_at_a_time() -> None:
    """To free 5,000 events at once takes 7 ms, in which all lanes would wait: it is looked at the clock in between."""
    alive: set[int] = set()
    left: list[int] = []

    class Value(bytes):
        def __del__(self) -> None:
            alive.discard(id(self))

    class Watched(FakeTime):
        def monotonic(self) -> float:
            left.append(len(alive))
            return super().monotonic()

    async def main(_: FakeTime) -> None:
        source, bench = Source(), SettlingBench(Watched())
        bench.settler._hooks = msgspec.structs.replace(bench.settler._hooks, settled=lambda items, seconds: None)
        for _ in range(2_000):
            value = Value(b"x")
            alive.add(id(value))
            bench.add(source.ended(value=value))
        del value
        async with running(bench):
            await bench.settler.drained()
        assert len(bench.broker.commits) == 1

    run(main)
    assert (left[0], left[-1]) == (2_000, 0)
    assert max(before - after for before, after in pairwise(left)) == 500


@pytest.mark.parametrize("committed", [False, True], ids=["aborted", "committed, answer lost"])
def test_a_lost_transaction_is_looked_up_in_the_offsets(committed: bool) -> None:
    """Committed: settled, and not written again. Not committed: written again, once."""

    async def main(time: FakeTime) -> None:
        source, broker = Source(), FakeBroker()
        broker.faults = [AfterCommit() if committed else LOST]
        async with running(SettlingBench(time, broker)) as bench:
            first = source.item()
            bench.add(source.ended(), source.ended())
            await bench.settler.drained()
            assert bench.told == ["lost", "recovered"]
            assert broker.opens == 1
            assert sorted(bench.published()) == [("contacts", 0, 1), ("contacts", 0, 2)]
            assert [item.offset for item in bench.settled] == [1, 2]
            assert list(source.state().items.values()) == [first]

    run(main)


def test_what_ends_during_a_recovery_is_settled_behind_it() -> None:
    """A lost transaction that was committed is recognised although more has ended since."""

    async def main(time: FakeTime) -> None:
        source, broker = Source(), FakeBroker(takes_s=0.5)
        broker.faults = [AfterCommit()]
        broker.open_faults = [LOST, LOST]
        async with running(SettlingBench(time, broker)) as bench:
            bench.add(source.ended(), source.ended())
            await asyncio.sleep(0.8)
            bench.add(source.ended())
            await bench.settler.drained()
            assert bench.told == ["lost", "lost", "lost", "recovered"]
            assert [offset for _, _, offset in bench.published()] == [0, 1, 2]
            assert [item.offset for item in bench.settled] == [0, 1, 2]

    run(main)


def test_a_transaction_over_several_partitions_is_one() -> None:
    """Only if all its offsets are there was it committed."""

    async def main(time: FakeTime) -> None:
        other = TopicPartition("contacts", 1)
        source, broker = Source(TP, other), FakeBroker()
        broker.faults = [LOST]
        async with running(SettlingBench(time, broker)) as bench:
            bench.add(source.ended(tp=TP), source.ended(tp=other))
            await bench.settler.drained()
            assert broker.offsets.keys() == {TP, other}
            assert len(bench.published()) == 2

    run(main)


def test_transactions_that_are_lost_again_and_again_come_ever_more_slowly() -> None:
    """A broker in trouble is not asked fifty times a second; afterwards the pace is the old one."""

    async def main(time: FakeTime) -> None:
        source, broker = Source(), FakeBroker()
        broker.faults = [LOST] * 6
        async with running(SettlingBench(time, broker)) as bench:
            bench.add(source.ended())
            began = time.monotonic()
            await bench.settler.drained()
            assert 0.2 + 0.4 + 0.8 + 1.6 + 3.2 + 5 <= time.monotonic() - began < 13
            bench.add(source.ended())
            began = time.monotonic()
            await bench.settler.drained()
            assert time.monotonic() - began < 0.1
            broker.faults = [LOST]
            bench.add(source.ended())
            await bench.settler.drained()
            assert time.monotonic() - began < 0.5

    run(main)


def test_a_fenced_transaction_drops_the_work_and_commits_nothing() -> None:
    """The partitions are somebody else's: unfinished work, not an error."""

    async def main(time: FakeTime) -> None:
        source, broker = Source(), FakeBroker()
        broker.faults = [FencedError("ILLEGAL_GENERATION (22)")]
        async with running(SettlingBench(time, broker)) as bench:
            bench.add(source.ended(), source.ended())
            await bench.settler.drained()
            assert bench.told == ["fenced"]
            assert (bench.settled, broker.written, bench.settler.pending) == ([], [], 0)

    run(main)


def test_a_refused_record_stops_the_lane_and_commits_nothing() -> None:
    """The lane is told which topic; nothing is dropped silently, for the assignment ends."""

    async def main(time: FakeTime) -> None:
        source, broker = Source(), FakeBroker()
        broker.faults = [RefusedError("vip.dead-letters", "MESSAGE_TOO_LARGE (10)")]
        async with running(SettlingBench(time, broker)) as bench:
            bench.add(source.ended())
            await bench.settler.drained()
            assert bench.told == ["refused vip.dead-letters"]
            assert (bench.settled, broker.written) == ([], [])

    run(main)


def test_nothing_is_settled_again_before_the_offsets_are_told() -> None:
    """Brokers that do not tell them in time are asked again: the lost transaction may have been committed."""

    async def main(time: FakeTime) -> None:
        source, broker = Source(), FakeBroker()
        broker.faults = [AfterCommit()]
        broker.read_faults = [LOST, LOST]
        async with running(SettlingBench(time, broker)) as bench:
            bench.add(source.ended(), source.ended())
            await bench.settler.drained()
            assert bench.told == ["lost", "lost", "lost", "recovered"]
            assert [offset for _, _, offset in bench.published()] == [0, 1]
            assert [item.offset for item in bench.settled] == [0, 1]

    run(main)


def test_a_right_that_is_missing_in_the_recovery_stops_the_lane_too() -> None:
    """Neither opening anew nor reading the offsets may kill the settler."""

    async def main(time: FakeTime) -> None:
        for where in ("open", "read"):
            source, broker = Source(), FakeBroker()
            broker.faults = [LOST]
            refusal = RefusedError(where, "GROUP_AUTHORIZATION_FAILED (30)")
            (broker.open_faults if where == "open" else broker.read_faults).append(refusal)
            async with running(SettlingBench(time, broker)) as bench:
                bench.add(source.ended())
                await bench.settler.drained()
                assert bench.told == ["lost", f"refused {where}"]
                assert bench.settled == []

    run(main)


def test_an_assignment_that_ends_while_its_transaction_runs() -> None:
    """The commit counts for whoever reads on; nobody here is told, and the settler lives on for the next."""

    async def main(time: FakeTime) -> None:
        source, broker = Source(), FakeBroker(takes_s=1)
        async with running(SettlingBench(time, broker)) as bench:
            bench.add(source.ended())
            await asyncio.sleep(0.5)
            source.assignment.end()
            bench.settler.forget()
            await bench.settler.drained()
            assert broker.offsets[TP].offset == 1
            assert bench.settled == []
            following = Source(generation=2)
            bench.add(following.ended(), following.ended())
            await bench.settler.drained()
            assert [item.offset for item in bench.settled] == [0, 1]

    run(main)


def test_an_assignment_that_ends_in_the_recovery_is_left_alone() -> None:
    """Its transaction is not repeated, whatever had become of it."""

    async def main(time: FakeTime) -> None:
        source, broker = Source(), FakeBroker(takes_s=0.1)
        broker.faults = [LOST]
        broker.open_faults = [LOST] * 5
        async with running(SettlingBench(time, broker)) as bench:
            bench.add(source.ended())
            await asyncio.sleep(1)
            source.assignment.end()
            await bench.settler.drained()
            assert (broker.written, bench.settled) == ([], [])
            assert bench.settler.pending == 0

    run(main)


def test_what_ended_of_an_older_assignment_is_not_committed() -> None:
    """With or without the lane having told the settler to forget."""

    async def main(time: FakeTime) -> None:
        old, new = Source(), Source(generation=2)
        async with running(SettlingBench(time)) as bench:
            bench.add(old.ended(), old.ended())
            old.assignment.end()
            bench.add(new.ended())
            await bench.settler.drained()
            assert [item.partition.assignment for item in bench.settled] == [new.assignment]

    run(main)


def test_items_gather_between_two_transactions() -> None:
    """Ten times as long as the last one took, up to a bound; a full chunk and a drain do not wait."""

    async def main(time: FakeTime) -> None:
        source, broker = Source(), FakeBroker(takes_s=0.005)  # twice: a transaction takes 10 ms
        policy = SettlePolicy(max_events=100, pause_s=0.02, pause_max_s=0.2)
        async with running(SettlingBench(time, broker, policy)) as bench:
            bench.add(source.ended())
            await asyncio.sleep(0.05)
            assert len(bench.settled) == 1
            bench.add(source.ended())
            await asyncio.sleep(0.05)  # 0.1 s have passed since the last one began
            assert len(bench.settled) == 1
            await asyncio.sleep(0.05)
            assert len(bench.settled) == 2
            bench.add(*[source.ended() for _ in range(100)])
            await asyncio.sleep(0.015)
            assert len(bench.settled) == 102
            broker.takes_s = 0.5
            bench.add(source.ended())
            await asyncio.sleep(1.15)
            bench.add(source.ended())
            await asyncio.sleep(1.15)
            assert len(bench.settled) == 104  # not ten seconds later
            began = time.monotonic()
            broker.takes_s = 0.005
            bench.add(source.ended())
            await bench.settler.drained()
            assert time.monotonic() - began < 0.05

    run(main)


# -- kept back


def crowd(source: Source, count: int, seed: int = 0, value: bytes = b"") -> tuple[list[Item], list[Item]]:
    """Records of which about half have ended without a call, in a pattern that no metadata can hold; the rest runs."""
    chance = Random(seed)
    ended: list[Item] = []
    unfinished: list[Item] = []
    for _ in range(count):
        if chance.random() < 0.5:
            ended.append(source.ended(outcome=Outcome.SKIPPED, value=value))
            ended[-1].reason = Reason.WHERE
        else:
            unfinished.append(source.item())
    return ended, unfinished


def test_what_is_kept_back_is_settled_with_its_neighbours() -> None:
    """The metadata is full: the rest stays unfinished, is not waited for, and goes as soon as there is room."""

    async def main(time: FakeTime) -> None:
        source = Source()
        async with running(SettlingBench(time)) as bench:
            ended, unfinished = crowd(source, 30_000)
            bench.add(*ended)
            await bench.settler.drained()
            kept = bench.settler.pending
            assert 0 < kept < len(ended)
            assert len(bench.settled) == len(ended) - kept
            for item in unfinished[:8000]:
                item.outcome = Outcome.DELIVERED
                item.called = True
            bench.add(*unfinished[:8000])
            await bench.settler.drained()
            assert bench.settler.pending == 0
            assert len(bench.settled) == len(ended) + 8000
            assert len(set(bench.published())) == len(bench.published()) == len(ended) + 8000

    run(main)


def test_what_is_kept_back_does_not_keep_others_waiting() -> None:
    """More is kept back than a chunk holds: the record that frees it, and other partitions, are still reached."""

    async def main(time: FakeTime) -> None:
        other = TopicPartition("contacts", 1)
        source = Source(TP, other)
        policy = SettlePolicy(max_events=400)
        async with running(SettlingBench(time, policy=policy)) as bench:
            ended, unfinished = crowd(source, 30_000)
            bench.add(*ended)
            await bench.settler.drained()
            assert bench.settler.pending > 800
            late = source.ended(tp=other)
            bench.add(late)
            await eventually(lambda: late in bench.settled, within_s=5)
            for item in unfinished:
                item.outcome = Outcome.DELIVERED
                item.called = True
            bench.add(*unfinished)
            await bench.settler.drained()
            assert bench.settler.pending == 0
            assert len(bench.settled) == 30_001

    run(main)


def test_all_that_is_kept_back_goes_once_there_is_room() -> None:
    """Also if it is more than fits beside what made the room, and nothing else ends."""

    async def main(time: FakeTime) -> None:
        source = Source()
        policy = SettlePolicy(max_events=50_000, max_bytes=64_000_000)
        async with running(SettlingBench(time, policy=policy)) as bench:
            ended, unfinished = crowd(source, 30_000, value=b"x" * 100_000)
            bench.add(*ended)
            await bench.settler.drained()
            assert bench.settler.pending > 1000  # at most 320 of them go into half a chunk
            for item in unfinished:
                item.outcome = Outcome.DELIVERED
                item.called = True
            bench.add(*unfinished)
            await bench.settler.drained()
            assert bench.settler.pending == 0

    run(main)


def test_kept_back_items_are_forgotten_with_their_assignment() -> None:
    """They are unfinished work of somebody else."""

    async def main(time: FakeTime) -> None:
        source = Source()
        async with running(SettlingBench(time)) as bench:
            bench.add(*crowd(source, 30_000)[0])
            await bench.settler.drained()
            source.assignment.end()
            bench.settler.forget()
            assert bench.settler.pending == 0

    run(main)


def test_the_lock_keeps_others_out_of_a_transaction() -> None:
    """Whoever holds the lock has the committer alone; the settler waits, and drops what ended meanwhile."""

    async def main(time: FakeTime) -> None:
        source = Source()
        async with running(SettlingBench(time)) as bench:
            async with bench.settler.lock:
                bench.add(source.ended())
                await asyncio.sleep(3)
                assert bench.broker.commits == []
                source.assignment.end()
            await settle_down()
            await bench.settler.drained()
            assert bench.broker.commits == []

    run(main)
