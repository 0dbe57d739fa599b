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
    assert len(found.examples) == 1


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
