"""How far a lane has settled, by its journal and by its group."""

from aiokafka.structs import TopicPartition

from contracts.journal import Settled, SettledKey, encode_entry, encode_key
from service.journal.settled import settled_writes, trusted
from service.kafka.offsets import CommittedOffset
from service.settling.transactor import Committed

A0, A1, B0 = TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("b", 0)
JOURNAL = {("a", 0): Settled(70, "m70"), ("a", 1): Settled(9)}


def test_each_commit_is_told_beside_its_partition() -> None:
    """In the journal's partition of the same number, one record a topic."""
    offsets = {A0: Committed(5, "m"), B0: Committed(6, ""), A1: Committed(7, "")}
    written = {(write.topic, write.partition): write.records for write in settled_writes("j", offsets, 1000)}
    assert written == {
        ("j", 0): [
            (1000, encode_key(SettledKey("a")), encode_entry(Settled(5, "m")), []),
            (1000, encode_key(SettledKey("b")), encode_entry(Settled(6)), []),
        ],
        ("j", 1): [(1000, encode_key(SettledKey("a")), encode_entry(Settled(7)), [])],
    }


def test_the_journal_is_right_where_the_group_is_behind() -> None:
    """A smaller offset, and other metadata at the same one, are a state of before; what was settled holds, with what
    had finished beyond it."""
    for told in (CommittedOffset(12, "m12"), CommittedOffset(70, "")):
        found = trusted({A0: told, A1: CommittedOffset(9, "")}, JOURNAL, [A0, A1])
        assert found.offsets == {A0: CommittedOffset(70, "m70"), A1: CommittedOffset(9, "")}
        assert found.behind == {A0: told}
        assert not found.untold


def test_the_group_is_right_where_it_is_further() -> None:
    """Somebody moved it; and of what the journal does not tell, or what nobody committed, it is asked alone."""
    committed = {A0: CommittedOffset(71, ""), B0: CommittedOffset(3, "m")}
    found = trusted(committed, JOURNAL, [A0, B0])
    assert (found.offsets, found.behind, found.untold) == (committed, {}, frozenset())


def test_what_the_group_forgot_is_named() -> None:
    """It is not put in its place: a lane whose offsets are gone holds."""
    found = trusted({}, JOURNAL, [A0, B0])
    assert (found.offsets, found.behind, found.untold) == ({}, {}, frozenset({A0}))
