"""Records whose framing alone is read: batches as aiokafka builds them, in every codec, with all that a log holds."""

import random
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from service.intake.unparsable import find_unparsable, header_keys

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
TP = TopicPartition("contacts", 0)
# A header key of the same length that is UTF-8: what the builder takes, and what the test makes of it.
GOOD, BAD = "hhhh", b"h\xff\xfeh"


def batch(
    base: int,
    headers: list[list[tuple[str, bytes | None]]],
    *,
    codec: int = 0,
    producer: int = -1,
    transactional: bool = False,
    offsets: list[int] | None = None,
    key: bytes | None = b"key",
    value: bytes | None = b"value",
) -> bytes:
    """One batch whose records have these headers; ``offsets`` (relative) leave holes."""
    epoch, sequence = (0, 0) if producer >= 0 else (-1, -1)
    builder = DefaultRecordBatchBuilder(2, codec, int(transactional), producer, epoch, sequence, 1 << 24)
    for number, own in enumerate(headers):
        offset = number if offsets is None else offsets[number]
        builder.append(offset, timestamp=1_000 + number, key=key, value=value, headers=own)
    return rebased(bytes(builder.build()), base)


def rebased(data: bytes, base: int) -> bytes:
    return base.to_bytes(8, "big") + data[8:]


def spoiled(data: bytes) -> bytes:
    """The same batch with a header key that is not UTF-8 (the check sum is not looked at here)."""
    assert GOOD.encode() in data
    return data.replace(GOOD.encode(), BAD)


def marker(base: int, producer: int) -> bytes:
    """A control batch: the end of a producer's transaction."""
    data = bytearray(batch(base, [[]], producer=producer, transactional=True, key=b"\0\0\0\1", value=b"\0" * 6))
    data[22] |= 0x20
    return bytes(data)


def read(data: bytes, aborted: Any = ()) -> list[tuple[int, list[bytes]]]:
    return list(header_keys(data, aborted))


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())
def test_offsets_and_header_keys_in_every_codec(codec: int) -> None:
    """As the client itself reads them."""
    headers: list[list[tuple[str, bytes | None]]] = [
        [],
        [("a", b"1"), ("", b""), ("ü", None)],
        [("long" * 100, b"x" * 1000)],
    ]
    data = batch(500, headers * 50, codec=codec, value=b"v" * 200)
    expected = [(500 + n, [name.encode() for name, _ in own]) for n, own in enumerate(headers * 50)]
    assert read(data) == expected
    records = MemoryRecords(data)
    theirs = [(one.offset, [name.encode() for name, _ in one.headers]) for one in records.next_batch()]
    assert theirs == expected


@pytest.mark.parametrize("codec", [0, 3, 4])
def test_a_key_that_is_not_utf8_is_read_as_bytes(codec: int) -> None:
    """The client itself fails on it; the framing does not depend on it."""
    plain = batch(0, [[("a", b"")], [(GOOD, b"x")], [("b", b"")]])
    if codec:
        body = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
        body.append(0, timestamp=1, key=None, value=None, headers=[(BAD.decode("latin-1"), b"")])
        data = bytes(body.build())
        assert read(data) == [(0, [BAD.decode("latin-1").encode()])]
    assert read(spoiled(plain)) == [(0, [b"a"]), (1, [BAD]), (2, [b"b"])]


def test_null_keys_and_values_and_holes() -> None:
    """Compaction leaves holes in a batch; the offsets say so."""
    data = batch(100, [[("a", None)], [], [("b", b"")]], offsets=[0, 7, 9], key=None, value=None)
    assert read(data) == [(100, [b"a"]), (107, []), (109, [b"b"])]


def test_batches_follow_each_other_and_a_cut_one_is_left_out() -> None:
    """A broker cuts its answer at a number of bytes."""
    data = batch(0, [[("a", b"")]] * 3) + batch(10, [[("b", b"")]] * 2)
    assert [offset for offset, _ in read(data)] == [0, 1, 2, 10, 11]
    for cut in range(1, len(batch(10, [[("b", b"")]] * 2))):
        assert [offset for offset, _ in read(data[:-cut])] == [0, 1, 2]
    assert read(b"") == []


def test_control_batches_hold_no_records() -> None:
    """Commit and abort markers are passed by."""
    data = batch(0, [[]], producer=5, transactional=True) + marker(1, 5) + batch(2, [[]])
    assert [offset for offset, _ in read(data)] == [0, 2]


def test_aborted_transactions_are_not_seen() -> None:
    """From their first offset up to their marker; others between them are, and the producer's next one too."""
    data = b"".join(
        [
            batch(0, [[]] * 2, producer=5, transactional=True),  # committed
            marker(2, 5),
            batch(3, [[]] * 2, producer=5, transactional=True),  # aborted
            batch(5, [[]], producer=6, transactional=True),  # committed, among it
            batch(6, [[]], producer=5, transactional=True),  # aborted
            batch(7, [[]]),  # no transaction at all
            marker(8, 5),
            batch(9, [[]], producer=5, transactional=True),  # committed
            marker(10, 5),
            marker(11, 6),
        ]
    )
    assert [offset for offset, _ in read(data, [(5, 3)])] == [0, 1, 5, 7, 9]


def test_several_aborted_transactions_of_one_and_of_several_producers() -> None:
    """In whatever order the broker names them."""
    data = b"".join(
        [
            batch(0, [[]], producer=5, transactional=True),
            batch(1, [[]], producer=6, transactional=True),
            marker(2, 5),
            batch(3, [[]], producer=5, transactional=True),
            marker(4, 5),
            marker(5, 6),
            batch(6, [[]], producer=6, transactional=True),
            marker(7, 6),
        ]
    )
    assert [offset for offset, _ in read(data, [(5, 3), (6, 1), (5, 0)])] == [6]


def test_a_producer_without_transactions_is_never_aborted() -> None:
    """An idempotent producer may have had the same id."""
    assert [offset for offset, _ in read(batch(0, [[]], producer=5), [(5, 0)])] == [0]


@given(
    st.lists(
        st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=200)), max_size=4),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from(sorted(CODECS.values())),
    st.integers(0, 2**40),
)
def test_any_batch_reads_as_it_was_built(headers: list[list[tuple[str, bytes | None]]], codec: int, base: int) -> None:
    """Whatever the lengths of varints and fields."""
    chance = random.Random(base)
    data = batch(base, headers, codec=codec, key=chance.choice((None, b"", b"k" * 300)))
    assert read(data) == [(base + n, [name.encode() for name, _ in own]) for n, own in enumerate(headers)]


# -- asking the broker


class Client:
    """Answers a fetch with these bytes."""

    def __init__(self, data: bytes, *, aborted: Any = None, code: int = 0, leader: int | None = 1) -> None:
        # As version 4 and later: partition, error, high water mark, stable offset, aborted transactions, records.
        self._part = (0, code, 100, 100, aborted, data)
        self.cluster = SimpleNamespace(leader_for_partition=lambda tp: leader)
        self.updates = 0
        self.requests: list[Any] = []

    async def force_metadata_update(self) -> None:
        self.updates += 1

    async def send(self, node: int, request: Any) -> Any:
        self.requests.append(request)
        return SimpleNamespace(topics=[("contacts", [self._part])])


async def find(client: Client, position: int) -> int | None:
    return await find_unparsable(client, TP, position)  # type: ignore[arg-type] # a fake of what it uses


async def test_the_first_such_record_at_or_behind_the_position_is_found() -> None:
    """Not one in front of it, though it lies in the same batch."""
    good, bad = [("good", b"")], [(GOOD, b"")]
    data = spoiled(batch(10, [bad, good, bad, good, bad]))
    assert [await find(Client(data), position) for position in range(10, 16)] == [10, 12, 12, 14, 14, None]


async def test_one_in_an_aborted_transaction_is_not_found() -> None:
    """A committed reader never meets it."""
    data = spoiled(batch(0, [[(GOOD, b"")]], producer=5, transactional=True)) + marker(1, 5)
    assert await find(Client(data, aborted=[(5, 0)]), 0) is None
    assert await find(Client(data, aborted=None), 0) == 0


async def test_the_fetch_reads_committed_records_from_the_position_on() -> None:
    """The one partition, as the consumer would."""
    client = Client(b"")
    assert await find(client, 42) is None
    (request,) = client.requests
    assert request.build(request_version(request)).to_object()["isolation_level"] == 1
    ((topic, ((partition, offset, _),)),) = request._topics
    assert (topic, partition, offset) == ("contacts", 0, 42)


def request_version(request: Any) -> Any:
    """The struct of version 4, which has an isolation level."""
    from aiokafka.protocol.fetch import FetchRequest_v4

    return FetchRequest_v4


async def test_an_error_of_the_fetch_is_raised() -> None:
    """The caller tries again."""
    with pytest.raises(KafkaError, match="contacts-0: error 1"):
        await find(Client(b"", code=1), 0)


@pytest.mark.parametrize("leader", [None, -1])
async def test_without_a_leader_metadata_are_asked_for(leader: int | None) -> None:
    """Nothing is found this time."""
    client = Client(b"", leader=leader)
    assert await find(client, 0) is None
    assert client.updates == 1
