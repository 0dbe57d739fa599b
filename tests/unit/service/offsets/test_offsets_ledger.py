"""The ledger of one partition, by example."""

import random
from itertools import pairwise

import pytest

from service.offsets import metadata
from service.offsets.ledger import PartitionLedger, worst_case_runs_bytes
from service.offsets.metadata import decode, encode


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
    ledger = PartitionLedger(10, [(14, 20)])
    assert [ledger.read(offset) for offset in (10, 14, 20)] == [True, False, True]
    assert settle(ledger, 10) == (20, "")
    ledger = PartitionLedger(10, [(12, 20)])
    assert ledger.read(30)
    assert settle(ledger, 30) == (31, "")


def test_records_in_a_row_are_read_at_once() -> None:
    """As one by one; where a hole or what finished before a restart is among them nothing has changed."""
    ledger = PartitionLedger(3)
    assert ledger.read_run(3, 4)
    assert (ledger.unfinished, ledger.position, ledger.low) == (4, 7, 3)
    assert not ledger.read_run(8, 2)
    assert not ledger.read_run(6, 2)
    assert (ledger.unfinished, ledger.position) == (4, 7)
    assert settle(ledger, 4, 6) == (3, encode(3, [(4, 5), (6, 7)]))
    restored = PartitionLedger(3, [(6, 8)])
    assert not restored.read_run(3, 4)
    assert (restored.unfinished, restored.position) == (0, 3)


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


def test_what_was_settled_while_reading_went_on_joins_what_reading_found() -> None:
    """A transaction runs while records are passed that an earlier commit calls finished: neither's ranges are lost."""
    ledger = PartitionLedger(0, [(5, 8)])
    for offset in range(3):
        assert ledger.read(offset)
    plan = ledger.prepare([1])
    assert not ledger.read(6)  # 3 and 4 are gone, 5 too
    assert list(ledger.runs) == [(3, 8)]
    ledger.apply(plan)
    assert (ledger.low, list(ledger.runs)) == (0, [(1, 2), (3, 8)])


def test_what_leaves_memory_takes_nothing_away_from_what_finished() -> None:
    """Records that finished before others of their partition are deferred stay finished."""
    ledger = PartitionLedger(0)
    for offset in range(6):
        ledger.read(offset)
    ledger.apply(ledger.prepare([1, 5]))
    ledger.defer([3], {b"8 bytes!": 3})
    assert (ledger.low, list(ledger.runs)) == (0, [(1, 2), (3, 4), (5, 6)])
    ledger.apply(ledger.prepare([0, 2, 4]))
    assert ledger.low == 3
