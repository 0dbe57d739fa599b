"""A chaos run's plan comes from its seed alone, and leaves two replicas alive."""

from collections import Counter
from itertools import pairwise

import pytest

from tests.chaos.plan import LEAST_ALIVE, OF_REPLICAS, Kind, Options, plan

_STOP_ALL = (Kind.BROKER, Kind.BROKER_FREEZE, Kind.REFUSAL)
LONG = Options(seed=7, minutes=36, replicas=4, sessions_s=30, broker_faults=True)


def test_a_seed_fixes_the_plan() -> None:
    """The same seed gives the same faults at the same times; another gives others."""
    options = Options(seed=7, minutes=10)
    assert plan(options) == plan(options)
    assert plan(options).faults != plan(Options(seed=8, minutes=10)).faults


def test_two_replicas_are_always_alive() -> None:
    """Whatever the seed: those that are killed, stopped or frozen at one moment leave two, but during a refusal."""
    for seed in range(50):
        options = Options(seed=seed, minutes=10, replicas=4, brokers=3, broker_faults=True)
        away = [f for f in plan(options).faults if f.kind in (Kind.KILL, Kind.STOP, Kind.FREEZE)]
        for fault in away:
            at_once = {f.whom for f in away if f.at_s <= fault.at_s < f.at_s + f.for_s}
            assert options.replicas - len(at_once) >= LEAST_ALIVE


def test_every_kind_of_fault_falls_in_a_long_run() -> None:
    """No kind is planned never; brokers fail only where that is asked for."""
    kinds = {f.kind for f in plan(Options(seed=1, minutes=60, brokers=3, broker_faults=True)).faults}
    assert kinds == set(Kind)
    assert not {Kind.BROKER, Kind.BROKER_FREEZE} & {f.kind for f in plan(Options(seed=1, minutes=60)).faults}


def test_half_an_hour_kills_a_hundred() -> None:
    """With four replicas, about a hundred processes are killed in 30 minutes."""
    faults = plan(Options(seed=1, minutes=32, replicas=4, brokers=3, broker_faults=True)).faults
    assert sum(fault.kind is Kind.KILL for fault in faults) >= 100


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
