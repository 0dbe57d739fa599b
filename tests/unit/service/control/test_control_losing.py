"""What `lanes accept-loss` finds is what the lane holds for."""

from aiokafka.structs import TopicPartition

from contracts.control import Loss, LossKey
from contracts.journal import Lost, Start
from service.control.losing import LostRange, found_lost, orders_for
from service.kafka.offsets import CommittedOffset

A, B, C = (TopicPartition("t", n) for n in range(3))
FIRST = {A: 150, B: 0, C: 40}


def at(offset: int) -> CommittedOffset:
    return CommittedOffset(offset, "")


def test_records_and_offsets_that_are_lost_are_found() -> None:
    """A partition that was never begun has lost nothing; the first offset itself is not lost."""
    starts = {("t", 2): Start("earliest", 1, 3, 7)}
    assert found_lost(frozenset(FIRST), {A: at(100), B: at(0)}, FIRST, starts) == [
        LostRange("t", 0, 100, 150, False),
        LostRange("t", 2, 7, 40, True),
    ]
    assert found_lost(frozenset(FIRST), {A: at(150), B: at(9), C: at(40)}, FIRST, {}) == []


def test_what_was_given_up_before_is_not_given_up_twice() -> None:
    """Forgotten again, the range begins where the last one ended; never behind what exists."""
    starts = {("t", 2): Start("earliest", 1, 3, 7, (Lost(7, 30, "ops@host", 1),))}
    assert found_lost(frozenset({C}), {}, FIRST, starts) == [LostRange("t", 2, 30, 40, True)]
    assert found_lost(frozenset({B}), {}, FIRST, {("t", 1): Start("earliest", 1, 3, 5)}) == [
        LostRange("t", 1, 0, 0, True)
    ]


def test_each_range_is_an_order_of_its_own() -> None:
    """With its exact offsets, by whom, why and when."""
    ranges = [LostRange("t", 0, 100, 150, False), LostRange("t", 2, 7, 40, True)]
    assert orders_for("vip", ranges, by="ops@host", why="seen", at_ms=5) == {
        LossKey("vip", "t", 0): Loss(100, 150, "ops@host", "seen", 5),
        LossKey("vip", "t", 2): Loss(7, 40, "ops@host", "seen", 5, offsets_lost=True),
    }
