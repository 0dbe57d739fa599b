"""When batches are closed, and why; the rest of the batcher is tested against a model."""

from operator import attrgetter

from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from contracts.results import Operation
from service.batching.batcher import Batcher, BatchPolicy, Cause, OpenBatch
from service.intake.item import Item
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

    def add(self, key: bytes | None, now: float, *, group: object = None, size: int = 0) -> Item:
        item = self.source.item(key, value=b"x" * size)
        self.batcher.add(item, group, now)  # type: ignore[arg-type] # hashable all the same
        return item

    def queued(self) -> dict[bytes, list[int]]:
        """The offsets that wait, by key."""
        return {key: [item.offset for item, _ in queue] for key, queue in self.batcher.queues()}

    def open(self) -> list[tuple[float, list[int]]]:
        """When the open batches close, and their offsets."""
        return [(until, [item.offset for item in items]) for until, items in self.batcher.open_until()]

    def add_behind(self, count: int) -> list[Item]:
        """Records that wait behind one of their key which is under way."""
        return [self.add(b"k", 0.0) for _ in range(count)]


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


def test_a_batch_of_records_that_are_added_together_closes_there_too() -> None:
    """At its bytes, which are those of all of them, and at its events."""
    recorder = Recorder(max_events=3, max_bytes=10)
    sizes = [4, 4, 0, 0, 0]
    items = [recorder.source.item(b"k", Operation("segment.join", "t", "1"), value=b"x" * size) for size in sizes]
    recorder.batcher.add_all(items[:2], attrgetter("entity"), 0.0)
    assert recorder.closed == [(Cause.BYTES, "1", [0, 1])]
    recorder.batcher.release_items(items[:2], 5.0)
    recorder.batcher.add_all(items[2:], attrgetter("entity"), 6.0)
    assert recorder.closed[1:] == [(Cause.SIZE, "1", [2, 3, 4])]


def test_what_waited_goes_on_when_the_records_of_a_batch_have_ended() -> None:
    """Its linger counts from then on; reading never has to wait for a batch."""
    recorder = under_way()
    recorder.add_behind(1)
    recorder.batcher.release_items([recorder.source.item(b"k")], 5.0)
    assert [until for until, _ in recorder.open()] == [5.2]
    assert not recorder.batcher.crowded(0)


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


def under_way() -> Recorder:
    """A batcher with one record of the key ``k`` on its way."""
    recorder = Recorder()
    recorder.add(b"k", 0.0)
    recorder.batcher.flush()
    return recorder


def test_when_the_batch_of_a_record_closes_is_told() -> None:
    """Counted from its first record; None for what waits or is on its way."""
    recorder = Recorder(linger_s=1.0)
    first, second = recorder.add(b"k", 10.0, group="a"), recorder.add(None, 10.5, group="b")
    assert recorder.batcher.closes_in_s(first, 10.75) == 0.25
    assert recorder.batcher.closes_in_s(second, 10.75) == 0.75
    recorder.batcher.flush()
    waiting = recorder.add(b"k", 11.0)
    assert recorder.batcher.closes_in_s(first, 11.0) is None
    assert recorder.batcher.closes_in_s(waiting, 11.0) is None


def test_which_records_wait_is_told() -> None:
    """Those behind an earlier one of their key, and neither what is in a batch nor what has no key."""
    recorder = under_way()
    [waiting] = recorder.add_behind(1)
    assert recorder.batcher.is_waiting(waiting)
    assert recorder.batcher.queue(b"k") == [waiting]
    assert not recorder.batcher.is_waiting(recorder.add(b"other", 0.0))
    assert not recorder.batcher.is_waiting(recorder.add(None, 0.0))


def test_the_end_of_a_queue_can_be_taken_out() -> None:
    """What was taken is told in the order read; there may be fewer than may stay."""
    recorder = under_way()
    waiting = recorder.add_behind(5)
    assert recorder.batcher.cut(b"k", 2) == waiting[2:]
    assert recorder.batcher.queue(b"k") == waiting[:2]
    assert recorder.batcher.cut(b"k", 7) == []
    assert recorder.batcher.cut(b"k", 0) == waiting[:2]
    assert recorder.batcher.waiting == 0


def test_what_stands_in_front_of_an_early_end_is_not_taken_out() -> None:
    """It would come again together with the record that has ended already, and has its result."""
    recorder = under_way()
    before = recorder.add_behind(3)
    recorder.batcher.ended_early(None)
    recorder.batcher.ended_early(b"other")
    recorder.batcher.ended_early(b"k")
    behind = recorder.add_behind(3)
    assert recorder.batcher.cut(b"k", 1) == behind
    assert recorder.batcher.queue(b"k") == before


def test_nothing_is_kept_of_a_key_that_has_ended() -> None:
    """However many keys there were, and however they ended."""
    recorder = under_way()
    recorder.add_behind(1)
    recorder.add(None, 0.0)
    recorder.batcher.ended_early(b"k")
    for _ in range(2):
        recorder.batcher.release(b"k", 0.0)
        recorder.batcher.flush()
    assert not recorder.batcher._pinned
    assert not recorder.batcher._claimed
    assert not recorder.batcher._under_way


def test_more_than_a_batch_waits_on_in_order() -> None:
    """What fills the next batch goes; the rest waits behind it, in front of what comes later."""
    recorder = Recorder(max_events=2)
    for _ in range(6):
        recorder.add(b"k", 0.0)
        if not recorder.closed:
            recorder.batcher.flush()
    recorder.batcher.release(b"k", 0.0)
    assert recorder.batcher.waiting == 3
    recorder.add(b"k", 0.0)
    for _ in range(2):
        recorder.batcher.release(b"k", 0.0)
    assert [offsets for _, _, offsets in recorder.closed] == [[0], [1, 2], [3, 4], [5, 6]]


def test_keys_that_end_together_are_released_like_one_after_the_other() -> None:
    """Those of which nothing waits, one of which something does, one that ended early; others stay on their way."""
    recorder = Recorder()
    for key in (b"a", b"k", b"early", b"other"):
        recorder.add(key, 0.0)
    recorder.batcher.flush()
    recorder.add_behind(1)
    recorder.add(b"early", 0.0)
    recorder.batcher.ended_early(b"early")
    recorder.batcher.release(b"early", 0.0)
    recorder.batcher.flush()
    recorder.batcher.release_all({b"a", b"k", b"early"}, 0.0)
    recorder.add(b"a", 0.0)
    recorder.add(b"other", 0.0)
    recorder.batcher.flush()
    assert [offsets for _, _, offsets in recorder.closed] == [[0, 1, 2, 3], [5], [4, 6]]
    assert recorder.batcher.waiting == 1
    assert not recorder.batcher._pinned


def test_a_key_of_which_nothing_waits_has_an_empty_queue() -> None:
    """There is nothing to tell of it, and nothing to take out."""
    recorder = under_way()
    assert recorder.batcher.queue(b"k") == []
    assert recorder.batcher.cut(b"k", 0) == []


def test_a_batch_tells_where_its_records_begin_and_how_much_they_ask_for() -> None:
    """The lowest offset of each partition, in whichever order they came; the operations of all."""
    one, other = TopicPartition("source", 0), TopicPartition("source", 1)
    source, batch = Source(one, other), OpenBatch(None, 0.0)
    items = [source.item(tp=tp) for tp in (one, one, one, other, other)]
    for item, count in zip(items, (1, 0, 2, 1, 1), strict=True):
        item.operations = [Operation("import.row", "t", "e") for _ in range(count)]
    batch.items = [items[2], items[0], items[4], items[1], items[3]]
    assert batch.starts() == {items[0].partition: 0, items[3].partition: 0}
    batch.items = [items[2], items[1], items[4]]
    assert {state.tp: first for state, first in batch.starts().items()} == {one: 1, other: 1}
    assert batch.operations() == 3


def test_until_when_open_batches_wait_is_told_with_their_records() -> None:
    """Counted from the first record of each."""
    recorder = Recorder(linger_s=1.0)
    first, second = recorder.add(b"k", 10.0, group="a"), recorder.add(None, 10.5, group="b")
    assert [(until, list(items)) for until, items in recorder.batcher.open_until()] == [
        (11.0, [first]),
        (11.5, [second]),
    ]


KEYS = st.sampled_from([None, b"a", b"b", b"c", b"d"])
RECORDS = st.lists(st.tuples(KEYS, st.sampled_from(["x", "y"]), st.integers(0, 12)), max_size=12)


@given(st.lists(st.tuples(RECORDS, st.sets(KEYS)), max_size=8), st.booleans())
def test_records_that_are_added_together_go_where_each_would_have_gone(
    rounds: list[tuple[list[tuple[bytes | None, str, int]], set[bytes | None]]], ends_at_once: bool
) -> None:
    """The same batches, closed for the same causes, with the same records waiting, whatever ends in between."""
    singly, together = Recorder(max_events=4, max_bytes=40), Recorder(max_events=4, max_bytes=40)
    for number, (records, ended) in enumerate(rounds):
        for recorder in (singly, together):
            recorder.ends_at_once = ends_at_once
            items = [recorder.source.item(key, value=b"x" * size) for key, _, size in records]
            for item, (_, group, _) in zip(items, records, strict=True):
                item.operations = [Operation("workflow.execute", "t", group)]
            if recorder is together:
                recorder.batcher.add_all(items, attrgetter("entity"), float(number))
            else:
                for item in items:
                    recorder.batcher.add(item, item.operations[0].entity, float(number))
            recorder.batcher.release_all(ended & recorder.batcher._under_way, float(number))
        assert together.closed == singly.closed
        assert together.queued() == singly.queued()
    assert together.open() == singly.open()
