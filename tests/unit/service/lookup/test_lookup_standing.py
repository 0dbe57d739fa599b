"""How a record without result stands in a lane: each state from the facts that make it, and nothing guessed."""

from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from contracts.deadletters import Position
from contracts.journal import Delivery, DeliveryState, Lost, Start
from service.journal.reading import Journal
from service.kafka.offsets import CommittedOffset
from service.lookup.standing import Explanation, LaneFacts, Standing, living, unended
from service.offsets.metadata import encode
from service.status.document import BreakerStatus, LaneReport, PartitionStatus, Waiting

TP = TopicPartition("contacts", 3)
NOW = "2026-03-02T08:00:00.000Z"
NOW_MS = 1_772_438_400_000


def at(offset: int) -> Position:
    return Position(TP.topic, TP.partition, offset, NOW_MS)


def report(
    state: str = "running",
    reason: str | None = None,
    *,
    position: int | None = 50,
    unfinished: int = 0,
    oldest: str | None = None,
    waiting: tuple[Waiting, ...] = (),
    partition: int = 3,
    time: str = NOW,
    instance: str = "one",
) -> LaneReport:
    part = PartitionStatus(TP.topic, partition, position, 40, 90, 40, unfinished, None, oldest)
    return LaneReport(
        lane="vip",
        handler="np6.segments",
        account="main",
        state=state,
        reason=reason,
        since=NOW,
        config="0",
        partitions=[part],
        in_flight=0,
        retrying=0,
        breaker=BreakerStatus("closed", None),
        slots=None,
        open_imports=[],
        journal_open=0,
        dead_letters=0,
        instance=instance,
        version="1",
        time=time,
        interval_s=5.0,
        waiting=list(waiting),
    )


def told(offset: int, *reports: LaneReport, committed: CommittedOffset | None = None, **more: Any) -> Explanation:
    found = {} if committed is None else {TP: committed}
    facts = LaneFacts(
        lane="vip",
        start="earliest",
        skipped_published=more.pop("skipped_published", True),
        committed=found,
        reports=reports,
        **more,
    )
    return unended(at(offset), facts)


AT_40 = CommittedOffset(40, "")


def test_a_process_says_what_it_waits_for() -> None:
    """The words, attempt and time of its report, and whose they are."""
    waiting = Waiting(TP.topic, TP.partition, 45, "retrying (HTTP 500), attempt 3 in 1.0 s", 3, NOW)
    found = told(45, report(waiting=(waiting,)), committed=AT_40)
    assert (found.standing, found.text) == (Standing.WAITING, waiting.waits_for)
    assert (found.attempt, found.next_at, found.instance, found.as_of) == (3, NOW, "one", NOW)


def test_what_was_read_and_is_not_told_of_one_by_one() -> None:
    """How many are unfinished, what the oldest of them waits for, and the lane's own state."""
    found = told(45, report("holding", "breaker open: account main", unfinished=9, oldest="its turn"), committed=AT_40)
    assert found.standing is Standing.IN_WORK
    assert "one of 9 events" in found.text
    assert "the oldest of them waits for: its turn" in found.text
    assert "the lane is holding: breaker open: account main" in found.text


def test_not_yet_read_behind_the_position() -> None:
    """With the distance; the position itself is the next to be read."""
    found = told(50, report("paused", "paused by ops@desk: a look"), committed=AT_40)
    assert (found.standing, found.ahead) == (Standing.NOT_READ, 0)
    assert told(70, report(), committed=AT_40).text == "not yet read: 20 offsets before it, from position 50 on"
    assert found.text.endswith("the lane is paused: paused by ops@desk: a look")


def test_nobody_runs_the_lane() -> None:
    """The committed offset is all that is known, and an operator's pause."""
    found = told(45, committed=AT_40, pause="paused by ops@desk: a look")
    assert found.standing is Standing.NOT_READ
    assert "5 offsets before it, from committed offset 40 on; no process runs the lane now" in found.text
    assert "paused by ops@desk: a look" in found.text
    assert "never begun with its partition (start: earliest)" in told(45).text


def test_nobody_has_its_partition() -> None:
    """The lane runs elsewhere: what it does is told."""
    found = told(45, report("standby", "waiting for partitions", partition=1), committed=AT_40)
    assert "no process has its partition now" in found.text
    assert "the lane is standby: waiting for partitions" in found.text


def test_the_newest_owner_counts() -> None:
    """A process that had the partition before may still be heard."""
    old = report(position=45, time="2026-03-02T07:59:50.000Z", instance="old")
    assert told(60, old, report(instance="new"), committed=AT_40).instance == "new"


def test_settled_without_result_says_why_that_may_be() -> None:
    """Below the committed offset, or finished beyond it as its metadata tells; never called waiting."""
    beyond = CommittedOffset(40, encode(40, [(45, 47)]))
    assert told(39, report(), committed=beyond).standing is Standing.NO_RESULT
    assert told(40, committed=beyond).standing is Standing.NOT_READ
    assert told(46, report(), committed=beyond).standing is Standing.NO_RESULT
    assert told(44, report(position=60), committed=beyond).standing is Standing.IN_WORK
    assert "results.skipped is false" in told(39, committed=beyond, skipped_published=False).text


def test_before_the_start_and_given_up() -> None:
    """As the journal says."""
    start = Start("latest", NOW_MS, 4, first_offset=30, lost=(Lost(32, 35, "ops@desk", NOW_MS),))
    journal = Journal(starts={(TP.topic, TP.partition): start})
    assert told(29, committed=AT_40, journal=journal).standing is Standing.BEFORE_START
    found = told(34, committed=AT_40, journal=journal)
    assert (found.standing, found.text) == (Standing.LOST, f"given up as lost by ops@desk at {NOW}")
    assert told(35, committed=AT_40, journal=journal).standing is Standing.NO_RESULT


@pytest.mark.parametrize(("offset", "is_open"), [(44, False), (45, True), (46, True), (47, False)])
def test_an_open_delivery_is_told(offset: int, is_open: bool) -> None:
    """Whose ranges hold the record: it may have taken effect."""
    delivery = Delivery("np6.workflows", DeliveryState.BEGUN, {TP.topic: ((TP.partition, 45, 47),)}, NOW_MS)
    found = told(offset, report(position=60), committed=AT_40, journal=Journal(deliveries={(3, "d-1"): delivery}))
    assert (found.open_delivery is not None) is is_open
    assert ("a delivery with it was begun at" in found.text) is is_open


def test_silent_processes_are_not_believed() -> None:
    """After 30 s; with slower reports after six of them."""
    assert living([report()], NOW_MS + 30_000)
    assert not living([report()], NOW_MS + 30_001)
