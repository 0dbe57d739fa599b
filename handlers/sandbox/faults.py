"""Faults by chance, the same ones for the same seed, however the calls are interleaved."""

from collections import Counter
from enum import StrEnum
from hashlib import blake2b

import msgspec

from .platform import Subject
from .prescriptions import Step


class Fault(StrEnum):
    """What can happen to a call by chance."""

    SERVER_ERROR = "500"
    BAD_GATEWAY = "502"
    UNAVAILABLE = "503"
    THROTTLED = "429"
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"
    GARBAGE = "garbage"  # the platform's own status, with a body that is none
    SLOW = "slow"


_STEPS = {
    Fault.SERVER_ERROR: Step(status=500),
    Fault.BAD_GATEWAY: Step(status=502, body="<html>Bad Gateway</html>"),
    Fault.UNAVAILABLE: Step(status=503),
    Fault.THROTTLED: Step(status=429, headers={"Retry-After": "0"}),
    Fault.RESET_BEFORE: Step(reset="before"),
    Fault.RESET_AFTER: Step(reset="after"),
    Fault.GARBAGE: Step(body='\x00{"\x7f<'),
}


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How often which fault befalls a call. Raises ValueError if the rates exceed 1 together."""

    seed: int = 0
    rates: dict[Fault, float] = {}
    account: str | None = None  # None: every account
    most_per_operation: int = 3  # the next call of the same operation goes well: retries come to an end
    slow_s: float = 0.1

    def __post_init__(self) -> None:
        if any(rate < 0 for rate in self.rates.values()) or sum(self.rates.values()) > 1:
            raise ValueError("rates are between 0 and 1, also together")


class FaultSource:
    """Draws the faults. The n-th call of an operation has the same luck in each run with the same seed."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._slow = Step(delay_s=faults.slow_s)
        self._calls: Counter[tuple[str, str, str | None, str | None]] = Counter()
        self._drawn: Counter[tuple[str, str, str | None, str | None]] = Counter()

    def draw(self, account: str, subject: Subject) -> tuple[Fault, Step] | None:
        """The fault of a call and what it does; None if the call goes well."""
        faults = self._faults
        if faults.account is not None and faults.account != account:
            return None
        operation = (account, subject.kind, subject.target, subject.entity)
        self._calls[operation] += 1
        if self._drawn[operation] >= faults.most_per_operation:
            return None
        luck = _luck(faults.seed, operation, self._calls[operation])
        for fault, rate in faults.rates.items():
            if luck < rate:
                self._drawn[operation] += 1
                return fault, self._slow if fault is Fault.SLOW else _STEPS[fault]
            luck -= rate
        return None


def _luck(seed: int, operation: tuple[str, str, str | None, str | None], call: int) -> float:
    """A number from 0 to below 1, evenly spread."""
    digest = blake2b(repr((seed, operation, call)).encode(errors="replace"), digest_size=7).digest()
    return int.from_bytes(digest) / 2**56
