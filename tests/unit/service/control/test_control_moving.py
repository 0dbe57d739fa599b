"""What the journal says of a lane that was moved, and what of it goes to a lane that takes over."""

from aiokafka.structs import TopicPartition

from contracts.journal import Delivery, DeliveryKey, DeliveryState, HeldTime, HeldTimeKey, Lost, Start, StartKey
from service.control.moving import Move, Target, moved, taken_over
from service.journal.reading import Journal

LATEST, COUNTS = Target("latest"), {"t": 4}
BEFORE = Start("earliest", 1, 4, 10)


def entry(move: Move, before: Start | None = BEFORE, to: Target = LATEST) -> Start:
    starts = {} if before is None else {("t", 0): before}
    return moved(move, starts, to, COUNTS, by="ops@host", now_ms=99)


def test_what_is_passed_over_counts_as_lost() -> None:
    """From the group's offset on; where the lane once began stays as it was."""
    assert entry(Move("t", 0, 20, 50)) == Start("earliest", 1, 4, 10, (Lost(20, 50, "ops@host", 99),))


def test_back_nothing_is_lost() -> None:
    """And what had been lost is not any more, as far as it is read again."""
    lost = (Lost(12, 15, "a", 1), Lost(20, 40, "b", 2), Lost(45, 50, "c", 3))
    before = Start("earliest", 1, 4, 10, lost)
    assert entry(Move("t", 0, 60, 30), before).lost == (Lost(12, 15, "a", 1), Lost(20, 30, "b", 2))
    assert entry(Move("t", 0, 60, 30)).lost == ()


def test_before_its_beginning_the_lane_begins_earlier() -> None:
    """The audit asks for results from there on."""
    assert entry(Move("t", 0, 60, 3)) == Start("earliest", 1, 4, 3)


def test_a_lane_that_stays_where_it_is_has_lost_nothing() -> None:
    """Seeking twice to one place writes the same twice."""
    assert entry(Move("t", 0, 20, 20)) == BEFORE


def test_forgotten_offsets_that_are_set_again_are_passed_from_the_beginning() -> None:
    """Nobody knows how far the lane had come."""
    assert entry(Move("t", 0, None, 30)).lost == (Lost(10, 30, "ops@host", 99),)


def test_a_lane_that_never_began_begins_there() -> None:
    """With the words it was told."""
    assert entry(Move("t", 0, None, 30), None) == Start("latest", 99, 4, 30)
    assert entry(Move("t", 0, None, 30), None, Target("time", 0)).policy == "1970-01-01T00:00:00.000Z"


def test_what_goes_to_the_lane_that_takes_over() -> None:
    """Beginnings of its topics, held time, and deliveries begun where the old name will never run again; of these the
    ranges that the new lane reads. Contacts with dead letters stay with the dead letters."""
    held = HeldTime(((1, 2),))
    both = Delivery("workflow", DeliveryState.BEGUN, {"t": ((0, 5, 9),), "p.old.replay": ((0, 1, 2),)}, 1)
    only_replay = Delivery("workflow", DeliveryState.BEGUN, {"p.old.replay": ((0, 1, 2),)}, 1)
    journal = Journal(
        {("t", 0): BEFORE, ("other", 0): BEFORE}, {(0, "d"): both, (0, "r"): only_replay}, {0: held, 7: held}
    )
    tps = frozenset({TopicPartition("t", 0)})
    kept = Delivery("workflow", DeliveryState.BEGUN, {"t": ((0, 5, 9),)}, 1)
    without = [(0, StartKey("t"), BEFORE), (0, HeldTimeKey(), held)]
    assert taken_over(journal, tps, deliveries=False) == without
    assert taken_over(journal, tps, deliveries=True) == [*without, (0, DeliveryKey("d"), kept)]
