"""The chaos suite's detectors, each shown what it must find and what it must let pass."""

import uuid
from typing import Any

import pytest

from handlers.sandbox import Call
from handlers.sandbox.calls import KeyState
from tests.chaos.verdict import (
    Event,
    Findings,
    Trouble,
    Troubles,
    check_calls,
    check_commits,
    check_executions,
    check_results,
    recovery_s,
    result_id,
    still_s,
)
from tests.chaos.watching import Commits, Settled
from tests.support.oracle import NAMESPACE, Place
from tests.support.workflows import Execution

PLACE = Place("t", 0, 4)
EVENT = Event(b"k", 1000, "k", 1)
DELIVERED = frozenset[tuple[str, str | None]]({("delivered", None)})


def settled(**changes: Any) -> Settled:
    """A result of ``EVENT``."""
    known = Settled(result_id("lane", PLACE, EVENT), "delivered", None, False, b"k", 10.0, 1, 5)
    return known._replace(**changes)


def call(
    number: int, at_s: float, *, account: str = "segments-r0", entity: int = 1, status: int | None = 204, **more: Any
) -> Call:
    """A join of target k, half a second long."""
    return Call(
        number,
        "np6",
        account,
        "POST",
        "join",
        "k",
        str(entity),
        KeyState.RIGHT,
        {},
        None,
        at_s,
        ended_s=at_s + 0.5,
        status=status,
        effect=status == 204,
        **more,
    )


@pytest.mark.parametrize(
    ("found", "name"),
    [
        ({}, "missing"),
        ({PLACE: settled(outcome="rejected")}, "wrong outcome"),
        ({PLACE: settled(id="x")}, "wrong id"),
        ({PLACE: settled(key=b"other")}, "wrong key"),
        ({PLACE: settled(), Place("t", 0, 9): settled()}, "from nowhere"),
        ({PLACE: settled()}, None),
    ],
)
def test_results(found: dict[Place, Settled], name: str | None) -> None:
    """One result per event, as it has to be."""
    findings = Findings()
    check_results(findings, "lane", {PLACE: EVENT}, found, lambda _: DELIVERED)
    assert set(findings.wrong) == ({name} if name else set())


@pytest.mark.parametrize(("offset", "end", "wrong"), [(5, 5, 1), (5, 6, 0), (4, 0, 0)])
def test_commits(offset: int, end: int, wrong: int) -> None:
    """A commit beyond an event whose result was not written yet is found; one in front of it, or with it, is not."""
    findings = Findings()
    sample = Commits("lane", {("t", 0): (offset, "")}, {1: end})
    check_commits(findings, [sample], {PLACE: EVENT}, {"lane": {PLACE: settled()}})
    assert findings.wrong["commit beyond unfinished"] == wrong


def test_a_commit_that_goes_back() -> None:
    """Who reads a smaller offset than before would do again what is done. A broker that was restarted just now may tell
    one, for it can be wrong."""
    samples = [Commits("lane", {("t", 0): (offset, "")}, {}, 100.0 + offset) for offset in (5, 5, 9, 7)]
    for restarts_s, wrong in (([], 1), ([106.0], 0), ([108.0], 1), ([20.0], 1)):
        findings = Findings()
        check_commits(findings, samples, {}, {}, restarts_s)
        assert findings.wrong["commit went back"] == wrong


@pytest.mark.parametrize(
    ("calls", "troubles", "wrong", "allowed"),
    [
        ([call(1, 0.0), call(2, 1.0)], [], "repeated without a reason", None),
        ([call(1, 0.0), call(2, 1.0)], [Trouble("kill", "r0", 0.3, 0.4)], None, "repeated: kill"),
        ([call(1, 0.0), call(2, 1.0)], [Trouble("kill", "r1", 0.3, 0.4)], "repeated without a reason", None),
        ([call(1, 0.0, status=500), call(2, 1.0)], [], None, "repeated: answer"),
        ([call(1, 0.0), call(2, 11.0)], [Trouble("kill", "r0", 0.3, 0.4)], "called after its result", None),
        ([call(1, 0.0), call(2, 11.0)], [Trouble("freeze", "r0", 0.3, 11.0)], None, "residue: freeze"),
        ([call(1, 0.0, entity=2), call(2, 1.0, entity=1)], [], "order lost", None),
        ([call(1, 0.0, entity=1), call(2, 1.0, entity=2)], [], None, None),
    ],
)
def test_calls(calls: list[Call], troubles: list[Trouble], wrong: str | None, allowed: str | None) -> None:
    """A repeated call needs a reason of its own process; order per contact holds."""
    findings = Findings()
    wanted = {("k", int(call.entity or 0)) for call in calls}
    check_calls(findings, calls, {("k", 1): 10.0}, wanted, Troubles(troubles))
    assert set(findings.wrong) == ({wrong} if wrong else set())
    assert allowed is None or findings.counts[allowed] == 1


def test_a_call_that_was_never_made() -> None:
    """Delivered events were called for, and nothing else was."""
    findings = Findings()
    check_calls(findings, [call(1, 0.0, entity=2)], {}, {("k", 1)}, Troubles([]))
    assert set(findings.wrong) == {"delivered without a call", "called, not asked for"}


@pytest.mark.parametrize(
    ("account", "troubles", "wrong"),
    [("workflows-r1", [], 1), ("workflows-r1", [Trouble("freeze", "r1", 1.0, 9.0)], 0)],
)
def test_executions(account: str, troubles: list[Trouble], wrong: int) -> None:
    """An execution twice is found, but for one that was on its way when its process froze, which is counted."""
    identity = str(uuid.uuid5(NAMESPACE, f"execution\n{result_id('lane', PLACE, EVENT)}"))
    done = [Execution(a, at, identity, "k", "e", "t", 1) for a, at in [("workflows-r0", 2.0), (account, 9.0)]]
    findings = Findings()
    check_executions(findings, "lane", {PLACE: EVENT}, {PLACE: settled()}, done, Troubles(troubles), 0.0)
    assert findings.wrong["executed twice"] == wrong
    assert sum(findings.counts.values()) == 1 - wrong


def test_recovery() -> None:
    """From the fault until what was published before it is settled."""
    assert recovery_s([("kill", 5.0)], [[(1.0, 2.0), (4.0, 9.0), (6.0, 30.0)]]) == {"kill": [4.0]}


def test_how_long_partitions_stood_still() -> None:
    """The one that waited longest for its next result; one that has none any more is left out."""
    times = {0: [1.0, 4.9, 5.3], 1: [1.0, 12.0, 12.1], 2: [2.0]}
    found = {
        Place("t", partition, number): settled()._replace(seen_s=at_s)
        for partition, of in times.items()
        for number, at_s in enumerate(of)
    }
    assert still_s([("kill", 5.0), ("stop", 20.0)], {"lane": found}) == {"kill": [7.0]}
