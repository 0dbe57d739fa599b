"""How a sandbox fails by chance: a little always, much in a storm; the n-th call of an operation has the same luck."""

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
    (0.002, Step(status=503)),
    (0.0005, Step(status=429, headers=_PACED)),
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
    (0.010, Step(status=503)),
    (0.002, Step(status=429, headers=_PACED)),
    (0.050, Step(delay_s=0.2)),
    (0.050, Step(delay_after_s=0.3)),
)
_STORM = 8.0


class Weather(FaultSource):
    """``storms`` counts those that blow now."""

    def __init__(self, seed: int) -> None:
        super().__init__(Faults(seed=seed))
        self._seed = seed
        self.storms = 0
        self.drawn: Counter[str] = Counter()
        self._calls: Counter[tuple[str, str | None, str | None]] = Counter()

    def draw(self, account: str, subject: Subject) -> tuple[Fault, Step] | None:
        """The luck of a call, whichever replica makes it."""
        operation = (subject.kind, subject.target, subject.entity)
        self._calls[operation] += 1
        digest = blake2b(repr((self._seed, operation, self._calls[operation])).encode(), digest_size=7).digest()
        luck = int.from_bytes(digest) / 2**56
        for rate, step in _EXECUTIONS if subject.kind == "executions" else _SEGMENTS:
            rate *= _STORM if self.storms else 1.0
            if luck < rate:
                self.drawn[subject.kind] += 1
                return Fault.SLOW, step
            luck -= rate
        return None
