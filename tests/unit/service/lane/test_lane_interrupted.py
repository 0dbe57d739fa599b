"""What a lane does with records whose delivery an earlier owner had begun, as it reads them."""

from random import Random
from typing import Any
from unittest.mock import create_autospec

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition

from contracts.journal import Delivery, DeliveryState
from service.batching.batcher import BatchPolicy
from service.config import Start
from service.delivery.lane_delivery import DeliveryPolicy
from service.delivery.retry import RetryPolicy
from service.intake.assignment import Assignment, PartitionState
from service.intake.planner import PlanningPolicy
from service.intake.starts import Begin
from service.kafka.names import lane_names
from service.kafka.private import Membership
from service.lane import Lane, LaneMeans, LaneSetup
from service.lane.observer import LaneObserver
from service.offsets.deferred import key_digest
from service.offsets.ledger import PartitionLedger
from service.offsets.metadata import decode_all, encode
from service.settling.settler import SettlePolicy
from tests.support.bulks import EchoHandler
from tests.support.dispatching import account_for
from tests.support.fakes import FakeAccountObserver, FakeBroker, FakePlatform, FakeTime, record, run
from tests.support.settling import documents_for
from tests.support.workflows import notification

TP = TopicPartition("notes", 0)


def lane_of(time: FakeTime, *, repeat: bool = False) -> Lane:
    """A lane of workflows that has neither a client nor a consumer: it is handed its records."""
    setup = LaneSetup(
        name="vip",
        names=lane_names("t", "vip"),
        topics=("notes",),
        written=(),
        start=Start(),
        hold_on_gap=True,
        batch=BatchPolicy(100, 1_000_000, 0.1),
        delivery=DeliveryPolicy(4, RetryPolicy(), repeat_in_doubt=repeat),
        planning=PlanningPolicy(other_types_skipped=False, deadline_s=None, deadline_from_time=False),
        guard=None,
        dedupe=None,
        settle=SettlePolicy(),
        buffer_bytes=1_000_000,
        dry_run=False,
        drain_s=1.0,
        instance_id=None,
        session_timeout_s=30.0,
        rebalance_timeout_s=60.0,
    )
    nothing: Any = None
    return Lane(
        setup,
        LaneMeans(
            handler=EchoHandler(),
            where=None,
            account=account_for(time, FakePlatform(time)),
            documents=documents_for(),
            committer=FakeBroker(),
            client=nothing,
            connection={},
            observer=create_autospec(LaneObserver, instance=True),  # it has many methods, and none may matter here
            requests=FakeAccountObserver(),
            control=nothing,
            clock=time,
            random=Random(0),
        ),
    )


def assigned(lane: Lane, begin: Begin, *ranges: tuple[int, int]) -> PartitionState:
    """The partition as the lane takes it over with one open entry that names these ranges."""
    assert lane.bulks is not None
    entry = Delivery("np6.workflows", DeliveryState.BEGUN, {"notes": tuple((0, *one) for one in ranges)}, begun_at_ms=1)
    finished, deferred, _ = decode_all(begin.offset, begin.metadata)
    assignment = Assignment(Membership("g", 1, "m", None), frozenset({TP}))
    ledger = PartitionLedger(begin.offset, finished, deferred)
    state = assignment.partitions[TP] = PartitionState(assignment, TP, ledger, is_replay=False)
    lane.core.group.assignment = assignment
    lane.bulks.begin(assignment, lane.bulks.recover({(0, "b-1.x"): entry}, {TP: begin}))
    assignment.ready = True
    return state


def note(offset: int, key: str) -> ConsumerRecord[bytes, bytes]:
    message = notification(f"e-{offset}", key)
    return record(TP, offset, key.encode(), message.value)


@pytest.mark.parametrize("repeat", [False, True], ids=["dead letter", "repeat"])
def test_what_was_begun_ends_in_doubt_or_goes_into_a_batch_again(repeat: bool) -> None:
    """With the id of the batch that it was in. The entry waits for the last of its records."""

    async def main(time: FakeTime) -> None:
        lane = lane_of(time, repeat=repeat)
        state = assigned(lane, Begin(0, ""), (1, 3))
        lane.taking.take(state, [note(offset, f"k{offset}") for offset in range(4)])
        begun = [state.items[1], state.items[2]]
        assert [item.doubted for item in begun] == [repeat, repeat]
        assert [item.outcome for item in begun] == [None if repeat else "in_doubt"] * 2
        assert lane.settler.pending == (0 if repeat else 2)
        assert lane.bulks is not None
        assert lane.bulks.deliveries.count == 1
        if not repeat:
            assert {item.batch_id for item in begun} == {"b-1"}
            assert lane.bulks.deliveries.leaving(begun[:1]).closing == []
            assert len(lane.bulks.deliveries.leaving(begun).closing) == 1

    run(main)


def test_a_record_that_compaction_took_does_not_hold_the_entry_open() -> None:
    """It is told of, and the entry goes: nobody will ever read what it names."""

    async def main(time: FakeTime) -> None:
        lane = lane_of(time)
        state = assigned(lane, Begin(0, ""), (1, 2))
        lane.taking.take(state, [note(0, "k0"), note(5, "k5")])
        assert lane.bulks is not None
        assert lane.bulks.deliveries.count == 0
        assert len(lane.bulks.deliveries.unproven) == 1

    run(main)


def test_a_deferred_record_that_was_begun_is_in_doubt_when_it_is_read_again() -> None:
    """Its key was deferred in the last commit, and it was brought back and called before the crash: neither is it
    finished, as the commit's runs seem to say, nor may it be called again. What another key finished there is done."""

    async def main(time: FakeTime) -> None:
        lane = lane_of(time)
        metadata = encode(1, [(2, 8)], {key_digest(b"hot"): 4})
        state = assigned(lane, Begin(1, metadata), (4, 6))
        assert sorted(state.interrupted) == [4, 5]
        lane.taking.take(state, [note(1, "k1"), *(note(n, "hot" if n == 4 else "k") for n in range(2, 9))])
        assert sorted(state.interrupted) == [4], "5 is of another key: it was settled"
        assert sorted(state.items) == [1, 8]
        state.ledger.recall([4], {key_digest(b"hot"): None})
        lane.taking.take_back(state, [note(4, "hot")])
        assert state.items[4].outcome == "in_doubt"
        assert lane.settler.pending == 1
        assert lane.bulks is not None
        assert len(lane.bulks.deliveries.leaving([state.items[4]]).closing) == 1

    run(main)
