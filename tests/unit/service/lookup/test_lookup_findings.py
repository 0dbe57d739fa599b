"""How what was found belongs together: records with results, dead letters and replays, also where some are gone."""

from collections.abc import Sequence

from aiokafka.structs import ConsumerRecord

from contracts.deadletters import Position, dead_letter_headers
from contracts.envelope import decode
from contracts.ids import result_id
from contracts.outcomes import Outcome, Reason
from contracts.results import Replay, ResultEncoder
from service.lookup.findings import Findings
from service.lookup.standing import Standing

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
    lane: str, topic: str, offset: int, outcome: Outcome, *, replay: Replay | None = None, value: bytes = VALUE
) -> ConsumerRecord[bytes | None, bytes | None]:
    encoder = ResultEncoder(lane=lane, handler="h", platform="p", account="a", config="0")
    dead = outcome is Outcome.REJECTED
    encoded = encoder.encode(
        result_id(lane, topic, 0, offset, AT_MS),
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
        AT_MS,
        replay,
        dead,
        AT_MS,
        AT_MS,
    )
    return record("results", 1, encoded)


def dead_letter(lane: str, offset: int) -> ConsumerRecord[bytes | None, bytes | None]:
    headers = dead_letter_headers(
        (),
        lane=lane,
        outcome=Outcome.REJECTED,
        reason=Reason.REFUSED,
        detail=None,
        result_id=result_id(lane, "contacts", 0, offset, AT_MS),
        read=Position("contacts", 0, offset, AT_MS),
        attempts=1,
        failed_at_ms=AT_MS,
        status=400,
        is_replay=False,
    )
    return record("dead", 5, VALUE, headers)


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
    headers = [
        ("fanline-origin-topic", b"contacts"),
        ("fanline-origin-partition", b"0"),
        ("fanline-origin-offset", b"7"),
        ("fanline-replays", b"1"),
    ]
    findings.take_replay("vip", record("vip.replay", 2, VALUE, headers))
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
    [story] = findings.stories({})
    assert not story.readable
    assert [each.lane for each in story.lanes] == ["vip"]


def test_results_lie_where_the_key_says() -> None:
    """A null key's where its partition says."""
    findings = found()
    findings.take_source(record("contacts", 1, key=None))
    assert findings.result_partitions(4) == {0}
    findings.take_source(record("contacts", 2, key=b"foobar"))
    # Kafka's own test of murmur2 gives -790332482 for "foobar".
    assert findings.result_partitions(1_000_000) == {0, (-790332482 & 0x7FFFFFFF) % 1_000_000}
