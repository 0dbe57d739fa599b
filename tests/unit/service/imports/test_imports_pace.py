"""The pace of creates: whoever has a slot, and whoever takes one over, no minute of an account sees one too many."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.apsis.imports import ApsisImportsHandler
from service.app import KINDS, Application
from service.config import loads
from service.imports.pace import MINUTE_S, CreatePace, create_every_s
from service.imports.wiring import import_policy

PER_MINUTE = 10


@pytest.mark.parametrize(
    ("slots", "every_s"), [(1, 6.0), (2, 12.0), (3, 20.0), (4, 30.0), (5, 30.0), (6, 60.0), (10, 60.0), (20, 120.0)]
)
def test_each_slot_has_whole_creates_of_a_minute(slots: int, every_s: float) -> None:
    """Evenly spaced; of more slots than creates each has one in as many minutes as it takes for all."""
    assert create_every_s(PER_MINUTE, slots) == every_s


class Process:
    """One of those that the slots are dealt to. It creates as often as it may."""

    def __init__(self, every_s: float) -> None:
        self.pace = CreatePace(every_s)
        self.owned: frozenset[int] = frozenset()
        self.free_at: dict[int, float] = {}

    def begin(self, owned: frozenset[int], generation: int, now: float) -> None:
        self.owned = owned
        self.pace.begin(owned, generation, now)
        self.free_at = {slot: max(now, self.free_at.get(slot, 0.0)) for slot in owned}


@settings(max_examples=40)
@given(st.integers(1, PER_MINUTE), st.integers(1, 5), st.integers(0, 2**32), st.floats(0.5, 90.0))
def test_no_minute_sees_one_too_many(slots: int, count: int, seed: int, rebalance_every_s: float) -> None:
    """Slots go from process to process, some of which miss a generation; creates reach the platform anywhere between
    their start and their end. Every window of a minute is looked at."""
    random = Random(seed)
    processes = [Process(create_every_s(PER_MINUTE, slots)) for _ in range(count)]
    arrived: list[float] = []
    now = dealt_at = 0.0
    for generation in range(15):
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
                    if now < process.free_at[slot] or process.pace.wait_s(slot, now):
                        continue
                    ends = now + random.choice([0.0, 0.05, 12.0])
                    arrived.append(random.choice([now, ends, random.uniform(now, ends)]))
                    process.pace.ended(slot, ends)
                    process.free_at[slot], ended = ends, max(ended, ends)
            now += 0.25
        now = max(now, ended)
    arrived.sort()
    for first, beyond in zip(arrived, arrived[PER_MINUTE:], strict=False):
        assert beyond - first >= MINUTE_S


def test_what_was_ours_all_the_time_does_not_wait_again() -> None:
    """In the generation before; behind one that was missed another process may have had the slot."""
    pace = CreatePace(20.0)
    pace.begin({0, 1}, 4, 100.0)
    assert (pace.wait_s(0, 100.0), pace.wait_s(0, 120.0)) == (20.0, 0.0)
    pace.ended(0, 121.0)
    pace.begin({0, 1, 2}, 5, 125.0)
    assert [pace.wait_s(slot, 125.0) for slot in range(3)] == [16.0, 0.0, 20.0]
    pace.begin({0, 1, 2}, 7, 126.0)
    assert [pace.wait_s(slot, 126.0) for slot in range(3)] == [20.0, 20.0, 20.0]
    # Nothing is known of any create before the first assignment.
    assert CreatePace(20.0).wait_s(0, 5.0) == 15.0
    # An import that was found may be of a slot that is somebody else's by now.
    assert pace.wait_s(9, 130.0) == 16.0


def test_a_platform_without_such_a_bound_is_not_paced() -> None:
    """Whatever was created."""
    pace = CreatePace(None)
    pace.begin({0}, 1, 0.0)
    pace.ended(0, 1.0)
    assert (pace.wait_s(0, 1.0), pace.wait_s(1, 1.0)) == (0.0, 0.0)


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
