"""How what was found belongs together: records with results, dead letters and replays, also where some are gone."""

from collections.abc import Sequence

from aiokafka.structs import ConsumerRecord

from contracts.deadletters import Position, dead_letter_headers
from contracts.envelope import decode
from contracts.ids import result_id
from contracts.outcomes import Outcome, Reason
from contracts.results import Replay, ResultEncoder
from service.lookup.findings import Findings
from service.lookup.standing import LaneFacts, Standing

AT_MS = 1_772_438_400_000
VALUE = (
    b'{"specversion":"1.0","id":"e-1","source":"crm","type":"contact.changed.v1",'
    b'"data":{"contact_id":"c","change":"updated"}}'
)
LANES = {"vip": ["contacts"], "news": ["contacts", "more"], "other": ["elsewhere"]}


def record(
    topic: str,
    offset: int,
    value: bytes | None = VALUE,
    headers: Sequence[tuple[str, bytes | None]] = (),
    *,
    key: bytes | None = b"c",
) -> ConsumerRecord[bytes | None, bytes | None]:
    return ConsumerRecord(topic, 0, offset, AT_MS, 0, key, value, None, 1, 1, tuple(headers))


def result(
    lane: str,
    topic: str,
    offset: int,
    outcome: Outcome,
    *,
    replay: Replay | None = None,
    value: bytes = VALUE,
    at_ms: int = AT_MS,
) -> ConsumerRecord[bytes | None, bytes | None]:
    encoder = ResultEncoder(lane=lane, handler="h", platform="p", account="a", config="0")
    dead = outcome is Outcome.REJECTED
    encoded = encoder.encode(
        result_id(lane, topic, 0, offset, at_ms),
        decode(value, ()),
        outcome,
        Reason.REFUSED if dead else None,
        None,
        [],
        1,
        None,
        None,
        topic,
        0,
        offset,
        at_ms,
        replay,
        dead,
        AT_MS,
        AT_MS,
    )
    return record("results", 1, encoded)


def dead_letter(
    lane: str, offset: int, value: bytes = VALUE, *, at_ms: int = AT_MS
) -> ConsumerRecord[bytes | None, bytes | None]:
    headers = dead_letter_headers(
        (),
        lane=lane,
        outcome=Outcome.REJECTED,
        reason=Reason.REFUSED,
        detail=None,
        result_id=result_id(lane, "contacts", 0, offset, at_ms),
        read=Position("contacts", 0, offset, at_ms),
        attempts=1,
        failed_at_ms=AT_MS,
        status=400,
        is_replay=False,
    )
    return record("dead", 5, value, headers)


def found() -> Findings:
    return Findings("e-1", LANES)


def test_each_lane_of_the_topic_has_its_own_end() -> None:
    """And a dead letter belongs to its result."""
    findings = found()
    findings.take_source(record("contacts", 7))
    findings.take_dead_letter(dead_letter("vip", 7))
    findings.take_result(result("vip", "contacts", 7, Outcome.REJECTED))
    findings.take_result(result("news", "contacts", 7, Outcome.DELIVERED))
    [story] = findings.stories({})
    assert [each.lane for each in story.lanes] == ["vip", "news"]
    assert [each.text.split(" at ")[0] for each in story.lanes] == ["rejected: refused", "delivered"]
    assert story.lanes[0].dead_letter is not None
    assert story.lanes[0].dead_letter.offset == 5
    assert story.lanes[1].dead_letter is None
    assert findings.open_in("vip") == set()


def test_what_is_open_is_asked_for() -> None:
    """Only of lanes that read the topic and have no result of it."""
    findings = found()
    findings.take_source(record("contacts", 7))
    findings.take_source(record("contacts", 8, b"something else"))
    findings.take_result(result("vip", "contacts", 7, Outcome.DELIVERED))
    assert [findings.open_in(lane) for lane in LANES] == [set(), {("contacts", 0)}, set()]


def test_the_first_result_counts() -> None:
    """A lane without transactions may publish another one."""
    findings = found()
    findings.take_source(record("contacts", 7))
    findings.take_result(result("vip", "contacts", 7, Outcome.DELIVERED))
    findings.take_result(result("vip", "contacts", 7, Outcome.REJECTED))
    assert findings.stories({})[0].lanes[0].text.startswith("delivered")


def test_a_replay_is_told_under_its_first_record() -> None:
    """Its result names the replay's record and the first source."""
    findings = found()
    findings.take_source(record("contacts", 7))
    findings.take_result(result("vip", "contacts", 7, Outcome.REJECTED))
    findings.take_replay("vip", record("vip.replay", 2, VALUE, replay_headers(7)))
    assert findings.open_in("vip") == {("vip.replay", 0)}
    origin = Position("contacts", 0, 7, AT_MS).origin()
    findings.take_result(result("vip", "vip.replay", 2, Outcome.DELIVERED, replay=Replay("run", origin)))
    [story] = findings.stories({})
    [lane] = story.lanes
    assert [each.text.split(" ")[0] for each in lane.replays] == ["delivered"]


def test_a_record_that_is_gone_is_told_by_what_it_left() -> None:
    """Of a result or a dead letter alone, of lanes that the configuration does not have any more too."""
    findings = found()
    findings.take_result(result("gone", "contacts", 3, Outcome.DELIVERED))
    findings.take_dead_letter(dead_letter("vip", 4))
    first, second = findings.stories({})
    assert (first.record.offset, first.found, [each.lane for each in first.lanes]) == (3, False, ["gone"])
    assert (second.record.offset, second.lanes[0].standing) == (4, Standing.ENDED)
    assert "rejected: refused" in second.lanes[0].text


def test_a_broken_record_has_the_result_of_its_place() -> None:
    """Its result does not name the event: it is found by its id."""
    findings = found()
    findings.take_source(record("contacts", 9, VALUE[:-3]))
    findings.take_result(result("vip", "contacts", 9, Outcome.REJECTED, value=VALUE[:-3]))
    findings.take_result(result("vip", "contacts", 10, Outcome.REJECTED, value=VALUE[:-3]))
    findings.take_result(record("results", 3, None))
    [story] = findings.stories({})
    assert not story.readable
    assert [each.lane for each in story.lanes] == ["vip"]


def replay_headers(offset: int) -> list[tuple[str, bytes | None]]:
    """What the replay command tells of a record's first source."""
    return [
        ("fanline-origin-topic", b"contacts"),
        ("fanline-origin-partition", b"0"),
        ("fanline-origin-offset", b"%d" % offset),
        ("fanline-replays", b"1"),
    ]


def test_other_events_leave_no_trace() -> None:
    """Neither their records and replays nor their dead letters and results, also where these cannot be read."""
    findings, other = found(), VALUE.replace(b'"e-1"', b'"e-2"')
    findings.take_source(record("contacts", 7, other))
    findings.take_replay("vip", record("vip.replay", 2, other, replay_headers(7)))
    findings.take_dead_letter(dead_letter("vip", 7, other))
    findings.take_dead_letter(record("dead", 6))  # no dead letter at all
    findings.take_result(result("vip", "contacts", 7, Outcome.DELIVERED, value=other))
    findings.take_result(record("results", 2, b'{"subject":"e-1"}'))
    findings.take_result(record("results", 3, None))
    mentioned = VALUE.replace(b'"e-1"', b'"e-2"').replace(b'"crm"', b'"e-1"')
    findings.take_result(result("vip", "contacts", 7, Outcome.DELIVERED, value=mentioned))
    assert findings.stories({}) == []
    assert findings.result_partitions(4) == set()
    assert [findings.open_in(lane) for lane in LANES] == [set(), set(), set()]


def test_what_is_unreadable_is_told_of_twenty_times_at_most() -> None:
    """Records that can be read and are the event are told of all the same."""
    findings = found()
    for offset in range(25):
        findings.take_source(record("contacts", offset, VALUE[:-3]))
    findings.take_source(record("contacts", 30))
    findings.take_source(record("contacts", 31, VALUE[:-3]))
    stories = findings.stories({})
    assert [(story.record.offset, story.readable, story.found) for story in stories] == [
        *((offset, False, True) for offset in range(20)),
        (30, True, True),
    ]


def test_a_dead_letter_is_known_by_its_record_or_by_the_id_of_its_result() -> None:
    """Of a broken record by what it mentions; of bytes that say nothing by the place that they came from."""
    findings = found()
    findings.take_dead_letter(dead_letter("vip", 9, VALUE[:-3]))
    findings.take_source(record("contacts", 8, VALUE[:-3]))
    findings.take_dead_letter(dead_letter("news", 8, b"bytes"))
    findings.take_dead_letter(dead_letter("news", 11, b"bytes"))
    first, second = findings.stories({})
    assert [(each.lane, each.text.split(" at ")[0]) for each in first.lanes] == [("news", "rejected: refused")]
    assert [(each.lane, each.text.split(" at ")[0]) for each in second.lanes] == [("vip", "rejected: refused")]
    assert (first.record, first.readable, first.found) == (Position("contacts", 0, 8, AT_MS), False, True)
    assert (second.record, second.readable, second.found) == (Position("contacts", 0, 9, AT_MS), True, False)
    lane = second.lanes[0].dead_letter
    assert lane is not None
    assert (lane.topic, lane.partition, lane.offset, lane.told.origin.offset) == ("dead", 0, 5, 9)


def test_what_is_not_settled_is_told_from_the_facts_of_its_lane() -> None:
    """Of a lane without facts nothing is said."""
    findings = found()
    findings.take_source(record("contacts", 7))
    facts = LaneFacts(lane="vip", start="earliest", skipped_published=True, committed={})
    [story] = findings.stories({"vip": facts})
    assert [(each.lane, each.standing) for each in story.lanes] == [("vip", Standing.NOT_READ)]
    assert story.record == Position("contacts", 0, 7, AT_MS)


def test_replays_are_told_in_their_order_also_where_their_records_are_gone() -> None:
    """Of one that is left its own standing; of one that retention took its result; each once, in its own lane."""
    findings, origin = found(), Position("contacts", 0, 7, AT_MS).origin()
    findings.take_source(record("contacts", 7))
    findings.take_replay("vip", record("vip.replay", 4, VALUE, replay_headers(7)))
    findings.take_replay("vip", record("vip.replay", 5, VALUE, replay_headers(8)))
    findings.take_replay("news", record("news.replay", 1, VALUE, replay_headers(7)))
    for offset, first, outcome in ((4, 7, Outcome.DELIVERED), (2, 7, Outcome.REJECTED), (3, 8, Outcome.REJECTED)):
        told = Replay("run", Position("contacts", 0, first, AT_MS).origin())
        findings.take_result(result("vip", "vip.replay", offset, outcome, replay=told))
    findings.take_result(result("news", "news.replay", 1, Outcome.SUPERSEDED, replay=Replay("run", origin)))
    findings.take_result(result("vip", "contacts", 7, Outcome.REJECTED))
    findings.take_result(result("news", "contacts", 7, Outcome.REJECTED))
    _, first = findings.stories({})  # the other one's time is not known
    assert [(each.lane, [again.text.split(" at ")[0] for again in each.replays]) for each in first.lanes] == [
        ("vip", ["rejected: refused", "delivered"]),
        ("news", ["superseded"]),
    ]
    assert findings.open_in("vip") == {("vip.replay", 0)}


def test_of_a_first_record_that_is_gone_its_replay_tells_the_place() -> None:
    """With its time where a dead letter or a result has it; the oldest event is told first."""
    findings = found()
    origin = Position("contacts", 0, 3, AT_MS - 1000).origin()
    findings.take_result(result("vip", "contacts", 3, Outcome.REJECTED))
    findings.take_result(result("vip", "vip.replay", 0, Outcome.DELIVERED, replay=Replay("run", origin)))
    findings.take_replay("vip", record("vip.replay", 1, VALUE, replay_headers(2)))
    findings.take_replay("vip", record("vip.replay", 2, VALUE))  # does not tell: it is its own first record
    findings.take_result(result("vip", "vip.replay", 2, Outcome.DELIVERED, replay=Replay("run", None)))
    facts = LaneFacts(lane="vip", start="earliest", skipped_published=True, committed={})
    stories = findings.stories({"vip": facts})
    assert [(story.record, story.found, story.readable) for story in stories] == [
        (Position("contacts", 0, 2, None), False, True),
        (Position("contacts", 0, 3, AT_MS), False, True),
        (Position("vip.replay", 0, 2, AT_MS), False, True),
    ]
    assert [len(story.lanes[0].replays) for story in stories] == [1, 1, 1]


def test_a_record_that_cannot_be_parsed_has_no_time() -> None:
    """Its result's id is made with -1, and it is told among the oldest."""
    findings = found()
    findings.take_source(record("contacts", 7))
    for offset, at_ms in ((9, -1), (10, 0)):
        findings.take_source(ConsumerRecord("contacts", 0, offset, at_ms, 0, None, VALUE, None, 1, 1, ()))
    findings.take_dead_letter(dead_letter("vip", 9, at_ms=-1))
    findings.take_result(result("news", "contacts", 8, Outcome.DELIVERED, at_ms=-1))
    gone, first, second, third = findings.stories({})
    assert (gone.record, gone.found) == (Position("contacts", 0, 8, None), False)
    assert (first.record, second.record) == (Position("contacts", 0, 9, None), Position("contacts", 0, 10, 0))
    assert third.record.offset == 7
    assert [each.text.split(" at ")[0] for each in first.lanes] == ["rejected: refused"]


def test_results_lie_where_the_key_says() -> None:
    """A null key's where its partition says."""
    findings = found()
    findings.take_source(record("contacts", 1, key=None))
    assert findings.result_partitions(4) == {0}
    findings.take_source(record("contacts", 2, key=b"foobar"))
    # Kafka's own test of murmur2 gives -790332482 for "foobar".
    assert findings.result_partitions(1_000_000) == {0, (-790332482 & 0x7FFFFFFF) % 1_000_000}
