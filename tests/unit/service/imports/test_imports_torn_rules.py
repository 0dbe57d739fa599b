"""Whose an import is where several members have its partitions."""

import pytest
from aiokafka.structs import TopicPartition

from contracts.journal import Delivery, DeliveryState, ImportEntry
from contracts.results import Operation
from handlers.imports.rows import Row
from service.imports.recovery import Found, recover_imports
from service.imports.torn import WHOLE, Share, apart, budget_share, furthest, share_of
from service.intake.item import Item
from service.intake.starts import Begin
from tests.support.fakes import Source

KIND = "apsis.imports"


def tps(topic: str, *numbers: int) -> set[TopicPartition]:
    return {TopicPartition(topic, number) for number in numbers}


def delivery(state: DeliveryState = DeliveryState.CREATED, **ranges: tuple[tuple[int, int, int], ...]) -> Delivery:
    return Delivery(KIND, state, dict(ranges), begun_at_ms=1_000, reference="i-1", opened=ImportEntry(0))


FOUR = ((0, 0, 5), (3, 2, 4), (3, 7, 8), (6, 0, 1))


def test_what_is_one_members_is_whole() -> None:
    """As it is unless slots or topics were changed; also an entry that names nothing."""
    share = share_of(delivery(source=FOUR), tps("source", 0, 3, 6, 9), {0, 3, 6})
    assert (share.others, share.lowest, share.leads, share.sends) == ({}, 0, True, True)
    assert share_of(delivery(), tps("source", 0), {0}) == WHOLE


def test_the_owner_of_the_lowest_partition_sends_the_file() -> None:
    """And reads the others' ranges; whoever has the others reads his, and sends nothing."""
    leading = share_of(delivery(source=FOUR), tps("source", 0, 2, 4, 6), {0, 6})
    assert (leading.leads, leading.sends, leading.lowest) == (True, True, 0)
    assert leading.others == {TopicPartition("source", 3): [(2, 4), (7, 8)]}
    assert leading.others_count == 3
    other = share_of(delivery(source=FOUR), tps("source", 1, 3, 5), {3})
    assert (other.leads, other.sends, other.lowest) == (False, False, 0)
    assert other.others == {TopicPartition("source", 0): [(0, 5)], TopicPartition("source", 6): [(0, 1)]}


def test_of_two_topics_of_one_partition_one_sends() -> None:
    """Both members read the partition's journal: the topic that comes first decides."""
    torn = delivery(a=((2, 0, 1),), b=((2, 0, 1),))
    shares = [share_of(torn, tps(topic, 2), {2}) for topic in "ab"]
    assert [(share.leads, share.sends) for share in shares] == [(True, True), (False, False)]
    lower = delivery(a=((2, 0, 1),), b=((1, 0, 1),))
    assert [share_of(lower, tps(topic, n), {n}).lowest for topic, n in (("a", 2), ("b", 1))] == [1, 1]
    assert share_of(lower, tps("b", 1), {1}).leads
    nobodys = share_of(torn, tps("c", 2), {2})
    assert (nobodys.leads, nobodys.sends) == (False, False)


@pytest.mark.parametrize("entries", [{3, 6}, {0, 6}])
def test_what_has_left_an_import_is_not_sent_with_it_again(entries: set[int]) -> None:
    """Of our own partitions one has no entry any more: its records have ended, or are in another import by now."""
    share = share_of(delivery(source=FOUR), tps("source", 0, 3, 6), entries)
    assert (share.leads, share.sends) == (True, False)
    assert share.others


def test_the_entry_that_has_come_further_counts() -> None:
    """Members that each had a part wrote theirs when they saw it: a file that one of them knows to be there is not
    sent once more, whichever entry is read first."""
    states = (DeliveryState.INTENDED, DeliveryState.CREATED, DeliveryState.UPLOADED)
    entries = [delivery(state, source=((0, 0, 1), (1, 0, 1))) for state in states]
    assert furthest(entries[0], entries[1]) is furthest(entries[1], entries[0]) is entries[1]
    begins = {TopicPartition("source", number): Begin(0, "") for number in (0, 1)}
    for first, second in ((1, 2), (2, 1)):
        deliveries = {(0, "b.1"): entries[first], (1, "b.1"): entries[second]}
        (one,) = recover_imports(deliveries, begins, KIND, carries_rows=False, repeatable=True).imports
        assert (one.record.state, one.found, one.share) == (DeliveryState.UPLOADED, Found.ASKED, WHOLE)


def test_recovered_imports_say_what_is_not_ours() -> None:
    """Of those that are asked about."""
    torn = delivery(source=((0, 0, 1), (1, 0, 3)))
    begins = {TopicPartition("source", 1): Begin(0, "")}
    (one,) = recover_imports({(1, "b.1"): torn}, begins, KIND, carries_rows=False, repeatable=True).imports
    assert one.unread == 3
    assert one.share == Share({TopicPartition("source", 0): [(0, 1)]}, 0, leads=False, sends=False)


def test_the_imports_that_a_failed_file_may_use_are_shared() -> None:
    """By records; together they are not more than the budget."""
    mine, theirs = Share({TopicPartition("s", 1): [(0, 30)]}), Share({TopicPartition("s", 0): [(0, 10)]})
    assert (budget_share(100, 10, mine), budget_share(100, 30, theirs)) == (25, 75)
    assert budget_share(3, 10, mine) + budget_share(3, 30, theirs) <= 3
    assert budget_share(100, 0, WHOLE) == 100
    assert str(budget_share(100, 1, Share({TopicPartition("s", 0): [(0, 2)]}))) == "33"


def item(source: Source, *keys: str | None) -> Item:
    operations = [Operation("import.row", "c", "s") for _ in keys]
    found = source.item(b"k", *operations)
    found.rows = [Row(one, None if key is None else (key,), b"") for one, key in zip(operations, keys, strict=True)]
    return found


def test_who_shares_a_row_with_anothers_is_told_apart() -> None:
    """Also through a third event of ours; a row without a key is nobody else's."""
    source = Source()
    own = [item(source, "a"), item(source, "b", "c"), item(source, "c"), item(source, None), item(source, "d")]
    others = [item(source, "x", "b"), item(source, None)]
    left, shared = apart(own, others)
    assert left == [own[0], own[3], own[4]]
    assert shared == own[1:3]
    assert apart(own, []) == (own, [])
    # What the others have ties for good, also behind one that ties more.
    chained = [item(source, "c"), item(source, "b", "c"), item(source, "x")]
    assert apart(chained, others) == ([], [chained[1], chained[2], chained[0]])
