"""Records packed as they come: read back as they were given, in the batches that aiokafka's builder makes."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from aiokafka.codec import zstd_decode
from hypothesis import example, given
from hypothesis import strategies as st

from service.clock import SystemClock
from service.settling import packing
from service.settling.batches import BATCH_BYTES, Batch, PackedBatch, Record, build
from service.settling.packing import Packer, signed
from service.turns import Turns
from tests.support.fakes import START_WALL_MS, FakeTime, records_in, run
from tests.support.turns import beside

PRODUCER: Any = {"producer_id": 5, "producer_epoch": 3}
NOBODY: Any = {"producer_id": -1, "producer_epoch": -1, "base_sequence": -1, "transactional": False}


async def packed(records: Sequence[Record], at_once: int = 1_000_000) -> list[PackedBatch]:
    packer = Packer(Turns(SystemClock()))
    for start in range(0, len(records), at_once):
        await packer.add(iter(records[start : start + at_once]))
    return await packer.packed()


def heads(batches: Sequence[Batch]) -> list[bytes]:
    """All that stands in front of the records but what depends on how these are compressed."""
    return [
        batch.data[:8] + batch.data[12:17] + batch.data[21:22] + bytes([batch.data[22] & ~7]) + batch.data[23:61]
        for batch in batches
    ]


RECORDS = st.lists(
    st.tuples(
        st.integers(0, 2**45),
        st.none() | st.binary(max_size=20),
        st.none() | st.binary(max_size=100) | st.binary(min_size=1, max_size=3).map(lambda part: part * 3_000),
        st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=9)), max_size=3),
    ),
    min_size=1,
    max_size=40,
)


def bodies(batches: Sequence[Batch]) -> list[bytes]:
    """The records of each batch as they were before they were compressed."""
    return [zstd_decode(batch.data[61:]) if batch.data[22] & 7 else batch.data[61:] for batch in batches]


# A record that fits but for a byte opens another batch; sequence numbers go round.
@example([(0, None, None, [])] * 3 + [(0, None, None, [("", None)])] * 2, 2, 2**31 - 1, 100, True)
@example([(0, None, None, [])] * 9 + [(0, None, None, [("a", None)])], 40, 0, 100, False)
@example([(64, None, None, []), (0, None, None, [])], 40, 0, 1_000, False)
@given(
    RECORDS,
    st.integers(1, 40),
    st.integers(0, 2**31 - 1),
    st.sampled_from([100, 1_000, 20_000, BATCH_BYTES]),
    st.booleans(),
)
def test_what_is_packed_is_what_the_builder_writes(
    records: list[Record], at_once: int, base_sequence: int, max_bytes: int, transactional: bool
) -> None:
    """The same batches, whichever pieces it came in: the same heads, checksums that are right, the same bytes."""
    producer = PRODUCER | {"base_sequence": base_sequence, "transactional": transactional}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(packing, "BATCH_BYTES", max_bytes)
        patched.setattr(packing, "_buffers", [])
        batches = signed(asyncio.run(packed(records, at_once)), **producer)
    expected = build(records, max_bytes=max_bytes, **producer)
    assert heads(batches) == heads(expected)
    assert bodies(batches) == bodies(expected)
    assert [(batch.base_sequence, batch.count) for batch in batches] == [
        (batch.base_sequence, batch.count) for batch in expected
    ]
    assert [int.from_bytes(batch.data[8:12], "big") for batch in batches] == [len(batch.data) - 12 for batch in batches]
    assert [one for batch in batches for one in records_in(batch.data)] == records


@pytest.mark.parametrize("size", [10, 63, 64, 4_095, 4_096, 60_000, 700_000])
async def test_records_of_any_size_come_back(size: int) -> None:
    """Lengths of one byte and of several, batches that are full, records that go alone and are packed in a thread."""
    records: list[Record] = [(START_WALL_MS, b"k" * min(size, 5_000), b"%d" % (n % 10) * size, []) for n in range(20)]
    batches = signed(await packed(records, 3), **NOBODY)
    assert [one for batch in batches for one in records_in(batch.data)] == records
    assert [batch.count for batch in batches] == [batch.count for batch in build(records, **NOBODY)]
    assert {(batch.base_sequence, batch.data[43:57]) for batch in batches} == {(-1, b"\xff" * 14)}


async def test_many_small_records_come_back() -> None:
    """More in a batch than have their numbers ready."""
    records: list[Record] = [(START_WALL_MS, None, b"%d" % n, []) for n in range(10_000)]
    (batch,) = signed(await packed(records, 250), **NOBODY)
    assert records_in(batch.data) == records


async def test_what_compressing_makes_no_shorter_is_not_compressed() -> None:
    """As every client does."""
    (short,) = signed(await packed([(1, None, b"v", [])]), **NOBODY)
    (long,) = signed(await packed([(1, None, b"v" * 1_000, [])]), **NOBODY)
    assert (short.data[22], long.data[22]) == (0, 4)


async def test_nothing_is_no_batch() -> None:
    """No record, nothing to send."""
    assert await packed([]) == []


async def test_memory_is_used_again_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next one, and never by two at once, however often one is asked for what it packed; what a record larger
    than a batch took is let go."""
    monkeypatch.setattr(packing, "_buffers", [])
    records: list[Record] = [(1, None, b"%d" % n, []) for n in range(12)]
    for count in (12, 12, 40):
        records += [(1, None, b"x", [])] * (count - len(records))
        packers = [Packer(Turns(SystemClock())) for _ in records]
        for packer, record in zip(packers, records, strict=True):
            await packer.add([record])
        batches = [batch for packer in packers for batch in signed(await packer.packed(), **NOBODY)]
        for packer in packers[:3]:
            await packer.packed()
        assert [one for batch in batches for one in records_in(batch.data)] == records
        assert len({id(buffer) for buffer in packing._buffers}) == len(packing._buffers) == min(count, 16)
    await packed([(1, None, b"v" * 2_000_000, [])])
    assert {len(buffer) for buffer in packing._buffers} == {BATCH_BYTES}


def test_others_go_on_while_records_are_packed() -> None:
    """Before each batch, once the turn is over."""

    async def main(time: FakeTime) -> None:
        def records() -> Iterator[Record]:
            for _ in range(8):
                time.advance(0.006)
                yield START_WALL_MS, None, b"v" * 300_000, []

        async with beside() as others:
            packer = Packer(Turns(time))
            await packer.add(records())
            await packer.packed()
            assert others.turns >= 7

    run(main)


async def test_others_go_on_while_a_large_record_is_packed() -> None:
    """In a thread."""
    async with beside() as others:
        packer = Packer(Turns(SystemClock()))
        await packer.add([(START_WALL_MS, None, b"v" * 2_000_000, [])])
        assert others.turns == 0
        await packer.packed()
        assert others.turns > 0
