"""The record of every call: written when it starts and again when it has ended.

Whoever reads it can therefore tell a call that was running when its client died from one that never came. The
log is a list of entries with ascending sequence numbers, two per call; it is kept as one struct per call and
one integer per entry.
"""

import time
from array import array
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

import msgspec

# What is kept of a request's headers. Never one that carries credentials.
_KEPT_HEADERS = ("Accept", "Content-Length", "Content-Type", "Transfer-Encoding")


class KeyState(StrEnum):
    """What is recorded of the credentials: never they themselves."""

    RIGHT = "right"
    WRONG = "wrong"
    NONE = "none"


class Call(msgspec.Struct, gc=False):
    """One call. Times are ``time.monotonic()`` of the sandbox's process, in seconds; on Linux and macOS this
    clock is the same for every process of the machine."""

    number: int  # from 1, in order of arrival
    platform: str
    account: str
    method: str
    kind: str
    target: str | None
    entity: str | None
    key: KeyState
    headers: dict[str, str]
    path: str | None  # as it came over the wire; only where no target was read from it
    started_s: float
    ended_s: float | None = None
    status: int | None = None  # None: running, or ended without an answer
    effect: bool = False  # it changed the platform's state
    deviation: str | None = None  # why the answer is not the platform's own, e.g. "prescribed", "outage"
    client_gone: bool = False  # nobody was there any more to take the answer


class CallLog:
    """All calls since the last reset. Not recording, it only counts."""

    def __init__(self, *, record: bool = True) -> None:
        self.record = record
        self.count = 0
        self.running = 0
        self._calls: list[Call] = []
        self._entries = array("q")  # +n: call n started, -n: it ended
        self._headers: dict[tuple[str | None, ...], dict[str, str]] = {}

    def begin(
        self,
        *,
        platform: str,
        account: str,
        method: str,
        kind: str,
        target: str | None,
        entity: str | None,
        key: KeyState,
        headers: Mapping[str, str],
        path: str,
    ) -> Call | None:
        """Records that a call has started; None while nothing is recorded."""
        self.count += 1
        self.running += 1
        if not self.record:
            return None
        number = len(self._calls) + 1
        other = path if target is None else None
        kept = self._kept(headers)
        call = Call(number, platform, account, method, kind, target, entity, key, kept, other, time.monotonic())
        self._calls.append(call)
        self._entries.append(number)
        return call

    def end(
        self,
        call: Call | None,
        *,
        status: int | None,
        effect: bool,
        deviation: str | None = None,
        client_gone: bool = False,
    ) -> None:
        """Records how a call has ended, before its answer is written."""
        self.running -= 1
        if call is None:
            return
        call.ended_s = time.monotonic()
        call.status = status
        call.effect = effect
        call.deviation = deviation
        call.client_gone = client_gone
        if call.number <= len(self._calls) and self._calls[call.number - 1] is call:  # no reset in between
            self._entries.append(-call.number)

    def calls(self) -> list[Call]:
        """Every call in order of arrival; those that run have no end."""
        return list(self._calls)

    def entries(self, after: int = 0) -> Iterator[dict[str, Any]]:
        """The entries whose sequence number is above ``after``, as JSON objects; those that come meanwhile too."""
        seq = max(after, 0)
        while seq < len(self._entries):
            entry = self._entries[seq]
            seq += 1
            yield _started(seq, self._calls[entry - 1]) if entry > 0 else _ended(seq, self._calls[-entry - 1])

    @property
    def last_seq(self) -> int:
        """The sequence number of the last entry."""
        return len(self._entries)

    def clear(self) -> None:
        """Forgets all calls; numbers begin anew. Calls that are running leave no trace when they end."""
        self.count = 0
        self._calls = []
        self._entries = array("q")

    def _kept(self, headers: Mapping[str, str]) -> dict[str, str]:
        values = tuple(headers.get(name) for name in _KEPT_HEADERS)
        kept = self._headers.get(values)
        if kept is None:
            kept = {name: value for name, value in zip(_KEPT_HEADERS, values, strict=True) if value is not None}
            if len(self._headers) < 1_000:
                self._headers[values] = kept
        return kept


def _started(seq: int, call: Call) -> dict[str, Any]:
    return {
        "seq": seq,
        "phase": "start",
        "call": call.number,
        "at_s": call.started_s,
        "platform": call.platform,
        "account": call.account,
        "method": call.method,
        "kind": call.kind,
        "target": call.target,
        "entity": call.entity,
        "key": call.key,
        "headers": call.headers,
        "path": call.path,
    }


def _ended(seq: int, call: Call) -> dict[str, Any]:
    return {
        "seq": seq,
        "phase": "end",
        "call": call.number,
        "at_s": call.ended_s,
        "status": call.status,
        "effect": call.effect,
        "deviation": call.deviation,
        "client_gone": call.client_gone,
    }


def merge(calls: dict[int, Call], entry: Mapping[str, Any]) -> None:
    """Puts an entry of a log back into the call that it belongs to; ``calls`` is by number.

    An end whose start was read by an earlier request finds its call in the same dict.
    """
    if entry["phase"] == "start":
        calls[entry["call"]] = Call(
            number=entry["call"],
            platform=entry["platform"],
            account=entry["account"],
            method=entry["method"],
            kind=entry["kind"],
            target=entry["target"],
            entity=entry["entity"],
            key=KeyState(entry["key"]),
            headers=entry["headers"],
            path=entry["path"],
            started_s=entry["at_s"],
        )
        return
    call = calls[entry["call"]]
    call.ended_s = entry["at_s"]
    call.status = entry["status"]
    call.effect = entry["effect"]
    call.deviation = entry["deviation"]
    call.client_gone = entry["client_gone"]
