"""When batches are closed, and why; the rest of the batcher is tested against a model."""

from service.batching.batcher import Batcher, BatchPolicy, Cause, OpenBatch
from tests.support.fakes import Source


class Recorder:
    """A batcher with what it dispatched: cause, group and offsets."""

    def __init__(self, max_events: int = 100, max_bytes: int = 1_000_000, linger_s: float = 0.2) -> None:
        self.batcher = Batcher(BatchPolicy(max_events, max_bytes, linger_s), self._dispatch)
        self.source = Source()
        self.closed: list[tuple[Cause, object, list[int]]] = []
        self.ends_at_once = False

    def _dispatch(self, batch: OpenBatch, cause: Cause) -> None:
        self.closed.append((cause, batch.group, [item.offset for item in batch.items]))
        if self.ends_at_once:
            for key in {item.record.key for item in batch.items}:
                self.batcher.release(key, 0.0)

    def add(self, key: bytes | None, now: float, *, group: object = None, size: int = 0) -> None:
        self.batcher.add(self.source.item(key, value=b"x" * size), group, now)  # type: ignore[arg-type] # hashable all the same


def test_linger_counts_from_the_first_record() -> None:
    """Later records of the batch do not move it; its end itself is in time."""
    recorder = Recorder(linger_s=1.0)
    for now in (10.0, 10.5, 10.9):
        recorder.add(None, now)
    assert recorder.batcher.due(10.9) == 1.0 - (10.9 - 10.0)
    assert recorder.closed == []
    assert recorder.batcher.due(11.0) is None
    assert recorder.closed == [(Cause.LINGER, None, [0, 1, 2])]


def test_the_next_batch_to_close_is_told_over_all_groups() -> None:
    """The earliest counts, and what is due goes alone."""
    recorder = Recorder(linger_s=1.0)
    recorder.add(None, 10.0, group="a")
    recorder.add(None, 10.5, group="b")
    assert recorder.batcher.due(11.0) == 0.5
    assert recorder.closed == [(Cause.LINGER, "a", [0])]


def test_no_linger_means_the_next_look() -> None:
    """With a linger of nothing records still go together that were read together."""
    recorder = Recorder(linger_s=0.0)
    recorder.add(None, 10.0)
    recorder.add(None, 10.0)
    assert recorder.batcher.due(10.0) is None
    assert recorder.closed == [(Cause.LINGER, None, [0, 1])]


def test_a_batch_closes_at_its_events_and_at_its_bytes() -> None:
    """By the record that reaches the bound; keys count as bytes too."""
    recorder = Recorder(max_events=3, max_bytes=10)
    for _ in range(3):
        recorder.add(None, 0.0)
    recorder.add(b"k", 0.0, size=8)
    assert recorder.closed == [(Cause.SIZE, None, [0, 1, 2])]
    recorder.add(None, 0.0, size=1)
    assert recorder.closed[1:] == [(Cause.BYTES, None, [3, 4])]


def test_a_drain_closes_all_groups() -> None:
    """Each with its own batch."""
    recorder = Recorder()
    recorder.add(b"a", 0.0, group="a")
    recorder.add(b"b", 0.0, group="b")
    recorder.batcher.flush()
    assert recorder.closed == [(Cause.DRAIN, "a", [0]), (Cause.DRAIN, "b", [1])]


def test_records_that_waited_go_together_into_the_next_batch() -> None:
    """In the order read; a new batch's linger counts from then on."""
    recorder = Recorder(linger_s=1.0, max_events=3)
    recorder.add(b"k", 0.0)
    recorder.batcher.due(1.0)
    for now in (1.1, 1.2):
        recorder.add(b"k", now)
    assert recorder.batcher.waiting == 2
    recorder.batcher.release(b"k", 5.0)
    assert recorder.batcher.due(5.9) is not None
    assert recorder.batcher.due(6.0) is None
    assert [offsets for _, _, offsets in recorder.closed] == [[0], [1, 2]]


def test_a_record_for_another_group_sends_its_keys_open_batch_first() -> None:
    """The earlier record of the key is on its way at once; the later one waits for it."""
    recorder = Recorder()
    recorder.add(b"k", 0.0, group="a")
    recorder.add(b"other", 0.0, group="a")
    recorder.add(b"k", 0.0, group="b")
    assert recorder.closed == [(Cause.SIZE, "a", [0, 1])]
    recorder.batcher.release(b"k", 0.0)
    recorder.batcher.flush()
    assert recorder.closed[1:] == [(Cause.DRAIN, "b", [2])]


def test_a_batch_that_ends_within_its_dispatch() -> None:
    """A dry run: the key is free again before the dispatch returns."""
    recorder = Recorder()
    recorder.ends_at_once = True
    recorder.add(b"k", 0.0, group="a")
    recorder.add(b"k", 0.0, group="b")
    recorder.add(b"k", 0.0, group="a")
    recorder.batcher.flush()
    assert [(group, offsets) for _, group, offsets in recorder.closed] == [("a", [0]), ("b", [1]), ("a", [2])]
    assert recorder.batcher.waiting == 0
