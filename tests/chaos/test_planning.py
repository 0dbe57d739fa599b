"""What a run does follows from its seed, and a long one does everything."""

from collections import Counter
from itertools import pairwise

import pytest

from tests.chaos.plan import LEAST_ALIVE, OF_REPLICAS, Kind, Options, plan

_STOP_ALL = (Kind.BROKER, Kind.BROKER_FREEZE, Kind.REFUSAL)
LONG = Options(seed=7, minutes=36, replicas=4, sessions_s=30, broker_faults=True)


@pytest.mark.parametrize("seed", range(7, 12))
def test_a_long_run_has_each_kind_of_fault_and_a_hundred_kills(seed: int) -> None:
    """Four of each at the least, spread over the run, and again the same from the same seed."""
    options = Options(**{**vars(LONG), "seed": seed})
    faults = plan(options).faults
    counts = Counter(fault.kind for fault in faults)
    assert counts.keys() == set(Kind)
    assert min(counts.values()) >= 4
    assert counts[Kind.KILL] >= 90
    for kind in Kind:
        halves = Counter(fault.at_s > options.duration_s / 2 for fault in faults if fault.kind is kind)
        assert len(halves) == 2, f"{kind} falls in one half of the run alone"
    assert plan(options).faults == faults


def test_what_stops_the_whole_group_leaves_it_room() -> None:
    """None of these falls within 40 s of the end of another, nor while a process is away."""
    faults = plan(LONG).faults
    alone = [fault for fault in faults if fault.kind in _STOP_ALL]
    assert all(later.at_s - (one.at_s + one.for_s) >= 40 for one, later in pairwise(alone))
    for one in alone:
        away = [f for f in faults if f.kind in OF_REPLICAS and f.at_s <= one.at_s < f.at_s + f.for_s]
        assert not away


def test_two_processes_are_left_at_each_moment() -> None:
    """Whatever is killed, stopped or frozen."""
    faults = [fault for fault in plan(LONG).faults if fault.kind in OF_REPLICAS and fault.kind is not Kind.SCALE]
    for one in faults:
        away = {fault.whom for fault in faults if fault.at_s <= one.at_s < fault.at_s + fault.for_s}
        assert LONG.replicas - len(away) >= LEAST_ALIVE
