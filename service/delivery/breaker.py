"""The breaker of an account: when a platform fails as a whole, its lanes hold; no attempts are counted."""

from enum import StrEnum

import msgspec


class BreakerState(StrEnum):
    """CLOSED → OPEN (half of the requests fail, or tripped) → PROBING (one operation may try) → CLOSED or
    OPEN.
    """

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


TRANSITIONS: dict[BreakerState, frozenset[BreakerState]] = {
    BreakerState.CLOSED: frozenset({BreakerState.OPEN}),
    BreakerState.OPEN: frozenset({BreakerState.PROBING}),
    BreakerState.PROBING: frozenset({BreakerState.OPEN, BreakerState.CLOSED}),
}


class BreakerPolicy(msgspec.Struct, frozen=True, gc=False):
    """Fixed by design: nobody has to choose these, and tests can."""

    window_s: float = 10.0
    min_requests: int = 10
    failing_share: float = 0.5
    first_open_s: float = 5.0
    max_open_s: float = 60.0


_BUCKETS = 10


class Breaker:
    """The state for one account in this process. ``now`` is monotonic, in seconds.

    The caller decides what a failure is (not sent, time-out, 5xx but 503), asks ``may_start`` before a
    request, calls ``start`` when it begins one, and hands to ``record`` what ``start`` returned. Only the
    probe's answer decides while the breaker is not closed: late answers of requests that were in flight when
    it opened say nothing about now.

    Requests are counted in ten buckets of the window, so that a request costs the same at any rate; the
    window is exact to a tenth.
    """

    __slots__ = (
        "_bucket",
        "_bucket_s",
        "_failed",
        "_failed_in",
        "_open_s",
        "_policy",
        "_state",
        "_total",
        "_total_in",
        "_until",
    )

    def __init__(self, policy: BreakerPolicy | None = None) -> None:
        self._policy = policy or BreakerPolicy()
        self._bucket_s = self._policy.window_s / _BUCKETS
        self._state = BreakerState.CLOSED
        self._open_s = self._policy.first_open_s
        self._until = 0.0
        self._bucket = 0
        self._empty()

    @property
    def state(self) -> BreakerState:
        """CLOSED, OPEN or PROBING."""
        return self._state

    @property
    def until(self) -> float | None:
        """When a probe may start; None while the breaker is closed or the probe is under way."""
        return self._until if self._state is BreakerState.OPEN else None

    def may_start(self, now: float) -> bool:
        """Whether a request may start: any while closed; one, as the probe, once the open time is over."""
        if self._state is BreakerState.CLOSED:
            return True
        return self._state is BreakerState.OPEN and now >= self._until

    def start(self, now: float) -> bool:
        """A request starts. True: it is the probe. Raises RuntimeError if none may start."""
        if self._state is BreakerState.CLOSED:
            return False
        if not self.may_start(now):
            raise RuntimeError(f"a request was started while the breaker is {self._state}")
        self._move(BreakerState.PROBING)
        return True

    def record(self, now: float, *, failed: bool, probe: bool = False) -> None:
        """A request ended with an answer or a failure; ``probe`` is what ``start`` returned for it."""
        if self._state is BreakerState.CLOSED:
            bucket = int(now / self._bucket_s)
            if bucket != self._bucket:
                self._roll(bucket)
            slot = bucket % _BUCKETS
            self._total += 1
            self._total_in[slot] += 1
            if failed:
                self._failed += 1
                self._failed_in[slot] += 1
            # Also a success can be the tenth request.
            if self._failed and self._total >= self._policy.min_requests:
                self._judge(now)
        elif probe:
            self._judge_probe(now, failed)

    def abandon_probe(self, now: float) -> None:
        """The probe ended without telling anything (cancelled, not sent by us): another may start at once."""
        if self._state is BreakerState.PROBING:
            self._move(BreakerState.OPEN)
            self._until = now

    def trip(self, now: float) -> None:
        """Open at once, whatever the counts: a batch is in doubt, and the next must not be."""
        if self._state is BreakerState.CLOSED:
            self._open(now, self._policy.first_open_s)

    def _judge(self, now: float) -> None:
        if self._failed >= self._policy.failing_share * self._total:
            self._open(now, self._policy.first_open_s)

    def _judge_probe(self, now: float, failed: bool) -> None:
        if self._state is not BreakerState.PROBING:
            raise RuntimeError(f"a probe's answer came while the breaker is {self._state}")
        if failed:
            self._open(now, min(self._open_s * 2, self._policy.max_open_s))
        else:
            self._move(BreakerState.CLOSED)
            self._empty()

    def _open(self, now: float, open_s: float) -> None:
        self._move(BreakerState.OPEN)
        self._open_s = open_s
        self._until = now + open_s

    def _move(self, state: BreakerState) -> None:
        if state not in TRANSITIONS[self._state]:
            raise RuntimeError(f"a breaker does not go from {self._state} to {state}")
        self._state = state

    def _roll(self, bucket: int) -> None:
        """Forget the buckets that have left the window."""
        for stale in range(max(self._bucket + 1, bucket - _BUCKETS + 1), bucket + 1):
            slot = stale % _BUCKETS
            self._total -= self._total_in[slot]
            self._failed -= self._failed_in[slot]
            self._total_in[slot] = self._failed_in[slot] = 0
        self._bucket = bucket

    def _empty(self) -> None:
        self._total = self._failed = 0
        self._total_in = [0] * _BUCKETS
        self._failed_in = [0] * _BUCKETS
