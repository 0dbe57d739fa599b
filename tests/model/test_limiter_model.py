"""The limiter against the list of all that was started and told: what a platform could hold against us."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.delivery.limiter import AccountLimiter, LimiterPolicy
from tests.support.fuzzing import interleavings

WALL_S = 1_767_225_600.0
# What may start at once: a tenth of a second's worth.
BURST_S = 0.1
LEAST_PER_S = 0.1
# What anybody is told to wait at most; an end less the moment it is asked at may be a rounding more.
_LONGEST_S = 300.000_001


class LimiterModel(RuleBasedStateMachine):
    """One process's requests: started as they are admitted, ended in any order with any answer."""

    @initialize(
        max_in_flight=st.one_of(st.none(), st.integers(1, 12)),
        per_second=st.one_of(st.none(), st.sampled_from((0.5, 3.0, 40.0, 1000.0))),
        adaptive=st.booleans(),
    )
    def begin(self, max_in_flight: int | None, per_second: float | None, adaptive: bool) -> None:
        self.max_in_flight, self.per_second = max_in_flight, per_second
        self.limiter = AccountLimiter(LimiterPolicy(max_in_flight, per_second, adaptive))
        self.now, self.share = 1_000.0, 1.0
        self.in_flight: list[float] = []
        self.starts: list[float] = []  # since the share was changed the last time
        self.silent_until = 0.0  # by Retry-After, or without one
        self.pause_s = 0.0  # what the account had after the last throttled answer that did not ask for any
        self.used_up_until = 0.0  # by X-RateLimit-*, whose last word that was
        self.told_at = 0.0

    @rule(seconds=st.sampled_from((0.0, 0.001, 0.03, 0.3, 1.0, 7.0, 70.0, 400.0)))
    def time_goes_by(self, seconds: float) -> None:
        """So long nothing happens."""
        self.now += seconds

    @rule(count=st.integers(1, 20))
    def start(self, count: int) -> None:
        """As many as are admitted."""
        for _ in range(count):
            wait_s = self.limiter.admit(self.now)
            if wait_s:
                assert wait_s > 0
                # Only an end can help who is told to wait for ever.
                assert wait_s <= _LONGEST_S or self.in_flight
                break
            self._started()

    def _started(self) -> None:
        assert self.now >= self.silent_until, "a request although the platform asked for silence"
        assert self.now >= self.used_up_until, "a request although nothing is left in the platform's window"
        self.in_flight.append(self.now)
        self.starts.append(self.now)
        if self.max_in_flight is not None:
            assert len(self.in_flight) <= max(1, int(self.max_in_flight * self.share), self.most_before)
        if self.per_second is not None:
            rate = max(LEAST_PER_S, self.per_second * self.share)
            for place, since in enumerate(self.starts):
                assert len(self.starts) - place <= (self.now - since + BURST_S) * rate + 1 + 1e-6

    most_before = 0  # what was in flight when the share became smaller

    @precondition(lambda self: self.in_flight)
    @rule(
        data=st.data(),
        status=st.sampled_from((204, 204, 204, 404, 500)),
        limits=st.one_of(st.none(), st.tuples(st.integers(0, 60), st.sampled_from((1, 3, 20, 290, 900)))),
    )
    def answered(self, data: st.DataObject, status: int, limits: tuple[int, int] | None) -> None:
        """Something was done, and perhaps a word of the platform's own limit."""
        began = self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))
        self.limiter.release()
        headers = {}
        if limits is not None:
            remaining, reset_s = limits
            headers = {
                "x-ratelimit-limit": "60",
                "x-ratelimit-remaining": str(remaining),
                "x-ratelimit-reset": str(reset_s),
            }
        self.limiter.observe(headers, status, self.now, WALL_S + self.now, began)
        if self.now >= self.silent_until:
            self.pause_s = 0.0
        if limits is not None:
            # Of answers that overtook each other the later counts: here only what was asked last is held against us.
            is_newest = (began + self.now) / 2 > self.told_at
            self.told_at = max(self.told_at, (began + self.now) / 2)
            self.used_up_until = 0.0
            if is_newest and not limits[0] and limits[1] > 1:
                # Half of it: windows begin anew where a lot more is left, and their ends are known to a second.
                self.used_up_until = self.now + min(1.0, limits[1] / 2)

    @precondition(lambda self: self.in_flight)
    @rule(status=st.sampled_from((429, 503)), asks_s=st.one_of(st.none(), st.sampled_from((0, 2, 40, 300, 5_000))))
    def throttled(self, status: int, asks_s: int | None) -> None:
        """The whole account is silent for as long as it asks; without a word for 1, 2, 4 … 30 s, until another
        answer comes, and what was in flight together counts once."""
        began = self.in_flight.pop()
        self.limiter.release()
        headers = {} if asks_s is None else {"retry-after": str(asks_s)}
        self.limiter.observe(headers, status, self.now, WALL_S + self.now, began)
        if asks_s is not None:
            self.silent_until = max(self.silent_until, self.now + min(asks_s, 300))
        elif self.now >= self.silent_until:
            self.pause_s = min(max(1.0, 2 * self.pause_s), 30.0)
            self.silent_until = self.now + self.pause_s
        assert self.limiter.blocked_until(self.now) == (self.silent_until if self.now < self.silent_until else None)

    @precondition(lambda self: self.in_flight)
    @rule()
    def no_answer(self) -> None:
        """A time-out, or it was cancelled."""
        self.in_flight.pop(0)
        self.limiter.release()
        self.limiter.timed_out(self.now)

    @rule(share=st.sampled_from((0.01, 0.3, 0.5, 1.0)))
    def share_changes(self, share: float) -> None:
        """Partitions came or went."""
        self.share, self.starts = share, []
        # The last start before may have been paced by another rate.
        self.now += 10.0 if self.per_second is not None else 0.0
        self.most_before = 0
        self.limiter.set_share(share)

    @invariant()
    def it_counts_what_is_in_flight(self) -> None:
        if hasattr(self, "limiter"):
            assert self.limiter.in_flight == len(self.in_flight)
            assert self.limiter.concurrency_limit >= 1

    def teardown(self) -> None:
        """Once all has ended the next request goes out within minutes, by asking whenever one is told to."""
        if not hasattr(self, "limiter"):
            return
        for _ in self.in_flight:
            self.limiter.release()
        waited_s = 0.0
        for _ in range(200):
            wait_s = self.limiter.admit(self.now + waited_s)
            if not wait_s:
                return
            assert wait_s <= _LONGEST_S
            waited_s += wait_s
        raise AssertionError("it asks again and again, and nothing goes out")


TestLimiterModel = LimiterModel.TestCase
TestLimiterModel.settings = interleavings(80, steps=40)
