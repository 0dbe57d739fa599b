"""The pace that a platform's ``X-RateLimit-*`` headers ask for, for one of the processes that share an account.

The platform counts what all processes send, and each of them sees it in its own answers: what is left is spread over
what is left of the window, and each process takes its share of that. So one slows down when another spends more than
its share, without a word between them. Nobody tells whether the platform counts in windows or refills a bucket, nor
what exactly ``Reset`` means; the rules below keep away from the 429 with each of them (a test has them all).
"""

from collections.abc import Mapping
from math import inf

import msgspec

from .retry import MAX_RETRY_AFTER_S, plain_number, server_wall_s

# A Reset above this is an epoch, below it seconds that are left.
_EPOCH_FROM = 1_000_000_000
# Whole seconds, rounded up by some and down by others: by so much two answers of one window may differ in its end. A
# reset that is nearer than that may be the next token's of a bucket, and says nothing of how long what is left must do.
_ROUNDING_S = 1.0
# By how much a window may be longer than the last ones seemed to be.
_LONGER_WINDOW = 1.02
# Below one half of the limit no more than twice the window's average rate, however little time is left.
_MOST_OVER_AVERAGE = 2.0
# A limit that only a refusal told must not be kept to for ever: after so long without a word of it in any answer, and
# two of its windows, nothing is known.
_FORGOTTEN_AFTER_S = 60.0
_FORGOTTEN_AFTER_WINDOWS = 2.0
# However small the share: 0.1 requests/s.
LONGEST_SPACING_S = 10.0


class Quota(msgspec.Struct, gc=False):
    """What one answer said of the platform's own limit. ``left_s``: seconds until the reset, at most 300."""

    limit: int | None
    remaining: int
    left_s: float


def read_quota(headers: Mapping[str, str], now_wall_s: float) -> Quota | None:
    """The ``x-ratelimit-*`` headers (lower-case names); None unless remaining and reset are readable numbers.

    A reset of more than 300 s is taken as 300: the unit is the platform's guess and ours. An epoch is compared with
    the platform's own clock where its ``Date`` tells that ours differs.
    """
    remaining = _number(headers.get("x-ratelimit-remaining", ""))
    reset = _number(headers.get("x-ratelimit-reset", ""))
    if remaining is None or reset is None:
        return None
    left_s = reset - server_wall_s(headers, now_wall_s) if reset > _EPOCH_FROM else reset
    limit = _number(headers.get("x-ratelimit-limit", ""))
    return Quota(
        limit=None if limit is None else int(limit),
        remaining=int(remaining),
        left_s=min(max(left_s, 0.0), MAX_RETRY_AFTER_S),
    )


def _number(text: str) -> float | None:
    # Of a list ("100, 100;w=60") the first number counts.
    return plain_number(text.partition(",")[0].partition(";")[0])


class QuotaPace:
    """What is known of the platform's window, and when this process may send its next request.

    Times are monotonic, in seconds. ``known`` is False while no answer has told anything of the present window.
    """

    __slots__ = (
        "_asked_at",
        "_began_at",
        "_last_start",
        "_lengths_s",
        "_limit",
        "_measured_s",
        "_remaining",
        "_resets_at",
        "_window_s",
        "active",
        "known",
    )

    def __init__(self) -> None:
        self.active = False  # the platform has told a limit, and may be counting
        self.known = False
        self._limit: int | None = None
        self._remaining = 0
        self._resets_at = -inf
        self._window_s = 0.0  # the longest time until a reset that was told
        self._asked_at = -inf  # about when the platform counted the answer that is known
        self._began_at = -inf  # when much more was left than before
        self._lengths_s: list[float] = []  # the times between such moments
        self._measured_s = inf  # how long a window is by them
        self._last_start = -inf

    @property
    def remaining(self) -> int | None:
        """What the platform said is left in its window; None if it said nothing, or that window is over."""
        return self._remaining if self.known else None

    def take(self, quota: Quota, began: float, now: float, in_flight: float) -> None:
        """An answer to a request that ``began`` then; ``in_flight`` are those of all processes, about."""
        asked_at = (began + now) / 2
        left_s = max(quota.left_s, _ROUNDING_S)
        end = now + left_s
        seen = self.known and now < self._resets_at
        if seen and asked_at <= self._asked_at and (asked_at < self._asked_at or end < self._resets_at):
            return  # overtaken by a later one on its way
        self._window_s = max(self._window_s, left_s) if quota.limit == self._limit else left_s
        self._limit = quota.limit
        more = quota.remaining - self._remaining
        begins = quota.limit is not None and more > quota.limit / 2
        if begins:
            self._begin_window(asked_at)
        # Else anew: what is told has no end that stands, a bucket that is refilled.
        later = asked_at > self._asked_at
        anew = begins or not seen or end - self._resets_at > _ROUNDING_S or (later and more > in_flight + 1)
        self._resets_at = end if anew else min(self._resets_at, end)
        if asked_at - self._began_at < self._measured_s:
            self._resets_at = min(self._resets_at, self._began_at + self._measured_s)
        if anew or later or more < 0:
            self._remaining = quota.remaining
        self._asked_at = asked_at
        self.active = self.known = True

    def untold(self, now: float) -> None:
        """An answer that says nothing of a limit."""
        patience_s = max(_FORGOTTEN_AFTER_S, _FORGOTTEN_AFTER_WINDOWS * self._window_s)
        if self.active and now - self._asked_at > patience_s:
            self.active = self.known = False

    def _begin_window(self, at: float) -> None:
        """Much more is left than before: from one such moment to the next it is a window, which may end before its
        reset was told to come. The longest of the last few counts."""
        if self._began_at > -inf:
            self._lengths_s = [*self._lengths_s[-2:], at - self._began_at]
            if len(self._lengths_s) == 3:
                self._measured_s = max(self._lengths_s) * _LONGER_WINDOW
        self._began_at = at

    def wait_s(self, now: float, in_flight: int, share: float) -> float:
        """0.0: go, and call :meth:`started`. Else how long to wait, or until the next answer. ``in_flight`` are this
        process's: what is on its way may not have been counted by the platform yet, and the other processes have
        about as many for their shares."""
        if self.known and now >= self._resets_at:
            self._end_window()
        if not self.active:
            return 0.0
        if not self.known:
            # A new window, but nobody has seen it: no faster than the average until an answer tells.
            assert self._limit is not None
            return self._spaced(now, self._window_s / (max(1, self._limit) * share))
        left = self._remaining - in_flight / share
        mine = left * share
        if left < 1:
            return self._resets_at - now
        if self._limit is not None and 2 * left >= self._limit and mine >= 1:
            return 0.0
        if mine < 1:
            return min(self._resets_at - now, max(0.0, self._last_start + LONGEST_SPACING_S - now))
        spacing_s = (self._resets_at - now) / mine
        if self._limit:
            spacing_s = max(spacing_s, self._window_s / (self._limit * share * _MOST_OVER_AVERAGE))
        return min(self._spaced(now, spacing_s), self._resets_at - now)

    def used_up_until(self, now: float, in_flight: int, share: float) -> float | None:
        """When the platform's window ends in which nothing is left; None while there is something, or nothing known."""
        if not self.known or now >= self._resets_at or self._remaining - in_flight / share >= 1:
            return None
        return self._resets_at

    def started(self, now: float) -> None:
        """A request goes out."""
        self._last_start = now

    def _spaced(self, now: float, spacing_s: float) -> float:
        return max(0.0, self._last_start + min(spacing_s, LONGEST_SPACING_S) - now)

    def _end_window(self) -> None:
        self.known = False
        self._resets_at = inf
        # How much there is in the next window is not known either: ask.
        self.active = self._limit is not None
