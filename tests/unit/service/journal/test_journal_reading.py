"""What is taken from a journal's records: the newest of each key and partition, and nothing that has to be guessed."""

import pytest

from contracts.journal import (
    Delivery,
    DeliveryKey,
    DeliveryState,
    HeldTime,
    HeldTimeKey,
    Settled,
    SettledKey,
    Start,
    StartKey,
    encode_entry,
    encode_key,
)
from service.errors import JournalUnreadableError
from service.journal.reading import Journal

START = encode_key(StartKey("contacts"))
DELIVERY = encode_key(DeliveryKey("d-1"))
FIRST, SECOND = Start("latest", 5, partitions=2), Start("latest", 9, partitions=4)
BEGUN = Delivery("workflow.execute", DeliveryState.BEGUN, {"contacts": ((0, 3, 5),)}, begun_at_ms=7)


def test_the_newest_record_of_a_partition_counts_and_others_are_passed_by() -> None:
    """A compacted topic holds older records of a key for a while."""
    journal = Journal()
    journal.take(0, START, encode_entry(FIRST))
    journal.take(0, START, encode_entry(SECOND))
    journal.take(1, START, encode_entry(FIRST))
    journal.take(1, encode_key(HeldTimeKey()), encode_entry(HeldTime(((1, 2),))))
    journal.take(1, DELIVERY, encode_entry(BEGUN))
    journal.take(0, b"something else", b"{")
    assert journal.starts == {("contacts", 0): SECOND, ("contacts", 1): FIRST}
    assert journal.deliveries == {(1, "d-1"): BEGUN}
    assert journal.held_times == {1: HeldTime(((1, 2),))}


def test_a_null_value_takes_an_entry_out() -> None:
    """Of the partition that it lies in, and of no other."""
    journal = Journal({("contacts", 0): FIRST}, {(0, "d-1"): BEGUN, (1, "d-1"): BEGUN}, {0: HeldTime()})
    journal.settled = {("contacts", 0): Settled(7), ("contacts", 1): Settled(9)}
    for key in (START, DELIVERY, encode_key(HeldTimeKey()), encode_key(SettledKey("contacts"))):
        journal.take(0, key, None)
    assert journal == Journal(deliveries={(1, "d-1"): BEGUN}, settled={("contacts", 1): Settled(9)})


def test_of_others_partitions_only_the_beginnings_are_taken() -> None:
    """What lies open there is their owners' business, even if it cannot be read."""
    journal = Journal()
    journal.take(0, START, encode_entry(FIRST), starts_only=True)
    journal.take(0, DELIVERY, b"{", starts_only=True)
    assert journal == Journal({("contacts", 0): FIRST})


@pytest.mark.parametrize("key", [START, DELIVERY, encode_key(HeldTimeKey())])
@pytest.mark.parametrize(
    ("value", "text"), [(b"{", "cannot be read"), (b'{"version": 99}', "version 99, newer than ours")]
)
def test_what_cannot_be_understood_holds_the_lane(key: bytes, value: bytes, text: str) -> None:
    """Taken for nothing it would let the lane begin at the wrong place, or repeat what may have been done."""
    with pytest.raises(JournalUnreadableError, match=text):
        Journal().take(0, key, value)
