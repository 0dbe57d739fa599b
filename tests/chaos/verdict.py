"""What must be true of a run, judged from the topics, the sandbox's record and the faults that fell. Pure.

What the service did wrong has a name here (a key of ``Findings.wrong``); what is allowed is counted with its reason.
Nothing of the service's own code is used.
"""

import uuid
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from handlers.sandbox import Call
from tests.chaos import commits as committed
from tests.chaos.books import Settled
from tests.chaos.watching import Commits
from tests.support.oracle import NAMESPACE, Place
from tests.support.workflows import Execution

_EXAMPLES = 5
# A call that was on its way when its process froze goes out as soon as it thaws.
_ON_ITS_WAY_S = 3.0
# As long as a request may take: an answer that was lost is noticed after so long at the latest.
_CALL_LASTS_S = 15.0
# So long after its restart a broker may still tell offsets of long ago.
_KNOWS_LITTLE_S = 60.0


class Event(NamedTuple):
    """A source record, in small. ``number`` orders the events of a contact; None: it cannot be read."""

    key: bytes | None
    timestamp_ms: int
    target: str | None
    number: int | None


class Trouble(NamedTuple):
    """Something that explains a repeated call. ``replica`` None: it befell all. Times are monotonic."""

    kind: str
    replica: str | None
    from_s: float
    to_s: float


class Troubles:
    """Which of them overlapped."""

    def __init__(self, troubles: Iterable[Trouble]) -> None:
        self._all = sorted(troubles, key=lambda trouble: trouble.from_s)
        self._starts = [trouble.from_s for trouble in self._all]
        self._longest_s = max((trouble.to_s - trouble.from_s for trouble in self._all), default=0.0)

    def between(self, accounts: Sequence[str], from_s: float, to_s: float, *kinds: str) -> str | None:
        """The first kind, in the order asked, of which one overlapped with this time for one of the accounts, whose
        names end with ``-<replica>``."""
        replicas = {account.rpartition("-")[2] for account in accounts}
        overlapping = {
            one.kind
            for one in self._all[bisect_left(self._starts, from_s - self._longest_s) : bisect_right(self._starts, to_s)]
            if one.to_s >= from_s and (one.replica is None or one.replica in replicas)
        }
        return next((kind for kind in kinds if kind in overlapping), None)


class Findings:
    """Names of what is wrong with examples, and counts of what is allowed."""

    def __init__(self) -> None:
        self.wrong: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = defaultdict(list)
        self.counts: Counter[str] = Counter()

    def blame(self, name: str, example: object) -> None:
        self.wrong[name] += 1
        if len(self.examples[name]) < _EXAMPLES:
            self.examples[name].append(str(example))

    def allow(self, name: str) -> None:
        self.counts[name] += 1


def result_id(lane: str, place: Place, event: Event) -> str:
    """As the design names it."""
    name = f"{lane}\n{place.topic}\n{place.partition}\n{place.offset}\n{event.timestamp_ms}"
    return str(uuid.uuid5(NAMESPACE, name))


def check_results(
    findings: Findings,
    lane: str,
    events: Mapping[Place, Event],
    settled: Mapping[Place, Settled],
    allowed: Callable[[Event], frozenset[tuple[str, str | None]]],
) -> None:
    """One terminal result per event, one of those that are allowed, with the right id and key."""
    for place, event in events.items():
        one = settled.get(place)
        if one is None:
            findings.blame("missing", (lane, place))
            continue
        findings.counts[f"{lane}: {one.outcome}/{one.reason}"] += 1
        if (one.outcome, one.reason) not in allowed(event):
            findings.blame("wrong outcome", (lane, place, one.outcome, one.reason))
        if one.id != result_id(lane, place, event):
            findings.blame("wrong id", (lane, place))
        if one.key != event.key:
            findings.blame("wrong key", (lane, place))
    for place in settled.keys() - events.keys():
        findings.blame("from nowhere", (lane, place))


def check_commits(
    findings: Findings,
    commits: Iterable[Commits],
    events: Mapping[Place, Event],
    settled: Mapping[str, Mapping[Place, Settled]],
    restarts_s: Sequence[float] = (),
) -> None:
    """When an offset was committed, the results of all events below it were written already, as one with it; and of all
    that its metadata says have finished beyond it. No commit lies before an earlier one, but
    for those that a broker tells that was restarted (``restarts_s``) a moment ago: it can be wrong (docs/kafka.md), and
    what comes of it is for the results and the calls to say."""
    offsets: dict[tuple[str, int], list[int]] = defaultdict(list)
    for place in events:
        offsets[place.topic, place.partition].append(place.offset)
    for found in offsets.values():
        found.sort()
    checked: dict[tuple[str, str, int], int] = {}
    last: dict[tuple[str, str, int], int] = {}
    for sample in commits:
        findings.counts["commits sampled"] += 1
        mine = settled.get(sample.lane, {})
        for (topic, partition), (offset, metadata) in sample.offsets.items():
            former = last.get((sample.lane, topic, partition), 0)
            last[sample.lane, topic, partition] = offset
            if offset < former and any(at_s <= sample.at_s < at_s + _KNOWS_LITTLE_S for at_s in restarts_s):
                findings.allow("offsets that a restarted broker told, behind those that were committed")
            elif offset < former:
                findings.blame("commit went back", (sample.lane, topic, partition, former, offset, sample.at_s))
            known = offsets.get((topic, partition), [])
            begin = checked.get((sample.lane, topic, partition), 0)
            end = bisect_left(known, offset)
            told = list(known[begin:end])
            checked[sample.lane, topic, partition] = max(begin, end)
            told += _told_beyond(findings, events, Place(topic, partition, offset), metadata, known)
            for number in told:
                one = mine.get(Place(topic, partition, number))
                if one is None or one.offset >= sample.ends.get(one.partition, 0):
                    findings.blame("commit beyond unfinished", (sample.lane, topic, partition, number, offset))


def _told_beyond(
    findings: Findings, events: Mapping[Place, Event], commit: Place, metadata: str, known: Sequence[int]
) -> list[int]:
    """Which offsets a commit's metadata says have finished."""
    if not metadata:
        return []
    try:
        finished = committed.decode(commit.offset, metadata)
    except ValueError as error:
        findings.blame("commit metadata", (commit, str(error)))
        return []
    findings.counts["commits with metadata sampled"] += 1
    told = []
    for first, end in finished.ranges:
        if first < commit.offset:
            continue
        for number in known[bisect_left(known, first) : bisect_left(known, end)]:
            event = events[commit._replace(offset=number)]
            if finished.covers(number, event.key):
                told.append(number)
    findings.counts["finished beyond commits, looked at"] += len(told)
    return told


def check_calls(
    findings: Findings,
    calls: Sequence[Call],
    settled_s: Mapping[tuple[str, int], float],
    wanted: set[tuple[str, int]],
    troubles: Troubles,
) -> None:
    """Of the joins: each took effect that was to; none was made again without a reason; order per contact."""
    by_target: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        by_target[call.target or ""].append(call)
    effective: set[tuple[str, int]] = set()
    for target, mine in by_target.items():
        last: dict[int, Call] = {}
        newest, newest_of = 0, dict[str, Call]()
        for call in mine:
            number = int(call.entity or 0)
            if (before := last.get(number)) is not None:
                _check_repeat(findings, before, call, settled_s.get((target, number)), troubles)
            last[number] = call
            if call.effect and (target, number) not in effective:
                effective.add((target, number))
                if number < newest:
                    findings.blame("order lost", (target, number, newest))
                newest = max(newest, number)
            earlier = newest_of.get(call.account)
            if earlier is not None and number < int(earlier.entity or 0):
                reason = troubles.between([call.account], earlier.started_s, call.started_s, *_TAKEOVERS)
                if reason is None:
                    findings.blame("order lost", (target, number, earlier.entity, call.account))
            newest_of[call.account] = call
    for missing in wanted - effective:
        findings.blame("delivered without a call", missing)
    for strange in effective - wanted:
        findings.blame("called, not asked for", strange)


# What takes a partition, or the answer to a call, away from a process.
_TAKEOVERS = ("kill", "freeze", "broker", "broker-freeze", "refusal", "takeover", "kafka-wire", "silence")


def _check_repeat(findings: Findings, before: Call, call: Call, settled_s: float | None, troubles: Troubles) -> None:
    """Whether a second call has a reason; and none comes behind its result."""
    findings.counts["repeated calls"] += 1
    both = [before.account, call.account]
    if settled_s is not None and call.started_s > settled_s:
        residue = troubles.between([call.account], call.started_s - _ON_ITS_WAY_S, call.started_s, "freeze", "wire")
        if residue is None:
            findings.blame("called after its result", (call.target, call.entity, call.account))
        else:
            findings.allow(f"residue: {residue}")
        return
    reason = None
    if before.ended_s is not None and (before.status is None or before.status >= 400):
        reason = "answer"
    elif before.client_gone:
        reason = troubles.between(both, before.started_s, call.started_s, *_TAKEOVERS, "wire") or "client gone"
    ended_s = before.started_s if before.ended_s is None else before.ended_s
    reason = reason or troubles.between([before.account], before.started_s, ended_s + _CALL_LASTS_S, "wire")
    reason = reason or troubles.between(both, before.started_s, call.started_s, *_TAKEOVERS)
    if reason is None and before.deviation is not None:
        reason = "answer"  # cut off, or with another status than its own
    if reason is None:
        findings.blame("repeated without a reason", (call.target, call.entity, before.account, call.account))
    else:
        findings.allow(f"repeated: {reason}")


def check_executions(
    findings: Findings,
    lane: str,
    events: Mapping[Place, Event],
    settled: Mapping[Place, Settled],
    executions: Sequence[Execution],
    troubles: Troubles,
    wall_to_monotonic_s: float,
) -> None:
    """None twice but for a call on its way when its process froze; results tell the truth; order per receiver."""
    ids = {
        str(uuid.uuid5(NAMESPACE, f"execution\n{result_id(lane, place, event)}")): place
        for place, event in events.items()
    }
    by_place: dict[Place, list[Execution]] = defaultdict(list)
    newest: dict[str, tuple[int, int]] = {}
    for one in executions:
        place = ids.get(one.id)
        if place is None:
            findings.blame("executed from nowhere", one.id)
            continue
        by_place[place].append(one)
        at_s = one.at_s + wall_to_monotonic_s
        late = (found := settled.get(place)) is not None and at_s > found.seen_s
        if len(by_place[place]) > 1:
            continue
        if late:
            findings.allow("executed after its result said in doubt")
        elif (place.partition, place.offset) < newest.get(one.receiver, (0, 0)):
            findings.blame("order lost", (one.receiver, place))
        else:
            newest[one.receiver] = (place.partition, place.offset)
    for place, done in by_place.items():
        if len(done) < 2:
            continue
        thawed = [
            one
            for one in done
            if troubles.between(
                [one.account],
                one.at_s + wall_to_monotonic_s - _ON_ITS_WAY_S,
                one.at_s + wall_to_monotonic_s,
                "freeze",
            )
        ]
        if len(thawed) >= len(done) - 1:
            findings.allow("executed twice: on its way when its process froze")
        else:
            findings.blame("executed twice", (place, [(one.account, round(one.at_s, 2)) for one in done]))
    for place, found in settled.items():
        if found.outcome == "delivered" and place not in by_place:
            findings.blame("delivered without a call", (lane, place))
        elif found.outcome == "in_doubt":
            findings.allow(f"in doubt, {'performed' if place in by_place else 'not performed'}")


def recovery_s(
    faults: Iterable[tuple[str, float]], timelines: Sequence[Sequence[tuple[float, float]]]
) -> dict[str, list[float]]:
    """After each fault, how long until all that had been published before it was settled. ``timelines``, by lane:
    (published, settled) of each event, monotonic."""
    found: dict[str, list[float]] = defaultdict(list)
    prepared = []
    for timeline in timelines:
        ordered = sorted(timeline)
        latest, highest = [], float("-inf")
        for _, settled in ordered:
            highest = max(highest, settled)
            latest.append(highest)
        prepared.append(([published for published, _ in ordered], latest))
    for kind, at_s in faults:
        ends = [latest[count - 1] for times, latest in prepared if (count := bisect_right(times, at_s))]
        found[kind].append(max(0.0, max(ends, default=at_s) - at_s))
    return dict(found)


def still_s(
    faults: Iterable[tuple[str, float]], settled: Mapping[str, Mapping[Place, Settled]]
) -> dict[str, list[float]]:
    """After each fault, how long the partition that stood still longest had no new result: until somebody took it over,
    however much had gathered by then. ``settled`` by lane. A partition without any later one does not count."""
    seen: dict[tuple[str, str, int], array[float]] = defaultdict(lambda: array("d"))
    for lane, found in settled.items():
        for place, one in found.items():
            seen[lane, place.topic, place.partition].append(one.seen_s)
    ordered = [sorted(times) for times in seen.values()]
    stood: dict[str, list[float]] = defaultdict(list)
    for kind, at_s in faults:
        waits = [times[after] - at_s for times in ordered if (after := bisect_right(times, at_s)) < len(times)]
        if waits:
            stood[kind].append(max(waits))
    return dict(stood)
