"""The journal's record of where a lane began."""

from aiokafka.structs import TopicPartition

from contracts.journal import Start as Entry
from contracts.journal import StartKey, decode_entry, decode_key
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
