"""How a record without result stands in a lane: each state from the facts that make it, and nothing guessed."""

from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from contracts.deadletters import DeadLetter, Position
from contracts.envelope import Undecodable, UndecodableKind
from contracts.journal import Delivery, DeliveryState, Lost, Start
from contracts.outcomes import Outcome, Reason
from contracts.results import ResultEncoder, SyncResult, decode_result
from service.journal.reading import Journal
from service.kafka.offsets import CommittedOffset
from service.lookup.standing import (
    DeadLetterPlace,
    Explanation,
    LaneFacts,
    OpenDelivery,
    Standing,
    ended,
    living,
    unended,
)
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
    for offset, standing in ((45, Standing.NO_RESULT), (47, Standing.IN_WORK)):
        assert told(offset, report(position=60), committed=beyond).standing is standing
    published, not_published = (told(39, committed=beyond, skipped_published=skipped) for skipped in (True, False))
    assert published.text.startswith("settled, but no result is found: older than the results that are kept")
    assert "results.skipped is false" in not_published.text


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


def test_an_open_delivery_is_told_whole() -> None:
    """Of several the one whose ranges hold the record, in its own topic and partition; with the platform's id of it."""
    other = Delivery("np6.workflows", DeliveryState.BEGUN, {"more": ((3, 45, 47),), TP.topic: ((2, 45, 47),)}, NOW_MS)
    mine = Delivery("np6.workflows", DeliveryState.BEGUN, {TP.topic: ((2, 0, 9), (3, 45, 47))}, NOW_MS, "ref")
    elsewhere = Delivery("np6.workflows", DeliveryState.BEGUN, {"more": ((3, 45, 47),)}, NOW_MS)
    journal = Journal(deliveries={(3, "d-0"): elsewhere, (3, "d-1"): other, (3, "d-2"): mine})
    found = told(45, report(position=60, unfinished=2), committed=AT_40, journal=journal)
    assert found.open_delivery == OpenDelivery("d-2", "begun", NOW, "ref")
    assert found.text == (
        "read, one of 2 events of its partition that are not settled"
        f"; the journal: a delivery with it was begun at {NOW} and may have taken effect"
    )


@pytest.mark.parametrize(
    ("state", "reference", "words"),
    [
        (DeliveryState.INTENDED, None, f"an import with it was about to begin at {NOW} and may be open"),
        (DeliveryState.INTENDED, "23", f"import 23 with it was about to begin at {NOW} and may be open"),
        (DeliveryState.CREATED, "i-1", f"import i-1 was created for it at {NOW}, and had no file then"),
        (DeliveryState.UPLOADED, "i-1", f"it is in import i-1, begun at {NOW}, which has its file"),
    ],
)
def test_an_open_import_is_named(state: DeliveryState, reference: str | None, words: str) -> None:
    """With the platform's id, where there is one, and how far it is."""
    delivery = Delivery("apsis.imports", state, {TP.topic: ((TP.partition, 45, 47),)}, NOW_MS, reference)
    found = told(45, report(position=60), committed=AT_40, journal=Journal(deliveries={(3, "d-1"): delivery}))
    assert found.text.endswith(f"; the journal: {words}")


def test_an_explanation_names_what_it_is_made_of() -> None:
    """Of each state: its own fields, and none of another's."""
    owner = {"lane_state": "running", "instance": "one", "as_of": NOW, "position": 50}
    waiting = Waiting(TP.topic, TP.partition, 45, "its turn", 3, NOW)
    others = (Waiting("more", 3, 45, "x", 1, NOW), Waiting(TP.topic, 2, 45, "x", 1, NOW))
    assert told(45, report(waiting=(*others, waiting)), committed=AT_40) == Explanation(
        lane="vip",
        standing=Standing.WAITING,
        text="its turn",
        waits_for="its turn",
        attempt=3,
        next_at=NOW,
        committed=40,
        **owner,
    )
    assert told(45, report(unfinished=9, oldest="its turn"), committed=AT_40) == Explanation(
        lane="vip",
        standing=Standing.IN_WORK,
        text="read, one of 9 events of its partition that are not settled; the oldest of them waits for: its turn",
        waits_for="its turn",
        committed=40,
        **owner,
    )
    assert told(52, report()) == Explanation(
        lane="vip",
        standing=Standing.NOT_READ,
        text="not yet read: 2 offsets before it, from position 50 on",
        ahead=2,
        **owner,
    )
    assert told(52, report(position=None), committed=AT_40) == Explanation(
        lane="vip",
        standing=Standing.NOT_READ,
        text="not yet read: 12 offsets before it, from committed offset 40 on",
        ahead=12,
        committed=40,
        **(owner | {"position": None}),
    )
    assert told(52, report(position=None)).text == "not yet read"


def test_of_a_lane_that_nobody_runs_the_offsets_are_told() -> None:
    """Where it would go on; and where there is none, where it would begin."""
    assert told(45, committed=AT_40) == Explanation(
        lane="vip",
        standing=Standing.NOT_READ,
        text="not settled: 5 offsets before it, from committed offset 40 on; no process runs the lane now",
        ahead=5,
        committed=40,
    )
    assert told(45, pause="paused by ops@desk") == Explanation(
        lane="vip",
        standing=Standing.NOT_READ,
        text="not read: the lane has never begun with its partition (start: earliest)"
        "; no process runs the lane now; the lane is paused by ops@desk",
        lane_state="paused",
        lane_reason="paused by ops@desk",
    )


def test_of_a_lane_whose_processes_lack_the_partition_the_newest_is_told() -> None:
    """Its state, and that nobody has the partition now."""
    later = "2026-03-02T08:00:01.000Z"
    reports = [
        report("holding", "old", partition=1, instance="old"),
        report("standby", "no partition", partition=2, instance="new", time=later),
        report("holding", "old", partition=4, instance="older"),
    ]
    assert told(45, *reports, committed=AT_40) == Explanation(
        lane="vip",
        standing=Standing.NOT_READ,
        text="not yet read: 5 offsets before it, from committed offset 40 on; no process has its partition now"
        "; the lane is standby: no partition",
        lane_state="standby",
        lane_reason="no partition",
        instance="new",
        as_of=later,
        ahead=5,
        committed=40,
    )


def test_a_lane_that_says_no_more_than_the_event_is_not_quoted_twice() -> None:
    """The reason stands in the words already, or the lane just runs, or nothing is said of it."""
    waiting = Waiting(TP.topic, TP.partition, 45, "account main: breaker open", 3, NOW)
    holding = report("holding", "account main: breaker open", waiting=(waiting,))
    assert told(45, holding, committed=AT_40).text == "account main: breaker open"
    assert told(52, report("running", "reading"), committed=AT_40).text.endswith("from position 50 on")
    assert told(52, report("starting"), committed=AT_40).text.endswith("from position 50 on")


def test_what_ended_says_how_often_and_when() -> None:
    """From its result; and from its dead letter alone where that is gone."""
    delivered = result(attempts=0)
    assert ended("vip", delivered, None) == Explanation(
        lane="vip", standing=Standing.ENDED, text=f"delivered at {NOW}", result=delivered
    )
    assert ended("vip", result(attempts=1), None).text == f"delivered at {NOW}, after 1 attempt"
    tried = result(outcome=Outcome.REJECTED, reason=Reason.REFUSED, attempts=2, dry_run=True)
    assert ended("vip", tried, None).text == (
        f"rejected: refused (dry run: nothing was called) at {NOW}, after 2 attempts"
    )
    for failed_at_ms, when in ((NOW_MS, NOW), (None, "an unknown time")):
        letter = DeadLetter("vip", Outcome.EXPIRED, Reason.DEADLINE, None, "r", at(45), 3, failed_at_ms, None, 0)
        place = DeadLetterPlace("dead", 3, 8, letter)
        assert ended("vip", None, place) == Explanation(
            lane="vip",
            standing=Standing.ENDED,
            text=f"expired: deadline at {when}, after 3 attempts",
            dead_letter=place,
        )


def result(
    *, outcome: Outcome = Outcome.DELIVERED, reason: Reason | None = None, attempts: int, dry_run: bool = False
) -> SyncResult:
    encoder = ResultEncoder(lane="vip", handler="h", platform="p", account="a", config="0", dry_run=dry_run)
    event = Undecodable(UndecodableKind.MALFORMED, "")
    encoded = encoder.encode(
        "r",
        event,
        outcome,
        reason,
        None,
        [],
        attempts,
        None,
        None,
        TP.topic,
        3,
        45,
        NOW_MS,
        None,
        False,
        NOW_MS,
        NOW_MS,
    )
    return decode_result(encoded)


def test_the_edges_of_what_was_given_up_and_of_the_start() -> None:
    """From the first offset on that was given up, to before its end; a start that knows no offset excludes nothing."""
    start = Start("latest", NOW_MS, 4, first_offset=20, lost=(Lost(22, 24, "a", NOW_MS), Lost(32, 35, "b", NOW_MS)))
    journal = Journal(starts={(TP.topic, TP.partition): start})
    standings = [told(offset, committed=AT_40, journal=journal).standing for offset in (19, 20, 22, 31, 32, 34, 35)]
    lost, none = Standing.LOST, Standing.NO_RESULT
    assert standings == [Standing.BEFORE_START, none, lost, none, lost, lost, none]
    assert {told(offset, committed=AT_40, journal=journal).lane for offset in (19, 20, 22)} == {"vip"}
    assert told(19, committed=AT_40, journal=journal).text == (
        "before the lane's beginning: start: latest began at offset 20"
    )
    unknown = Journal(starts={(TP.topic, TP.partition): Start("latest", NOW_MS, 4)})
    assert told(0, committed=AT_40, journal=unknown).standing is none


def test_silent_processes_are_not_believed() -> None:
    """After 30 s; with slower reports after six of them; without a time never."""
    assert living([report()], NOW_MS + 30_000)
    assert not living([report()], NOW_MS + 30_001)
    slow, timeless = report(), report(time="soon")
    slow.interval_s = 10.0
    assert living([slow, report(), timeless], NOW_MS + 60_000) == [slow]
    assert not living([slow], NOW_MS + 60_001)
