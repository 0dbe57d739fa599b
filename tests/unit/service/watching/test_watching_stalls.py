"""A stall is found when it is one, and never when something is waited for."""

from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from service.watching.stalls import Sight, StallPolicy, Stalls, Verdict

TP = TopicPartition("contacts", 0)
OTHER = TopicPartition("contacts", 1)
STUCK = Sight((5, 5), has_work=True, excused=False)


def watched(stalls: Stalls, sight: Sight, seconds: int, start: int = 0) -> list[tuple[int, Verdict]]:
    """Look every 5 seconds; what was not fine."""
    verdicts = [(second, stalls.look({TP: sight}, 1_000.0 + second)[0]) for second in range(start, start + seconds, 5)]
    return [(second, verdict) for second, verdict in verdicts if verdict is not Verdict.FINE]


def test_the_first_stall_restarts_and_the_second_within_ten_minutes_fails() -> None:
    """And it goes on failing for as long as it stands still."""
    told = watched(Stalls(StallPolicy()), STUCK, 260)
    assert told == [(120, Verdict.RESTART), (245, Verdict.FAIL), (250, Verdict.FAIL), (255, Verdict.FAIL)]


def test_a_second_stall_much_later_restarts_again() -> None:
    """More than ten minutes after the first one it is a new story."""
    stalls = Stalls(StallPolicy())
    assert watched(stalls, STUCK, 125) == [(120, Verdict.RESTART)]
    assert watched(stalls, Sight((9, 9), has_work=False, excused=False), 600, 125) == []
    assert watched(stalls, STUCK, 125, 725) == [(845, Verdict.RESTART)]


def test_ten_minutes_end_when_they_are_over() -> None:
    """A stall at that very moment is a new story; five seconds earlier it is the same."""
    for begins, verdict in ((595, Verdict.FAIL), (600, Verdict.RESTART)):
        stalls = Stalls(StallPolicy())
        assert watched(stalls, STUCK, 125) == [(120, Verdict.RESTART)]
        assert watched(stalls, Sight((9,), has_work=False, excused=False), begins - 125, 125) == []
        assert watched(stalls, STUCK, 125, begins) == [(begins + 120, verdict)]


def test_an_excuse_begins_the_time_anew() -> None:
    """Also one that lasted for a moment."""
    stalls = Stalls(StallPolicy())
    assert watched(stalls, STUCK, 115) == []
    assert watched(stalls, Sight((5, 5), has_work=True, excused=True), 5, 115) == []
    assert watched(stalls, STUCK, 120, 120) == []


def test_what_was_frozen_is_not_blamed() -> None:
    """A look that comes minutes late begins anew."""
    stalls = Stalls(StallPolicy())
    assert watched(stalls, STUCK, 115) == []
    assert watched(stalls, STUCK, 115, 900) == []


def test_a_look_that_is_a_little_late_is_no_standstill_of_ours() -> None:
    """Up to fifteen seconds between two looks the lane's time counts; beyond them it does not."""
    for gap, verdict in ((15, Verdict.RESTART), (16, Verdict.FINE)):
        stalls = Stalls(StallPolicy())
        verdicts = [stalls.look({TP: STUCK}, 1_000.0 + look * gap)[0] for look in range(9)]
        assert verdicts[-1] is verdict


def test_each_partition_by_itself() -> None:
    """One that moves does not hide one that does not; the one that stands still is named."""
    stalls = Stalls(StallPolicy())
    for second in range(0, 125, 5):
        verdict, stalled = stalls.look(
            {TP: STUCK, OTHER: Sight((second,), has_work=True, excused=False)}, float(second)
        )
    assert (verdict, stalled) == (Verdict.RESTART, [TP])


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), max_size=100))
def test_never_without_two_minutes_of_standing_still(looks: list[tuple[int, bool, bool]]) -> None:
    """Whatever is seen: a verdict needs 24 looks before it with the same position, work and no excuse."""
    stalls = Stalls(StallPolicy())
    for count, (position, has_work, excused) in enumerate(looks):
        verdict, _ = stalls.look({TP: Sight((position,), has_work=has_work, excused=excused)}, count * 5.0)
        if verdict is not Verdict.FINE:
            assert looks[count - 24 : count + 1] == [(position, True, False)] * 25
