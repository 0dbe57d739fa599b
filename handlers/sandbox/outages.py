"""Accounts that are dead for a while."""

from enum import StrEnum

import msgspec

from .prescriptions import Step


class Mode(StrEnum):
    """How an account is. ``refuse`` is for the whole server: nobody listens."""

    UP = "up"
    UNAVAILABLE = "unavailable"  # answers 503, or the status of the outage
    RESET = "reset"  # resets the connection, the request takes no effect
    HANG = "hang"  # never answers
    REFUSE = "refuse"


class Outage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an account is like from now on, or for ``for_s`` seconds."""

    mode: Mode
    platform: str | None = None  # None: every platform
    account: str | None = None  # None: every account
    for_s: float | None = None  # None: until the next change
    status: int = 503
    headers: dict[str, str] = {}

    def __post_init__(self) -> None:
        if self.mode is not Mode.REFUSE:
            return
        if self.account is not None or self.platform is not None:
            raise ValueError("refuse is for the whole server: connections have no account")
        if self.for_s is None:
            raise ValueError("refuse needs for_s: while nobody listens it cannot be ended")


class Outages:
    """Which accounts are dead. ``now`` is in seconds of one clock, whichever."""

    def __init__(self) -> None:
        self._outages: dict[tuple[str | None, str | None], tuple[Outage, float | None]] = {}

    def set(self, outage: Outage, now: float) -> None:
        """Replaces what was said of the same account; ``up`` for every account ends all."""
        if outage.mode is Mode.UP and outage.account is None and outage.platform is None:
            self._outages.clear()
            return
        until = None if outage.for_s is None else now + outage.for_s
        self._outages[outage.platform, outage.account] = (outage, until)

    def step(self, platform: str, account: str, now: float) -> Step | None:
        """What happens to a call; None if its account is up. What is said of one account goes first."""
        if not self._outages:
            return None
        for place in ((platform, account), (None, account), (platform, None), (None, None)):
            found = self._outages.get(place)
            if found is None:
                continue
            outage, until = found
            if until is not None and now >= until:
                del self._outages[place]
                continue
            return _step(outage)
        return None

    def state(self, now: float) -> list[Outage]:
        """The outages that last."""
        return [outage for outage, until in self._outages.values() if until is None or now < until]


def _step(outage: Outage) -> Step | None:
    match outage.mode:
        case Mode.UNAVAILABLE:
            return Step(status=outage.status, headers=outage.headers)
        case Mode.RESET:
            return Step(reset="before")
        case Mode.HANG:
            return Step(hang=True)
        case _:  # up, and refuse, which is not about calls
            return None
