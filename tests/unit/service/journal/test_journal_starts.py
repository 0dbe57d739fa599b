"""What is taken from a journal's records: the newest start of each partition, and nothing that has to be guessed."""

import pytest

from contracts.journal import HeldTime, HeldTimeKey, Start, StartKey, encode_entry, encode_key
from service.errors import JournalUnreadableError
from service.journal.starts import _take

KEY = encode_key(StartKey("contacts"))
FIRST, SECOND = Start("latest", 5, partitions=2), Start("latest", 9, partitions=4)


def test_the_newest_record_of_a_partition_counts_and_others_are_passed_by() -> None:
    """A compacted topic holds older records of a key for a while."""
    found: dict[tuple[str, int], Start] = {}
    _take(found, 0, KEY, encode_entry(FIRST))
    _take(found, 0, KEY, encode_entry(SECOND))
    _take(found, 1, KEY, encode_entry(FIRST))
    _take(found, 1, encode_key(HeldTimeKey()), encode_entry(HeldTime()))
    _take(found, 1, b"something else", b"{")
    assert found == {("contacts", 0): SECOND, ("contacts", 1): FIRST}


def test_a_null_value_takes_an_entry_out() -> None:
    """Whoever removes a start wants the lane to begin anew."""
    found = {("contacts", 0): FIRST}
    _take(found, 0, KEY, None)
    assert found == {}


@pytest.mark.parametrize(
    ("value", "text"), [(b"{", "cannot be read"), (b'{"version": 99}', "version 99, newer than ours")]
)
def test_what_cannot_be_understood_holds_the_lane(value: bytes, text: str) -> None:
    """Taken for nothing it would let the lane begin at the wrong place."""
    with pytest.raises(JournalUnreadableError, match=text):
        _take({}, 0, KEY, value)
