"""What leaves memory, and what stays: the queue's end of a key that takes too much of it."""

import asyncio
from collections.abc import Sequence

from service.batching.batcher import Batcher, BatchPolicy
from service.intake.assignment import Assignment
from service.intake.item import OVERHEAD_BYTES
from service.lane.deferring import DeferHooks, Deferring
from service.offsets.deferred import MOST_KEYS, is_deferred, key_digest
from tests.support.fakes import FakeTime, Source, join, run

RECORD = OVERHEAD_BYTES + 2


class Bench:
    """A batcher whose batches never end, and the records that wait in it."""

    def __init__(self, buffer_records: int) -> None:
        self.source = Source()
        self.batcher = Batcher(BatchPolicy(1, 1_000_000, 0.0), lambda batch, cause: None)
        self.freed = 0
        hooks = DeferHooks(
            assignment=lambda: self.assignment,
            batcher=lambda: self.batcher,
            paused=lambda: False,
            dropped=self._dropped,
            take_back=lambda state, records: None,
            gone=lambda: None,
            kafka_error=lambda kind: None,
        )
        self.deferring = Deferring(buffer_records * RECORD, {}, None, hooks)  # type: ignore[arg-type] # nothing is read

    @property
    def assignment(self) -> Assignment:
        return self.source.assignment

    def _dropped(self, held_bytes: int) -> None:
        self.freed += held_bytes

    def add(self, keys: Sequence[bytes]) -> None:
        """Records of these keys are read."""
        for key in keys:
            self.batcher.add(self.source.item(key, join("T")), None, 0.0)


def test_the_end_of_a_hot_queue_leaves() -> None:
    """Of a thousand records of one key a few stay, of the others all; the commit stays before the first that went."""
    bench = Bench(1000)
    bench.add([b"hot"] * 900 + [b"a", b"b"] * 10)
    assert bench.deferring.relieve(bench.assignment, 100.0)
    state = bench.source.state()
    [first] = state.ledger.deferred.values()
    assert 10 <= len(bench.batcher.queue(b"hot")) <= 64
    assert len(bench.batcher.queue(b"a")) == len(bench.batcher.queue(b"b")) == 9
    assert set(state.items) == {*range(first), *range(900, 920)}
    assert bench.freed == (900 - first) * bench.source.state().items[0].size
    assert is_deferred(state.ledger.deferred, b"hot", first)
    settled = state.ledger.prepare(list(state.items))
    assert settled.commit_offset == first


def test_no_key_is_hot_where_all_have_about_the_same() -> None:
    """A backlog of a hundred contacts is what it is: reading pauses."""
    bench = Bench(1000)
    bench.add([str(n % 100).encode() for n in range(1000)])
    assert not bench.deferring.relieve(bench.assignment, 100.0)
    assert bench.freed == 0


def test_it_is_not_looked_through_again_at_once() -> None:
    """After it was in vain it waits for a second: the look costs what the buffer holds."""
    bench = Bench(1000)
    bench.add([str(n % 100).encode() for n in range(500)])
    assert not bench.deferring.relieve(bench.assignment, 100.0)
    bench.add([b"hot"] * 500)
    assert not bench.deferring.relieve(bench.assignment, 100.5)
    assert bench.deferring.relieve(bench.assignment, 101.0)


def test_more_keys_than_the_metadata_has_room_for_stay() -> None:
    """They are held as ever, and reading pauses for them."""
    bench = Bench(1000)
    state = bench.source.state()
    bench.add([b"hot"] * 500)
    state.ledger.defer([], {key_digest(str(n).encode()): 500 for n in range(MOST_KEYS)})
    assert not bench.deferring.relieve(bench.assignment, 100.0)
    assert len(state.items) == 500


def test_room_is_made_in_the_metadata() -> None:
    """Where the window is large, of a key with more than 256 waiting; not where that would not help."""
    bench = Bench(1_000_000)
    state = bench.source.state()
    bench.add([b"hot"] * 3_000)
    passed = []
    for number in range(30_000):
        item = bench.source.item(str(number).encode(), join("T"))
        passed.append(item.offset)
        del state.items[item.offset]
    state.ledger.apply(state.ledger.prepare(passed))
    assert not state.ledger.room(500)
    assert bench.deferring.make_room(bench.assignment, state, 500, 100.0)
    assert state.ledger.room(500)
    assert len(bench.batcher.queue(b"hot")) == 64


def test_nothing_leaves_in_front_of_a_record_that_has_ended() -> None:
    """One was skipped as it was read: had those in front of it left, it would be read and settled again with them."""
    bench = Bench(1000)
    bench.add([b"hot"] * 500)
    bench.batcher.ended_early(b"hot")
    bench.add([b"hot"] * 400)
    assert bench.deferring.relieve(bench.assignment, 100.0)
    [first] = bench.source.state().ledger.deferred.values()
    assert first == 500


def test_what_is_deferred_is_looked_at_at_once() -> None:
    """While nothing is deferred a look a second is enough; once something is, it comes without delay, and ten times a
    second from then on."""

    async def looks(time: FakeTime) -> list[float]:
        bench, at = Bench(1000), []
        for n in range(4):
            if n == 2:
                asyncio.get_running_loop().call_later(0.4, _cut_hot, bench)
            await bench.deferring._next_look()
            at.append(round(time.monotonic(), 6))
        return at

    first, *others = run(looks)
    assert [round(one - first, 6) for one in others] == [1.0, 1.4, 1.5]


def _cut_hot(bench: Bench) -> None:
    bench.add([b"hot"] * 900)
    assert bench.deferring.relieve(bench.assignment, 100.0)
