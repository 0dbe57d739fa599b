"""The pace of an account in this process: requests in flight, requests per second, and what the platform
says.

Shared by all lanes on the account. The platform's ``X-RateLimit-*`` headers are obeyed before a 429 comes; a
429 or 503 stops the whole account for as long as it asks, for the limit is the account's and not one
request's.
"""

from collections.abc import Mapping
from math import inf

import msgspec

from .adapting import AdaptingConcurrency
from .quota import QuotaPace, read_quota
from .retry import retry_after_s

THROTTLED = frozenset({429, 503})

# Within these bounds the account waits after a 429 or 503 that does not say for how long; doubled each time.
_FIRST_PAUSE_S = 1.0
# Windows of a second end all the time.
_SHORT_WAIT_S = 1.0
_MAX_PAUSE_S = 30.0
# What may start at once although requests_per_second would spread it.
_BURST_S = 0.1
_LEAST_REQUESTS_PER_S = 0.1
# A fifth, summed up from parts of partitions and weights, is 0.19999999999999998; of ten requests it is two.
_ROUNDING = 1e-9
# What one process has at least of the platform's own limit, so that it can divide by it.
_LEAST_SHARE = 0.001


class LimiterPolicy(msgspec.Struct, frozen=True, gc=False):
    """What the operator chose for the account; None is no limit of ours. ``adaptive`` lowers the requests in
    flight when the platform answers 429 or 503 or not in time, and raises them again.
    """

    max_in_flight: int | None = None
    requests_per_second: float | None = None
    adaptive: bool = True


class AccountLimiter:
    """Who may send now. ``now`` is monotonic, in seconds.

    ``admit`` gives 0.0 and takes a place in flight, or says how long to wait for the next ``release``: at
    most so many seconds, inf for "as long as it takes". A waiting caller asks again; nothing is reserved for
    it. Each admitted request is released once, and its answer observed after that.
    """

    __slots__ = (
        "_blocked_until",
        "_burst_s",
        "_ceiling",
        "_concurrency",
        "_in_flight",
        "_interval_s",
        "_next_at",
        "_pause_s",
        "_policy",
        "_quota",
        "_share",
        "_unlimited",
    )

    def __init__(self, policy: LimiterPolicy) -> None:
        self._policy = policy
        self._in_flight = 0
        self._blocked_until = -inf
        self._next_at = -inf
        self._pause_s = 0.0
        self._share = 1.0
        self._quota = QuotaPace()
        self._ceiling = inf
        self._concurrency = AdaptingConcurrency()
        self._interval_s = self._burst_s = 0.0
        self._unlimited = True
        self.set_share(1.0)

    @property
    def in_flight(self) -> int:
        """Requests that were admitted and not released."""
        return self._in_flight

    @property
    def concurrency_limit(self) -> float:
        """How many may be in flight now (inf: any number)."""
        return self._concurrency.limit

    @property
    def remaining(self) -> int | None:
        """What the platform said is left in its window; None if it said nothing, or that window is over."""
        return self._quota.remaining

    def blocked_until(self, now: float) -> float | None:
        """Until when the platform wants to hear nothing; None if it does not."""
        return self._blocked_until if now < self._blocked_until else None

    def used_up_until(self, now: float) -> float | None:
        """When the platform's window ends in which nothing is left for us; None while there is something, or the wait
        is too short to speak of."""
        until = self._quota.used_up_until(now, self._in_flight, self._share)
        return until if until is not None and until - now > _SHORT_WAIT_S else None

    def set_share(self, share: float) -> None:
        """The part of the account's limits, 0 to 1, that this process has: at least one in flight, 0.1 requests/s."""
        policy = self._policy
        self._share = max(share, _LEAST_SHARE)
        self._ceiling = inf if policy.max_in_flight is None else max(1, int(policy.max_in_flight * share + _ROUNDING))
        self._concurrency.set_ceiling(self._ceiling)
        if policy.requests_per_second is not None:
            rate = max(_LEAST_REQUESTS_PER_S, policy.requests_per_second * share)
            self._interval_s = 1.0 / rate
            self._burst_s = max(0.0, _BURST_S - self._interval_s)
        self._note_limits()

    def admit(self, now: float) -> float:
        """0.0: go, and ``release`` when it has ended. Else ask again after so many seconds or the next
        release.
        """
        if self._unlimited:
            self._in_flight += 1
            return 0.0
        return self._admit_limited(now)

    def release(self) -> None:
        """An admitted request has ended, however."""
        self._in_flight -= 1

    def observe(
        self, headers: Mapping[str, str], status: int, now: float, now_wall_s: float, began: float | None = None
    ) -> None:
        """What an answer says of the pace. Headers have lower-case names; its request ``began`` then."""
        quota = read_quota(headers, now_wall_s) if "x-ratelimit-remaining" in headers else None
        if quota is not None:
            self._quota.take(quota, now if began is None else began, now, self._in_flight / self._share)
            self._note_limits()
        elif self._quota.active and status not in THROTTLED:
            self._quota.untold(now)
        if began is not None:
            self._concurrency.note(now - began)
        if status in THROTTLED:
            self._throttle(headers, now, now_wall_s, None if quota is None or quota.remaining else quota.left_s)
        elif self._blocked_until > -inf or self._concurrency.lowered:
            self._recover(now)

    def timed_out(self, now: float) -> None:
        """A request had no answer in time."""
        if self._policy.adaptive:
            self._concurrency.lower(now)

    def _admit_limited(self, now: float) -> float:
        if now < self._blocked_until:
            return self._blocked_until - now
        if self._in_flight + 1 > self._concurrency.limit:
            return inf
        start_at = max(self._next_at, now - self._burst_s) if self._interval_s else now
        if start_at > now:
            return start_at - now
        if self._quota.active:
            wait_s = self._quota.wait_s(now, self._in_flight, self._share)
            if wait_s:
                return wait_s
            self._quota.started(now)
            self._note_limits()
        self._next_at = start_at + self._interval_s
        self._in_flight += 1
        return 0.0

    def _throttle(self, headers: Mapping[str, str], now: float, now_wall_s: float, resets_in_s: float | None) -> None:
        asked_s = retry_after_s(headers, now_wall_s)
        if asked_s is None and now >= self._blocked_until:
            # The first of those that were in flight together; the others tell nothing new.
            self._pause_s = min(max(self._pause_s * 2, _FIRST_PAUSE_S), _MAX_PAUSE_S)
            asked_s = self._pause_s if resets_in_s is None else min(self._pause_s, max(resets_in_s, self._pause_s / 4))
        if asked_s is not None:
            self._blocked_until = max(self._blocked_until, now + asked_s)
        if self._policy.adaptive:
            self._concurrency.lower(now)
        self._note_limits()

    def _recover(self, now: float) -> None:
        """An answer that was not throttled: pauses begin anew, more may be in flight."""
        if now >= self._blocked_until:
            self._pause_s = 0.0
            self._blocked_until = -inf
        self._concurrency.grow()
        self._note_limits()

    def _note_limits(self) -> None:
        self._unlimited = (
            self._ceiling == inf and not self._interval_s and not self._quota.active and self._blocked_until == -inf
        )
