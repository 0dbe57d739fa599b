"""How far a lane has settled, by its journal and by its group."""

import pytest
from aiokafka.structs import TopicPartition

from contracts.journal import Settled, SettledKey, encode_entry, encode_key
from service.errors import TransactorLostError
from service.journal.settled import refuse_undecided, settled_writes, trusted
from service.kafka.offsets import CommittedOffset, ToldOffsets
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
        found = trusted(ToldOffsets({A0: told, A1: CommittedOffset(9, "")}), JOURNAL, [B0, A0, A1])
        assert found.offsets == {A0: CommittedOffset(70, "m70"), A1: CommittedOffset(9, "")}
        assert found.behind == {A0: told}
        assert not found.untold


def test_the_group_is_right_where_it_is_further() -> None:
    """Somebody moved it; and of what the journal does not tell, or what nobody committed, it is asked alone."""
    committed = {A0: CommittedOffset(71, ""), B0: CommittedOffset(3, "m")}
    found = trusted(ToldOffsets(committed), JOURNAL, [A0, B0])
    assert (found.offsets, found.behind, found.untold) == (committed, {}, frozenset())


def test_what_the_group_forgot_is_named() -> None:
    """It is not put in its place: a lane whose offsets are gone holds."""
    found = trusted(ToldOffsets({}), JOURNAL, [A0, B0])
    assert (found.offsets, found.behind, found.untold) == ({}, {}, frozenset({A0}))
    found = trusted(ToldOffsets({A1: CommittedOffset(8, "")}), JOURNAL, [A0, A1])
    assert (found.offsets, found.untold) == ({A1: CommittedOffset(9, "")}, frozenset({A0}))


def test_the_journal_decides_what_the_group_calls_undecided() -> None:
    """Of a commit whose end the coordinator does not know, the further one of both holds; it is named, so that it is
    committed once more."""
    for group, right in (
        (CommittedOffset(12, "m12"), CommittedOffset(70, "m70")),
        (CommittedOffset(70, "m70"), CommittedOffset(70, "m70")),
        (CommittedOffset(71, "m71"), CommittedOffset(71, "m71")),
        (None, CommittedOffset(70, "m70")),
    ):
        offsets = {} if group is None else {A0: group}
        found = trusted(ToldOffsets(offsets, frozenset({A0})), JOURNAL, [A0])
        assert found.offsets == {A0: right}
        assert found.behind == {A0: group}
        assert (found.untold, found.undecided) == (frozenset(), frozenset())


def test_what_nobody_has_settled_stays_undecided() -> None:
    """Without an entry in the journal an old offset is not taken for the newest: the lane waits, and says for what."""
    for offsets in ({}, {B0: CommittedOffset(3, "")}):
        found = trusted(ToldOffsets(offsets, frozenset({B0})), JOURNAL, [A1, B0])
        assert found.undecided == {B0}
        with pytest.raises(TransactorLostError, match="a commit of b-0 undecided"):
            refuse_undecided(found)
