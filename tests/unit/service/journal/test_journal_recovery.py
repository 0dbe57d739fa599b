"""What a new owner makes of the entries that an earlier one left open."""

import pytest
from aiokafka.structs import TopicPartition

from contracts.journal import Delivery, DeliveryState
from service.errors import JournalUnreadableError
from service.intake.starts import Begin
from service.journal.recovery import recover
from service.offsets.metadata import encode

T0, T1, R0 = TopicPartition("notes", 0), TopicPartition("notes", 1), TopicPartition("replay", 0)
KIND = "np6.workflows"


def delivery(kind: str = KIND, **ranges: tuple[tuple[int, int, int], ...]) -> Delivery:
    return Delivery(kind, DeliveryState.BEGUN, dict(ranges), begun_at_ms=1)


def test_only_unfinished_records_of_our_own_partitions_are_interrupted() -> None:
    """What was committed, or finished beyond the commit, is done; the other partition's owner reads its own entry."""
    begins = {T0: Begin(5, encode(5, [(7, 9)])), R0: Begin(0, "")}
    entries = {(0, "b.1"): delivery(notes=((0, 3, 10), (1, 5, 40)), replay=((0, 2, 3),))}
    found = recover(entries, begins, KIND)
    assert {tp: sorted(offsets) for tp, offsets in found.interrupted.items()} == {T0: [5, 6, 9], R0: [2]}
    (entry,) = found.entries
    assert (entry.left, entry.partition, entry.batch_id) == (4, 0, "b")
    assert found.stale == []


def test_where_a_key_is_deferred_nothing_beyond_its_first_record_is_taken_for_finished() -> None:
    """In the commit's runs a deferred record counts as finished. One that was begun since is in doubt all the same."""
    begins = {T0: Begin(5, encode(5, [(6, 20)], {b"8 bytes!": 10}))}
    found = recover({(0, "b.1"): delivery(notes=((0, 8, 9), (0, 12, 14)))}, begins, KIND)
    assert {tp: sorted(offsets) for tp, offsets in found.interrupted.items()} == {T0: [12, 13]}


def test_an_entry_of_which_everything_is_finished_is_taken_out() -> None:
    """A crash between the offsets and the removal, where there are no transactions, leaves one."""
    found = recover({(0, "b.1"): delivery(notes=((0, 0, 5),))}, {T0: Begin(5, "")}, KIND)
    assert found.interrupted == {T0: {}}
    assert [entry.delivery_id for entry in found.stale] == ["b.1"]
    assert found.stale_partitions == {0}


def test_records_that_retention_took_hold_no_entry_open() -> None:
    """Reading begins behind them."""
    found = recover({(0, "b.1"): delivery(notes=((0, 0, 5),))}, {T0: Begin(20, "", lost=(0, 20))}, KIND)
    assert len(found.stale) == 1


def test_an_entry_that_names_a_topic_of_former_days_stays() -> None:
    """Its records may be read again one day, and may not be executed then."""
    found = recover({(0, "b.1"): delivery(gone=((0, 0, 2),), notes=((0, 0, 1),))}, {T0: Begin(0, "")}, KIND)
    (entry,) = found.entries
    assert entry.left == 3
    assert found.stale == []


def test_every_range_of_an_entry_is_looked_at() -> None:
    """Also those behind another partition's, and behind a topic of former days; what that holds is added up."""
    ranges = ((1, 0, 9), (0, 0, 2), (0, 4, 5))
    found = recover({(0, "b.1"): delivery(gone=((0, 3, 5), *ranges), notes=ranges)}, {T0: Begin(1, "")}, KIND)
    assert {tp: sorted(offsets) for tp, offsets in found.interrupted.items()} == {T0: [1, 4]}
    (entry,) = found.entries
    assert entry.left == (2 + 2 + 1) + 2


def test_what_finished_behind_a_range_says_nothing_of_it() -> None:
    """Ranges of the commit that begin at its end, or far behind it."""
    for finished in ((3, 5), (9, 12)):
        found = recover({(0, "b.1"): delivery(notes=((0, 0, 3),))}, {T0: Begin(1, encode(1, [finished]))}, KIND)
        assert {tp: sorted(offsets) for tp, offsets in found.interrupted.items()} == {T0: [1, 2]}


def test_a_delivery_of_another_kind_holds_the_lane() -> None:
    """What an import has open nobody but its own handler can end."""
    told = r"^journal: delivery/b\.1 was begun by apsis\.imports, this lane is np6\.workflows: let it end there$"
    with pytest.raises(JournalUnreadableError, match=told):
        recover({(0, "b.1"): delivery("apsis.imports", notes=((0, 0, 2),))}, {T0: Begin(0, "")}, KIND)
