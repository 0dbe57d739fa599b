"""Faults by chance are the same for the same seed, and outages last as long as they were said to."""

import random

import pytest

from handlers.sandbox import Fault, Faults, Mode, Outage, Subject
from handlers.sandbox.faults import FaultSource
from handlers.sandbox.outages import Outages

CALLS = [Subject("join", f"T{n % 500}", "5") for n in range(2_000)]


def drawn(faults: Faults, calls: list[Subject]) -> dict[tuple[str | None, int], Fault]:
    """The fault of the n-th call of each target."""
    source = FaultSource(faults)
    seen: dict[str | None, int] = {}
    result = {}
    for subject in calls:
        seen[subject.target] = nth = seen.get(subject.target, 0) + 1
        if (fault := source.draw("a", subject)) is not None:
            result[subject.target, nth] = fault[0]
    return result


def test_the_same_seed_gives_the_same_faults_in_any_order() -> None:
    """A call's luck is its own: it does not depend on which calls came between."""
    faults = Faults(seed=7, rates={Fault.SERVER_ERROR: 0.1, Fault.RESET_AFTER: 0.1})
    shuffled = list(CALLS)
    random.Random(1).shuffle(shuffled)
    assert drawn(faults, CALLS) == drawn(faults, shuffled)
    assert drawn(faults, CALLS) != drawn(Faults(seed=8, rates=faults.rates), CALLS)


def test_rates_are_kept_roughly() -> None:
    """Of 2,000 calls a tenth fails one way and a tenth the other."""
    faults = drawn(Faults(seed=7, rates={Fault.SERVER_ERROR: 0.1, Fault.SLOW: 0.1}), CALLS)
    for fault in (Fault.SERVER_ERROR, Fault.SLOW):
        assert 140 < sum(found is fault for found in faults.values()) < 260


def test_an_operation_fails_only_so_often() -> None:
    """Even if every call fails, retries come to an end."""
    source = FaultSource(Faults(rates={Fault.SERVER_ERROR: 1.0}, most_per_operation=2))
    assert [source.draw("a", CALLS[0]) is not None for _ in range(4)] == [True, True, False, False]


def test_other_accounts_are_spared() -> None:
    """Faults may be for one account alone."""
    source = FaultSource(Faults(rates={Fault.SERVER_ERROR: 1.0}, account="a"))
    assert source.draw("b", CALLS[0]) is None
    assert source.draw("a", CALLS[0]) is not None


@pytest.mark.parametrize("rates", [{Fault.SLOW: 0.6, Fault.GARBAGE: 0.5}, {Fault.SLOW: -0.1}])
def test_impossible_rates(rates: dict[Fault, float]) -> None:
    """Rates are probabilities."""
    with pytest.raises(ValueError, match="rates"):
        Faults(rates=rates)


def test_every_fault_does_something() -> None:
    """Each fault that can be asked for has a step."""
    for fault in Fault:
        assert FaultSource(Faults(rates={fault: 1.0})).draw("a", CALLS[0]) is not None


def test_an_outage_is_for_its_account_and_its_time() -> None:
    """Other accounts are up, and the account is up again when the time is over."""
    outages = Outages()
    outages.set(Outage(Mode.UNAVAILABLE, account="a", for_s=60, status=502), 100.0)
    step = outages.step("np6", "a", 159.9)
    assert step is not None
    assert (step.status, step.takes_effect) == (502, False)
    assert outages.step("np6", "b", 159.9) is None
    assert len(outages.state(159.9)) == 1
    assert outages.step("np6", "a", 160.0) is None
    assert outages.state(160.0) == []


def test_one_account_may_be_up_while_all_are_dead() -> None:
    """What is said of one account goes before what is said of all; up for all ends everything."""
    outages = Outages()
    outages.set(Outage(Mode.HANG), 0.0)
    outages.set(Outage(Mode.UP, account="a"), 0.0)
    assert outages.step("np6", "a", 1.0) is None
    step = outages.step("np6", "b", 1.0)
    assert step is not None
    assert step.hang
    outages.set(Outage(Mode.UP), 1.0)
    assert outages.step("np6", "b", 1.0) is None


@pytest.mark.parametrize("given", [{"for_s": None}, {"for_s": 1.0, "account": "a"}])
def test_refusing_needs_an_end_and_spares_nobody(given: dict[str, float | str | None]) -> None:
    """While nobody listens nobody can be told to listen again, and a connection has no account."""
    with pytest.raises(ValueError, match="refuse"):
        Outage(Mode.REFUSE, **given)  # type: ignore[arg-type]  # the point of the test
