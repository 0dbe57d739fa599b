"""Ranges of offsets, and the marks of each."""

import numpy as np
import pytest

from contracts.outcomes import Outcome
from service.auditing.marks import CODES, DEAD_LETTER, DEAD_LETTERS, EXISTS, REPEATED, TWO_OUTCOMES, Marks, Ranges

SPANS = Ranges(((3, 5), (8, 12)))
INSIDE = {3, 4, 8, 9, 10, 11}


def test_ranges_are_half_open() -> None:
    """The first offset lies in a range, the one at its end does not."""
    assert {offset for offset in range(-2, 20) if SPANS.holds(offset)} == INSIDE
    assert not Ranges().holds(0)


@pytest.mark.parametrize("first", range(14))
@pytest.mark.parametrize("count", [1, 2, 6, 20])
def test_a_stretch_is_told_like_each_of_its_offsets(first: int, count: int) -> None:
    """Wherever it begins and ends: before, at, in and behind the ranges."""
    stretch = range(first, first + count)
    assert SPANS.over(first, count).tolist() == [offset in INSIDE for offset in stretch]
    assert SPANS.count(first, first + count) == len(INSIDE & set(stretch))


def test_marks_of_all_offsets_are_kept_apart() -> None:
    """Within a page and over pages, which come in the order of their offsets, all of one size; sixteen bits hold."""
    marks = Marks()
    for offset in (40_000, 7, 8, 16_383, 16_384):
        assert marks.add(offset, EXISTS) == 0
        assert marks.add(offset, 0x8000) == EXISTS
    pages = dict(marks.pages())
    assert list(pages) == [0, 16_384, 32_768]
    assert {page.size for page in pages.values()} == {16_384}
    found = {first + int(at) for first, page in pages.items() for at in np.flatnonzero(page == EXISTS | 0x8000)}
    assert found == {40_000, 7, 8, 16_383, 16_384}


def test_the_first_outcome_is_kept() -> None:
    """A second result is told apart by whether it says the same."""
    marks = Marks()
    for offset, second in enumerate((Outcome.REJECTED, Outcome.DELIVERED)):
        marks.result(offset, Outcome.REJECTED)
        marks.result(offset, second)
    marks.dead_letter(2)
    marks.dead_letter(3)
    marks.dead_letter(3)
    ((_, page),) = marks.pages()
    code = CODES[Outcome.REJECTED]
    assert page[:5].tolist() == [code | REPEATED, code | TWO_OUTCOMES, DEAD_LETTER, DEAD_LETTER | DEAD_LETTERS, 0]
