"""The guard of a lane."""

import random

import pytest

from contracts.outcomes import Reason
from service.delivery.guard import GUARDED, Guard, GuardPolicy


def test_more_than_the_share_trips() -> None:
    """At 20 % of 200, the forty-first refusal in the window trips, the fortieth does not."""
    guard = Guard(GuardPolicy(dead_letters=0.2, of_last=200))
    for _ in range(160):
        guard.record(None)
    for _ in range(40):
        guard.record(Reason.NOT_FOUND)
    assert not guard.tripped
    guard.record(Reason.NOT_FOUND)
    assert guard.tripped
    assert guard.describe() == "guard: 41 of the last 200 operations were refused or not found"


def test_it_is_judged_once_fifty_have_ended() -> None:
    """Forty-nine refusals in a row are not enough, the fiftieth operation is, whatever its own end."""
    guard = Guard(GuardPolicy())
    assert not any(guard.record(Reason.REFUSED) for _ in range(49))
    assert guard.record(None)


def test_a_window_smaller_than_fifty_is_judged_from_fifty_on() -> None:
    """A small window still waits for fifty ends."""
    guard = Guard(GuardPolicy(dead_letters=0.5, of_last=10))
    assert not any(guard.record(Reason.UNCONFIRMED) for _ in range(49))
    assert guard.record(Reason.UNCONFIRMED)


def test_what_has_left_the_window_is_forgotten() -> None:
    """Old refusals do not trip the guard later."""
    guard = Guard(GuardPolicy(dead_letters=0.2, of_last=200))
    for _ in range(10):
        for _ in range(161):
            guard.record(None)
        for _ in range(39):
            guard.record(Reason.REFUSED)
    assert not guard.tripped


def test_resume_empties_the_window() -> None:
    """After a resume fifty ends are needed again; until then a tripped guard stays tripped."""
    guard = Guard(GuardPolicy())
    for _ in range(60):
        guard.record(Reason.REFUSED)
    for _ in range(500):
        guard.record(None)
    assert guard.tripped
    guard.resume()
    assert not guard.tripped
    assert not any(guard.record(Reason.REFUSED) for _ in range(49))
    assert guard.record(Reason.REFUSED)


def test_a_resume_forgets_every_refusal() -> None:
    """Not one of those before it counts towards the share of those after."""
    guard = Guard(GuardPolicy(dead_letters=0.2, of_last=200))
    for _ in range(60):
        guard.record(Reason.REFUSED)
    guard.resume()
    assert guard.tripped is False
    assert not any(guard.record(reason) for reason in (*[Reason.REFUSED] * 10, *[None] * 40))


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in GUARDED])
def test_other_ends_are_no_refusals(reason: Reason) -> None:
    """Only not_found, refused and unconfirmed count."""
    guard = Guard(GuardPolicy())
    assert not any(guard.record(reason) for _ in range(300))


def test_percentages_are_meant_as_written() -> None:
    """29 % of 100 is 29, also in floating point."""
    guard = Guard(GuardPolicy(dead_letters=0.29, of_last=100))
    for _ in range(71):
        guard.record(None)
    for _ in range(29):
        guard.record(Reason.REFUSED)
    assert not guard.tripped
    assert guard.record(Reason.REFUSED)


@pytest.mark.parametrize("seed", range(10))
def test_it_counts_like_a_list(seed: int) -> None:
    """The running counts agree with counting the window each time."""
    chance = random.Random(seed)
    policy = GuardPolicy(dead_letters=chance.choice((0.05, 0.2, 0.5)), of_last=chance.randrange(1, 300))
    guard, ends, expected = Guard(policy), [], False
    for _ in range(600):
        reason = chance.choice((None, None, None, Reason.REFUSED, Reason.EXHAUSTED))
        ends.append(reason in GUARDED)
        window = ends[-policy.of_last :]
        expected |= len(ends) >= 50 and sum(window) > policy.dead_letters * len(window) + 1e-9
        assert guard.record(reason) == expected


def test_many_deliveries_at_once_are_as_many_one_by_one() -> None:
    """Whatever came before: the same window, the same word, and the same judgement of what comes behind."""
    rng = random.Random(7)
    for _ in range(50):
        policy = GuardPolicy(dead_letters=0.2, of_last=rng.choice([1, 10, 60, 200]))
        one_by_one, at_once = Guard(policy), Guard(policy)
        for _ in range(20):
            if rng.random() < 0.3:
                reasons = [rng.choice([None, *GUARDED]) for _ in range(rng.randrange(60))]
                assert [one_by_one.record(reason) for reason in reasons] == [at_once.record(r) for r in reasons]
            count = rng.randrange(300)
            for _ in range(count):
                one_by_one.record(None)
            assert at_once.record_delivered(count) is one_by_one.tripped
            assert at_once.tripped is one_by_one.tripped
            assert at_once.describe() == one_by_one.describe()
            assert list(at_once._window) == list(one_by_one._window)


@pytest.mark.parametrize("seed", range(10))
def test_many_that_were_delivered_count_like_each_of_them(seed: int) -> None:
    """The quick way for a batch that went through, between refusals and beyond the window."""
    chance = random.Random(seed)
    policy = GuardPolicy(dead_letters=0.2, of_last=chance.choice((3, 60, 200)))
    at_once, one_by_one = Guard(policy), Guard(policy)
    for _ in range(60):
        delivered = chance.choice((0, 1, 2, 7, 30, 300))
        held = at_once.record_delivered(delivered)
        assert held == [one_by_one.tripped, *(one_by_one.record(None) for _ in range(delivered))][-1]
        if chance.random() < 0.3:
            for _ in range(chance.randrange(40)):
                assert at_once.record(Reason.REFUSED) == one_by_one.record(Reason.REFUSED)
        if chance.random() < 0.2:
            at_once.resume()
            one_by_one.resume()
        assert at_once.describe() == one_by_one.describe()


def test_refusals_right_after_a_batch_that_went_through_are_judged() -> None:
    """Its ends count towards the fifty, and fill the window no further than it goes."""
    guard = Guard(GuardPolicy(dead_letters=0.2, of_last=200))
    assert guard.record_delivered(49) is False
    assert not guard.record(Reason.REFUSED)
    guard.record_delivered(1_000)
    assert not any(guard.record(Reason.REFUSED) for _ in range(40))
    assert guard.describe() == "guard: 40 of the last 200 operations were refused or not found"
    assert guard.record(Reason.REFUSED)
