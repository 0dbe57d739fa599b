"""Kafka's partitioner over a batch."""

import random

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as reference_murmur2
from hypothesis import given, settings
from hypothesis import strategies as st

from service.settling.partitioner import murmur2, partitions


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=60), st.integers(1, 200))
@settings(max_examples=200)
def test_equal_to_the_clients_own(keys: list[bytes], count: int) -> None:
    """Each key goes where aiokafka's partitioner, and so Java's, puts it."""
    reference = DefaultPartitioner()
    everything = list(range(count))
    assert partitions(keys, [0] * len(keys), count) == [reference(key, everything, everything) for key in keys]


@given(st.integers(1, 40), st.integers(0, 70), st.randoms(use_true_random=False))
def test_equal_where_all_keys_have_one_length(keys: int, length: int, chance: random.Random) -> None:
    """The way for equal lengths computes the same."""
    batch = [chance.randbytes(length) for _ in range(keys)]
    assert murmur2(batch).tolist() == [reference_murmur2(key) for key in batch]


@given(st.lists(st.none() | st.binary(max_size=12), max_size=30), st.integers(1, 50), st.data())
def test_null_keys_keep_their_records_partition(keys: list[bytes | None], count: int, data: st.DataObject) -> None:
    """A null key goes to its input partition modulo the number of partitions; an empty one is a key."""
    inputs = [data.draw(st.integers(0, 100)) for _ in keys]
    expected = [
        place % count if key is None else (reference_murmur2(key) & 0x7FFFFFFF) % count
        for key, place in zip(keys, inputs, strict=True)
    ]
    assert partitions(keys, inputs, count) == expected


@pytest.mark.parametrize("length", [0, 1, 3, 4, 252, 255, 256, 257, 259, 261, 262, 1004, 65_537])
def test_lengths_at_the_edges(length: int) -> None:
    """Alone, and among short ones."""
    chance = random.Random(length)
    key = chance.randbytes(length)
    expected = reference_murmur2(key)
    assert murmur2([key]).tolist() == [expected]
    assert murmur2([b"a", key, b""]).tolist() == [reference_murmur2(b"a"), expected, reference_murmur2(b"")]


def test_a_key_of_a_mebibyte() -> None:
    """The largest keys are hashed too, and do not make the batch as wide as they are."""
    key = random.Random(1).randbytes(1 << 20)
    batch = [b"%d" % n for n in range(500)] + [key]
    assert murmur2(batch).tolist()[-1] == reference_murmur2(key)
    assert partitions(batch, [0] * 501, 7)[-1] == (reference_murmur2(key) & 0x7FFFFFFF) % 7


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_javas_own_test_vectors(key: bytes, expected: int) -> None:
    """The values that Apache Kafka's Java tests hold."""
    assert murmur2([key]).astype("int32").tolist() == [expected]


def test_keys_with_zero_bytes_at_the_end() -> None:
    """Padding is zero bytes too: the length tells them apart."""
    keys = [b"a", b"a\0", b"a\0\0", b"a\0\0\0", b"a\0\0\0\0"]
    assert murmur2(keys).tolist() == [reference_murmur2(key) for key in keys]


def test_no_keys() -> None:
    """An empty batch is no error."""
    assert partitions([], [], 12) == []
