"""The breaker of an account."""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.delivery.breaker import TRANSITIONS, Breaker, BreakerPolicy, BreakerState

NOW = 1_000.0


def opened(now: float = NOW) -> Breaker:
    breaker = Breaker()
    for _ in range(10):
        breaker.record(now, failed=True)
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_half_of_ten_opens() -> None:
    """Five failures of ten requests open it; one fewer does not."""
    breaker = Breaker()
    for index in range(10):
        breaker.record(NOW, failed=index < 4)
    assert breaker.state is BreakerState.CLOSED
    breaker = Breaker()
    for index in range(10):
        breaker.record(NOW, failed=index < 5)
    assert breaker.state is BreakerState.OPEN
    assert breaker.until == NOW + 5


def test_fewer_than_ten_requests_say_nothing() -> None:
    """Nine failures alone do not open it."""
    breaker = Breaker()
    for _ in range(9):
        breaker.record(NOW, failed=True)
    assert breaker.state is BreakerState.CLOSED


def test_failures_older_than_the_window_are_forgotten() -> None:
    """Nine failures, and ten seconds later one more: no two of them are within the window."""
    breaker = Breaker()
    for _ in range(9):
        breaker.record(NOW, failed=True)
    breaker.record(NOW + 10, failed=True)
    assert breaker.state is BreakerState.CLOSED


def test_successes_older_than_the_window_do_not_hide_failures() -> None:
    """A busy minute of successes does not keep it closed when all fails since."""
    breaker = Breaker()
    for _ in range(10_000):
        breaker.record(NOW, failed=False)
    for index in range(10):
        breaker.record(NOW + 10 + index / 10, failed=True)
    assert breaker.state is BreakerState.OPEN


@pytest.mark.parametrize("seed", range(6))
def test_it_counts_like_a_list(seed: int) -> None:
    """The running counts agree with counting all answers of the last ten buckets each time, whatever the window."""
    chance = random.Random(seed)
    policy = BreakerPolicy(window_s=20.0, min_requests=8, failing_share=0.4)
    breaker, now = Breaker(policy), chance.uniform(0, 50)
    answers: list[tuple[int, bool]] = []
    for _ in range(300):
        now += chance.choice((0.0, 0.1, 0.7, 1.9, 2.0, 6.0, 19.0))
        failed = chance.random() < 0.35
        answers.append((int(now / 2), failed))
        recent = [failed for bucket, failed in answers if bucket > int(now / 2) - 10]
        breaker.record(now, failed=failed)
        opens = any(recent) and len(recent) >= 8 and sum(recent) >= 0.4 * len(recent)
        assert (breaker.state is BreakerState.OPEN) == opens
        if opens:
            assert breaker.start(now + 5)
            breaker.record(now + 5, failed=False, probe=True)
            answers.clear()


def test_nothing_starts_while_it_is_open() -> None:
    """Five seconds long no request may start, then one, and no second one beside it."""
    breaker = opened()
    assert not breaker.may_start(NOW + 4.9)
    assert breaker.may_start(NOW + 5)
    assert breaker.start(NOW + 5)
    assert breaker.state is BreakerState.PROBING
    assert not breaker.may_start(NOW + 100)
    with pytest.raises(RuntimeError, match="while the breaker is probing"):
        breaker.start(NOW + 100)


def test_a_failing_probe_doubles_the_time_up_to_a_minute() -> None:
    """5, 10, 20, 40, 60, 60 seconds."""
    breaker, now, waits = opened(), NOW, []
    for _ in range(6):
        assert breaker.until is not None
        waits.append(breaker.until - now)
        now = breaker.until
        assert breaker.start(now)
        breaker.record(now, failed=True, probe=True)
    assert waits == [5, 10, 20, 40, 60, 60]


def test_any_other_answer_to_the_probe_closes() -> None:
    """The platform answers again; what was counted before is forgotten, and so is the doubling."""
    breaker = opened()
    breaker.start(NOW + 5)
    breaker.record(NOW + 5, failed=True, probe=True)
    breaker.start(NOW + 15)
    breaker.record(NOW + 15, failed=False, probe=True)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.until is None
    for _ in range(9):
        breaker.record(NOW + 15, failed=True)
    assert breaker.state is BreakerState.CLOSED
    breaker.record(NOW + 15, failed=True)
    assert breaker.until == NOW + 20


def test_late_answers_say_nothing_about_now() -> None:
    """What was in flight when it opened neither closes it nor prolongs it."""
    breaker = opened()
    for failed in (True, False):
        breaker.record(NOW + 1, failed=failed)
    assert breaker.until == NOW + 5
    breaker.start(NOW + 5)
    for failed in (True, False):
        breaker.record(NOW + 6, failed=failed)
    assert breaker.state is BreakerState.PROBING


def test_a_probe_that_tells_nothing_leaves_the_place_to_another() -> None:
    """A cancelled probe must not keep the account shut for ever."""
    breaker = opened()
    breaker.start(NOW + 5)
    breaker.abandon_probe(NOW + 6)
    assert breaker.may_start(NOW + 6)
    assert breaker.start(NOW + 6)


def test_while_it_is_closed_no_request_is_the_probe() -> None:
    """Its answer is one of many."""
    assert Breaker().start(NOW) is False


def test_tripping_opens_at_once() -> None:
    """One batch in doubt is enough where the caller says so; an open one is not opened again."""
    breaker = Breaker()
    breaker.trip(NOW)
    assert breaker.until == NOW + 5
    breaker.trip(NOW + 3)
    assert breaker.until == NOW + 5


def test_a_probes_answer_without_a_probe_is_our_fault() -> None:
    """The code holds to its table of transitions."""
    breaker = opened()
    with pytest.raises(RuntimeError, match="probe's answer"):
        breaker.record(NOW, failed=False, probe=True)
    with pytest.raises(RuntimeError, match="does not go from open to closed"):
        breaker._move(BreakerState.CLOSED)


class BreakerModel(RuleBasedStateMachine):
    """Against a list of all requests; times are whole buckets, where both windows agree exactly."""

    @initialize()
    def begin(self) -> None:
        self.breaker = Breaker(BreakerPolicy(window_s=10.0))
        self.now = 500.0
        self.requests: list[tuple[float, bool]] = []
        self.state, self.until, self.open_s = BreakerState.CLOSED, 0.0, 5.0
        self.seen = self.state

    @rule(seconds=st.integers(0, 12))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: self.state is BreakerState.CLOSED)
    @rule(answers=st.lists(st.booleans(), min_size=1, max_size=8))
    def answer(self, answers: list[bool]) -> None:
        for failed in answers:
            assert self.breaker.may_start(self.now) == (self.state is BreakerState.CLOSED)
            self.breaker.record(self.now, failed=failed)
            if self.state is BreakerState.CLOSED:
                self.requests.append((self.now, failed))
                recent = [failed for at, failed in self.requests if self.now - at < 10]
                if len(recent) >= 10 and 2 * sum(recent) >= len(recent):
                    self.state, self.open_s, self.until = BreakerState.OPEN, 5.0, self.now + 5.0

    @precondition(lambda self: self.state is BreakerState.OPEN)
    @rule()
    def probe(self) -> None:
        assert self.breaker.may_start(self.now) == (self.now >= self.until)
        if self.now >= self.until:
            assert self.breaker.start(self.now)
            self.state = BreakerState.PROBING

    @precondition(lambda self: self.state is BreakerState.PROBING)
    @rule(failed=st.booleans())
    def answer_the_probe(self, failed: bool) -> None:
        self.breaker.record(self.now, failed=failed, probe=True)
        if failed:
            self.open_s = min(60.0, self.open_s * 2)
            self.state, self.until = BreakerState.OPEN, self.now + self.open_s
        else:
            self.state, self.requests = BreakerState.CLOSED, []

    @precondition(lambda self: self.state is BreakerState.PROBING)
    @rule()
    def cancel_the_probe(self) -> None:
        self.breaker.abandon_probe(self.now)
        self.state, self.until = BreakerState.OPEN, self.now

    @precondition(lambda self: self.state is not BreakerState.CLOSED)
    @rule(failed=st.booleans())
    def late_answer(self, failed: bool) -> None:
        self.breaker.record(self.now, failed=failed)

    @invariant()
    def both_are_in_the_same_state(self) -> None:
        assert self.breaker.state is self.state
        assert self.breaker.until == (self.until if self.state is BreakerState.OPEN else None)
        assert self.state is self.seen or self.state in TRANSITIONS[self.seen]
        self.seen = self.state


TestBreakerModel = BreakerModel.TestCase
TestBreakerModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
