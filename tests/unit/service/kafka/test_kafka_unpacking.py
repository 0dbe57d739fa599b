"""Large batches are unpacked before the client asks for their records, and give the same records."""

import asyncio
import gc
import inspect
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record._crc32c import crc as crc32c
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.kafka import unpacking
from service.kafka.records import Record
from service.kafka.unpacking import unpack_aside

TP, OTHER = TopicPartition("contacts", 0), TopicPartition("contacts", 1)
ZSTD = 4


def batch(first: int, count: int, size: int, *, compression: int = ZSTD, producer_id: int = -1) -> bytes:
    """A record batch as a broker hands it out; what is in it compresses badly."""
    random = Random(first)
    builder = DefaultRecordBatchBuilder(2, compression, int(producer_id >= 0), producer_id, 0, 0, 64 * 1024 * 1024)
    for n in range(count):
        builder.append(n, 1_000 + n, b"k", random.randbytes(size), [("h", b"1")])
    data = bytearray(builder.build())
    data[:8] = first.to_bytes(8)  # the checksum does not cover it
    return bytes(data)


LARGE = batch(0, 50, 10_000) + batch(50, 50, 10_000) + batch(100, 50, 10_000) + batch(150, 5, 100, compression=0)
SMALL = batch(0, 20, 100)


def partition_records(data: bytes, aborted: list[tuple[int, int]] | None = None) -> PartitionRecords:
    return PartitionRecords(TP, MemoryRecords(data), aborted, 0, None, None, True, READ_COMMITTED)


class FakeFetcher:
    """The client's fetcher as far as it is of use: each fetch brings what it was given."""

    def __init__(self, *brings: tuple[TopicPartition, bytes]) -> None:
        self._records: dict[TopicPartition, Any] = {}
        self.assignment = SimpleNamespace(active=True)
        self._brings = brings

    async def _proc_fetch_request(self, assignment: Any, node_id: int, request: Any) -> bool:
        await asyncio.sleep(0)
        for tp, data in self._brings:
            records = partition_records(data)
            self._records[tp] = FetchResult(tp, assignment=assignment, partition_records=records, backoff=0)
        return True

    async def fetch(self) -> bool:
        return await self._proc_fetch_request(self.assignment, 1, None)

    def found(self, tp: TopicPartition = TP) -> Any:
        return self._records[tp]._partition_records


def fetcher_of(*brings: tuple[TopicPartition, bytes]) -> FakeFetcher:
    fetcher = FakeFetcher(*brings)
    consumer: Any = SimpleNamespace(_fetcher=fetcher)
    unpack_aside(consumer)
    return fetcher


def is_unpacked(batch_: Any) -> bool:
    """The client refuses to look at the checksum of a batch that is."""
    try:
        getattr(batch_, "_batch", batch_).validate_crc()
    except AssertionError:
        return True
    return False


def test_the_clients_private_names_exist() -> None:
    """Those on which this stands."""
    assert asyncio.iscoroutinefunction(Fetcher._proc_fetch_request)
    assert "_fetcher" in AIOKafkaConsumer.start.__code__.co_names
    assert {"_records", "_proc_fetch_request"} <= {
        name
        for code in (Fetcher.__init__.__code__, *_codes(Fetcher._fetch_requests_routine.__code__))
        for name in code.co_names
    }
    assert partition_records(SMALL)._records.size_in_bytes() == len(SMALL)
    assert {
        "_tp",
        "_records",
        "_isolation_level",
        "_check_crcs",
        "_aborted_producers",
        "next_fetch_offset",
        "_consume_aborted_up_to",
        "_contains_abort_marker",
    } <= set(PartitionRecords._unpack_records.__code__.co_names)
    assert "_records_iterator" in PartitionRecords.__next__.__code__.co_names
    assert {"_topic_partition", "check_assignment", "has_more", "_update_position", "_partition_records"} <= set(
        FetchResult.getall.__code__.co_names
    )
    assert "getall" in Fetcher.fetched_records.__code__.co_names


def test_the_clients_own_way_is_the_one_that_ours_was_made_after() -> None:
    """Whatever changes in these of the client's has to be looked at: ours goes by the same rules."""
    known = {
        PartitionRecords._unpack_records: "b803e6d46480732c",
        FetchResult.getall: "3e717e30de5068d5",
    }
    found = {way: sha256(inspect.getsource(way).encode()).hexdigest()[:16] for way in known}
    assert found == known


def _codes(code: Any) -> list[Any]:
    return [code, *(inner for const in code.co_consts if hasattr(const, "co_names") for inner in _codes(const))]


@pytest.mark.parametrize("data", [LARGE, SMALL, b"".join(batch(n * 10, 10, 2_000) for n in range(20))])
async def test_the_records_are_the_same(data: bytes) -> None:
    """Offsets, keys, values, headers and timestamps, in the same order; and where to fetch next."""
    fetcher = fetcher_of((TP, data), (OTHER, SMALL))
    assert await fetcher.fetch()
    plain, found = partition_records(data), fetcher.found()
    ours, theirs = list(found), list(plain)
    assert all(type(record) is Record for record in ours)
    for name in Record.__struct_fields__:
        assert [getattr(record, name) for record in ours] == [getattr(record, name) for record in theirs]
    assert found.next_fetch_offset == plain.next_fetch_offset
    assert len(list(fetcher.found(OTHER))) == 20


async def test_records_are_handed_out_some_at_a_time() -> None:
    """Some, one, none and the rest: each once, and the client knows between them where to go on."""
    data = b"".join(batch(n * 10, 10, 2_000) for n in range(3))
    fetcher = fetcher_of((TP, data))
    await fetcher.fetch()
    found = fetcher.found()
    assert [record.offset for record, _ in zip(found, range(7), strict=False)] == list(range(7))
    assert next(found).offset == 8  # the loop above had asked for one more
    assert found.next_fetch_offset == 9
    assert [record.offset for record in found] == list(range(9, 30))
    assert (list(found), list(found)) == ([], [])
    with pytest.raises(StopIteration):
        next(found)
    assert (list(found), found.next_fetch_offset) == ([], 30)


async def test_a_record_without_key_and_value() -> None:
    """Tombstones too are what the client would have made of them."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, 0, 0, 1_000)
    builder.append(0, 1_000, None, None, [])
    fetcher = fetcher_of((TP, bytes(builder.build())))
    await fetcher.fetch()
    [record] = list(fetcher.found())
    assert (record.key, record.value, record.headers) == (None, None, ())


CONTROL, ABORT, COMMIT = 0x20, b"\0\0\0\0", b"\0\0\0\1"


def sealed(data: bytes) -> bytes:
    """A batch whose content was changed, with the checksum that it has by now."""
    return data[:17] + crc32c(data[21:]).to_bytes(4) + data[21:]


def strange_batch(first: int, kind: str, count: int, gap: int) -> bytes:
    """A batch of one kind. The last record lies ``gap`` behind the one before it, as compaction leaves it."""
    transactional = kind in ("aborted", "committed", "abort", "commit")
    producer = 7 if kind in ("aborted", "abort") else 8 if transactional else -1
    compression = ZSTD if kind == "packed" else 0
    builder = DefaultRecordBatchBuilder(2, compression, int(transactional), producer, 0, 0, 1 << 20)
    if kind in ("abort", "commit"):
        builder.append(0, 1_000, ABORT if kind == "abort" else COMMIT, b"\0" * 6, [])
    else:
        for n in range(count):
            headers = [("hh", b"1")] if kind == "unparsable" and n == count // 2 else [("h", b"")] * (n % 2)
            builder.append(n + gap * (n == count - 1), 1_000 + n, b"k%d" % n, b"v" * n if n % 3 else None, headers)
    data = bytearray(builder.build())
    data[:8] = first.to_bytes(8)
    if kind in ("abort", "commit"):
        data[22] |= CONTROL
    whole = sealed(bytes(data).replace(b"hh", b"\xff\xfe"))
    return whole[:-1] + bytes([whole[-1] ^ 1]) if kind == "corrupt" else whole


KINDS = st.sampled_from(["plain", "packed", "aborted", "committed", "abort", "commit", "unparsable", "corrupt"])


class Reader:
    """One partition as the client reads it, by its own way or by ours; what each call gives, and where it is then."""

    def __init__(self, data: bytes, begin: int, *, ours: bool) -> None:
        state = SimpleNamespace(paused=False, position=begin)
        state.consumed_to = lambda offset: setattr(state, "position", offset)
        assignment: Any = SimpleNamespace(active=True, state_value=lambda tp: state)
        records = PartitionRecords(TP, MemoryRecords(data), [(7, 0)], begin, None, None, True, READ_COMMITTED)
        self._state = state
        self.result = FetchResult(TP, assignment=assignment, partition_records=records, backoff=0)
        if ours:
            unpacking._make_ours({TP: self.result})

    def ask(self, most: int | None) -> Any:
        """``getone`` for 0. What the client said, its place, and whether it has more: if not, it is asked no more."""
        if not self.result.has_more():
            return None
        try:
            found = [self.result.getone()] if most == 0 else self.result.getall(most)
            said: Any = [
                record and (record.offset, record.timestamp, record.key, record.value, record.headers)
                for record in found
            ]
        except (CorruptRecordException, UnicodeDecodeError) as error:
            said = type(error)
        return said, self._state.position, self.result.has_more()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(KINDS, st.integers(1, 6), st.integers(0, 3)), min_size=1, max_size=6),
    st.integers(0, 8),
    st.lists(st.sampled_from([0, 1, 2, 3, 5, 100, None]), min_size=1, max_size=12),
)
@example([("aborted", 2, 0), ("abort", 1, 0), ("aborted", 2, 0)], 0, [None])
def test_whatever_a_fetch_brings_is_read_as_the_client_reads_it(
    batches: list[tuple[str, int, int]], begin: int, asked: list[int | None]
) -> None:
    """Aborted, committed, compacted, packed, unparsable and corrupt batches, markers, and a fetch that begins within a
    batch, however many records are asked for at a time: the same records and errors, at the same places."""
    data, first = b"", 0
    for kind, count, gap in batches:
        data += strange_batch(first, kind, count, gap)
        first += count + gap
    theirs, ours = Reader(data, begin, ours=False), Reader(data, begin, ours=True)
    for most in asked:
        assert ours.ask(most) == theirs.ask(most)


def test_what_has_been_handed_out_is_freed_without_the_collector() -> None:
    """Also where it was not read to its end: a fetch is a megabyte."""
    reader = Reader(batch(0, 20, 100), 0, ours=True)
    reader.ask(5)
    gone = weakref.ref(reader.result), weakref.ref(reader.result._partition_records)
    gc.disable()
    try:
        del reader
        assert [one() for one in gone] == [None, None]
    finally:
        gc.enable()


async def test_two_large_batches_are_unpacked_ahead() -> None:
    """No more: they are all held at the same time. Small and plain ones are not touched."""
    fetcher = fetcher_of((TP, LARGE), (OTHER, SMALL))
    await fetcher.fetch()
    assert [is_unpacked(one) for one in fetcher.found()._records._batches] == [True, True, False, False]
    assert not is_unpacked(fetcher.found(OTHER)._records.next_batch())


async def test_the_thread_goes_on_with_the_next_batch_while_one_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every large one is unpacked in a thread, each behind the second when the one before it is begun."""
    fetcher = fetcher_of((TP, LARGE))
    await fetcher.fetch()
    found, unpacked_by = fetcher.found(), []
    unpack = unpacking._unpacked

    def told(batch_: Any) -> Any:
        unpacked_by.append(threading.current_thread())
        return unpack(batch_)

    monkeypatch.setattr(unpacking, "_unpacked", told)
    assert [next(found).offset for _ in range(50)] == list(range(50))
    assert not unpacked_by
    assert next(found).offset == 50
    assert is_unpacked(found._records._ahead.result())
    assert [record.offset for record in found] == list(range(51, 155))
    assert len(unpacked_by) == 1
    assert threading.current_thread() not in unpacked_by


async def test_a_batch_whose_turn_in_the_thread_has_not_come_is_unpacked_by_the_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody waits for anybody else's work."""
    fetcher = fetcher_of((TP, LARGE))
    await fetcher.fetch()
    busy = threading.Event()
    executor = ThreadPoolExecutor(1)
    executor.submit(busy.wait)
    monkeypatch.setattr(unpacking, "_AHEAD", executor)
    try:
        assert [record.offset for record in fetcher.found()] == list(range(155))
    finally:
        busy.set()
        executor.shutdown()


async def test_aborted_records_are_passed_by_as_ever() -> None:
    """Also where their batch was unpacked."""
    data = batch(0, 50, 10_000, producer_id=7) + batch(50, 50, 10_000)
    fetcher = FakeFetcher()

    async def fetch(*_: Any) -> bool:
        records = partition_records(data, [(7, 0)])
        fetcher._records[TP] = FetchResult(TP, assignment=fetcher.assignment, partition_records=records, backoff=0)
        return True

    fetcher._proc_fetch_request = fetch  # type: ignore[method-assign]
    unpack_aside(SimpleNamespace(_fetcher=fetcher))  # type: ignore[arg-type]
    await fetcher.fetch()
    assert [record.offset for record in fetcher.found()] == list(range(50, 100))


async def test_a_wrong_checksum_is_found_by_the_client() -> None:
    """When it comes to that batch; the records before it are handed out."""
    broken = bytearray(batch(50, 50, 10_000))
    broken[-1] ^= 1
    fetcher = fetcher_of((TP, batch(0, 50, 10_000) + bytes(broken)))
    await fetcher.fetch()
    found = fetcher.found()
    assert [next(found).offset for _ in range(50)] == list(range(50))
    with pytest.raises(CorruptRecordException):
        next(found)


class Held:
    """Stands for the thread: unpacking waits until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began, self.goes = asyncio.Event(), asyncio.Event()
        monkeypatch.setattr(unpacking.asyncio, "to_thread", self._work)

    async def _work(self, work: Callable[..., None], *args: Any) -> None:
        self.began.set()
        await self.goes.wait()
        work(*args)


@pytest.mark.parametrize("happens", ["nothing", "rebalance", "fetched anew"])
async def test_nobody_reads_what_is_being_unpacked(monkeypatch: pytest.MonkeyPatch, happens: str) -> None:
    """It is out of the client's hands meanwhile, other partitions are not. What a rebalance or a newer fetch has made
    old does not come back."""
    held = Held(monkeypatch)
    fetcher = fetcher_of((TP, LARGE), (OTHER, SMALL))
    fetching = asyncio.create_task(fetcher.fetch())
    await held.began.wait()
    assert list(fetcher._records) == [OTHER]
    newer = FetchResult(TP, assignment=fetcher.assignment, partition_records=partition_records(SMALL), backoff=0)
    if happens == "rebalance":
        fetcher.assignment.active = False
    elif happens == "fetched anew":
        fetcher._records[TP] = newer
    held.goes.set()
    assert await fetching
    assert (TP in fetcher._records) is (happens != "rebalance")
    if happens != "rebalance":
        assert (fetcher._records[TP] is newer) is (happens == "fetched anew")


async def test_a_fetch_that_is_cancelled_brings_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the client's own do."""
    held = Held(monkeypatch)
    fetcher = fetcher_of((TP, LARGE))
    fetching = asyncio.create_task(fetcher.fetch())
    await held.began.wait()
    fetching.cancel()
    assert await fetching is False
    assert not fetcher._records
