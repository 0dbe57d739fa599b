"""Rate limits of accounts: a bucket that is refilled steadily, told in the vendors' headers."""

from math import ceil
from typing import Annotated, Literal

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0)]


class Bucket(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """So many requests a second, then 429. Accounts that are not named share one bucket."""

    requests_per_s: Positive
    capacity: Annotated[int, msgspec.Meta(ge=1)] | None = None  # None: one second's worth
    platform: str | None = None  # None: every platform
    account: str | None = None  # None: every account
    reset: Literal["seconds", "epoch"] = "seconds"  # of X-RateLimit-Reset, the time until the bucket is full
    headers: bool = True  # X-RateLimit-* on every answer
    retry_after: bool = False  # Retry-After on a 429


class Buckets:
    """The buckets that are set. ``now`` is wall time in seconds."""

    def __init__(self) -> None:
        self._levels: dict[tuple[str | None, str | None], _Level] = {}

    def set(self, bucket: Bucket | None, now: float) -> None:
        """A full one instead of what was said of the same account; None ends all."""
        if bucket is None:
            self._levels.clear()
        else:
            self._levels[bucket.platform, bucket.account] = _Level(bucket, now)

    def take(self, platform: str, account: str, now: float) -> tuple[bool, dict[str, str]]:
        """Whether a call is admitted, and the headers that its answer carries. What is said of one account goes
        first."""
        if self._levels:
            for place in ((platform, account), (None, account), (platform, None), (None, None)):
                level = self._levels.get(place)
                if level is not None:
                    return level.take(now)
        return True, {}

    def state(self) -> list[Bucket]:
        """The buckets that are set."""
        return [level.bucket for level in self._levels.values()]


class _Level:
    def __init__(self, bucket: Bucket, now: float) -> None:
        self.bucket = bucket
        self._capacity = bucket.capacity or max(1, int(bucket.requests_per_s))
        self._tokens, self._at = float(self._capacity), now

    def take(self, now: float) -> tuple[bool, dict[str, str]]:
        bucket = self.bucket
        self._tokens = min(self._capacity, self._tokens + max(0.0, now - self._at) * bucket.requests_per_s)
        self._at = now
        admitted = self._tokens >= 1
        self._tokens -= admitted
        full_in_s = (self._capacity - self._tokens) / bucket.requests_per_s
        headers: dict[str, str] = {}
        if bucket.headers:
            headers["X-RateLimit-Limit"] = str(self._capacity)
            headers["X-RateLimit-Remaining"] = str(int(self._tokens))
            headers["X-RateLimit-Reset"] = str(ceil(full_in_s if bucket.reset == "seconds" else now + full_in_s))
        if bucket.retry_after and not admitted:
            headers["Retry-After"] = str(ceil((1 - self._tokens) / bucket.requests_per_s))
        return admitted, headers
