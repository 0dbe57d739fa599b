"""How a sandbox fails by chance: a little always, much in a storm; the n-th call for a target has the same luck."""

from collections import Counter
from hashlib import blake2b

from handlers.sandbox.faults import Fault, Faults, FaultSource
from handlers.sandbox.platform import Subject
from handlers.sandbox.prescriptions import Step

# Lanes keep to the pace that is told, also when it is not told again: it is more than a run asks for.
_PACED = {"Retry-After": "1", "X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}
_SEGMENTS = (
    (0.003, Step(status=500)),
    (0.001, Step(status=502, body="<html>Bad Gateway</html>")),
    (0.001, Step(status=504, effect=True)),
    (0.003, Step(reset="before")),
    (0.003, Step(reset="after")),
    (0.003, Step(body='\x00{"\x7f<')),
    (0.002, Step(cut=True, body="x" * 200)),
    (0.010, Step(delay_s=0.3)),
    (0.005, Step(delay_after_s=0.5)),
)
# One in doubt opens the account's breaker for 5 s and more: so they are few.
_EXECUTIONS = (
    (0.0008, Step(status=500)),
    (0.0008, Step(status=500, effect=True)),
    (0.0008, Step(reset="before")),
    (0.0008, Step(reset="after")),
    (0.0008, Step(reset="after", items=2)),
    (0.0008, Step(body='\x00{"\x7f<')),
    (0.050, Step(delay_s=0.2)),
    (0.050, Step(delay_after_s=0.3)),
)
# A platform that refuses for load does so in storms: a few refusals all the time would have each account go at the
# pace of a few requests at once for the whole run.
_REFUSALS = ((0.016, Step(status=503)), (0.004, Step(status=429, headers=_PACED)))
_STORM = 8.0


class Weather(FaultSource):
    """``storms`` counts those that blow now."""

    def __init__(self, seed: int) -> None:
        super().__init__(Faults(seed=seed))
        self._seed = seed
        self.storms = 0
        self.drawn: Counter[str] = Counter()
        self._calls: Counter[tuple[str, str | None]] = Counter()

    def draw(self, account: str, subject: Subject) -> tuple[Fault, Step] | None:
        """The luck of a call, whichever replica makes it."""
        target = (subject.kind, subject.target)
        self._calls[target] += 1
        digest = blake2b(f"{self._seed} {target} {self._calls[target]}".encode(), digest_size=7).digest()
        luck = int.from_bytes(digest) / 2**56
        steps = _EXECUTIONS if subject.kind == "executions" else _SEGMENTS
        if self.storms:
            for rate, step in _REFUSALS:
                if luck < rate:
                    self.drawn[subject.kind] += 1
                    return Fault.THROTTLED, step
                luck -= rate
        for rate, step in steps:
            rate *= _STORM if self.storms else 1.0
            if luck < rate:
                self.drawn[subject.kind] += 1
                return Fault.SLOW, step
            luck -= rate
        return None
