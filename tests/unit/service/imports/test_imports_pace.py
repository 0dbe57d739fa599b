"""The pace of creates: whoever has a slot, and whoever takes one over, no minute of an account sees one too many."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.apsis.imports import ApsisImportsHandler
from service.app import KINDS, Application
from service.config import ConfigurationError, loads
from service.imports.pace import MINUTE_S, CreatePace, CreateTurns, Now, create_every_s, pace_of, turn_s
from service.imports.policy import CLOCKS_APART_S, Turns
from service.imports.wiring import import_policy
from tests.support.fakes import FakeTime

PER_MINUTE = 10
LONGEST_S = 12.0


@pytest.mark.parametrize(
    ("slots", "every_s"), [(1, 6.0), (2, 12.0), (3, 20.0), (4, 30.0), (5, 30.0), (6, 60.0), (10, 60.0)]
)
def test_each_slot_has_whole_creates_of_a_minute(slots: int, every_s: float) -> None:
    """Evenly spaced."""
    assert create_every_s(PER_MINUTE, slots) == every_s


def at(monotonic_s: float, behind_s: float = 0.0) -> Now:
    """By both clocks; the wall's may be behind."""
    return Now(monotonic_s, 1e9 + monotonic_s - behind_s)


def pace_for(slots: int) -> CreatePace | CreateTurns:
    """As of one lane with all slots of its account."""
    if slots <= PER_MINUTE:
        return CreatePace(create_every_s(PER_MINUTE, slots))
    return CreateTurns(Turns(0, slots, turn_s(PER_MINUTE, LONGEST_S)))


class Process:
    """One of those that the slots are dealt to. It creates as often as it may."""

    def __init__(self, slots: int, behind_s: float) -> None:
        self.pace = pace_for(slots)
        self.behind_s = behind_s
        self.owned: frozenset[int] = frozenset()
        self.free_at: dict[int, float] = {}

    def begin(self, owned: frozenset[int], generation: int, now: float) -> None:
        self.owned = owned
        self.pace.begin(owned, generation, at(now, self.behind_s))
        self.free_at = {slot: max(now, self.free_at.get(slot, 0.0)) for slot in owned}


@settings(max_examples=40)
@given(st.integers(1, 4 * PER_MINUTE), st.integers(1, 5), st.integers(0, 2**32), st.floats(0.5, 150.0))
def test_no_minute_sees_one_too_many(slots: int, count: int, seed: int, rebalance_every_s: float) -> None:
    """Slots go from process to process, some of which miss a generation; creates reach the platform anywhere between
    their start and their end; their clocks differ. Every window of a minute is looked at."""
    random = Random(seed)
    processes = [Process(slots, random.uniform(0.0, CLOCKS_APART_S)) for _ in range(count)]
    arrived: list[float] = []
    now = dealt_at = 0.0
    for generation in range(10):
        # Some are not there in this generation; what was under way has ended before the slots are dealt.
        there = random.sample(processes, random.randint(1, count))
        dealt: dict[int, list[int]] = {}
        for slot in range(slots):
            dealt.setdefault(random.randrange(len(there)), []).append(slot)
        for process in processes:
            process.owned = frozenset()
        for n, process in enumerate(there):
            process.begin(frozenset(dealt.get(n, ())), generation, now)
        dealt_at = now + random.uniform(0.1, rebalance_every_s)
        ended = now
        while now < dealt_at:
            for process in there:
                for slot in process.owned:
                    if now < process.free_at[slot] or process.pace.wait_s(slot, at(now, process.behind_s)):
                        continue
                    ends = now + random.choice([0.0, 0.05, LONGEST_S])
                    arrived.append(random.choice([now, ends, random.uniform(now, ends)]))
                    process.pace.ended(slot, at(ends, process.behind_s))
                    process.free_at[slot], ended = ends, max(ended, ends)
            now += 0.4
        now = max(now, ended)
    arrived.sort()
    for first, beyond in zip(arrived, arrived[PER_MINUTE:], strict=False):
        assert beyond - first >= MINUTE_S


def test_what_was_ours_all_the_time_does_not_wait_again() -> None:
    """In the generation before; behind one that was missed another process may have had the slot."""
    pace = CreatePace(20.0)
    pace.begin({0, 1}, 4, at(100.0))
    assert (pace.wait_s(0, at(100.0)), pace.wait_s(0, at(120.0))) == (20.0, 0.0)
    pace.ended(0, at(121.0))
    pace.begin({0, 1, 2}, 5, at(125.0))
    assert [pace.wait_s(slot, at(125.0)) for slot in range(3)] == [16.0, 0.0, 20.0]
    pace.begin({0, 1, 2}, 7, at(126.0))
    assert [pace.wait_s(slot, at(126.0)) for slot in range(3)] == [20.0, 20.0, 20.0]
    # Nothing is known of any create before the first assignment.
    assert CreatePace(20.0).wait_s(0, at(5.0)) == 15.0
    # An import that was found may be of a slot that is somebody else's by now.
    assert pace.wait_s(9, at(130.0)) == 16.0


def test_each_slot_has_its_turn() -> None:
    """Of twelve slots, turns of ten seconds: one create in each of a slot's own turns, none in that in which it was
    taken over, nor in one that had begun by another clock."""
    pace = pace_of(None, Turns(first=3, slots=12, turn_s=10.0))
    pace.begin({0, 1}, 4, Now(0.0, 120.0))
    assert [pace.wait_s(slot, Now(0.0, 120.0)) for slot in range(2)] == [30.0, 40.0]
    assert pace.wait_s(0, Now(0.0, 150.0)) == 0.0
    assert pace.wait_s(0, Now(0.0, 159.5)) == 0.0
    assert pace.wait_s(0, Now(0.0, 160.0)) == 110.0
    pace.ended(0, Now(0.0, 151.0))
    assert pace.wait_s(0, Now(0.0, 152.0)) == 118.0
    # A turn of what was ours all the time is ours still; of what was not, another one may have used it.
    pace.begin({0, 1, 2}, 5, Now(0.0, 161.0))
    assert [pace.wait_s(slot, Now(0.0, 161.0)) for slot in range(3)] == [109.0, 0.0, 9.0]
    pace.begin({1, 2}, 7, Now(0.0, 166.0))
    assert [pace.wait_s(slot, Now(0.0, 166.0)) for slot in range(1, 3)] == [114.0, 124.0]
    assert pace.wait_s(0, Now(0.0, 166.0)) == 104.0


def test_a_platform_without_such_a_bound_is_not_paced() -> None:
    """Whatever was created."""
    pace = CreatePace(None)
    pace.begin({0}, 1, at(0.0))
    pace.ended(0, at(1.0))
    assert (pace.wait_s(0, at(1.0)), pace.wait_s(1, at(1.0))) == (0.0, 0.0)


LANE = """handler: apsis.imports, account: a, topics: [source], section: s,
        keyspaces: [{discriminator: email, column: email, value: data.identifiers.email}]"""
CONFIGURATION = """
kafka: {bootstrap_servers: [localhost:9092], topic_prefix: p}
accounts:
  a: {platform: apsis, base_url: "https://api.example", client_id: {env: ID}, client_secret: {env: SECRET},
      upload_hosts: [files.example], limits: {LIMITS}}
lanes:
  one: {slots: 1, LANE}
  two: {slots: 2, LANE}
"""


@pytest.mark.parametrize(
    ("limits", "every_s"),
    [("max_open_imports: 3", 20.0), ("max_open_imports: 5", 20.0), ("requests_per_second: null", None)],
)
def test_all_lanes_of_the_account_share_the_minute(limits: str, every_s: float | None) -> None:
    """By the slots that they have, and not by those that they could have; ``requests_per_second: null`` says that only
    the platform sets the pace."""
    config = loads(CONFIGURATION.replace("LIMITS", limits).replace("LANE", LANE).encode(), KINDS)
    for lane in config.lanes.values():
        handler = Application(config).handler(lane)
        assert isinstance(handler, ApsisImportsHandler)
        assert import_policy(config, lane, handler).create_every_s == every_s


def test_more_slots_than_creates_take_turns() -> None:
    """Over all lanes of the account, in the order of their names; a turn is so long that a minute, and the time that a
    create may take and that clocks may differ by, touch ten at most."""
    lanes = CONFIGURATION.replace("slots: 1", "slots: 5").replace("slots: 2", "slots: 7").replace("LANE", LANE)
    config = loads(lanes.replace("LIMITS", "max_open_imports: 12").encode(), KINDS)
    found = {}
    for name, lane in config.lanes.items():
        handler = Application(config).handler(lane)
        assert isinstance(handler, ApsisImportsHandler)
        policy = import_policy(config, lane, handler)
        assert policy.create_every_s is None
        found[name] = policy.create_turns
    length_s = (60 + 3 * 12.25 + CLOCKS_APART_S) / 9
    assert found == {"one": Turns(0, 12, length_s), "two": Turns(5, 12, length_s)}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("max_open_imports: 3", "max_open_imports: 2", "have 3 slots together; max_open_imports is 2"),
        ("slots: 1, ", "", None),
        ("slots: 2, ", "slots: 3, ", "have 4 slots together; max_open_imports is 3"),
        ("slots: 1, handler", "slots: null, handler", None),
    ],
)
def test_more_slots_than_the_account_allows_are_refused_at_the_start(old: str, new: str, words: str | None) -> None:
    """With the place of the bound; a lane that says no number takes what the other leaves."""
    text = CONFIGURATION.replace("LIMITS", "max_open_imports: 3").replace("LANE", LANE)
    assert old in text
    text = text.replace(old, new)
    if words is None:
        assert loads(text.encode(), KINDS).lanes.keys() == {"one", "two"}
        return
    with pytest.raises(ConfigurationError, match=words) as refused:
        loads(text.encode(), KINDS)
    assert "accounts.a.limits" in str(refused.value)


def test_turns_are_the_wall_clocks() -> None:
    """Of three slots the second has every third turn; who takes it over leaves out those that another may have had by
    his clock; a slot that is another's by now has had the turns of before the assignment."""
    pace = CreateTurns(Turns(1, 3, 10.0))
    pace.begin({0, 1}, 4, Now(0.0, 100.0))
    assert pace.wait_s(0, Now(0.0, 100.0)) == 30.0
    assert pace.wait_s(0, Now(0.0, 130.0)) == pace.wait_s(1, Now(0.0, 149.9)) == 0.0
    pace.ended(0, Now(0.0, 131.0))
    assert pace.wait_s(0, Now(0.0, 132.0)) == 28.0
    pace.begin({0}, 5, Now(0.0, 155.0))
    pace.ended(2, Now(0.0, 156.0))
    assert pace.wait_s(2, Now(0.0, 156.0)) == 180.0 - 156.0


def test_a_turn_is_long_enough_for_what_is_on_its_way() -> None:
    """With two creates a minute and with one as with more."""
    assert [turn_s(count, 12.0) for count in (1, 2, 3)] == [77.0, 77.0, 38.5]


def test_the_moment_is_that_of_both_clocks() -> None:
    """In seconds; and a pace is by turns where there are turns."""
    time = FakeTime()
    assert Now.of(time) == Now(time.monotonic(), time.wall_ms() / 1000)
    assert pace_of(20.0, None).wait_s(0, at(5.0)) == 15.0
    assert isinstance(pace_of(None, Turns(0, 12, 10.0)), CreateTurns)
