"""The ledger of one partition, by example."""

import random
from itertools import pairwise

import pytest

from service.offsets import metadata
from service.offsets.ledger import PartitionLedger, worst_case_runs_bytes
from service.offsets.metadata import MAX_BYTES, decode, encode


def ledger_that_read(*offsets: int, committed: int = 0) -> PartitionLedger:
    ledger = PartitionLedger(committed)
    for offset in offsets:
        assert ledger.read(offset)
    return ledger


def settle(ledger: PartitionLedger, *offsets: int) -> tuple[int, str]:
    plan = ledger.prepare(offsets)
    ledger.apply(plan)
    return plan.commit_offset, plan.metadata


def test_a_new_ledger_commits_where_it_begins() -> None:
    """Nothing read: the commit is where reading begins."""
    ledger = PartitionLedger(17)
    assert (ledger.low, ledger.position, ledger.unfinished, ledger.oldest_unfinished) == (17, 17, 0, None)


def test_the_commit_waits_for_the_oldest() -> None:
    """What finished above an unfinished record travels in the metadata; the commit does not pass it."""
    ledger = ledger_that_read(0, 1, 2, 3)
    commit, text = settle(ledger, 1, 3)
    assert commit == 0
    assert decode(0, text) == ([(1, 2), (3, 4)], None)
    assert ledger.oldest_unfinished == 0
    assert settle(ledger, 0) == (2, encode(2, [(3, 4)]))
    assert settle(ledger, 2) == (4, "")
    assert ledger.oldest_unfinished is None


def test_a_plan_changes_nothing_until_it_is_applied() -> None:
    """An aborted transaction leaves the ledger as it was."""
    ledger = ledger_that_read(0, 1, 2)
    before = (ledger.low, ledger.unfinished, list(ledger.runs))
    plan = ledger.prepare([0, 1])
    assert plan.commit_offset == 2
    assert (ledger.low, ledger.unfinished, list(ledger.runs)) == before
    assert settle(ledger, 2) == (0, encode(0, [(2, 3)]))


def test_reading_goes_on_while_a_transaction_runs() -> None:
    """Records and holes that come between prepare and apply are neither lost nor committed."""
    ledger = ledger_that_read(0, 1)
    plan = ledger.prepare([0, 1])
    ledger.read(5)
    ledger.apply(plan)
    assert (ledger.low, ledger.unfinished) == (5, 1)
    assert plan.commit_offset == 2


def test_holes_do_not_split_runs() -> None:
    """Commit markers between finished records cost no metadata."""
    ledger = ledger_that_read(0, 2, 4, 6, 9)
    _, text = settle(ledger, 2, 4, 6)
    assert decode(0, text) == ([(1, 7)], None)


def test_a_hole_at_the_end_is_passed_when_nothing_is_unfinished() -> None:
    """Behind a transactional publisher the commit reaches the end of the log."""
    ledger = ledger_that_read(0, 1)
    ledger.advance(3)
    assert (ledger.low, ledger.position) == (0, 3)
    assert settle(ledger, 0, 1) == (3, "")
    assert ledger.low == 3


def test_a_hole_in_front_of_the_oldest_is_passed() -> None:
    """The commit is the oldest record's own offset, not where the hole in front of it begins."""
    ledger = ledger_that_read(0, 5, 6)
    assert settle(ledger, 0) == (5, "")
    assert ledger.oldest_unfinished == 5


def test_what_finished_before_a_restart_is_not_delivered_again() -> None:
    """Offsets in the commit's metadata are read past."""
    ledger = PartitionLedger(10, [(12, 14), (16, 17)])
    delivered = [offset for offset in range(10, 20) if ledger.read(offset)]
    assert delivered == [10, 11, 14, 15, 17, 18, 19]
    assert settle(ledger, *delivered) == (20, "")


def test_records_compacted_away_after_a_restart_hold_nothing() -> None:
    """The edges of a restored range may be gone from the log; the commit passes over them."""
    ledger = PartitionLedger(10, [(12, 20)])
    assert [ledger.read(offset) for offset in (10, 15, 25)] == [True, False, True]
    assert settle(ledger, 10) == (25, "")
    ledger = PartitionLedger(10, [(12, 20)])
    assert ledger.read(30)
    assert settle(ledger, 30) == (31, "")


def test_the_position_may_pass_into_a_restored_range() -> None:
    """All its records were compacted away up to there: the rest of it is finished none the less."""
    ledger = PartitionLedger(5, [(7, 10)])
    ledger.advance(8)
    assert (ledger.position, ledger.low) == (8, 10)
    assert not ledger.read(9)
    assert ledger.read(10)
    assert settle(ledger, 10) == (11, "")


def test_settled_holes_are_forgotten() -> None:
    """What is kept of holes does not grow with the log."""
    ledger = PartitionLedger(0)
    ledger.read(0)
    for offset in range(2, 100, 2):
        ledger.read(offset)
        settle(ledger, offset)
    assert not ledger._hole_before
    assert not ledger._behind_hole


def test_a_restored_range_ahead_stays_in_the_metadata() -> None:
    """A commit before the restored range is reached again must not forget it."""
    ledger = PartitionLedger(10, [(15, 20)])
    ledger.read(10)
    commit, text = settle(ledger, 10)
    assert commit == 11
    assert decode(11, text) == ([(15, 20)], None)


def test_a_restored_range_that_touches_is_joined() -> None:
    """All up to the end of the restored range is finished: the commit says so before it is read again."""
    ledger = PartitionLedger(10, [(11, 20)])
    ledger.read(10)
    assert settle(ledger, 10) == (20, "")
    assert not ledger.read(11)


def test_ranges_that_overlap_or_lie_below_are_put_right() -> None:
    """Whatever ranges are given, the ledger's own are ascending, apart and above the commit."""
    ledger = PartitionLedger(10, [(20, 30), (1, 5), (8, 12), (25, 40)])
    assert ledger.low == 12
    assert list(ledger.runs) == [(20, 40)]


def test_an_offset_read_twice_is_refused() -> None:
    """Going back without a new ledger would deliver a record twice."""
    ledger = ledger_that_read(3, 4)
    with pytest.raises(ValueError, match="offset 4 read again"):
        ledger.read(4)


@pytest.mark.parametrize("offsets", [[7], [0, 0], [0, 7]])
def test_settling_what_is_not_unfinished_is_refused(offsets: list[int]) -> None:
    """A record that is settled twice, or was never read, is a fault of ours."""
    with pytest.raises(ValueError, match="settled"):
        ledger_that_read(0, 1).prepare(offsets)


def test_a_plan_is_applied_once() -> None:
    """The same plan again would hide that a second transaction was committed."""
    ledger = ledger_that_read(0, 1)
    plan = ledger.prepare([0])
    ledger.apply(plan)
    with pytest.raises(ValueError, match="applied already"):
        ledger.apply(plan)


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


@pytest.mark.parametrize("seed", range(20))
def test_the_worst_case_is_one(seed: int) -> None:
    """No way of finishing makes runs longer than the bound that intake reckons with."""
    chance = random.Random(seed)
    unfinished, window = chance.randrange(1, 200), chance.choice((400, 5_000, 10**6, 10**9))
    open_offsets = sorted(chance.sample(range(1, window), unfinished - 1))
    edges = [0, *open_offsets, window]
    ranges = [(a + 1, b) for a, b in pairwise(edges) if a + 1 < b]
    assert len(metadata._pack_runs(0, ranges)) <= worst_case_runs_bytes(unfinished, window)


@pytest.mark.parametrize(
    ("unfinished", "window", "longest"),
    [(1, 100, 2), (10, 1_000, 20 + 7), (2, 10**6, 4 + 8), (1_415, 30_000, 2_830 + 234)],
)
def test_the_worst_case_is_reckoned_so(unfinished: int, window: int, longest: int) -> None:
    """Two numbers for each unfinished record, a second byte for each 128 offsets; no number has more than it can."""
    assert worst_case_runs_bytes(unfinished, window) == longest


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


def test_an_empty_plan_takes_nothing_back() -> None:
    """A hole was passed between it and its end."""
    ledger = PartitionLedger(0)
    plan = ledger.prepare([])
    ledger.read(5)
    ledger.apply(plan)
    assert (ledger.low, ledger.oldest_unfinished) == (5, 5)


def test_less_than_the_position_advances_nothing() -> None:
    """Nor does the position itself; holes behind a restored range are read past like any other."""
    ledger = PartitionLedger(10, [(12, 14)])
    assert ledger.read(10)
    for position in (3, 10, 11):
        ledger.advance(position)
        assert (ledger.position, ledger.low) == (11, 10)
    ledger.advance(20)
    assert (ledger.position, settle(ledger, 10)) == (20, (20, ""))
    assert ledger.read(20)
    assert ledger.oldest_unfinished == 20


def test_restored_ranges_touch_the_commit_or_begin_behind_it() -> None:
    """What ends at the committed offset says nothing of it."""
    assert (PartitionLedger(10, [(5, 10)]).low, PartitionLedger(10, [(5, 11)]).low) == (10, 11)
    assert PartitionLedger(10, [(11, 12)]).low == 10


def test_holes_among_restored_ranges_are_finished_with_them() -> None:
    """Whether a record of them is read, or the next one behind."""
    ledger = PartitionLedger(10, [(12, 14), (20, 22)])
    assert [ledger.read(offset) for offset in (10, 13, 16, 21, 23)] == [True, False, True, False, True]
    assert list(ledger.runs) == [(11, 16), (17, 22)]
    assert settle(ledger, 10) == (16, encode(16, [(17, 22)]))
    assert settle(ledger, 16, 23) == (24, "")
