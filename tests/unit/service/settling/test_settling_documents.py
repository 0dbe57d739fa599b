"""Results and dead letters as they are built from items."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from aiokafka.structs import TopicPartition

from contracts.deadletters import DEAD_LETTER_HEADERS, ReplayRecord, dead_letter_headers, read_dead_letter, read_replay
from contracts.deadletters import Position as At
from contracts.envelope import decode
from contracts.ids import result_id
from contracts.outcomes import DEAD, PAIRS, Outcome, Reason
from contracts.results import Origin, SyncResult, decode_result
from service.intake.item import Item, item_of
from service.intake.planner import unparsable_record
from service.settling.batches import PartitionWrite, Record
from service.settling.documents import attempts_of, status_of
from service.settling.partitioner import partitions
from tests.support.fakes import START_WALL_MS, Source, join
from tests.support.settling import DEAD_LETTERS, RESULTS, documents_for

NOW_MS = START_WALL_MS + 1500
TP3 = TopicPartition("contacts", 3)
VALUE = json.dumps(
    {
        "specversion": "1.0",
        "id": "e-1",
        "source": "crm",
        "type": "contact.changed.v1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "data": {"contact_id": "c-1", "change": "updated"},
    }
).encode()


def delivered(source: Source, key: bytes | None = b"c-1", tp: TopicPartition | None = None) -> Item:
    item = source.item(key, join("T"), tp=tp, value=VALUE, headers=[("content-type", b"application/cloudevents+json")])
    item.event = decode(VALUE, item.record.headers)  # type: ignore[assignment] # it is a good one
    operation = item.operations[0]
    operation.outcome, operation.status, operation.attempts = Outcome.DELIVERED, 204, 2
    item.outcome, item.batch_id = Outcome.DELIVERED, "b-1"
    return item


def rejected(source: Source, tp: TopicPartition | None = None, headers: Any = ()) -> Item:
    item = source.item(b"c-1", join("T"), join("T", 2), tp=tp, value=VALUE, headers=headers)
    item.event = decode(VALUE, ())  # type: ignore[assignment] # it is a good one
    good, bad = item.operations
    good.outcome, good.status, good.attempts = Outcome.DELIVERED, 204, 3
    bad.outcome, bad.reason, bad.status, bad.attempts = Outcome.REJECTED, Reason.REFUSED, 422, 1
    bad.detail = "no •••"
    item.outcome, item.reason, item.detail = Outcome.REJECTED, Reason.REFUSED, "no •••"
    return item


def records(writes: list[PartitionWrite], topic: str) -> list[tuple[int, Record]]:
    """Partition and record of what goes to a topic."""
    return [(write.partition, record) for write in writes if write.topic == topic for record in write.records]


def result(writes: list[PartitionWrite]) -> SyncResult:
    ((_, (_, _, value, _)),) = records(writes, RESULTS)
    return decode_result(value or b"")


def test_the_result_of_a_delivered_event_field_by_field() -> None:
    """What the contract says, from an item as the lane leaves it."""
    item = delivered(Source(TP3))
    writes = documents_for().writes([item], NOW_MS)
    ((partition, (timestamp, key, value, headers)),) = records(writes, RESULTS)
    assert (timestamp, key) == (NOW_MS, b"c-1")
    assert headers == [("content-type", b"application/cloudevents+json; charset=UTF-8")]
    assert partition == partitions([b"c-1"], [3], 4)[0]
    assert json.loads(value or b"") == {
        "specversion": "1.0",
        "id": result_id("vip", "contacts", 3, 0, START_WALL_MS),
        "source": "fanline/vip",
        "subject": "e-1",
        "type": "sync.result.v1",
        "time": "2026-01-01T00:00:01.500Z",
        "datacontenttype": "application/json",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "data": {
            "event": {"id": "e-1", "source": "crm", "type": "contact.changed.v1", "tenant": None},
            "lane": "vip",
            "handler": "np6.segments",
            "platform": "np6",
            "account": "np6-main",
            "config": "c0ffee00",
            "outcome": "delivered",
            "reason": None,
            "detail": None,
            "operations": [
                {
                    "kind": "segment.join",
                    "target": "T",
                    "entity": "1",
                    "outcome": "delivered",
                    "reason": None,
                    "detail": None,
                    "status": 204,
                    "reference": None,
                    "attempts": 2,
                }
            ],
            "attempts": 2,
            "batch_id": "b-1",
            "coalesced_into": None,
            "origin": {"topic": "contacts", "partition": 3, "offset": 0, "timestamp": "2026-01-01T00:00:00.000Z"},
            "replay": None,
            "dead_letter": False,
            "dry_run": False,
            "received_at": "2026-01-01T00:00:00.000Z",
            "completed_at": "2026-01-01T00:00:01.500Z",
        },
    }
    assert records(writes, DEAD_LETTERS) == []


def twice(source: Source) -> Item:
    """A delivered event of two operations."""
    item = delivered(source)
    item.operations = (*item.operations, *delivered(source).operations)
    return item


def once_more(source: Source) -> Item:
    """A delivered replay."""
    item = delivered(source)
    item.replay = ReplayRecord(At("first", 3, 7, START_WALL_MS), 1, "run-1")
    return item


def bettered(source: Source) -> Item:
    """A delivered event whose operation was refused: they need not agree."""
    item = delivered(source)
    item.operations[0].outcome, item.operations[0].reason = Outcome.REJECTED, Reason.REFUSED
    return item


def changed(**fields: Any) -> Callable[[Source], Item]:
    def change(source: Source) -> Item:
        item = delivered(source)
        for name, value in fields.items():
            setattr(item, name, value)
        return item

    return change


@pytest.mark.parametrize(
    ("make", "usual"),
    [
        (delivered, True),
        (twice, False),
        (once_more, False),
        (bettered, False),
        (changed(detail="said"), False),
        (changed(coalesced_into="r-0"), False),
        (changed(outcome=Outcome.SUPERSEDED), False),
        (changed(reason=Reason.REFUSED), False),
    ],
)
def test_nothing_is_lost_whichever_way_a_result_is_written(
    make: Callable[[Source], Item], usual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nearly all results are goes the quick way, and what has more to tell does not: each tells what its item
    is."""
    source = Source(TP3)
    documents, slowly = documents_for(), list[Item]()
    right = documents._result

    def counted(item: Item, now_ms: int) -> bytes:
        slowly.append(item)
        return right(item, now_ms)

    monkeypatch.setattr(documents, "_result", counted)
    item = make(source)
    told = result(documents.writes([item], NOW_MS)).data
    assert (slowly == []) is usual
    assert (told.outcome, told.reason, told.detail) == (item.outcome, item.reason, item.detail)
    assert [msgspec.to_builtins(one) for one in told.operations] == [
        msgspec.to_builtins(one) for one in item.operations
    ]
    assert (told.batch_id, told.coalesced_into, told.attempts) == ("b-1", item.coalesced_into, 2)
    assert told.origin == Origin("contacts", 3, item.offset, "2026-01-01T00:00:00.000Z")
    assert told.replay == (None if item.replay is None else item.replay.result_replay())
    assert told.event is not None
    assert (told.event.id, told.event.source) == ("e-1", "crm")


def test_what_could_be_read_is_named_where_nothing_was_planned() -> None:
    """An event that was skipped has an envelope alone."""
    item = delivered(Source(TP3))
    item.event, item.envelope, item.operations = None, item.event, ()
    assert result(documents_for().writes([item], NOW_MS)).subject == "e-1"


def test_a_dead_letter_is_the_original_with_why() -> None:
    """Byte for byte, in its own partition, at the time of failure; the fixed headers behind its own."""
    own = [("content-type", b"application/cloudevents+json"), ("x", b"\xff"), ("x", b"2")]
    item = rejected(Source(TP3), headers=own)
    writes = documents_for().writes([item], NOW_MS)
    ((partition, (timestamp, key, value, headers)),) = records(writes, DEAD_LETTERS)
    assert (partition, timestamp, key, value) == (3, NOW_MS, b"c-1", VALUE)
    assert headers == [
        *own,
        ("fanline-lane", b"vip"),
        ("fanline-outcome", b"rejected"),
        ("fanline-reason", b"refused"),
        ("fanline-detail", "no •••".encode()),
        ("fanline-result-id", result_id("vip", "contacts", 3, 0, START_WALL_MS).encode()),
        ("fanline-origin-topic", b"contacts"),
        ("fanline-origin-partition", b"3"),
        ("fanline-origin-offset", b"0"),
        ("fanline-origin-timestamp", b"2026-01-01T00:00:00.000Z"),
        ("fanline-attempts", b"3"),
        ("fanline-failed-at", b"2026-01-01T00:00:01.500Z"),
        ("fanline-status", b"422"),
        ("fanline-replays", b"0"),
    ]
    told = result(writes)
    assert told.data.dead_letter
    assert (told.data.outcome, told.data.attempts) == (Outcome.REJECTED, 3)
    assert (told.data.reason, told.data.detail) == (Reason.REFUSED, "no •••")


def test_what_a_source_record_says_of_itself_is_not_believed() -> None:
    """``fanline-*`` headers of a source topic are left out, and replaced by ours."""
    item = rejected(Source(TP3), headers=[("fanline-replays", b"4"), ("fanline-origin-topic", b"evil"), ("a", b"b")])
    ((_, (_, _, _, headers)),) = records(documents_for().writes([item], NOW_MS), DEAD_LETTERS)
    names = [name for name, _ in headers]
    assert len(names) == len(set(names))
    letter = read_dead_letter(headers)
    assert letter is not None
    assert (letter.replays, letter.origin.topic) == (0, "contacts")
    assert ("a", b"b") in headers


def test_a_replay_keeps_its_first_origin_and_its_count() -> None:
    """The result names the record that was read, its run and the first source record; the dead letter the first."""
    replay = TopicPartition("replay", 3)
    first = dead_letter_headers(
        [("a", b"b")],
        lane="vip",
        outcome=Outcome.REJECTED,
        reason=Reason.REFUSED,
        detail=None,
        result_id="r-1",
        read=At("contacts", 3, 77, START_WALL_MS - 9000),
        attempts=1,
        failed_at_ms=START_WALL_MS - 5000,
    )
    headers = [
        *((name, value) for name, value in first if name != "fanline-replays"),
        ("fanline-replays", b"2"),
        ("fanline-replay-id", b"run-9"),
    ]
    item = rejected(Source(replay), headers=headers)
    item.replay = read_replay(item.record.headers)
    writes = documents_for().writes([item], NOW_MS)
    told = result(writes)
    assert (told.data.origin.topic, told.data.origin.offset) == ("replay", 0)
    assert told.id == result_id("vip", "replay", 3, 0, START_WALL_MS)
    assert told.data.replay is not None
    assert told.data.replay.id == "run-9"
    assert told.data.replay.origin is not None
    assert (told.data.replay.origin.topic, told.data.replay.origin.offset) == ("contacts", 77)
    ((partition, (_, _, _, again)),) = records(writes, DEAD_LETTERS)
    letter = read_dead_letter(again)
    assert letter is not None
    assert partition == 3
    assert (letter.origin.topic, letter.origin.partition, letter.origin.offset) == ("contacts", 3, 77)
    assert letter.replays == 2
    assert letter.result_id == told.id
    names = [name for name, _ in again]
    assert len(names) == len(set(names))
    assert "fanline-replay-id" not in names
    assert set(names) - {"a"} <= set(DEAD_LETTER_HEADERS)


def test_a_record_that_could_not_be_parsed_has_a_result_and_a_dead_letter() -> None:
    """Null event, null key and value; the headers say where the record lies."""
    source = Source(TP3)
    state = source.state()
    state.ledger.read(0)
    item = item_of(state, unparsable_record("contacts", 3, 0), 0, START_WALL_MS)
    item.outcome, item.reason, item.detail = Outcome.INVALID, Reason.MALFORMED, "a header key is not UTF-8"
    writes = documents_for().writes([item], NOW_MS)
    told = result(writes)
    assert told.data.event is None
    assert told.data.origin.timestamp is None
    assert told.id == result_id("vip", "contacts", 3, 0, -1)
    ((partition, (_, key, value, headers)),) = records(writes, DEAD_LETTERS)
    assert (partition, key, value) == (3, None, None)
    names = dict(headers)
    assert (names["fanline-origin-partition"], names["fanline-origin-offset"]) == (b"3", b"0")
    assert "fanline-origin-timestamp" not in names
    assert "fanline-status" not in names


def test_a_record_of_the_first_moment_keeps_its_time() -> None:
    """Producers that know no time write 0: that is a timestamp like any other."""
    item = Source(TP3).ended(outcome=Outcome.INVALID, timestamp=0)
    item.reason = Reason.MALFORMED
    ((_, (_, _, _, headers)),) = records(documents_for().writes([item], NOW_MS), DEAD_LETTERS)
    assert dict(headers)["fanline-origin-timestamp"] == b"1970-01-01T00:00:00.000Z"


def test_what_could_be_read_of_a_malformed_event_is_told() -> None:
    """An envelope that was readable is named, its data were not."""
    value = VALUE.replace(b'"updated"', b'"destroyed"')
    item = Source().item(b"c-1", value=value)
    fault = decode(value, ())
    item.undecodable = fault  # type: ignore[assignment] # it is one
    item.outcome, item.reason = Outcome.INVALID, Reason.CONTRACT
    told = result(documents_for().writes([item], NOW_MS))
    assert told.subject == "e-1"
    assert told.data.event is not None


def test_skipped_events_are_published_or_not() -> None:
    """Never as dead letters; with ``skipped: false`` others are published all the same, in order."""
    source = Source()
    items = [delivered(source), source.ended(outcome=Outcome.SKIPPED), delivered(source)]
    items[1].reason = Reason.WHERE
    for publish, expected in ((True, [0, 1, 2]), (False, [0, 2])):
        writes = documents_for(publish_skipped=publish, partitions=1).writes(items, NOW_MS)
        results = [decode_result(record[2] or b"") for _, record in records(writes, RESULTS)]
        assert [told.data.origin.offset for told in results] == expected
        assert records(writes, DEAD_LETTERS) == []
    assert documents_for(publish_skipped=False).writes([items[1]], NOW_MS) == []


def test_hashed_keys_hide_the_key_and_keep_the_partition() -> None:
    """SHA-256; a null key stays null; the dead letter keeps the key itself."""
    source = Source()
    items = [delivered(source, b"c-1"), delivered(source, None), rejected(source)]
    plain = records(documents_for().writes(items, NOW_MS), RESULTS)
    writes = documents_for(hash_keys=True).writes(items, NOW_MS)
    hashed = records(writes, RESULTS)
    assert [partition for partition, _ in plain] == [partition for partition, _ in hashed]
    digest = hashlib.sha256(b"c-1").hexdigest().encode()
    assert {record[1] for _, record in hashed} == {digest, None}
    assert b"c-1" not in b"".join(record[1] or b"" for _, record in hashed)
    ((_, letter),) = records(writes, DEAD_LETTERS)
    assert letter[1] == b"c-1"


def test_partitions_of_results() -> None:
    """By the key as Kafka's clients compute it; without one by the input's partition, modulo the count."""
    tp = TopicPartition("contacts", 6)
    source = Source(tp)
    keys: list[bytes | None] = [b"a", b"b", None, b"a", b""]
    writes = documents_for(partitions=4).writes([delivered(source, key) for key in keys], NOW_MS)
    by_offset = {
        decode_result(record[2] or b"").data.origin.offset: partition for partition, record in records(writes, RESULTS)
    }
    assert [by_offset[n] for n in range(5)] == partitions(keys, [6] * 5, 4)
    assert by_offset[2] == 6 % 4
    assert len({write.partition for write in writes}) == len(writes)


def test_partitions_can_be_worked_out_before() -> None:
    """Of all that is settled at once; each piece is given its own, skipped events' too."""
    source = Source()
    items = [delivered(source, key) for key in (b"c-1", None, b"c-2", b"c-3")]
    items[2].outcome = Outcome.SKIPPED
    for publish in (True, False):
        documents = documents_for(publish_skipped=publish, partitions=4)
        numbers = documents.partitions_of(items)
        assert documents.writes(items[1:], NOW_MS, numbers[1:]) == documents.writes(items[1:], NOW_MS)


def test_dead_letters_of_one_partition_keep_their_order() -> None:
    """One write per partition, in the order of the items."""
    other = TopicPartition("contacts", 5)
    source = Source(TP3, other)
    items = [rejected(source, tp) for tp in (TP3, other, TP3, TP3, other)]
    writes = [write for write in documents_for().writes(items, NOW_MS) if write.topic == DEAD_LETTERS]
    offsets = {
        write.partition: [int(dict(record[3])["fanline-origin-offset"] or b"") for record in write.records]
        for write in writes
    }
    assert offsets == {3: [0, 1, 2], 5: [0, 1]}


def test_exactly_the_dead_outcomes_leave_a_dead_letter() -> None:
    """The whole table of pairs; header and result agree."""
    source = Source()
    for outcome, reasons in PAIRS.items():
        for reason in reasons:
            item = source.ended(outcome=outcome)
            item.reason = reason
            writes = documents_for().writes([item], NOW_MS)
            letters = records(writes, DEAD_LETTERS)
            assert len(letters) == (outcome in DEAD)
            assert result(writes).data.dead_letter == (outcome in DEAD)
            assert (result(writes).data.outcome, result(writes).data.reason) == (outcome, reason)


def test_status_and_attempts_of_an_event() -> None:
    """The status of the operation that decided; the largest of the attempts; nothing without operations."""
    item = rejected(Source())
    assert (status_of(item), attempts_of(item)) == (422, 3)
    item.operations[1].attempts = 4
    assert attempts_of(item) == 4
    item.operations[0].reason = item.reason = None
    item.operations[0].outcome, item.operations[0].status = Outcome.SUPERSEDED, 204
    item.outcome, item.operations[1].outcome, item.operations[1].reason = Outcome.DELIVERED, Outcome.DELIVERED, None
    assert status_of(item) == 422
    planless = Source().ended(outcome=Outcome.INVALID)
    assert (status_of(planless), attempts_of(planless)) == (None, 0)
