"""Record batches: split at the bound, sequence numbers in order, read back as they were given."""

import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from service.settling.batches import Batch, Record, build


def read(batches: list[Batch]) -> list[Record]:
    """The records of all batches, as a consumer reads them."""
    found: list[Record] = []
    for batch in batches:
        records = MemoryRecords(batch.data)
        while records.has_next():
            found += [(one.timestamp, one.key, one.value, list(one.headers)) for one in records.next_batch()]
    return found


def made(records: list[Record], **options: int | bool) -> list[Batch]:
    given_ = {"producer_id": 5, "producer_epoch": 3, "base_sequence": 0, "transactional": True} | options
    return build(records, **given_)  # type: ignore[arg-type] # each as its name says


def header(batch: Batch) -> tuple[int, int, int, int]:
    """Attributes, producer id, epoch and base sequence, as they stand in the batch."""
    data = batch.data
    return (
        int.from_bytes(data[21:23], "big"),
        int.from_bytes(data[43:51], "big", signed=True),
        int.from_bytes(data[51:53], "big", signed=True),
        int.from_bytes(data[53:57], "big", signed=True),
    )


RECORDS = st.lists(
    st.tuples(
        st.integers(0, 2**45),
        st.none() | st.binary(max_size=20),
        st.none() | st.binary(max_size=300),
        st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=9)), max_size=3),
    ),
    min_size=1,
    max_size=30,
)


@given(RECORDS, st.sampled_from([0, 1, 3, 4]), st.integers(0, 2**31 - 1), st.sampled_from([1, 200, 1000, 10**6]))
def test_what_goes_in_comes_out_in_order_with_consecutive_sequence_numbers(
    records: list[Record], compression: int, base_sequence: int, max_bytes: int
) -> None:
    """Whatever the bound: no record is lost, doubled or changed; numbers go round behind 2**31 - 1."""
    batches = made(records, compression=compression, base_sequence=base_sequence, max_bytes=max_bytes)
    assert read(batches) == records
    expected = base_sequence
    for batch in batches:
        assert batch.count > 0
        assert batch.base_sequence == header(batch)[3] == expected
        expected = (expected + batch.count) % 2**31


def test_as_few_batches_as_the_bound_allows() -> None:
    """A record larger than the bound goes alone."""
    records: list[Record] = [(1, None, b"x" * size, []) for size in (100, 100, 5000, 100, 100)]
    assert [batch.count for batch in made(records, max_bytes=1000, compression=0)] == [2, 1, 2]
    assert [batch.count for batch in made(records, compression=0)] == [5]


@pytest.mark.parametrize("transactional", [True, False])
def test_a_batch_says_whose_it_is(transactional: bool) -> None:
    """Producer, epoch and the transactional bit."""
    (batch,) = made([(1, b"k", b"v", [])], transactional=transactional, compression=0, base_sequence=9)
    assert header(batch) == (0x10 if transactional else 0, 5, 3, 9)


def test_without_a_producer_there_are_no_sequence_numbers() -> None:
    """At least once: every batch says -1, also behind the first."""
    records: list[Record] = [(1, None, b"x" * 100, [])] * 3
    batches = made(records, producer_id=-1, producer_epoch=-1, base_sequence=-1, transactional=False, max_bytes=1)
    assert [header(batch)[1:] for batch in batches] == [(-1, -1, -1)] * 3


def test_nothing_is_no_batch() -> None:
    """No record, nothing to send."""
    assert made([]) == []
