"""Deferred keys: in the commit's metadata, and in what the ledger says of its room."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.offsets import metadata
from service.offsets.deferred import MOST_KEYS, is_deferred, key_digest
from service.offsets.ledger import PartitionLedger
from service.offsets.metadata import MetadataFault, decode, decode_all, encode


@given(
    base=st.integers(0, 2**40),
    firsts=st.dictionaries(st.binary(min_size=1, max_size=20), st.integers(0, 2**30), min_size=1, max_size=MOST_KEYS),
    steps=st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), max_size=60),
)
def test_what_is_written_is_read(base: int, firsts: dict[bytes, int], steps: list[tuple[int, int]]) -> None:
    """Keys and ranges come back as they were; a range may begin at the committed offset."""
    deferred = {key_digest(key): base + distance for key, distance in firsts.items()}
    ranges = []
    end = base - 1
    for gap, length in steps:
        ranges.append((end + gap, end + gap + length))
        end = ranges[-1][1]
    assert decode_all(base, encode(base, ranges, deferred)) == (ranges, deferred, None)


@pytest.mark.parametrize("place", [0, 3, 5, 9, 20])
def test_damage_is_noticed(place: int) -> None:
    """One changed character, and nothing is believed: all is delivered again, nothing lost."""
    text = encode(10, [(11, 20)], {key_digest(b"k"): 10})
    changed = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
    ranges, deferred, fault = decode_all(10, changed)
    assert (ranges, deferred) == ([], {})
    assert fault in (MetadataFault.DAMAGED, MetadataFault.FOREIGN, MetadataFault.UNKNOWN_VERSION)


def test_metadata_of_another_offset_is_damage() -> None:
    """It was copied there by some tool."""
    assert decode_all(11, encode(10, [], {key_digest(b"k"): 10}))[2] is MetadataFault.DAMAGED


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"\x01" + b"12345678" + b"\0\0\0\x02", ([], {b"12345678": 12}, None)),
        (b"\x01" + b"12345678" + b"\0\0\0\x02" + b"\x01\x03", ([(10, 13)], {b"12345678": 12}, None)),
        (b"\0\x01\x03", ([(10, 13)], {}, None)),
        (b"\0", ([], {}, MetadataFault.DAMAGED)),
        (b"", ([], {}, MetadataFault.DAMAGED)),
        (b"\x02" + b"12345678" + b"\0\0\0\x02", ([], {}, MetadataFault.DAMAGED)),
        (b"\x01" + b"12345678" + b"\0\0\0\x02" + b"\x01", ([], {}, MetadataFault.DAMAGED)),
    ],
    ids=["keys", "keys and runs", "runs", "nothing", "empty", "a key too few", "half a run"],
)
def test_what_the_bytes_say(payload: bytes, expected: tuple[list[tuple[int, int]], dict[bytes, int], object]) -> None:
    """A count, each key's digest and distance from the committed offset, and runs from the offset before that."""
    body = metadata._checksum(9, "r", payload) + payload
    assert decode_all(10, "fl2r" + base64.b64encode(body).decode()) == expected


def test_what_comes_back_is_unfinished_like_any_other() -> None:
    """It holds the commit, is settled, and lets go."""
    key = key_digest(b"k")
    ledger = PartitionLedger(0)
    for offset in range(10):
        ledger.read(offset)
    ledger.defer([2, 4, 6], {key: 2})
    ledger.apply(ledger.prepare([0, 1, 3, 5, 7, 8, 9]))
    assert ledger.low == 2
    ledger.recall([2, 4], {key: 6})
    assert (ledger.unfinished, ledger.low) == (2, 2)
    ledger.apply(ledger.prepare([4]))
    ledger.apply(ledger.prepare([2]))
    assert ledger.low == 6
    ledger.recall([6], {key: None})
    ledger.apply(ledger.prepare([6]))
    assert (ledger.low, ledger.deferred, ledger.runs) == (10, {}, [])


def test_an_offset_that_is_not_unfinished_cannot_be_deferred() -> None:
    """Nor more keys than the metadata has room for."""
    ledger = PartitionLedger(0)
    ledger.read(0)
    with pytest.raises(ValueError, match="not unfinished"):
        ledger.defer([1], {})
    with pytest.raises(ValueError, match="too many"):
        ledger.defer([0], {key_digest(str(n).encode()): 0 for n in range(MOST_KEYS + 1)})


def test_as_many_keys_as_there_is_room_for_are_deferred() -> None:
    """Those that are deferred already count once; of one key the lowest first is kept."""
    ledger, digests = PartitionLedger(0), [key_digest(str(n).encode()) for n in range(MOST_KEYS + 1)]
    for offset in range(10):
        ledger.read(offset)
    ledger.defer([3], dict.fromkeys(digests[:MOST_KEYS], 3))
    ledger.defer([2, 5], {digests[0]: 2, digests[1]: 5})
    assert (ledger.deferred[digests[0]], ledger.deferred[digests[1]], len(ledger.deferred)) == (2, 3, MOST_KEYS)
    with pytest.raises(ValueError, match="too many"):
        ledger.defer([6], {digests[MOST_KEYS]: 6})
    assert (ledger.unfinished, ledger.low) == (7, 0)


def test_a_key_stays_deferred_while_an_earlier_commit_lies_ahead() -> None:
    """The ranges of that commit may hold more of its records: nothing of it is left only behind them."""
    key = key_digest(b"k")
    ledger = PartitionLedger(0, [(2, 6)], {key: 2})
    assert [ledger.read(offset) for offset in range(3)] == [True, True, False]
    ledger.recall([2], {key: None})
    assert ledger.deferred == {key: 3}
    assert [ledger.read(offset) for offset in range(3, 6)] == [False] * 3
    ledger.recall([], {key: 2})  # a lower one was recalled already
    assert ledger.deferred == {key: 3}
    ledger.recall([], {key: 5})
    assert ledger.deferred == {key: 5}
    ledger.recall([5], {key: None})
    assert (ledger.deferred, ledger.unfinished, ledger.low) == ({}, 4, 0)
    assert list(ledger.runs) == [(3, 5)]


def test_the_commit_stays_at_a_deferred_record_below_what_is_finished() -> None:
    """With the finished ones above it in the metadata: from the offset itself on, up to what is unfinished."""
    key = key_digest(b"k")
    ledger = PartitionLedger(0)
    for offset in range(8):
        ledger.read(offset)
    ledger.defer([1], {key: 1})
    for settled, ranges in (([0, 2, 5], [(1, 3), (5, 6)]), ([3, 4], [(1, 6)]), ([6, 7], [(1, 8)])):
        plan = ledger.prepare(settled)
        ledger.apply(plan)
        assert plan.commit_offset == ledger.low == ledger.oldest_unfinished == 1
        assert decode_all(1, plan.metadata) == (ranges, {key: 1}, None)
    ledger.read(10)  # behind a hole
    assert decode_all(1, ledger.prepare([]).metadata)[0] == [(1, 10)]


def test_what_is_recalled_splits_what_was_finished() -> None:
    """From the base, from the middle of a run, its first and its last; what is not finished stays as it is."""
    key = key_digest(b"k")
    ledger = PartitionLedger(0)
    for offset in range(20):
        ledger.read(offset)
    ledger.defer([1, 2, 6, 8, 10, 11], {key: 1})
    ledger.apply(ledger.prepare([0, 3, 7, 9, 12]))
    assert list(ledger.runs) == [(6, 13)]
    ledger.recall([1, 6, 8, 10, 11], {key: 2})
    assert list(ledger.runs) == [(2, 4), (7, 8), (9, 10), (12, 13)]
    assert (ledger.low, ledger.unfinished) == (1, 14)


def test_a_record_without_a_key_is_never_deferred() -> None:
    """It never waits for another."""
    deferred = {key_digest(b"k"): 5}
    assert [is_deferred(deferred, key, 5) for key in (b"k", b"other", None)] == [True, False, False]
    assert not is_deferred(deferred, b"k", 4)


def test_who_does_not_know_the_key_believes_nothing_behind_the_first() -> None:
    """Audit and explain see offsets: a deferred record is not finished although the ranges have it."""
    text = encode(10, [(10, 20), (25, 40), (50, 60)], {key_digest(b"k"): 30})
    assert decode(10, text) == ([(10, 20), (25, 30)], None)
