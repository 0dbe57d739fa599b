"""The parts of a bulk: in order through halves, probes and ends, and each as far as it has come."""

import pytest

from service.delivery.bulk import Bulk, Part
from service.intake.item import Item
from tests.support.fakes import Source


def bulk(*keys: bytes | None) -> Bulk:
    """One batch of records with these keys."""
    source = Source()
    return Bulk("b", [source.item(key) for key in keys])


def numbered(count: int) -> Bulk:
    return bulk(*(b"k%d" % number for number in range(count)))


def offsets(whole: Bulk) -> list[list[int]]:
    return [[item.offset for item in part.items] for part in whole.parts]


def tried(part: Part, *, attempts: int = 3, last: str = "HTTP 500") -> Part:
    """As a part is after some attempts."""
    part.attempts, part.counted, part.failed_at, part.last, part.expires_from_ms = attempts, 2, 5.0, last, 7.0
    return part


def progress(part: Part) -> tuple[object, ...]:
    return part.attempts, part.counted, part.failed_at, part.last, part.expires_from_ms


def test_a_bulk_begins_as_one_part_that_was_never_tried() -> None:
    """Its deadline is not known yet, and it may have failed at no time."""
    whole = numbered(2)
    (part,) = whole.parts
    assert whole.current is part
    assert (whole.id, whole.unfinished, offsets(whole)) == ("b", 2, [[0, 1]])
    assert whole.assignment is part.items[0].partition.assignment
    assert progress(part) == (0, 0, float("-inf"), None, float("-inf"))
    assert (part.is_probe, part.called_at) == (False, None)


@pytest.mark.parametrize(
    ("count", "halves"), [(2, [[0], [1]]), (3, [[0, 1], [2]]), (4, [[0, 1], [2, 3]]), (5, [[0, 1, 2], [3, 4]])]
)
def test_halves_stand_where_the_whole_stood(count: int, halves: list[list[int]]) -> None:
    """In front of the other parts, in order, and as far as the whole had come; a call is none of theirs."""
    whole = numbered(count)
    tried(whole.current).called_at = 9.0
    behind = Part(bulk(b"behind").current.items)
    whole.parts.append(behind)
    whole.halve()
    assert offsets(whole) == [*halves, [0]]
    assert whole.parts[2] is behind
    for half in list(whole.parts)[:2]:
        assert progress(half) == (3, 2, 5.0, "HTTP 500", 7.0)
        assert (half.is_probe, half.called_at) == (False, None)


def test_the_first_record_probes_alone_and_returns_to_the_others() -> None:
    """It takes back what it met; what counts against the others is theirs."""
    whole = numbered(3)
    tried(whole.current)
    probe = whole.split_probe()
    assert probe is whole.current
    assert (offsets(whole), probe.is_probe, whole.parts[1].is_probe) == ([[0], [1, 2]], True, False)
    assert progress(probe) == progress(whole.parts[1]) == (3, 2, 5.0, "HTTP 500", 7.0)
    probe.attempts, probe.failed_at, probe.last, probe.counted = 4, 6.0, "HTTP 503", 9
    whole.rejoin_probe()
    assert offsets(whole) == [[0, 1, 2]]
    assert progress(whole.current) == (4, 2, 6.0, "HTTP 503", 7.0)
    assert not whole.current.is_probe


def test_a_single_record_is_its_own_probe() -> None:
    """Nothing is split off, and nothing has to return."""
    whole = numbered(1)
    part = whole.current
    assert whole.split_probe() is part
    assert not part.is_probe
    whole.rejoin_probe()
    assert offsets(whole) == [[0]]


def test_only_a_probe_returns() -> None:
    """A half that failed stays a part of its own, and so does a probe that is the last."""
    whole = numbered(2)
    whole.halve()
    whole.rejoin_probe()
    assert offsets(whole) == [[0], [1]]
    whole = numbered(2)
    whole.split_probe()
    whole.parts.pop()
    whole.rejoin_probe()
    assert offsets(whole) == [[0]]


@pytest.mark.parametrize(
    ("keys", "after"),
    [
        ((b"a", b"b", b"c"), [[1], [2], [0]]),
        ((b"a", b"b"), [[1], [0]]),
        ((b"a", b"b", b"a"), [[0], [1], [2]]),
        ((b"a", b"a", b"b"), [[0], [1], [2]]),
        ((None, b"b", None), [[1], [2], [0]]),
        ((b"a",), [[0]]),
    ],
    ids=["other keys", "another key", "the key again", "the key next", "no key", "alone"],
)
def test_a_record_that_failed_lets_the_others_pass(keys: tuple[bytes | None, ...], after: list[list[int]]) -> None:
    """Unless one of them has its key, and would be delivered before it."""
    whole = bulk(*keys)
    whole.parts.clear()
    whole.parts.extend(Part([item]) for item in items(keys))
    whole.let_others_pass()
    assert offsets(whole) == after


def items(keys: tuple[bytes | None, ...]) -> list[Item]:
    source = Source()
    return [source.item(key) for key in keys]


def test_several_records_let_nobody_pass() -> None:
    """Only what is alone is known to be at fault."""
    whole = numbered(4)
    whole.halve()
    whole.let_others_pass()
    assert offsets(whole) == [[0, 1], [2, 3]]


def test_records_leave_one_by_one_and_a_part_with_its_last() -> None:
    """The keys of those that are left are held."""
    whole = bulk(b"a", b"b", b"a", None)
    whole.halve()
    assert whole.keys() == {b"a", b"b", None}
    whole.keep(whole.current.items[:1])
    assert (offsets(whole), whole.unfinished, whole.keys()) == ([[0], [2, 3]], 3, {b"a", None})
    assert whole.keys(list(whole.parts)[:1]) == {b"a"}
    assert whole.keys([]) == set()
    whole.keep([])
    assert (offsets(whole), whole.unfinished) == ([[2, 3]], 2)
