"""What the machinery asks of an imitated platform."""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from .calls import KeyState


class Subject(msgspec.Struct, frozen=True, gc=False):
    """What a request is about, in the words of operations: e.g. ``join``, target and segment."""

    kind: str  # "other": nothing that the platform knows
    target: str | None = None
    entity: str | None = None
    query: str = ""  # of the URL, raw; the server fills it in


class PlatformAnswer(msgspec.Struct, frozen=True, gc=False):
    """What the platform answers by itself; ``effect``: the request has changed its state."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""
    effect: bool = False


class Platform(Protocol):
    """An imitated platform: state in memory, no I/O, no waiting."""

    def subject(self, method: str, path: str) -> Subject:
        """What a request is about; ``path`` is the raw path below the account, without the query."""

    def key_state(self, account: str, headers: Mapping[str, str]) -> KeyState:
        """Whether the request carries the account's credentials."""

    def answer(
        self,
        account: str,
        method: str,
        subject: Subject,
        headers: Mapping[str, str],
        body: bytes,
        now: float,
        items: int | None = None,
    ) -> PlatformAnswer:
        """Carries the request out; of one with several items the first ``items`` alone, where that is given. ``now``
        is wall time in seconds."""

    def configure(self, account: str, rules: Mapping[str, Any]) -> None:
        """Changes the account's rules. Raises ValueError for what is none."""

    def state(self, account: str | None) -> dict[str, Any]:
        """The state as JSON: counts for all accounts, everything for one."""

    def reset(self) -> None:
        """Forgets what requests have changed; rules stay."""
