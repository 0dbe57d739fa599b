"""The comparison of what existed with what was told of it."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.outcomes import DEAD, Outcome
from service.auditing.marks import Ranges
from service.auditing.tally import LaneAudit, LaneTally, Terms, Window

TOPIC, REPLAY = "contacts", "p.lane.replay"


def window(end: int, finished: int | None = None, **options: Any) -> Window:
    """Offsets 0 to before ``end``, all of them finished unless said otherwise."""
    ranges = Ranges(((0, end if finished is None else finished),))
    return Window(**({"started": 0, "first": 0, "end": end, "finished": ranges} | options))


def tally_of(end: int, *, terms: Terms | None = None, **options: Any) -> LaneTally:
    """A lane with one partition, whose records all exist."""
    tally = LaneTally({(TOPIC, 0): window(end, **options)}, terms or Terms())
    for offset in range(end):
        tally.record(TOPIC, 0, offset, "")
    return tally


def told(tally: LaneTally, *offsets: int, outcome: Outcome = Outcome.DELIVERED) -> LaneTally:
    """Results of the offsets; with their dead letter where the outcome has one."""
    for offset in offsets:
        tally.result(TOPIC, 0, offset, outcome, f"r{offset}")
        if outcome in DEAD:
            tally.dead_letter(TOPIC, 0, offset, f"r{offset}", 0)
    return tally


def counts(found: LaneAudit) -> dict[str, int]:
    """What is not zero."""
    names = ["missing", "duplicate", "contradictory", "pending", "unknown", "past", "lost", "unproven", "repeated"]
    return {name: getattr(found, name) for name in [*names, "of_no_record"] if getattr(found, name)}


def test_one_result_each_is_proven() -> None:
    """Whatever the outcomes; they are counted."""
    tally = told(told(tally_of(5), 0, 1, 2), 3, 4, outcome=Outcome.REJECTED)
    found = tally.verdict()
    assert (found.events, found.results, counts(found)) == (5, {"delivered": 3, "rejected": 2}, {})
    assert found.proven
    assert found.examples == []


def test_a_finished_event_without_a_result_is_missing_and_named() -> None:
    """The group says that it is done with it, and nobody was told what became of it."""
    found = told(tally_of(5), 0, 1, 3, 4).verdict()
    assert counts(found) == {"missing": 1}
    assert found.examples == [f"missing: {TOPIC}-0 offset 2"]
    assert not found.proven


def test_what_the_group_has_not_finished_is_pending() -> None:
    """Also between what finished beyond the committed offset."""
    found = told(tally_of(6, finished=2), 0, 1).verdict()
    assert counts(found) == {"pending": 4}
    beyond = LaneTally({(TOPIC, 0): Window(0, 0, 6, Ranges(((0, 2), (4, 5))))}, Terms())
    for offset in range(6):
        beyond.record(TOPIC, 0, offset, "")
    assert counts(told(beyond, 0, 1).verdict()) == {"pending": 3, "missing": 1}


def test_what_is_told_after_the_audit_looked_counts_and_contradicts_nothing() -> None:
    """A lane that runs on: the result of an event is there, its dead letter lies behind what was read."""
    tally = told(tally_of(3, finished=1), 0)
    tally.result(TOPIC, 0, 1, Outcome.REJECTED, "r1")
    tally.dead_letter(TOPIC, 0, 2, "r2", 0)
    assert counts(tally.verdict()) == {"pending": 1}


@pytest.mark.parametrize(
    ("second", "expected"),
    [(Outcome.DELIVERED, {"duplicate": 1}), (Outcome.SKIPPED, {"contradictory": 1})],
)
def test_a_second_result_is_a_duplicate_and_another_outcome_a_contradiction(
    second: Outcome, expected: dict[str, int]
) -> None:
    """A reader of committed records sees each event's end once."""
    tally = told(tally_of(2), 0, 1)
    tally.result(TOPIC, 0, 1, second, "r1")
    found = tally.verdict()
    assert counts(found) == expected
    what = "duplicate" if "duplicate" in expected else "two outcomes"
    assert found.examples == [f"{what}: {TOPIC}-0 offset 1"]


def test_at_least_once_repeats_are_told_apart() -> None:
    """There a result may appear again, and one in doubt after another: nothing fails by that."""
    tally = told(tally_of(2, terms=Terms(at_least_once=True)), 0, 1)
    tally.result(TOPIC, 0, 0, Outcome.DELIVERED, "r0")
    tally.result(TOPIC, 0, 1, Outcome.IN_DOUBT, "r1")
    tally.dead_letter(TOPIC, 0, 1, "r1", 0)
    found = tally.verdict()
    assert counts(found) == {"repeated": 2}
    assert found.proven


def test_a_dead_letter_and_its_result_belong_together() -> None:
    """One without the other is a contradiction, and so is a second one."""
    tally = told(told(tally_of(4), 0), 3, outcome=Outcome.INVALID)
    tally.result(TOPIC, 0, 1, Outcome.REJECTED, "r1")
    told(tally, 2)
    tally.dead_letter(TOPIC, 0, 2, "r2", 0)
    tally.dead_letter(TOPIC, 0, 3, "r3", 0)
    found = tally.verdict()
    assert counts(found) == {"contradictory": 3}
    assert sorted(found.examples) == [
        f"a dead letter without its result: {TOPIC}-0 offset 2",
        f"a result without its dead letter: {TOPIC}-0 offset 1",
        f"more than one dead letter: {TOPIC}-0 offset 3",
    ]


def test_what_retention_may_have_taken_is_unknown() -> None:
    """No result, and the record is older than the oldest result that is left; likewise a dead letter."""
    tally = LaneTally({(TOPIC, 0): window(3)}, Terms())
    tally.record(TOPIC, 0, 0, "", old=True, old_dead=True)
    tally.record(TOPIC, 0, 1, "", old_dead=True)
    tally.record(TOPIC, 0, 2, "")
    tally.result(TOPIC, 0, 1, Outcome.REJECTED, "r1")
    told(tally, 2)
    found = tally.verdict()
    assert counts(found) == {"unknown": 1}
    assert found.proven


def test_past_and_lost_are_counted_as_offsets() -> None:
    """What lies between the start and the first record is past, but for what an operator has given up."""
    ranges = Ranges(((3, 5),))
    tally = LaneTally({(TOPIC, 0): Window(1, 5, 8, Ranges(((0, 8),)), lost=ranges)}, Terms())
    for offset in range(5, 8):
        tally.record(TOPIC, 0, offset, "")
    assert counts(told(tally, 5, 6, 7).verdict()) == {"past": 2, "lost": 2}


def test_what_was_deleted_before_it_was_read_is_past() -> None:
    """From where the lane began on, but for what was given up as lost; its results are not those of no record."""
    tally = LaneTally({(TOPIC, 0): window(100, first=10, lost=Ranges(((40, 45),)))}, Terms())
    tally.deleted(TOPIC, 0, 0, 30)
    tally.deleted(TOPIC, 0, 38, 50)
    tally.deleted(TOPIC, 0, 90, 120)
    for offset in (10, 29, 40, 95):
        tally.result(TOPIC, 0, offset, Outcome.DELIVERED, "")
    tally.result(TOPIC, 0, 30, Outcome.DELIVERED, "")
    found = tally.verdict()
    assert counts(found) == {"past": 10 + 20 + 7 + 10, "lost": 5, "of_no_record": 1}
    assert found.events == 0


def test_an_unpublished_skip_leaves_an_event_unproven() -> None:
    """Where skipped events have no result, silence proves nothing."""
    found = told(tally_of(3, terms=Terms(skipped_published=False)), 0).verdict()
    assert counts(found) == {"unproven": 2}
    assert found.proven


def test_holes_are_no_events() -> None:
    """Markers and aborted records occupy offsets; a result of such a place is told."""
    tally = LaneTally({(TOPIC, 0): window(100_000)}, Terms())
    for offset in (5, 40_000, 99_999):
        tally.record(TOPIC, 0, offset, "")
    told(tally, 5, 40_000, 99_999, 50_000)
    found = tally.verdict()
    assert found.events == 3
    assert counts(found) == {"of_no_record": 1}


def test_replays_are_events_of_their_own_joined_by_the_result() -> None:
    """A replayed record has its own result; its dead letter names the first origin, and the result by its id."""
    tally = LaneTally({(TOPIC, 0): window(1), (REPLAY, 0): window(3, is_replay=True)}, Terms())
    tally.record(TOPIC, 0, 0, "")
    for offset in range(3):
        tally.record(REPLAY, 0, offset, f"replay-{offset}")
    told(tally, 0, outcome=Outcome.REJECTED)
    for offset in range(3):
        tally.result(REPLAY, 0, offset, Outcome.REJECTED, f"replay-{offset}")
    tally.dead_letter(TOPIC, 0, 0, "replay-0", 1)
    tally.dead_letter(TOPIC, 0, 0, "replay-1", 2)
    tally.dead_letter(TOPIC, 0, 0, "replay-of-later", 3)
    found = tally.verdict()
    assert (found.events, found.replays) == (4, 3)
    assert counts(found) == {"contradictory": 1}
    assert found.examples == ["a replay's result without its dead letter: result replay-2"]


PAGE = 16_384


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (
            Terms(),
            {"missing": 4, "duplicate": 4, "contradictory": 12, "pending": 4, "unknown": 4, "of_no_record": 4},
        ),
        (
            Terms(skipped_published=False),
            {"unproven": 4, "duplicate": 4, "contradictory": 12, "pending": 4, "unknown": 4, "of_no_record": 4},
        ),
        (
            Terms(at_least_once=True),
            {"missing": 4, "repeated": 8, "contradictory": 4, "pending": 4, "unknown": 4, "of_no_record": 4},
        ),
    ],
    ids=["exactly once", "skipped unpublished", "at least once"],
)
def test_partitions_and_pages_add_up(terms: Terms, expected: dict[str, int]) -> None:
    """The same history in two pages of two partitions: each finding four times."""
    finished = Ranges(((0, 8), (9, PAGE + 8), (PAGE + 9, 2 * PAGE)))
    tally = LaneTally({(TOPIC, partition): Window(0, 0, 2 * PAGE, finished) for partition in (0, 1)}, terms)
    for partition, first in ((0, 0), (0, PAGE), (1, 0), (1, PAGE)):
        for offset in (0, 1, 2, 3, 4, 6, 8):
            tally.record(TOPIC, partition, first + offset, "")
        tally.record(TOPIC, partition, first + 5, "", old=True)  # unknown; 0 is missing, 8 is pending
        results = [(1, Outcome.DELIVERED)] * 2 + [(2, Outcome.DELIVERED), (2, Outcome.SKIPPED)]
        for offset, outcome in [*results, (3, Outcome.REJECTED), (4, Outcome.SKIPPED), (6, Outcome.INVALID)]:
            tally.result(TOPIC, partition, first + offset, outcome, "")
        tally.result(TOPIC, partition, first + 7, Outcome.DELIVERED, "")  # of no record
        for offset in (4, 6):  # a letter that no result tells of; the invalid one has its own
            tally.dead_letter(TOPIC, partition, first + offset, "", 0)
    found = tally.verdict()
    assert counts(found) == expected
    assert found.results == {"delivered": 8, "skipped": 4, "rejected": 4, "invalid": 4}
    assert (found.events, found.replays) == (32, 0)


def test_examples_are_five_of_each_kind() -> None:
    """Over all partitions, the first ones; however many there are."""
    windows = {(TOPIC, partition): window(PAGE + 10) for partition in (0, 1, 2)}
    tally = LaneTally(windows, Terms())
    for partition in (0, 1, 2):
        for offset in (3, PAGE + 4):
            tally.record(TOPIC, partition, offset, "")
        for offset in (1, PAGE + 2):
            tally.record(TOPIC, partition, offset, "")
            for _ in range(2):
                tally.result(TOPIC, partition, offset, Outcome.DELIVERED, "")
    found = tally.verdict()
    assert counts(found) == {"missing": 6, "duplicate": 6}
    places = [f"{TOPIC}-0 offset", f"{TOPIC}-1 offset", f"{TOPIC}-2 offset"]
    assert sorted(found.examples) == sorted(
        [f"missing: {place} {offset}" for place in places for offset in (3, PAGE + 4)][:5]
        + [f"duplicate: {place} {offset}" for place in places for offset in (1, PAGE + 2)][:5]
    )


def test_what_lies_outside_the_window_says_nothing() -> None:
    """Before its first offset, from its end on, or in a partition that is not looked at."""
    tally = LaneTally({(TOPIC, 0): window(8, first=5)}, Terms())
    for offset in (4, 5, 7, 8):
        tally.record(TOPIC, 0, offset, "")
        tally.dead_letter(TOPIC, 0, offset, "", 0)
        tally.result(TOPIC, 0, offset, Outcome.INVALID, "")
    tally.record(TOPIC, 1, 5, "")
    tally.result(TOPIC, 1, 5, Outcome.INVALID, "")
    tally.dead_letter(TOPIC, 1, 5, "", 0)
    found = tally.verdict()
    assert (found.events, found.results, counts(found)) == (2, {"invalid": 2}, {"past": 5})


def test_what_is_past_and_lost_adds_up_over_partitions() -> None:
    """Lost records are neither missing nor pending; where the audit begins before the lane did nothing is past."""
    lost, finished = Ranges(((0, 3), (6, 8))), Ranges(((0, 5), (6, 7)))
    windows = {(TOPIC, partition): Window(1, 5, 9, finished, lost) for partition in (0, 1)}
    windows[TOPIC, 2] = Window(7, 5, 9, Ranges(((0, 9),)))
    tally = LaneTally(windows, Terms())
    for partition in (0, 1):
        for offset in range(5, 9):
            tally.record(TOPIC, partition, offset, "")
    assert counts(tally.verdict()) == {"past": 2 * (4 - 2), "lost": 2 * (2 + 2), "pending": 2 * 2}


def replayed(*, terms: Terms | None = None, finished: int = 20) -> LaneTally:
    """A lane with a partition of its replay topic, of which so many offsets are finished."""
    windows = {(TOPIC, 0): window(1), (REPLAY, 0): window(20, finished, is_replay=True)}
    return LaneTally(windows, terms or Terms())


def test_of_many_replays_without_a_letter_five_are_named() -> None:
    """Sorted, and each that is told without the other; also one of which two letters tell."""
    tally = replayed()
    for offset in range(14):
        tally.record(REPLAY, 0, offset, f"r{offset:02}")
    for offset in range(7):
        tally.result(REPLAY, 0, offset, Outcome.REJECTED, f"r{offset:02}")
    for offset in range(7, 14):
        tally.result(REPLAY, 0, offset, Outcome.DELIVERED, f"r{offset:02}")
        tally.dead_letter(TOPIC, 0, 0, f"r{offset:02}", 1)
    tally.dead_letter(TOPIC, 0, 0, "r07", 1)
    found = tally.verdict()
    assert (found.events, found.replays, counts(found)) == (14, 14, {"contradictory": 7 + 8})
    assert found.examples == [
        *(f"a replay's dead letter without its result: result r{n:02}" for n in (7, 7, 8, 9, 10)),
        *(f"a replay's result without its dead letter: result r{n:02}" for n in range(5)),
    ]


def test_of_a_replay_that_was_told_twice_one_letter_is_missing() -> None:
    """Besides being a duplicate; replays are counted over all pages."""
    windows = {(REPLAY, 0): window(PAGE + 1, is_replay=True)}
    tally = LaneTally(windows, Terms())
    for offset, letters in ((0, 1), (PAGE, 2)):
        tally.record(REPLAY, 0, offset, f"r{offset}")
        for _ in range(2):
            tally.result(REPLAY, 0, offset, Outcome.REJECTED, f"r{offset}")
        for _ in range(letters):
            tally.dead_letter(TOPIC, 0, 0, f"r{offset}", 1)
    found = tally.verdict()
    assert (found.events, found.replays, counts(found)) == (2, 2, {"duplicate": 2, "contradictory": 1})
    assert "a replay's result without its dead letter: result r0" in found.examples


def test_replays_of_which_a_half_may_lie_elsewhere_contradict_nothing() -> None:
    """Those that are not finished, whose results or letters may be deleted, or of a lane without transactions."""
    tally = replayed(finished=1)
    for offset, age in ((0, {"old": True}), (0, {"old_dead": True}), (1, {})):
        tally.record(REPLAY, 0, offset, f"r{offset}", **age)
        tally.result(REPLAY, 0, offset, Outcome.REJECTED, f"r{offset}")
    assert counts(tally.verdict()) == {"duplicate": 1}
    loose = replayed(terms=Terms(at_least_once=True))
    loose.record(REPLAY, 0, 0, "r0")
    loose.result(REPLAY, 0, 0, Outcome.REJECTED, "r0")
    assert counts(loose.verdict()) == {}


def test_where_a_result_may_be_deleted_its_dead_letter_stands_alone() -> None:
    """And where the letter may be, the result; each for itself, and only what is finished."""
    tally = LaneTally({(TOPIC, 0): window(5, finished=4)}, Terms())
    for offset, age in enumerate(({"old": True}, {"old_dead": True}, {"old_dead": True}, {"old": True}, {})):
        tally.record(TOPIC, 0, offset, "", **age)
    for offset in (0, 2, 4):
        tally.dead_letter(TOPIC, 0, offset, "", 0)
    for offset in (1, 3):
        tally.result(TOPIC, 0, offset, Outcome.REJECTED, "")
    tally.result(TOPIC, 0, 2, Outcome.DELIVERED, "")
    found = tally.verdict()
    assert sorted(found.examples) == [
        f"a dead letter without its result: {TOPIC}-0 offset 2",
        f"a result without its dead letter: {TOPIC}-0 offset 3",
    ]
    assert counts(found) == {"contradictory": 2, "pending": 1, "unknown": 1}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_it_says_what_a_naive_count_says(data: st.DataObject) -> None:
    """Generated histories over several pages, against lists and dictionaries."""
    spread = data.draw(st.sampled_from([1, 5_000]))
    size = data.draw(st.integers(1, 30))
    end, committed = size * spread, data.draw(st.integers(0, size)) * spread
    beyond = data.draw(st.lists(st.integers(0, size - 1), unique=True))
    finished = {offset * spread for offset in beyond} | set(range(0, committed, spread))
    exists = {n * spread for n in data.draw(st.lists(st.integers(0, size - 1), unique=True))}
    results = [
        (n * spread, outcome)
        for n, outcome in data.draw(
            st.lists(st.tuples(st.integers(0, size - 1), st.sampled_from([Outcome.DELIVERED, Outcome.SKIPPED])))
        )
    ]
    ranges = Ranges(tuple((offset, offset + 1) for offset in sorted(finished)))
    tally = LaneTally({(TOPIC, 0): Window(0, 0, end, ranges)}, Terms())
    for offset in exists:
        tally.record(TOPIC, 0, offset, "")
    first: dict[int, Outcome] = {}
    again: Counter[int] = Counter()
    differing: set[int] = set()
    for offset, outcome in results:
        tally.result(TOPIC, 0, offset, outcome, "")
        if first.setdefault(offset, outcome) is not outcome:
            differing.add(offset)
        again[offset] += 1
    found = tally.verdict()
    assert found.events == len(exists)
    assert found.missing == len((exists & finished) - first.keys())
    assert found.pending == len(exists - finished - first.keys())
    assert found.contradictory == len(differing)
    assert found.duplicate == len({offset for offset, count in again.items() if count > 1} - differing)
    assert found.of_no_record == len(first.keys() - exists)
    assert found.results == {k: v for k, v in Counter(first[o].value for o in exists & first.keys()).items() if v}
