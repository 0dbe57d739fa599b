"""Processes that share an account, in simulated time: what their limiters make of a platform's headers.

Nobody waits and nothing is asynchronous: events are taken from a heap, so that minutes take a second and each run of
a seed is the same.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from math import ceil, floor
from random import Random
from typing import Protocol

from service.delivery.limiter import AccountLimiter, LimiterPolicy

WALL_S = 1_767_225_600.0
NOW = 1_000.0


class PlatformLimit(Protocol):
    """A platform's own limit. ``now`` is its wall clock, in seconds."""

    per_second: float

    def ask(self, now: float) -> tuple[bool, int, int, float]:
        """Whether a request is admitted; then limit, remaining, and seconds until the reset."""


class Window:
    """So many per window; windows begin on the clock, or with the first request behind the last one's end."""

    def __init__(self, requests: int, window_s: float, *, on_the_clock: bool) -> None:
        self.per_second = requests / window_s
        self._requests, self._window_s, self._on_the_clock = requests, window_s, on_the_clock
        self._ends_at = 0.0
        self._left = 0

    def ask(self, now: float) -> tuple[bool, int, int, float]:
        if now >= self._ends_at:
            begin = floor(now / self._window_s) * self._window_s if self._on_the_clock else now
            self._ends_at, self._left = begin + self._window_s, self._requests
        admitted = self._left > 0
        self._left -= admitted
        return admitted, self._requests, self._left, self._ends_at - now


class Bucket:
    """So many tokens at most, refilled steadily. ``reset``: seconds until ``full``, or until the ``next`` token."""

    def __init__(self, capacity: int, per_second: float, *, reset: str = "full") -> None:
        self.per_second = per_second
        self._capacity, self._reset = capacity, reset
        self._tokens, self._at = float(capacity), 0.0

    def ask(self, now: float) -> tuple[bool, int, int, float]:
        self._tokens = min(self._capacity, self._tokens + (now - self._at) * self.per_second)
        self._at = now
        admitted = self._tokens >= 1
        self._tokens -= admitted
        missing = self._capacity - self._tokens if self._reset == "full" else 1 - self._tokens % 1
        return admitted, self._capacity, int(self._tokens), missing / self.per_second


class Sliding:
    """So many in the last seconds, whenever one looks; reset is when the oldest of them no longer counts."""

    def __init__(self, requests: int, window_s: float) -> None:
        self.per_second = requests / window_s
        self._requests, self._window_s = requests, window_s
        self._log: list[float] = []

    def ask(self, now: float) -> tuple[bool, int, int, float]:
        self._log = [at for at in self._log if at > now - self._window_s]
        admitted = len(self._log) < self._requests
        if admitted:
            self._log.append(now)
        oldest = self._log[0] if self._log else now
        return admitted, self._requests, self._requests - len(self._log), oldest + self._window_s - now


# How X-RateLimit-Reset is written.
RESETS: dict[str, Callable[[float, float], str]] = {
    "seconds": lambda left_s, now: str(ceil(left_s)),
    "fraction": lambda left_s, now: f"{left_s:.3f}",
    "epoch": lambda left_s, now: str(ceil(now + left_s)),
}


@dataclass
class Outcome:
    """What came of it. ``starts`` are the times of requests, by process."""

    answered: int = 0
    refused: int = 0
    starts: list[list[float]] = field(default_factory=list)

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.answered)


def run_processes(
    platform: PlatformLimit,
    shares: Sequence[float],
    *,
    seconds: float,
    policy: LimiterPolicy | None = None,
    reset: str = "seconds",
    workers: int = 64,
    latency_s: tuple[float, float] = (0.02, 0.12),
    starts_at: Sequence[float] | None = None,
    skew_s: float = 0.0,
    date: bool = True,
    retry_after: bool = False,
    seed: int = 0,
) -> Outcome:
    """Processes with a backlog each; ``skew_s`` is how far the platform's clock is ahead of ours."""
    random, outcome = Random(seed), Outcome(starts=[[] for _ in shares])
    limiters = [AccountLimiter(policy or LimiterPolicy(max_in_flight=32)) for _ in shares]
    for limiter, share in zip(limiters, shares, strict=True):
        limiter.set_share(share)
    running = [0] * len(shares)
    looks_at = [float("inf")] * len(shares)
    heap: list[tuple[float, int, str, int, object]] = []
    order = 0

    def later(at: float, what: str, process: int, data: object = None) -> None:
        nonlocal order
        order += 1
        heapq.heappush(heap, (at, order, what, process, data))

    for process in range(len(shares)):
        later(NOW + (starts_at[process] if starts_at else 0.013 * process), "look", process)
    while heap:
        now, _, what, process, data = heapq.heappop(heap)
        if now > NOW + seconds:
            break
        limiter = limiters[process]
        server_now = WALL_S + now - NOW + skew_s
        if what == "arrive":
            admitted, limit, remaining, left_s = platform.ask(server_now)
            headers = {
                "x-ratelimit-limit": str(limit),
                "x-ratelimit-remaining": str(remaining),
                "x-ratelimit-reset": RESETS[reset](left_s, server_now),
            }
            if date:
                headers["date"] = formatdate(floor(server_now), usegmt=True)
            if retry_after and not admitted:
                headers["retry-after"] = str(ceil(left_s))
            assert isinstance(data, tuple)
            later(now + data[1], "answer", process, (headers, 204 if admitted else 429, data[0]))
            continue
        if what == "answer":
            assert isinstance(data, tuple)
            headers, status, began = data
            running[process] -= 1
            limiter.release()
            observe(limiter, headers, status, now, began)
            outcome.answered += 1
            outcome.refused += status == 429
        elif now != looks_at[process] and looks_at[process] < float("inf"):
            continue  # an answer came meanwhile, and it looks later
        looks_at[process] = float("inf")
        while running[process] < workers:
            wait_s = limiter.admit(now)
            if wait_s:
                if wait_s < 1e9:
                    looks_at[process] = now + wait_s + random.uniform(0, 0.002)
                    later(looks_at[process], "look", process)
                break
            running[process] += 1
            outcome.starts[process].append(now)
            there, back = random.uniform(*latency_s) / 2, random.uniform(*latency_s) / 2
            later(now + there, "arrive", process, (now, back))
    return outcome


def observe(limiter: AccountLimiter, headers: dict[str, str], status: int, now: float, began: float) -> None:
    """As an account does it."""
    limiter.observe(headers, status, now, WALL_S + now - NOW, began)
