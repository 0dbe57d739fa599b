"""A ledger whose window is large and whose metadata is full: thousands of records, whatever finishes of them."""

import random
from bisect import bisect_left
from itertools import product

import pytest

from service.offsets.deferred import MOST_KEYS, key_digest
from service.offsets.ledger import SAFE_WINDOW_OFFSETS, PartitionLedger
from service.offsets.metadata import MAX_BYTES, encode, fits


def scattered(count: int, seed: int = 1) -> tuple[PartitionLedger, list[int]]:
    """A ledger with a stuck first record, and offsets that, finished, make irregular runs."""
    chance = random.Random(seed)
    ledger = PartitionLedger(0)
    for offset in range(count):
        ledger.read(offset)
    return ledger, [offset for offset in range(1, count) if chance.random() < 0.5]


def test_what_had_no_call_is_kept_back_from_the_highest_down() -> None:
    """Near the bound the highest uncalled offsets wait, all that had a call are settled."""
    ledger, offsets = scattered(40_000)
    called, uncalled = offsets[:1000], offsets[1000:]
    plan = ledger.prepare(called, uncalled)
    assert len(plan.metadata) <= MAX_BYTES
    assert plan.kept_back
    assert plan.called_kept_back == 0
    assert plan.kept_back == uncalled[-len(plan.kept_back) :] != uncalled
    assert sorted(plan.settled + plan.kept_back) == offsets
    ledger.apply(plan)
    assert ledger.unfinished == 40_000 - len(plan.settled)


def test_room_is_kept_for_what_had_a_call() -> None:
    """What had no call may not use up the metadata: a later called record still gets in."""
    ledger, offsets = scattered(40_000)
    plan = ledger.prepare([], offsets)
    ledger.apply(plan)
    assert len(plan.metadata) <= 3072
    assert ledger.prepare([plan.kept_back[-1]]).kept_back == []


def test_even_called_ones_wait_rather_than_be_refused_by_the_broker() -> None:
    """Metadata over the bound would fail the transaction: then also called offsets wait, and the plan says
    so.
    """
    ledger, offsets = scattered(60_000)
    plan = ledger.prepare(offsets)
    assert len(plan.metadata) <= MAX_BYTES
    assert plan.called_kept_back == len(plan.kept_back) > 0


def test_what_was_kept_back_is_settled_with_its_neighbours() -> None:
    """Kept back is not forgotten: offered again when the stuck record is done, all is settled."""
    ledger, offsets = scattered(40_000)
    plan = ledger.prepare([], offsets)
    ledger.apply(plan)
    rest = sorted(set(range(40_000)) - set(plan.settled))
    final = ledger.prepare([0], [offset for offset in rest if offset])
    assert (final.commit_offset, final.metadata, final.kept_back) == (40_000, "", [])


def test_the_oldest_is_never_kept_back_for_ever() -> None:
    """With the metadata full beyond the share of the uncalled, an uncalled oldest record still lets the low
    go on.
    """
    ledger, offsets = scattered(26_000)
    ledger.apply(ledger.prepare(offsets))
    assert len(ledger.prepare([]).metadata) > 3072
    plan = ledger.prepare([], [0])
    assert plan.kept_back == []
    assert plan.commit_offset > 0


def test_there_is_room_in_a_small_window() -> None:
    """A window of 20,000 offsets is always open, however little of it is finished."""
    ledger = PartitionLedger(0)
    for offset in range(19_500):
        assert ledger.room()
        ledger.read(offset)
    assert ledger.room()
    ledger.read(19_500)
    assert not ledger.room()


def test_a_stuck_record_leaves_room_to_the_others() -> None:
    """Behind one stuck record the partition goes on while few are unfinished."""
    ledger = PartitionLedger(0)
    ledger.read(0)
    for start in range(1, 1_000_000, 500):
        assert ledger.room()
        offsets = range(start, start + 500)
        for offset in offsets:
            ledger.read(offset)
        ledger.apply(ledger.prepare(offsets))
    assert len(ledger.prepare([]).metadata) < 50


def most_room(ledger: PartitionLedger) -> int:
    """How many records could be read at once."""
    return bisect_left(range(20_000), True, key=lambda more: not ledger.room(more))


@pytest.mark.parametrize("done", [100, 500])
def test_how_much_room_is_left_is_told_of_what_is_finished_now(done: int) -> None:
    """The oldest record is stuck, and each second one behind it finishes: whoever asks after each of them is told the
    same as one who asks but once, wherever in the log that is."""
    told = set()
    for first, asks in product((0, 10**12), (True, False)):
        ledger = PartitionLedger(first)
        for offset in (*range(1_200), 30_000):
            ledger.read(first + offset)
        before = most_room(ledger) if asks else None
        for n in range(1, done + 1):
            ledger.apply(ledger.prepare([first + 2 * n]))
            if asks:
                ledger.room(1_500)
        told.add(most_room(ledger))
        assert before is None or before > max(told)
    assert len(told) == 1


@pytest.mark.parametrize("seed", range(5))
def test_while_there_is_room_nothing_called_is_kept_back(seed: int) -> None:
    """Whatever finishes in whatever order: with intake asking for room the metadata always fits."""
    chance = random.Random(seed)
    ledger = PartitionLedger(0)
    ledger.read(0)
    open_offsets: list[int] = []
    offset = 1
    for _ in range(300):
        if ledger.room(500):
            for _ in range(chance.randrange(1, 500)):
                offset += chance.choice((0, 0, 0, 1))
                ledger.read(offset)
                open_offsets.append(offset)
                offset += 1
        chance.shuffle(open_offsets)
        share = chance.choice((0, 0.3, 0.9)) if len(open_offsets) < 1500 else 0.5
        done = [open_offsets.pop() for _ in range(int(len(open_offsets) * share))]
        plan = ledger.prepare(done)
        assert plan.called_kept_back == 0
        ledger.apply(plan)
    assert offset > 20_000


def spread_out(unfinished: int) -> PartitionLedger:
    """29,500 records, of which so many, at even distances, are unfinished."""
    ledger = PartitionLedger(0)
    for offset in range(29_500):
        ledger.read(offset)
    stuck = set(range(0, unfinished * (29_500 // unfinished), 29_500 // unfinished))
    ledger.apply(ledger.prepare([offset for offset in range(29_500) if offset not in stuck]))
    assert ledger.unfinished == unfinished
    return ledger


def test_room_ends_where_the_worst_case_would_not_fit() -> None:
    """With 500 more 1,415 unfinished records take 3,064 bytes at the worst; one is for the count of deferred keys."""
    assert spread_out(915).room()
    assert not spread_out(916).room()


def test_a_deferred_key_takes_twelve_bytes_of_the_room_and_gives_that_of_its_records() -> None:
    """What would be deferred is reckoned as if it was."""
    ledger = spread_out(909)
    assert ledger.room_without(0, 500, keys=1)
    ledger = spread_out(915)
    assert not ledger.room_without(5, 500, keys=1)
    assert ledger.room_without(6, 500, keys=1)
    ledger.defer([0], {b"8 bytes!": 0})
    assert not ledger.room_without(4, 500)
    assert ledger.room_without(5, 500)


@pytest.mark.parametrize(("unfinished", "is_room"), [(2_505, True), (2_506, False)])
def test_there_is_more_room_where_the_unfinished_lie_together(unfinished: int, is_room: bool) -> None:
    """Behind one stuck record and a long run: whatever finishes of 3,000 neighbours still fits, and there it ends."""
    ledger = PartitionLedger(0)
    for offset in range(100_000 + unfinished):
        ledger.read(offset)
    ledger.apply(ledger.prepare(range(1, 100_000)))
    assert ledger.room() is is_room
    for offset in range(ledger.position, ledger.position + 500):
        ledger.read(offset)
    plan = ledger.prepare(range(100_001, ledger.position, 2))
    assert (plan.called_kept_back == 0) is True


@pytest.mark.parametrize("seed", range(4))
def test_room_in_a_large_window_holds_whatever_finishes(seed: int) -> None:
    """Few are unfinished in a window of a million; those that are read then finish in any order and pattern."""
    chance = random.Random(seed)
    ledger = PartitionLedger(0)
    stuck = set(chance.sample(range(0, 100_000), 400))
    for start in range(0, 100_000, 500):
        for offset in range(start, start + 500):
            ledger.read(offset)
        ledger.apply(ledger.prepare([offset for offset in range(start, start + 500) if offset not in stuck]))
    position, unfinished = 100_000, sorted(stuck)
    for _ in range(60):
        if ledger.room(500):
            for _ in range(500):
                ledger.read(position)
                unfinished.append(position)
                position += 1
        pattern = chance.choice(("every second", "some", "most"))
        done = [
            offset
            for place, offset in enumerate(unfinished)
            if offset != min(stuck)
            and (
                (place % 2 == 0) if pattern == "every second" else chance.random() < (0.1 if pattern == "some" else 0.9)
            )
        ]
        plan = ledger.prepare(done)
        assert plan.called_kept_back == 0
        assert len(plan.metadata) <= MAX_BYTES
        ledger.apply(plan)
        gone = set(done)
        unfinished = [offset for offset in unfinished if offset not in gone]
    assert position > 101_000


@pytest.mark.parametrize("seed", range(3))
def test_the_most_keys_and_the_safe_window_fit_together(seed: int) -> None:
    """Whatever is finished in it."""
    chance = random.Random(seed)
    deferred = {key_digest(str(n).encode()): 1000 + n for n in range(MOST_KEYS)}
    finished = [n for n in range(SAFE_WINDOW_OFFSETS) if chance.random() < 0.5]
    assert fits(encode(1000, [(1000 + n, 1001 + n) for n in finished], deferred))


def test_ten_thousand_waiting_records_take_one_number() -> None:
    """Every hundredth record of a million is of one contact: the others are read and settled, and it fits."""
    hot = key_digest(b"hot")
    ledger = PartitionLedger(0)
    for offset in range(0, 20_000, 500):
        for each in range(offset, offset + 500):
            ledger.read(each)
        if not offset:
            ledger.defer(range(0, 500, 100), {hot: 0})
        else:
            ledger.defer(range(offset, offset + 500, 100), {})
        plan = ledger.prepare([each for each in range(offset, offset + 500) if each % 100])
        assert (plan.commit_offset, plan.called_kept_back) == (0, 0)
        ledger.apply(plan)
        assert ledger.room()
    assert len(plan.metadata) < 60
    assert ledger.unfinished == 0
    assert ledger.oldest_unfinished == 0
