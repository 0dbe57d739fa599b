"""Notifications whose executions can be told apart, and what must be true of those that took effect.

The sandbox keeps a record of every execution that it performed; an execution's id is computed here from the source
record alone, with ``uuid``, and not by the service's code.
"""

import json
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox import SandboxServer
from tests.support.kafka import Message
from tests.support.oracle import NAMESPACE, Place, Result, Source, expected_id


class Notifications:
    """Notifications of ``targets`` targets in an order that ``seed`` decides; ids rise with each."""

    def __init__(self, targets: int, *, seed: int = 0, name: str = "n") -> None:
        self._targets = targets
        self._random = Random(seed)
        self._name = name
        self.count = 0

    def take(self, count: int) -> list[Message]:
        """The next ``count`` notifications."""
        return [self._next() for _ in range(count)]

    def _next(self) -> Message:
        self.count += 1
        target = f"{self._name}-{self._random.randrange(self._targets):05d}"
        return notification(f"{self._name}-{self.count:06d}", target)


def notification(event_id: str, target: str, **data: Any) -> Message:
    """A ``notification.occurred.v1`` in structured mode, keyed by its target."""
    body = {
        "notification_key": 7,
        "target": target,
        "action": "activation",
        "occurred_at": "2026-01-01T00:00:00Z",
        **data,
    }
    event = {"specversion": "1.0", "id": event_id, "source": "np6", "type": "notification.occurred.v1", "data": body}
    return Message(json.dumps(event).encode(), key=target.encode())


class Execution(NamedTuple):
    """One execution that took effect: which account's call did it, and when (wall clock, seconds)."""

    account: str
    at_s: float
    id: str
    receiver: str
    event: str
    thread: str
    call: int


def performed(server: SandboxServer, *accounts: str) -> list[Execution]:
    """What a sandbox's accounts have executed, in order of time."""
    platform = server.platforms["np6"]
    assert isinstance(platform, Np6Sandbox)
    found = [
        Execution(
            account,
            one.at_s,
            one.id,
            one.receiver["value"],
            one.execution["data"]["event"],
            one.execution["stamp"]["thread"],
            one.call,
        )
        for account in accounts
        for one in platform.performed(account)
    ]
    return sorted(found, key=lambda execution: execution.at_s)


def execution_ids(lane: str, sources: Mapping[Place, Source]) -> dict[str, Place]:
    """The id that the execution of each source record must have."""
    return {str(uuid.uuid5(NAMESPACE, f"execution\n{expected_id(lane, place, sources)}")): place for place in sources}


class Verdict(NamedTuple):
    """What became of executions, counted."""

    once: int
    twice: int  # without an excuse
    excused: int  # the second one was on its way when its process froze
    in_doubt_performed: int
    in_doubt_not_performed: int
    late: int  # performed after their result said in_doubt: HTTP has no fence


# A call that was on its way when its process froze goes out as soon as it thaws.
_ON_ITS_WAY_S = 2.0


class Frozen(NamedTuple):
    """When a process stood still (wall clock, seconds), and as which account it calls. On a busy machine what it does
    behind that comes ``late_s`` later."""

    account: str
    from_s: float
    to_s: float
    late_s: float = 0.0


def judge(
    lane: str,
    sources: Mapping[Place, Source],
    results: Iterable[Result],
    executions: Sequence[Execution],
    frozen: Sequence[Frozen] = (),
) -> Verdict:
    """Counts what took effect twice, and checks that each result tells the truth. Raises AssertionError."""
    wanted = execution_ids(lane, sources)
    by_id: dict[str, list[Execution]] = defaultdict(list)
    for execution in executions:
        by_id[execution.id].append(execution)
    strange = [id_ for id_ in by_id if id_ not in wanted]
    assert not strange, f"{len(strange)} executions of no event of ours, e.g. {strange[:3]}"
    places = {place: by_id[id_] for id_, place in wanted.items() if id_ in by_id}
    counts = Counter[str]()
    faults: list[str] = []
    for result in results:
        done = places.get(result.place, [])
        outcome = result.data["outcome"]
        if outcome == "delivered" and not done:
            faults.append(f"{result.place} is delivered and was not performed")
        if outcome not in ("delivered", "in_doubt"):
            faults.append(f"{result.place} is {result.verdict}")
        if outcome == "in_doubt":
            counts["in_doubt_performed" if done else "in_doubt_not_performed"] += 1
            counts["late"] += any(one.at_s * 1000 > result.at_ms for one in done)
        if len(done) == 1:
            counts["once"] += 1
        elif done:
            counts["excused" if _excused(done, frozen) else "twice"] += 1
    assert not faults, f"{len(faults)} results do not tell the truth, e.g. {faults[:3]}"
    return Verdict(*(counts[name] for name in Verdict._fields))


def _excused(done: Sequence[Execution], frozen: Sequence[Frozen]) -> bool:
    """Whether all but one were made by a process that had been frozen, just after it thawed."""
    late = [
        one
        for one in done
        if any(
            one.account == was.account and was.to_s <= one.at_s < was.to_s + _ON_ITS_WAY_S + was.late_s
            for was in frozen
        )
    ]
    return len(late) >= len(done) - 1


def check_order(executions: Sequence[Execution]) -> None:
    """Each target's notifications took effect in the order in which they were published, repeats aside."""
    seen: set[str] = set()
    last: dict[str, Execution] = {}
    wrong = []
    for execution in executions:
        if execution.id in seen:
            continue
        seen.add(execution.id)
        before = last.get(execution.receiver)
        if before is not None and before.event > execution.event:
            wrong.append((before, execution))
        last[execution.receiver] = execution
    assert not wrong, f"{len(wrong)} out of order, e.g. {wrong[0]}"
