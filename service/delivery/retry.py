"""When an operation is tried again: exponential delays with full jitter, and what the platform asks for."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache

import msgspec

from handlers.base import RetryCause

MAX_RETRY_AFTER_S = 300.0

# Only what may have been the item's own doing uses up its attempts.
EXHAUSTING = frozenset({RetryCause.TIMED_OUT, RetryCause.RESET, RetryCause.SERVER_ERROR})

# Whole seconds, and the time that an answer takes.
_SAME_CLOCK_S = 3.0

# 2.0 ** n beyond this is far over any delay, and far under what a float holds.
_MAX_DOUBLINGS = 64

_PLAIN_NUMBER = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")


class RetryPolicy(msgspec.Struct, frozen=True, gc=False):
    """What the operator chose. ``max_attempts`` counts the first try too."""

    first_delay_s: float = 0.5
    max_delay_s: float = 60.0
    max_attempts: int = 10

    def delay_s(self, attempt: int, random: Callable[[], float]) -> float:
        """How long to wait after the failure of attempt number ``attempt`` (1 is the first).

        Full jitter: anything between nothing and the exponential bound, so that what failed together does not
        come back together. ``random`` gives a float from 0 to 1.
        """
        bound_s = self.first_delay_s * 2.0 ** min(max(attempt, 1) - 1, _MAX_DOUBLINGS)
        return min(bound_s, self.max_delay_s) * random()

    def exhausted(self, attempts: int) -> bool:
        """Whether the counted attempts are used up."""
        return attempts >= self.max_attempts


def plain_number(text: str) -> float | None:
    """A number as headers carry it; None for signs, exponents, "inf", "nan" and anything else.

    Fractions are not in RFC 9110, but are sent.
    """
    text = text.strip()
    return float(text) if _PLAIN_NUMBER.fullmatch(text) else None


def retry_after_s(headers: Mapping[str, str], now_wall_s: float) -> float | None:
    """Seconds to wait by ``Retry-After`` (seconds, or an HTTP date), at most 300.

    None if it is absent or unreadable. ``headers`` have lower-case names; ``now_wall_s`` is in seconds since
    the epoch. A date is compared with the answer's own ``Date`` where that tells that our clock differs.
    """
    text = headers.get("retry-after")
    if text is None:
        return None
    seconds = plain_number(text)
    if seconds is None:
        seconds = _seconds_until(text, server_wall_s(headers, now_wall_s))
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def server_wall_s(headers: Mapping[str, str], now_wall_s: float) -> float:
    """The platform's clock by its ``Date``, where ours differs by more than the header's grain; else ours."""
    text = headers.get("date")
    date_s = None if text is None else _http_date_s(text)
    if date_s is None or abs(date_s - now_wall_s) <= _SAME_CLOCK_S:
        return now_wall_s
    return date_s


def _seconds_until(text: str, now_wall_s: float) -> float | None:
    moment_s = _http_date_s(text)
    return None if moment_s is None else moment_s - now_wall_s


@lru_cache(maxsize=16)
def _http_date_s(text: str) -> float | None:
    """Seconds since the epoch. The answers of one second carry the same text."""
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:  # the obsolete forms are in UTC too
            moment = moment.replace(tzinfo=UTC)
        return moment.timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
