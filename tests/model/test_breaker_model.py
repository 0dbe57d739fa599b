"""The breaker against the log of all answers: what it must do, whatever its window's grain of a tenth."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.delivery.breaker import Breaker, BreakerState
from tests.support.fuzzing import interleavings

WINDOW_S, GRAIN_S = 10.0, 1.0
# As long as the breaker may stay open: after the first failed probe, after the second, and so on.
OPEN_S = (5.0, 10.0, 20.0, 40.0, 60.0)


class BreakerModel(RuleBasedStateMachine):
    """Requests start where they may and end at any time later; one of them may be the probe."""

    @initialize(start=st.floats(0, 1e6))
    def begin(self, start: float) -> None:
        self.breaker = Breaker()
        self.now = start
        self.in_flight: list[bool] = []  # whether each is the probe
        self.log: list[tuple[float, bool]] = []  # answers since it was closed the last time
        self.opened_at: float | None = None
        self.open_s = 0.0
        self.failed_probes = 0

    @property
    def probing(self) -> bool:
        return True in self.in_flight

    @rule(seconds=st.sampled_from((0.0, 0.01, 0.4, 0.99, 1.0, 3.0, 5.0, 9.5, 11.0, 61.0)))
    def time_goes_by(self, seconds: float) -> None:
        """So long nothing happens."""
        self.now += seconds

    @rule(count=st.integers(1, 12))
    def start(self, count: int) -> None:
        """As many as may: any while it is closed, one probe behind the open time."""
        for _ in range(count):
            may = self.opened_at is None or (not self.probing and self.now >= self.opened_at + self.open_s)
            assert self.breaker.may_start(self.now) == may
            if not may:
                return
            is_probe = self.breaker.start(self.now)
            assert is_probe == (self.opened_at is not None)
            self.in_flight.append(is_probe)

    @precondition(lambda self: self.opened_at is None)
    @rule(seconds=st.integers(5, 12), failed=st.booleans())
    def steady(self, seconds: int, failed: bool) -> None:
        """One request each second, all with the same end, for as long as it stays closed."""
        for _ in range(seconds):
            if self.opened_at is None:
                self.now += 1.0
                assert not self.breaker.start(self.now)
                self._end(False, failed)

    @precondition(lambda self: self.in_flight)
    @rule(count=st.integers(1, 12), data=st.data(), failing=st.sampled_from((0.0, 0.45, 0.6, 1.0)))
    def end(self, count: int, data: st.DataObject, failing: float) -> None:
        """Some end, in any order, with an answer or a failure."""
        chance = data.draw(st.randoms(use_true_random=False))
        for _ in range(min(count, len(self.in_flight))):
            is_probe = self.in_flight.pop(chance.randrange(len(self.in_flight)))
            self._end(is_probe, chance.random() < failing)

    @precondition(lambda self: self.probing)
    @rule(failed=st.booleans())
    def probe_ends(self, failed: bool) -> None:
        """The probe's answer alone decides."""
        self.in_flight.remove(True)
        self._end(True, failed)

    @precondition(lambda self: self.probing)
    @rule()
    def probe_tells_nothing(self) -> None:
        """It was cancelled, or never sent: another may start at once."""
        self.in_flight.remove(True)
        self.breaker.abandon_probe(self.now)
        assert self.breaker.may_start(self.now)
        self.opened_at, self.open_s = self.now, 0.0

    @rule()
    def trip(self) -> None:
        """A batch is in doubt: it opens at once; what is open already stays as it is."""
        self.breaker.trip(self.now)
        if self.opened_at is None:
            self._opens()

    def _end(self, is_probe: bool, failed: bool) -> None:
        self.breaker.record(self.now, failed=failed, probe=is_probe)
        if is_probe:
            if failed:
                self.failed_probes += 1
                self.opened_at = self.now
                self.open_s = OPEN_S[min(self.failed_probes, len(OPEN_S) - 1)]
            else:
                self.opened_at, self.failed_probes, self.log = None, 0, []
        elif self.opened_at is None:
            self.log.append((self.now, failed))
            verdicts = {self._fails_since(since) for since in self._possible_begins()}
            if len(verdicts) == 1:
                assert (self.breaker.state is BreakerState.OPEN) == verdicts.pop()
            if self.breaker.state is BreakerState.OPEN:
                assert True in {self._fails_since(since) for since in self._possible_begins()}
                self._opens()

    def _opens(self) -> None:
        self.opened_at, self.open_s, self.failed_probes = self.now, OPEN_S[0], 0

    def _possible_begins(self) -> list[float]:
        """Where a window of 10 s may begin that is known to a tenth of it."""
        earliest, latest = self.now - WINDOW_S, self.now - WINDOW_S + GRAIN_S
        return [earliest + 1e-9, latest, *(at for at, _ in self.log if earliest < at <= latest)]

    def _fails_since(self, since: float) -> bool:
        answers = [failed for at, failed in self.log if at >= since]
        return len(answers) >= 10 and 2 * sum(answers) >= len(answers)

    @invariant()
    def it_says_what_it_is(self) -> None:
        if not hasattr(self, "breaker"):
            return
        if self.opened_at is None:
            expected = BreakerState.CLOSED
        else:
            expected = BreakerState.PROBING if self.probing else BreakerState.OPEN
        assert self.breaker.state is expected
        until = self.opened_at + self.open_s if expected is BreakerState.OPEN and self.opened_at is not None else None
        assert self.breaker.until == until
        assert self.in_flight.count(True) <= 1


TestBreakerModel = BreakerModel.TestCase
TestBreakerModel.settings = interleavings(60, steps=35)
