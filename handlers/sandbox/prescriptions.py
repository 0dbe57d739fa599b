"""Answers that a test prescribes: "the first two calls for this target get 500, then go on as usual"."""

from collections import deque
from collections.abc import Sequence
from typing import Literal

import msgspec

from .platform import Subject


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What happens to one call. Nothing set: the platform answers by itself.

    The request takes effect where ``effect`` says so; by default it does with a 2xx, with ``reset: after`` and
    wherever the platform's own answer is given.
    """

    status: int | None = None  # None: the platform's own answer
    headers: dict[str, str] = {}  # added to the answer, e.g. Retry-After, Location
    body: str | None = None  # instead of the answer's body
    delay_s: float = 0.0  # waits before anything takes effect
    delay_after_s: float = 0.0  # waits after it, before the answer
    reset: Literal["before", "after"] | None = None  # the connection is reset before or after taking effect
    hang: bool = False  # no answer comes; ends when the client goes
    endless: bool = False  # the body never ends
    cut: bool = False  # the body is shorter than its Content-Length, then the connection closes
    effect: bool | None = None
    items: int | None = None  # of a request with several items, only the first so many take effect

    @property
    def takes_effect(self) -> bool:
        """Whether the platform carries the request out."""
        if self.effect is not None:
            return self.effect
        if self.reset is not None:
            return self.reset == "after"
        if self.hang:
            return False
        return self.status is None or 200 <= self.status < 300


# A status, a step or null for the platform's own answer.
Prescribed = int | Step | None


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which calls are meant; what is None matches every call."""

    platform: str | None = None
    account: str | None = None
    method: str | None = None
    kind: str | None = None
    target: str | None = None
    entity: str | None = None

    def covers(self, platform: str, account: str, method: str, subject: Subject) -> bool:
        """Whether a call is meant."""
        return (
            (self.target is None or self.target == subject.target)
            and (self.kind is None or self.kind == subject.kind)
            and (self.entity is None or self.entity == subject.entity)
            and (self.account is None or self.account == account)
            and (self.platform is None or self.platform == platform)
            and (self.method is None or self.method == method)
        )


class Prescription(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The answers to the calls that match, one after the other; then the platform's own."""

    answers: list[Prescribed]
    match: Match = Match()
    skip: int = 0  # so many matching calls go by first
    repeat: bool = False  # begin again after the last answer, for ever


class Prescriptions:
    """What is prescribed and not used up. Of several that match a call, the one added first is used."""

    def __init__(self) -> None:
        self._by_target: dict[str, list[_Rest]] = {}
        self._any_target: list[_Rest] = []

    def add(self, prescriptions: Sequence[Prescription]) -> None:
        """Takes prescriptions on, behind those that are there."""
        for prescription in prescriptions:
            if not prescription.answers:
                continue
            target = prescription.match.target
            rests = self._any_target if target is None else self._by_target.setdefault(target, [])
            rests.append(_Rest(prescription))

    def take(self, platform: str, account: str, method: str, subject: Subject) -> Step | None:
        """The step prescribed for a call, which uses it up; None if there is none."""
        target = subject.target
        if target is not None and (rests := self._by_target.get(target)):
            step = _take_from(rests, platform, account, method, subject)
            if not rests:
                del self._by_target[target]
            if step is not None:
                return step
        return _take_from(self._any_target, platform, account, method, subject) if self._any_target else None

    @property
    def left(self) -> int:
        """How many prescriptions are not used up."""
        return len(self._any_target) + sum(map(len, self._by_target.values()))

    def clear(self) -> None:
        """Forgets all."""
        self._by_target.clear()
        self._any_target.clear()


class _Rest:
    """What is left of a prescription."""

    def __init__(self, prescription: Prescription) -> None:
        self.match = prescription.match
        self.skip = prescription.skip
        self.repeat = prescription.repeat
        self.answers = deque(map(_step, prescription.answers))


def _take_from(rests: list[_Rest], platform: str, account: str, method: str, subject: Subject) -> Step | None:
    for rest in rests:
        if not rest.match.covers(platform, account, method, subject):
            continue
        if rest.skip > 0:
            rest.skip -= 1
            continue
        step = rest.answers.popleft()
        if rest.repeat:
            rest.answers.append(step)
        elif not rest.answers:
            rests.remove(rest)
        return step
    return None


def _step(answer: Prescribed) -> Step:
    if answer is None:
        return Step()
    return Step(status=answer) if isinstance(answer, int) else answer
