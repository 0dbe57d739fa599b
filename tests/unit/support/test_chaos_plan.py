"""A chaos run's plan comes from its seed alone, and leaves two replicas alive."""

from tests.chaos.plan import LEAST_ALIVE, Kind, Options, plan


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
