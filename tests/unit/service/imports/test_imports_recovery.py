"""What becomes of the imports that an earlier owner left open: by what their entries say, and by what is unfinished."""

import pytest
from aiokafka.structs import TopicPartition

from contracts.journal import Delivery, DeliveryState, ImportEntry
from service.errors import JournalUnreadableError
from service.imports.policy import ImportPolicy
from service.imports.recovery import Found, LeftOpen, RecoveredImports, found_as, recover_imports
from service.intake.starts import Begin
from service.offsets.metadata import encode

KIND = "apsis.imports"
T0, T1 = TopicPartition("contacts", 0), TopicPartition("contacts", 1)
INTENDED, CREATED, UPLOADED = DeliveryState.INTENDED, DeliveryState.CREATED, DeliveryState.UPLOADED


def entry(
    state: DeliveryState = CREATED,
    *,
    kind: str = KIND,
    reference: str | None = "i-1",
    **ranges: tuple[tuple[int, int, int], ...],
) -> Delivery:
    return Delivery(kind, state, dict(ranges), begun_at_ms=1_000, reference=reference, opened=ImportEntry(0))


def told(found: RecoveredImports) -> dict[str, tuple[Delivery, Found, dict[int, tuple[str, int]]]]:
    """Of each import what its entries say, what is to be done, and which entries there are."""
    return {
        one.delivery_id: (
            one.record,
            one.found,
            {number: (held.delivery_id, held.partition) for number, held in one.entries.items()},
        )
        for one in found.imports
    }


def recovered(
    deliveries: dict[tuple[int, str], Delivery], begins: dict[TopicPartition, Begin], *, repeatable: bool = True
) -> RecoveredImports:
    """Of a handler whose create carries the rows where it must not be repeated."""
    return recover_imports(deliveries, begins, KIND, carries_rows=not repeatable, repeatable=repeatable)


@pytest.mark.parametrize(
    ("state", "reference", "carries_rows", "repeatable", "expected"),
    [
        (INTENDED, None, False, False, Found.LAPSES),
        (INTENDED, None, True, True, Found.LAPSES),
        (INTENDED, None, True, False, Found.DOUBTED),
        (INTENDED, "23", True, False, Found.ASKED),
        (CREATED, "23", True, False, Found.ASKED),
        (UPLOADED, "23", False, True, Found.ASKED),
    ],
)
def test_what_an_entry_asks_for(
    state: DeliveryState, reference: str | None, carries_rows: bool, repeatable: bool, expected: Found
) -> None:
    """One whose id is known is asked about; else its events are free, or in doubt where a create carried them."""
    left = entry(state, reference=reference)
    assert found_as(left, carries_rows=carries_rows, repeatable=repeatable) is expected


def test_an_import_is_one_in_all_its_partitions() -> None:
    """Its entries are taken together, and its unfinished records of both partitions are counted."""
    ranges = ((0, 3, 10), (1, 0, 4))
    deliveries = {(0, "b.1"): entry(contacts=ranges), (1, "b.1"): entry(contacts=ranges)}
    begins = {T0: Begin(5, encode(5, [(7, 9)])), T1: Begin(1, "")}
    found = recovered(deliveries, begins)
    (one,) = found.imports
    assert (one.delivery_id, one.found, one.unread) == ("b.1", Found.ASKED, 3 + 3)
    assert told(found)["b.1"] == (entry(contacts=ranges), Found.ASKED, {0: ("b.1", 0), 1: ("b.1", 1)})
    assert {tp: sorted(offsets) for tp, offsets in found.interrupted.items()} == {T0: [5, 6, 9], T1: [1, 2, 3]}
    assert found.entries == set(one.entries.values())
    assert one.slots(2) == {0, 1}
    assert one.slots(1) == {0}


def test_an_import_all_of_whose_records_are_finished_is_asked_about_too() -> None:
    """Whether it is open still is the platform's to say: its slot is taken until then."""
    found = recovered({(0, "b.1"): entry(contacts=((0, 0, 5),))}, {T0: Begin(5, "")})
    (one,) = found.imports
    assert (one.unread, set(one.entries), found.stale) == (0, {0}, [])


def test_an_import_of_a_topic_of_former_days_takes_its_slot() -> None:
    """Nothing of it will be read."""
    found = recovered({(3, "b.1"): entry(gone=((3, 0, 5),))}, {T0: Begin(0, "")})
    (one,) = found.imports
    assert told(found) == {"b.1": (entry(gone=((3, 0, 5),)), Found.ASKED, {3: ("b.1", 3)})}
    assert (one.unread, one.slots(2)) == (0, {1})
    carried = recovered({(3, "b.1"): entry(INTENDED, reference=None, gone=((3, 0, 5),))}, {}, repeatable=False)
    assert [one.found for one in carried.imports] == [Found.DOUBTED]
    assert found.entries == set(one.entries.values())


def test_records_of_what_lapses_are_delivered_anew() -> None:
    """They are not taken for its own, also where an import that is asked about stands beside it."""
    deliveries = {
        (0, "free.1"): entry(INTENDED, reference=None, contacts=((0, 0, 3),)),
        (0, "open.1"): entry(contacts=((0, 3, 5),)),
    }
    found = recovered(deliveries, {T0: Begin(0, "")})
    assert told(found) == {
        "free.1": (deliveries[0, "free.1"], Found.LAPSES, {0: ("free.1", 0)}),
        "open.1": (deliveries[0, "open.1"], Found.ASKED, {0: ("open.1", 0)}),
    }
    assert {one.delivery_id: one.unread for one in found.imports} == {"free.1": 0, "open.1": 2}
    assert sorted(found.interrupted[T0]) == [3, 4]
    doubted = recovered(deliveries, {T0: Begin(0, "")}, repeatable=False)
    assert sorted(doubted.interrupted[T0]) == [0, 1, 2, 3, 4]
    assert told(doubted)["free.1"][1] is Found.DOUBTED
    again = recover_imports(deliveries, {T0: Begin(0, "")}, KIND, carries_rows=True, repeatable=True)
    assert told(again) == told(found)
    assert sorted(again.interrupted[T0]) == [3, 4]


def test_what_is_no_import_of_the_lane_is_not_touched() -> None:
    """An entry of its own kind that is none, and one of another kind, whatever its state."""
    begins = {T0: Begin(0, "")}
    no_import = Delivery(KIND, CREATED, {"contacts": ((0, 0, 1),)}, begun_at_ms=1)
    with pytest.raises(JournalUnreadableError, match=r"^journal: delivery/b\.1 is no import$"):
        recovered({(0, "b.1"): no_import}, begins)
    for state, reference in ((INTENDED, None), (CREATED, "i-1")):
        other = entry(state, kind="np6.imports", reference=reference, contacts=((0, 0, 1),))
        with pytest.raises(JournalUnreadableError, match=r"was begun by np6\.imports"):
            recovered({(0, "b.1"): other}, begins)


def test_when_nothing_of_an_import_can_be_open() -> None:
    """At the end of its upload's address, where it has one; else an orphan's life behind the last moment at which its
    create can have reached the platform, by a clock that may be ahead."""
    policy = ImportPolicy(slots=1, orphan_life_s=60.0, max_file_bytes=1, under_way_s=40.0)
    without = LeftOpen("b.1", entry(), {}, Found.LAPSES)
    assert without.lapses_at_ms(policy) == 1_000 + 60_000 + 40_000 + 5_000
    opened = ImportEntry(0, url="https://x", expires_at_ms=5_000)
    told = LeftOpen("b.1", Delivery(KIND, CREATED, {}, begun_at_ms=1_000, opened=opened), {}, Found.ASKED)
    assert told.lapses_at_ms(policy) == 5_000
