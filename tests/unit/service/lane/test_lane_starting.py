"""The journal's record of where a lane began."""

from aiokafka.structs import TopicPartition

from contracts.journal import Lost, StartKey, decode_entry, decode_key
from contracts.journal import Start as Entry
from service.config import Start
from service.intake.starts import Begin
from service.lane.starting import start_writes


def test_each_fresh_partition_gets_its_record_in_the_journal_partition_of_its_number() -> None:
    """With the policy, the moment, the topic's partition count and where it began; the replay topic has none."""
    fresh = {
        TopicPartition("a", 1): Begin(10, "", fresh=True),
        TopicPartition("b", 1): Begin(20, "", fresh=True),
        TopicPartition("a", 3): Begin(30, "", fresh=True),
        TopicPartition("replay", 1): Begin(0, "", fresh=True),
    }
    writes = start_writes("vip.journal", fresh, Start("time", 1000), {"a": 4, "b": 2}, 5000, "replay")
    assert {write.partition: len(write.records) for write in writes} == {1: 2, 3: 1}
    assert {write.topic for write in writes} == {"vip.journal"}
    found = {}
    for write in writes:
        for timestamp, key, value, headers in write.records:
            assert (timestamp, headers) == (5000, [])
            name = decode_key(key or b"")
            assert isinstance(name, StartKey)
            found[name.topic, write.partition] = decode_entry(name, value or b"")
    assert found == {
        ("a", 1): Entry("1970-01-01T00:00:01.000Z", 5000, 4, 10),
        ("b", 1): Entry("1970-01-01T00:00:01.000Z", 5000, 2, 20),
        ("a", 3): Entry("1970-01-01T00:00:01.000Z", 5000, 4, 30),
    }


def test_a_topic_whose_count_is_unknown_has_at_least_the_partition_itself() -> None:
    """The view can lag behind."""
    fresh = {TopicPartition("a", 3): Begin(0, "", fresh=True)}
    ((record,),) = (write.records for write in start_writes("j", fresh, Start("latest"), {}, 1, "replay"))
    entry = decode_entry(StartKey("a"), record[2] or b"")
    assert entry == Entry("latest", 1, 4, 0)


def test_nothing_fresh_writes_nothing() -> None:
    """A replay topic alone neither."""
    only_replay = {TopicPartition("replay", 0): Begin(0, "", fresh=True)}
    assert start_writes("j", only_replay, Start(), {}, 1, "replay") == []


def test_what_is_passed_is_added_to_what_the_journal_says() -> None:
    """Where it began, and what it lost before, stays; a lane that never said where it began says it now."""
    a, b = TopicPartition("a", 3), TopicPartition("b", 0)
    lost = Lost(5, 9, "ops@host", 77)
    before = Entry("latest", 1, 4, 2, (Lost(3, 4, "ops@host", 7),))
    begins = {a: Begin(9, "", first=9), b: Begin(9, "", first=9)}
    writes = start_writes(
        "j", begins, Start(), {"b": 1}, 100, "replay", passed={a: lost, b: lost}, earlier={("a", 3): before}
    )
    entries = {write.partition: decode_entry(StartKey("x"), write.records[0][2] or b"") for write in writes}
    assert entries == {
        3: Entry("latest", 1, 4, 2, (Lost(3, 4, "ops@host", 7), lost)),
        0: Entry("earliest", 100, 1, 5, (lost,)),
    }


def test_a_partition_that_begins_anew_keeps_what_it_lost_before() -> None:
    """The audit needs it for ever."""
    tp, lost = TopicPartition("a", 0), (Lost(3, 4, "ops@host", 7),)
    before = Entry("latest", 1, 4, 2, lost)
    begins = {tp: Begin(50, "", fresh=True, offsets_lost=True)}
    ((record,),) = (
        write.records for write in start_writes("j", begins, Start(), {"a": 4}, 9, "r", earlier={("a", 0): before})
    )
    assert decode_entry(StartKey("a"), record[2] or b"") == Entry("earliest", 9, 4, 50, lost)
