"""The time in which a lane held: it does not count against a deadline."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.journal import HeldTime as Entry
from service.delivery.held_time import HeldTime, HeldTimes


def test_held_intervals_add_up() -> None:
    """Whole ones, and the part behind a moment."""
    held = HeldTime()
    held.begin(1000)
    held.end(2000)
    held.begin(5000)
    held.end(6000)
    assert held.since(0, 9000) == 2000
    assert held.since(1500, 9000) == 1500
    assert held.since(5900, 9000) == 100
    assert held.since(6000, 9000) == 0


def test_a_hold_that_lasts_counts_up_to_now() -> None:
    """Also for an event that came while it lasted."""
    held = HeldTime()
    held.begin(1000)
    assert held.since(0, 1500) == 500
    assert held.since(1400, 1500) == 100


def test_beginning_twice_and_ending_twice_change_nothing() -> None:
    """The lane's state is worked out again and again."""
    held = HeldTime()
    held.end(500)
    held.begin(1000)
    held.begin(1500)
    held.end(2000)
    held.end(3000)
    assert held.since(0, 4000) == 1000


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=20), st.integers(0, 1000), st.booleans())
def test_it_counts_like_a_clock(phases: list[tuple[int, int]], since: int, holding: bool) -> None:
    """Millisecond by millisecond."""
    held, now, ticks = HeldTime(), 0, []
    for free, long in phases:
        now += free
        held.begin(now)
        ticks.extend(range(now, now + long))
        now += long
        held.end(now)
    if holding:
        held.begin(now)
        ticks.extend(range(now, now + 7))
        now += 7
    assert held.since(since, now) == sum(1 for tick in ticks if tick >= since)


def entry(*intervals: tuple[int, int | None]) -> Entry:
    return Entry(intervals)


def test_what_an_owner_left_open_ends_with_the_takeover() -> None:
    """It died while it was held, and nobody says that the cause had gone: the kind reading."""
    held = HeldTime()
    held.read(entry((1000, 2000), (5000, None)), 9000)
    assert held.since(0, 20_000) == 5000
    assert held.entry() == entry((1000, 2000), (5000, 9000))


def test_it_goes_on_where_the_cause_is_still_there() -> None:
    """The new owner is held from the first moment: no gap between the two."""
    held = HeldTime()
    held.read(entry((5000, None)), 9000)
    held.begin(9000)
    assert held.since(0, 10_000) == 5000
    assert held.entry() == entry((5000, 9000), (9000, None))


def test_who_knows_the_end_of_its_own_interval_does_not_believe_the_journal() -> None:
    """The end could not be written any more, and the partition came back; read twice it is the same."""
    held = HeldTime()
    held.begin(1000)
    held.end(3000)
    for now_ms in (9000, 9500):
        held.read(entry((1000, None)), now_ms)
    assert held.since(0, 20_000) == 2000
    held.begin(10_000)
    held.read(entry((1000, 3000), (10_000, None)), 12_000)
    assert held.entry() == entry((1000, 3000), (10_000, None))


def test_times_of_several_owners_are_counted_once() -> None:
    """Two processes may both have been held for the same credentials."""
    held = HeldTime()
    held.begin(1000)
    held.end(3000)
    held.read(entry((2000, 4000), (3500, 5000)), 9000)
    assert held.since(0, 9000) == 4000


def test_what_no_event_needs_any_more_is_forgotten() -> None:
    """An interval goes once every event from before its end is too old even without all the time held since."""
    held = HeldTime()
    held.read(entry((0, 1000), (2000, 5000)), 9000)
    held.forget(5000, 9000)  # from 1000 on: 8000 old, of which 3000 were held
    assert held.entry() == entry((0, 1000), (2000, 5000))
    held.forget(5000, 9001)
    assert held.entry() == entry((2000, 5000))
    held.forget(5000, 10_001)
    assert held.entry() == entry()


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=20), st.integers(1, 200), st.integers(0, 3000)
)
def test_forgetting_expires_nobody_earlier(phases: list[tuple[int, int]], deadline: int, published: int) -> None:
    """Whoever may still be delivered by the whole truth may be by what is left of it."""
    whole, short, now = HeldTime(), HeldTime(), 0
    for free, long in phases:
        for held in (whole, short):
            held.begin(now + free)
            held.end(now + free + long)
        now += free + long
        short.forget(deadline, now)
        age = now - min(published, now)
        expired = [age - held.since(min(published, now), now) > deadline for held in (whole, short)]
        assert expired[0] == expired[1]


def test_an_entry_is_bounded_and_errs_on_the_kind_side() -> None:
    """A thousand short holds: the closest are taken together, and what lies between counts as held."""
    held = HeldTime()
    for n in range(1000):
        held.begin(n * 100)
        held.end(n * 100 + 50)
    exact = held.since(0, 100_000)
    assert len(held.entry().intervals) <= 200
    assert held.since(0, 100_000) >= exact


def test_of_too_many_holds_the_two_that_are_closest_become_one() -> None:
    """All others stay as they were; as many as an entry holds stay all."""
    starts = [100 * n for n in range(200)]
    held = HeldTime()
    for start in starts:
        held.begin(start)
        held.end(start + 50)
    assert held.entry() == entry(*((start, start + 50) for start in starts))
    held.begin(1080)  # 30 behind the one before and 20 before the next
    held.end(1080)
    ones = [(start, start + 50) for start in starts if start != 1100]
    assert held.entry() == entry(*sorted([*ones, (1080, 1150)]))


def test_holds_that_touch_are_one() -> None:
    """The journal need not tell them apart."""
    held = HeldTime()
    for start in (1000, 2000):
        held.begin(start)
        held.end(start + 1000)
    assert held.entry() == entry((1000, 3000))


class TestLane:
    """Several partitions, some of which come and go."""

    def test_only_who_had_a_partition_while_it_held_counts_it(self) -> None:
        """Partition 1 was another's while this process was held."""
        held = HeldTimes(10_000)
        held.own({0}, 0)
        held.begin(1000)
        held.end(2000)
        held.own({0, 1}, 3000)
        assert (held.since(0, 0, 9000), held.since(1, 0, 9000)) == (1000, 0)

    def test_a_pause_counts_everywhere_from_when_it_was_ordered(self) -> None:
        """Whether a process ran then or not; also of a partition that comes later."""
        held = HeldTimes(10_000)
        held.own({0}, 5000)
        held.begin(6000, 1000)
        held.own({0, 1}, 7000)
        assert (held.since(0, 0, 8000), held.since(1, 0, 8000)) == (7000, 7000)

    def test_a_hold_of_this_process_counts_from_when_the_partition_came(self) -> None:
        """It says nothing of the owner before, and ends with the ownership."""
        held = HeldTimes(10_000)
        held.begin(1000)
        held.own({0}, 3000)
        held.own({1}, 5000)
        assert (held.since(0, 0, 9000), held.since(1, 0, 9000)) == (2000, 4000)

    def test_nothing_is_written_before_the_journal_was_read(self) -> None:
        """It would take out what an earlier owner wrote."""
        held = HeldTimes(10_000)
        held.own({0}, 1000)
        held.begin(1000)
        assert held.unwritten(1000) == {}
        held.read({0: entry((0, 500))}, 1500)
        assert held.unwritten(1500) == {0: entry((0, 500), (1000, None))}

    def test_beginning_and_end_are_written_once(self) -> None:
        """And what another left open is closed, or the next owner would count it for ever."""
        held = HeldTimes(10_000)
        held.own({0, 1}, 1000)
        held.read({0: entry((500, None)), 1: entry((1, 2))}, 1000)
        assert held.unwritten(1000) == {0: entry((500, 1000))}
        held.written(held.unwritten(1000))
        assert held.unwritten(1100) == {}
        held.begin(2000)
        held.written(held.unwritten(2000))
        assert held.unwritten(2500) == {}
        held.end(3000)
        assert held.unwritten(3000) == {0: entry((500, 1000), (2000, 3000)), 1: entry((1, 2), (2000, 3000))}

    def test_what_is_forgotten_is_no_reason_to_write(self) -> None:
        """It goes with the next entry."""
        held = HeldTimes(10_000)
        held.own({0}, 1000)
        held.read({0: entry((0, 500))}, 50_000)
        assert held.unwritten(50_000) == {}

    def test_what_the_journal_may_lack_is_told(self) -> None:
        """After it was read, and where a hold begins or ends; the same once more is no news."""
        held = HeldTimes(10_000)
        told = [held.changed]
        held.own({0}, 500)
        for change in (
            lambda: held.read({}, 1000),
            lambda: held.begin(2000),
            lambda: held.begin(2500),
            lambda: held.end(3000),
            lambda: held.end(3500),
        ):
            held.changed = False
            change()
            told.append(held.changed)
        assert told == [False, True, True, False, True, False]
        assert held.unwritten(4000) == {0: entry((2000, 3000))}

    def test_a_hold_that_began_and_ended_between_two_looks_is_written(self) -> None:
        """Though nothing is open, as before."""
        held = HeldTimes(10_000)
        held.own({0}, 500)
        held.read({0: entry((0, 500))}, 1000)
        held.begin(2000)
        held.end(3000)
        assert held.unwritten(3000) == {0: entry((0, 500), (2000, 3000))}

    def test_a_partition_that_was_never_ours_was_not_held(self) -> None:
        """Nobody knows better here."""
        assert HeldTimes(10_000).since(7, 0, 9000) == 0.0
