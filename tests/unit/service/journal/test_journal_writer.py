"""The journal before a call: nothing is called unless its entry is proved, in time, and by a current member."""

import asyncio
import weakref

import pytest
from aiokafka.structs import TopicPartition

from contracts.journal import DeliveryState
from handlers.base import Reply
from service.errors import FencedError, RefusedError, TransactorLostError
from service.journal.deliveries import OpenDelivery
from service.journal.writer import JournalPolicy
from service.offsets.metadata import decode
from tests.support.bulks import NOT_SENT, OK, BulkBench, ids_of, offsets_named, running
from tests.support.fakes import AfterCommit, Call, FakeBroker, FakeTime, Source, answer, eventually, run, settle_down

TP = TopicPartition("contacts", 0)
LOST = TransactorLostError("no answer")


def test_an_entry_says_what_and_when_and_changes_no_offset() -> None:
    """Its transaction carries the concerned partitions' offsets and metadata as they were last committed."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time, lambda call: OK)
        async with running(bench):
            stuck = bench.item("stuck")
            bench.batch(["a"])
            await bench.until_settled(1)
            committed = bench.broker.offsets[TP]
            assert (committed.offset, decode(0, committed.metadata)[0]) == (0, [(1, 2)])
            bench.platform.takes_s = 5
            bench.batch(["b", "c"])
            await eventually(lambda: len(bench.platform.calls) == 2)
            assert bench.broker.offsets[TP] == committed
            (((partition, delivery_id), entry),) = bench.open_entries().items()
            assert (partition, entry.kind, entry.state) == (0, "np6.workflows", DeliveryState.BEGUN)
            assert entry.ranges == {"contacts": ((0, 2, 4),)}
            assert delivery_id.startswith("batch-2.")
            assert stuck.outcome is None

    run(main)


def test_bulks_that_wait_together_share_a_transaction() -> None:
    """Thirty batches cost a few transactions, not thirty."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time, concurrency=30, takes_s=1)
        async with running(bench):
            for number in range(30):
                bench.batch([f"{number}-{n}" for n in range(10)])
            await eventually(lambda: len(bench.platform.calls) == 30)
            assert len(bench.broker.commits) <= 2
            assert len(bench.open_entries()) == 30
            await bench.until_settled(300)
            assert bench.nothing_is_left()

    run(main)


def test_a_fenced_entry_is_no_call() -> None:
    """A former owner's transaction is refused: the work is somebody else's."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time)
        bench.broker.faults = [FencedError("ILLEGAL_GENERATION (22)")]
        async with running(bench):
            bench.batch(["a"])
            await asyncio.sleep(60)
            assert bench.platform.calls == []
            assert bench.told == ["fenced"]
            assert bench.open_entries() == {}
            assert bench.account.limiter.in_flight == 0
            assert bench.dispatcher.in_flight == 0

    run(main)


def test_the_entry_carries_the_membership_that_was_captured() -> None:
    """Somebody else owns the partitions by now: the coordinator refuses the entry for the offsets that it carries."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time)
        async with running(bench):
            bench.broker.generation = 2
            bench.batch(["a"])
            await asyncio.sleep(60)
            assert bench.told == ["fenced"]
            assert (bench.platform.calls, bench.broker.written) == ([], [])

    run(main)


def test_a_refused_entry_is_no_call() -> None:
    """The lane stops, and says which topic."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time)
        bench.broker.faults = [RefusedError("vip.journal", "TOPIC_AUTHORIZATION_FAILED (29)")]
        async with running(bench):
            bench.batch(["a"])
            await settle_down()
            await asyncio.sleep(0.1)
            assert bench.told == ["refused vip.journal"]
            assert bench.platform.calls == []

    run(main)


@pytest.mark.parametrize("fault", [LOST, AfterCommit()], ids=["lost", "committed, answer lost"])
def test_an_unknown_outcome_is_no_proof(fault: BaseException) -> None:
    """The entry is written again, which changes nothing if it was there; only then the call is made, once."""

    async def main(time: FakeTime) -> None:
        calls_at: list[int] = []

        def reply(call: Call) -> Reply:
            calls_at.append(len(bench.broker.commits))
            return OK

        bench = BulkBench(time, reply)
        bench.broker.faults = [fault]
        async with running(bench):
            bench.batch(["a", "b"])
            await bench.until_settled(2)
            assert bench.told == ["lost", "recovered"]
            assert bench.broker.opens == 1
            assert calls_at == [2 if isinstance(fault, AfterCommit) else 1]
            assert bench.performed == ["a", "b"]
            assert bench.nothing_is_left()

    run(main)


def test_an_entry_that_takes_too_long_is_taken_out_and_the_call_starts_over() -> None:
    """Whoever reads the journal by then takes the call for made: it may not be made any more."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time, broker=FakeBroker(takes_s=4))  # 8 s a transaction
        async with running(bench):
            bench.batch(["a"])
            await asyncio.sleep(30)
            assert bench.platform.calls == []
            assert bench.account.limiter.in_flight <= 1
            bench.broker.takes_s = 0.005
            await bench.until_settled(1)
            assert bench.performed == ["a"]
            assert bench.nothing_is_left()

    run(main)


def test_a_call_starts_at_most_five_seconds_after_its_entry_began() -> None:
    """Also where the transaction was quick, and this process stood still behind it."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time)
        commit = bench.broker.commit
        stalls = [10.0]

        async def stalled(*args: object, **kwargs: object) -> None:
            await commit(*args, **kwargs)  # type: ignore[arg-type] # as it was called
            time.advance(stalls.pop() if stalls else 0.0)

        bench.broker.commit = stalled  # type: ignore[method-assign] # nothing else stands still in the middle
        async with running(bench):
            bench.batch(["a"])
            await bench.until_settled(1)
            assert bench.performed == ["a"]
            removals = [write for write in bench.broker.written if write.topic == "vip.journal"]
            # Entry, removal, entry, and the removal with the settlement.
            assert [record[2] is None for write in removals for record in write.records] == [False, True, False, True]

    run(main)


def test_while_kafka_is_away_no_permit_is_kept() -> None:
    """The account's other lanes need them; nothing is called, and all goes on afterwards."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time)
        bench.broker.faults = [LOST]
        bench.broker.open_faults = [LOST] * 20
        async with running(bench):
            bench.batch(["a"])
            bench.batch(["b"])
            await asyncio.sleep(20)
            assert bench.account.limiter.in_flight == 0
            assert bench.platform.calls == []
            await bench.until_settled(2)
            assert sorted(bench.performed) == ["a", "b"]
            assert bench.nothing_is_left()

    run(main)


def test_a_lost_removal_is_written_again_before_the_retry() -> None:
    """The retry waits until the entry is out."""

    async def main(time: FakeTime) -> None:
        replies: list[Reply] = [NOT_SENT]
        bench = BulkBench(time, lambda call: replies.pop() if replies else OK)
        bench.broker.faults = [None, LOST, AfterCommit()]
        async with running(bench):
            bench.batch(["a"])
            await bench.until_settled(1)
            assert bench.performed == ["a"]
            assert [item.operations[0].attempts for item in bench.ended] == [2]
            assert bench.nothing_is_left()

    run(main)


@pytest.mark.parametrize("fault", [LOST, AfterCommit()], ids=["lost", "committed, answer lost"])
def test_a_lost_settlement_leaves_no_entry(fault: BaseException) -> None:
    """Without transactions the removal comes last and may be missing: it is written once more."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time)
        bench.broker.faults = [None, fault]
        async with running(bench):
            bench.batch(["a", "b"])
            await bench.until_settled(2)
            await asyncio.sleep(1)
            assert bench.nothing_is_left()
            removed = [record for write in bench.broker.written for record in write.records if record[2] is None]
            assert len(removed) == (2 if isinstance(fault, AfterCommit) else 1)

    run(main)


@pytest.mark.parametrize("steps", range(40))
def test_a_crash_at_any_step_leaves_what_was_called_in_the_journal(steps: int) -> None:
    """Whatever was called and is not settled is named by an entry; what was not called may be."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time, takes_s=0.01)
        with_calls: set[str] = set()
        async with running(bench):
            bench.batch(["a", "b"])
            await asyncio.sleep(0.001 * steps)
            # From here on nothing is committed any more: the process is gone.
            bench.broker.generation = -1
            with_calls.update(name for call in bench.platform.calls for name in ids_of(call))
            entries = bench.open_entries()
            settled = bench.broker.offsets[TP].offset
            bench.source.assignment.end()
            bench.journal.forget()
            await asyncio.sleep(1)
        called = {offset for offset, name in enumerate("ab") if name in with_calls and offset >= settled}
        assert called <= {offset for _, _, offset in offsets_named(entries.values())}

    run(main)


def test_what_is_repeated_moves_from_the_old_entry_to_the_new_one_in_one_transaction() -> None:
    """At no moment is it in neither; the old entry goes when nothing of it is left there."""

    async def main(time: FakeTime) -> None:
        named: list[list[int]] = []

        def reply(call: Call) -> Reply:
            entries = offsets_named(bench.open_entries().values())
            named.append(sorted(offset for _, _, offset in entries))
            return answer(500) if len(named) == 1 else OK

        bench = BulkBench(time, reply, repeat=True)
        async with running(bench):
            bench.batch(["a", "b"])
            await eventually(lambda: bench.dispatcher.retrying == 1, every_s=0.001)
            assert offsets_named(bench.open_entries().values()) == {("contacts", 0, 0), ("contacts", 0, 1)}
            await bench.until_settled(2)
            # The breaker is open: a alone is the probe. It is named by the old entry and by its own.
            assert bench.carried() == [["a", "b"], ["a"], ["b"]]
            assert named[:2] == [[0, 1], [0, 1]]
            assert 1 in named[2]
            assert set(bench.outcomes().values()) == {"delivered"}
            assert bench.nothing_is_left()

    run(main)


def test_an_assignment_that_ends_lets_nobody_wait() -> None:
    """Who waits for an entry or a removal is answered, and calls nothing."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time, broker=FakeBroker(takes_s=2), source=Source(TP))
        async with running(bench):
            bench.batch(["a"])
            bench.batch(["b"])
            await asyncio.sleep(1)
            bench.source.assignment.end()
            bench.journal.forget()
            await asyncio.sleep(20)
            assert bench.platform.calls == []
            assert bench.dispatcher.in_flight == 0
            assert bench.account.limiter.in_flight == 0

    run(main)


def test_the_bound_on_the_call_is_a_policy() -> None:
    """Five seconds: within the shortest session that the service accepts."""
    assert JournalPolicy().call_within_s == 5.0


class Watched(OpenDelivery):
    """Of which can be told whether somebody holds it."""

    __slots__ = ("__weakref__",)


def test_what_is_written_is_not_kept_until_the_next() -> None:
    """An import's delivery holds 50,000 events: the writer freed them, in one turn, when another entry was wanted."""

    async def main(time: FakeTime) -> None:
        bench = BulkBench(time)
        async with running(bench):
            delivery = Watched(bench.journal.new_id("batch"), "np6.workflows", [bench.item("a")], 0)
            left = weakref.ref(delivery)
            assert await bench.journal.enter(delivery) is not None
            await settle_down()
            del delivery
            assert left() is None

    run(main)
