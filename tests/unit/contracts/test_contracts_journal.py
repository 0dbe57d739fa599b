"""Journal records: versioned, and read back as they were written."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.journal import (
    MOST_RECORDS,
    VERSION,
    Contact,
    ContactKey,
    Delivery,
    DeliveryKey,
    DeliveryState,
    Entry,
    HeldTime,
    HeldTimeKey,
    JournalError,
    Key,
    Lost,
    Newer,
    Open,
    Settled,
    SettledKey,
    Start,
    StartKey,
    decode_entry,
    decode_key,
    encode_entry,
    encode_key,
)

ENTRIES: list[tuple[Key, Entry]] = [
    (StartKey("contacts.changed"), Start("earliest", 1000, 6, lost=(Lost(5, 9, "ops", 2000),))),
    (StartKey("t"), Start("2026-11-22T00:00:00Z", 1000, 1, first_offset=7)),
    (SettledKey("t"), Settled(37_020, "fl1rAAAA")),
    (HeldTimeKey(), HeldTime(((1000, 2000), (3000, None)))),
    (
        DeliveryKey("d-1"),
        Delivery("import", DeliveryState.SENT, {"t": ((0, 1, 5), (3, 7, 9))}, 1000, "i-1"),
    ),
    (ContactKey(b"\xff/key"), Contact((Open("t", 3, 7, None),))),
]


@pytest.mark.parametrize(("key", "entry"), ENTRIES)
def test_what_is_written_is_read(key: Key, entry: Entry) -> None:
    """Key and value, each with its version."""
    assert decode_key(encode_key(key)) == key
    value = encode_entry(entry)
    assert json.loads(value)["version"] == VERSION
    assert decode_entry(key, value) == entry


def test_the_keys() -> None:
    """As the contract names them."""
    assert [encode_key(key) for key, _ in ENTRIES] == [
        b"start/contacts.changed",
        b"start/t",
        b"settled/t",
        b"held-time",
        b"delivery/d-1",
        b"contact/\xff/key",
    ]


@pytest.mark.parametrize("key", [None, b"", b"start", b"held-time/", b"other/x", b"start/\xff", b"delivery/\xff"])
def test_keys_that_this_version_does_not_know(key: bytes | None) -> None:
    """None, not an error: a later version may write more kinds."""
    assert decode_key(key) is None


@pytest.mark.parametrize("key", [key for key, _ in ENTRIES])
def test_newer_versions_are_told(key: Key) -> None:
    """Whatever else they hold: an older process must not guess."""
    assert decode_entry(key, b'{"version":2,"policy":[],"intervals":7}') == Newer(2)


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b"\xff", b'{"version":1}', b'{"version":"1"}', b"[" * 100_000])
def test_damaged_values(value: bytes) -> None:
    """One error, which says what kind of record it is and quotes nothing."""
    with pytest.raises(JournalError, match=r"^a journal record that cannot be read: StartKey$"):
        decode_entry(StartKey("secret-topic"), value)


@given(st.binary(max_size=40))
def test_no_bytes_make_reading_a_key_raise(key: bytes) -> None:
    """And what is a key is written as it was."""
    read = decode_key(key)
    assert read is None or encode_key(read) == key


def written(**ranges: tuple[tuple[int, int, int], ...]) -> Delivery:
    return Delivery("np6.workflows", DeliveryState.BEGUN, dict(ranges), begun_at_ms=1)


@pytest.mark.parametrize(
    "delivery",
    [
        written(),
        written(t=((0, 0, 1),)),
        written(t=((0, 0, 1), (3, 7, 9)), u=((0, 0, 1),)),
        written(t=((0, 10**15, 10**15 + MOST_RECORDS),)),
    ],
)
def test_ranges_of_records_are_read(delivery: Delivery) -> None:
    """From the first offset of the first partition on, as many as a delivery can have."""
    assert decode_entry(DeliveryKey("b.1"), encode_entry(delivery)) == delivery


@pytest.mark.parametrize(
    "delivery",
    [
        written(t=((-1, 0, 1),)),
        written(t=((0, -1, 1),)),
        written(t=((0, 1, 1),)),
        written(t=((0, 2, 1),)),
        written(t=((0, 0, MOST_RECORDS + 1),)),
        written(t=((0, 0, MOST_RECORDS),), u=((0, 0, 1),)),
    ],
)
def test_what_are_no_ranges_of_records_is_damage(delivery: Delivery) -> None:
    """Each offset that is named is worked on: a single damaged number must not be a million years of it."""
    with pytest.raises(JournalError, match=r"^a delivery whose ranges are none$"):
        decode_entry(DeliveryKey("b.1"), encode_entry(delivery))
