"""The open entries of a lane: what each names, when it closes, and what is written of it."""

import pytest
from aiokafka.structs import TopicPartition

from contracts.journal import Delivery, DeliveryKey, DeliveryState, decode_entry
from service.journal.deliveries import OpenDeliveries, OpenDelivery, OpenEntry
from tests.support.fakes import Source

NOTES, REPLAY, OTHER = TopicPartition("notes", 0), TopicPartition("replay", 0), TopicPartition("notes", 1)


def begun(source: Source, *offsets: int, tp: TopicPartition = NOTES, delivery_id: str = "b.1") -> OpenDelivery:
    """A delivery of records of one partition, in this order."""
    items = {item.offset: item for item in source.read_up_to(max(offsets) + 1, tp)}
    return OpenDelivery(delivery_id, "np6.workflows", [items[offset] for offset in offsets], 7)


@pytest.mark.parametrize(
    ("offsets", "ranges"),
    [
        ([4], [(4, 5)]),
        ([4, 5, 6], [(4, 7)]),
        ([4, 6], [(4, 5), (6, 7)]),
        ([1, 2, 5, 6, 9], [(1, 3), (5, 7), (9, 10)]),
        ([6, 4, 5], [(4, 7)]),
        ([2, 9, 4], [(2, 3), (4, 5), (9, 10)]),
    ],
    ids=["one", "a run", "a gap", "runs", "out of order", "out of order, and as far apart as a run's ends"],
)
def test_an_entry_names_no_record_that_the_delivery_does_not_have(
    offsets: list[int], ranges: list[tuple[int, int]]
) -> None:
    """A record that it named too would be called interrupted after a crash."""
    delivery = begun(Source(NOTES), *offsets)
    named = {"notes": tuple((0, first, end) for first, end in ranges)}
    told = decode_entry(DeliveryKey("b.1"), delivery.value)
    assert told == Delivery("np6.workflows", DeliveryState.BEGUN, named, 7)
    assert delivery.entries[0].left == len(offsets)
    assert not delivery.attempted


def test_sources_and_replays_of_one_partition_share_an_entry() -> None:
    """It closes with the last record of either; the other partition has its own, and all of them name everything."""
    source = Source(NOTES, REPLAY, OTHER)
    items = [source.item(tp=tp) for tp in (NOTES, REPLAY, NOTES, OTHER)]
    delivery = OpenDelivery("b.1", "np6.workflows", items, 7)
    assert {partition: entry.left for partition, entry in delivery.entries.items()} == {0: 3, 1: 1}
    told = decode_entry(DeliveryKey("b.1"), delivery.value)
    assert isinstance(told, Delivery)
    assert told.ranges == {"notes": ((0, 0, 2), (1, 0, 1)), "replay": ((0, 0, 1),)}


def test_an_entry_closes_with_its_last_record() -> None:
    """Records leave by and by, and a delivery is open until its last entry is closed."""
    source = Source(NOTES, OTHER)
    items = [source.item(tp=tp) for tp in (NOTES, NOTES, NOTES, OTHER)]
    delivery, journal = OpenDelivery("b.1", "np6.workflows", items, 7), OpenDeliveries("vip.journal")
    journal.begun(delivery)
    mine, others = delivery.entries[0], delivery.entries[1]
    for settled, closing, count in (
        (items[:1], [], 1),
        ([items[1], items[3]], [others], 1),
        (items[2:3], [mine], 0),
    ):
        leaving = journal.leaving(settled)
        assert leaving.closing == closing
        journal.left(leaving)
        assert journal.count == count
    assert journal.unproven == []


def test_what_was_closed_without_proof_is_taken_out_once_more() -> None:
    """Whoever does that is woken; where nothing closed there is nothing to take out."""
    source, journal, woken = Source(NOTES), OpenDeliveries("vip.journal"), []
    delivery = begun(source, 0, 1)
    journal.begun(delivery)
    journal.wake = lambda: woken.append(True)
    journal.left(journal.leaving(delivery.items[:1]), proven=False)
    assert (journal.unproven, woken) == ([], [])
    journal.left(journal.leaving(delivery.items[1:]), proven=False)
    assert (journal.unproven, woken) == ([delivery.entries[0]], [True])


def test_an_earlier_owners_entry_goes_with_the_last_record_that_can_still_come() -> None:
    """Of its records those that retention took will never be read; before anybody listens nobody is told."""
    journal = OpenDeliveries("vip.journal")
    entry, other = OpenEntry("b.1", 0, left=4), OpenEntry("b.2", 0, left=1)
    journal.found([entry, other])
    assert journal.count == 2
    journal.gone(entry, 1)
    journal.gone(entry, 2)
    assert (journal.count, entry.left, journal.unproven) == (2, 1, [])
    journal.gone(entry, 1)
    assert (journal.count, journal.unproven) == (1, [entry])
    woken: list[bool] = []
    journal.wake = lambda: woken.append(True)
    journal.gone(other, 1)
    assert (journal.count, journal.unproven, woken) == (0, [entry, other], [True])


def test_an_entry_that_no_record_closes_is_closed_once() -> None:
    """Records that were detached leave it where it is; whoever ends the delivery has it taken out."""
    source, journal, woken = Source(NOTES), OpenDeliveries("vip.journal"), []
    delivery = begun(source, 0, 1)
    journal.begun(delivery)
    journal.wake = lambda: woken.append(True)
    journal.detach(delivery.items)
    assert [item.entry for item in delivery.items] == [None, None]
    assert journal.leaving(delivery.items).counts == {}
    assert journal.count == 1
    for _ in range(2):
        journal.close(delivery.entries.values())
        assert (journal.count, journal.unproven, woken) == (0, [delivery.entries[0]], [True])


def test_what_is_taken_out_is_out_of_its_own_records_alone() -> None:
    """A record that went out again since belongs to the later delivery's entry."""
    source, journal = Source(NOTES), OpenDeliveries("vip.journal")
    first = begun(source, 0, 1)
    journal.begun(first)
    again = OpenDelivery("b.2", "np6.workflows", first.items[1:], 8)
    journal.begun(again)
    journal.taken_out(first)
    assert [item.entry for item in first.items] == [None, again.entries[0]]
    assert journal.count == 1
