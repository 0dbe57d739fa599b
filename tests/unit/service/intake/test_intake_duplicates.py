"""An event that repeats an earlier record of its partition is skipped before anything is planned for it."""

from typing import Any

from aiokafka.structs import TopicPartition

from contracts.outcomes import Outcome, Reason
from service.dedupe.window import DedupeWindow
from service.intake.item import Item
from service.intake.planner import Planner, PlanningPolicy
from tests.support.fakes import START_WALL_MS, Source, join
from tests.unit.service.intake.test_intake_planner import Planned, end, event

DUPLICATE = (Outcome.SKIPPED, Reason.DUPLICATE)
CONTACTS, REPLAY = TopicPartition("contacts", 0), TopicPartition("replay", 0)


class Bench:
    """One partition with a window of a minute, and its lane's replays."""

    def __init__(self, *, where: Any = None) -> None:
        self.source = Source(CONTACTS, REPLAY)
        self.source.state(CONTACTS).window = self.window = DedupeWindow(60_000, begin=0)
        policy = PlanningPolicy(other_types_skipped=True, deadline_s=None, deadline_from_time=False)
        self.planner = Planner(Planned(lambda *_: [join("T1")]), where, policy, lambda kind, stack: None)

    def plan(self, value: bytes, after_ms: int = 0, tp: TopicPartition = CONTACTS) -> Item:
        item = self.source.item(b"k", value=value, tp=tp, timestamp=START_WALL_MS + after_ms)
        self.planner.plan(item)
        return item


def test_the_second_is_skipped_and_names_its_event() -> None:
    """Nothing is planned; behind the window it is delivered again."""
    bench = Bench()
    assert end(bench.plan(event())) == (None, None)
    second = bench.plan(event(), 60_000)
    assert (end(second), second.operations) == (DUPLICATE, [])
    assert second.event is not None
    assert end(bench.plan(event(), 120_001)) == (None, None)


def test_whatever_became_of_the_earlier_one() -> None:
    """Skipped by `where`, of another type, or with data that break the contract."""
    bench = Bench(where=lambda *_: False)
    assert end(bench.plan(event())) == (Outcome.SKIPPED, Reason.WHERE)
    assert end(bench.plan(event())) == DUPLICATE
    other = event(id="e-2", type="other.v1")
    assert end(bench.plan(other)) == (Outcome.SKIPPED, Reason.OTHER_TYPE)
    again = bench.plan(other)
    assert end(again) == DUPLICATE
    assert again.undecodable is not None
    assert again.detail is None
    broken = event(id="e-3", data={})
    assert end(bench.plan(broken)) == (Outcome.INVALID, Reason.CONTRACT)
    assert end(bench.plan(broken)) == DUPLICATE


def test_replays_are_exempt() -> None:
    """A replay keeps its event's id, and is meant."""
    bench = Bench()
    bench.plan(event())
    for _ in range(2):
        assert end(bench.plan(event(), tp=REPLAY)) == (None, None)


def test_what_is_not_delivered_now_is_remembered_and_judged() -> None:
    """It finished beyond an earlier commit, or waits behind its contact."""
    bench = Bench()
    first, second = (bench.source.item(b"k", value=event(), tp=CONTACTS) for _ in range(2))
    assert not bench.planner.remember(bench.window, first.record)
    assert bench.planner.remember(bench.window, second.record)
    assert end(bench.plan(event())) == DUPLICATE
    assert not bench.planner.remember(None, first.record)
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"e-2"), ("ce_source", b"crm"), ("ce_type", b"contact.changed.v1")]
    first, second = (bench.source.item(b"k", value=b"{}", headers=headers, tp=CONTACTS) for _ in range(2))
    assert not bench.planner.remember(bench.window, first.record)
    assert bench.planner.remember(bench.window, second.record)
