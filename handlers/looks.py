"""What a lane takes for granted of its platform, and how one can look whether it is so: for ``check --online``."""

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Protocol, runtime_checkable

import msgspec

from handlers.base import Answer, Request

_TOLD = 5


class Fault(msgspec.Struct, frozen=True):
    """Something is not as the lane has it. ``key`` is the lane's, ``remedy`` what to write there instead."""

    key: str
    problem: str
    remedy: str | None = None


class Look(msgspec.Struct, frozen=True):
    """One reading call. ``judge`` takes a success; None: it cannot be read."""

    what: str  # as in "the account's sections"
    key: str  # the lane's, for what else may go wrong
    request: Request
    judge: Callable[[Answer], Sequence[Fault] | None]


@runtime_checkable
class Looks(Protocol):
    """What a handler has beside its kind's own protocol where its platform can be asked."""

    def looks(self) -> Sequence[Look]:
        """The calls, in order: where one finds a fault the later ones may mean nothing."""


def remedy_of(wanted: str, known: Iterable[str]) -> str:
    """What there is instead: the nearest name, or some of them."""
    names = sorted(known)
    if not names:
        return "the platform names none"
    if close := get_close_matches(wanted, names, n=1):
        return f'did you mean "{close[0]}"?'
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return f"the platform has {', '.join(names[:_TOLD])}{more}"
