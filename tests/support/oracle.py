"""What must be true of a run, judged from the topics and from the sandbox's record alone.

Nothing here uses the service's code: results are plain JSON, ids come from ``uuid``, sources and dead letters are read
back as any ``read_committed`` reader finds them.
"""

import asyncio
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer

from handlers.sandbox import Call
from tests.support.kafka import Record, end_of, partitions_of, read_committed_all
from tests.support.patience import Patience, patiently

NAMESPACE = uuid.UUID("a06f0ca3-e230-4067-9938-b01c7eb393a8")
_EXAMPLES = 5


class Place(NamedTuple):
    """Where a source record lies."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Source:
    """A source record; of one that the client cannot parse key and value are None and the timestamp is -1."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int = -1
    parsable: bool = True


@dataclass(frozen=True)
class Result:
    """One record of the results topic; ``at_ms`` is when its transaction was written (wall clock)."""

    place: Place
    key: bytes | None
    at_ms: int
    document: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.document["data"]
        return data

    @property
    def lane(self) -> str:
        return str(self.data["lane"])

    @property
    def verdict(self) -> tuple[str, str | None]:
        """Outcome and reason."""
        return self.data["outcome"], self.data["reason"]


Expect = Callable[[Place, Source], tuple[str, str | None]]


def delivered(_place: Place, _source: Source) -> tuple[str, str | None]:
    """Every event is to be delivered."""
    return "delivered", None


async def read_sources(bootstrap_servers: str, topics: Sequence[str]) -> dict[Place, Source]:
    """Every committed record of the source topics."""
    return {
        Place(r.topic, r.partition, r.offset): Source(r.key, r.value, tuple(r.headers), r.timestamp)
        for r in await read_committed_all(bootstrap_servers, topics)
    }


def result_of(record: Record) -> Result:
    """A record of the results topic."""
    assert record.value is not None
    document = msgspec.json.decode(record.value)
    origin = document["data"]["origin"]
    place = Place(origin["topic"], origin["partition"], origin["offset"])
    return Result(place, record.key, record.timestamp, document)


async def read_results(bootstrap_servers: str, topic: str) -> list[Result]:
    """Every result that a ``read_committed`` reader finds now."""
    return [result_of(record) for record in await read_committed_all(bootstrap_servers, [topic])]


class Results:
    """Follows a results topic as it grows; an async context manager. Counts events of lanes, not records."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        self._topic = topic
        self.found: list[Result] = []
        self._seen: dict[str, set[Place]] = defaultdict(set)

    async def __aenter__(self) -> "Results":
        await self._consumer.start()
        self._consumer.assign(await partitions_of(self._consumer, [self._topic]))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end_of(self._consumer)

    async def look(self, wait_s: float = 0.05) -> None:
        """Take what has come."""
        for records in (await self._consumer.getmany(timeout_ms=int(wait_s * 1000))).values():
            for record in records:
                result = result_of(record)
                self.found.append(result)
                self._seen[result.lane].add(result.place)

    def of(self, lane: str) -> set[Place]:
        """The events of a lane that have a result."""
        return self._seen[lane]

    async def until(
        self,
        counts: Mapping[str, int],
        *,
        within_s: float,
        alive: Callable[[], object] = lambda: None,
    ) -> None:
        """Wait until each lane has results for so many events. ``alive`` may raise. Raises AssertionError."""
        patience = Patience(within_s)
        while any(len(self.of(lane)) < count for lane, count in counts.items()):
            alive()
            if patience.is_over(sum(len(self.of(lane)) for lane in counts)):
                now = {lane: f"{len(self.of(lane))} of {count}" for lane, count in counts.items()}
                raise AssertionError(f"not settled within {within_s} s: {now}")
            await self.look()


async def until(condition: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Poll until it is so. Raises AssertionError, saying ``what`` was waited for."""
    deadline = time.monotonic() + patiently(within_s)
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what}")
        await asyncio.sleep(0.01)


def check_results(
    results: Iterable[Result],
    lane: str,
    sources: Mapping[Place, Source],
    expect: Expect = delivered,
    *,
    repeats_allowed: bool = False,
) -> dict[Place, Result]:
    """One result for each source record, as expected, with the id that the design names; the first of each.

    ``repeats_allowed`` (at least once): a result may appear again, with the same id.
    """
    mine = [result for result in results if result.lane == lane]
    first: dict[Place, Result] = {}
    for result in mine:
        first.setdefault(result.place, result)
    counts = Counter(result.place for result in mine)
    twice = [] if repeats_allowed else [place for place, count in counts.items() if count > 1]
    faults: dict[str, Sequence[Any]] = {
        "missing": [place for place in sources if place not in counts],
        "from nowhere": [place for place in counts if place not in sources],
        "twice": twice,
        "wrong outcome": [
            (place, result.verdict, expect(place, sources[place]))
            for place, result in first.items()
            if place in sources and result.verdict != expect(place, sources[place])
        ],
        "wrong id": [
            result.place
            for result in mine
            if result.place in sources and result.document["id"] != expected_id(lane, result.place, sources)
        ],
        "key": [result.place for result in mine if result.place in sources and result.key != sources[result.place].key],
    }
    _raise_for(f"results of {lane}", faults, len(sources))
    ids = {result.document["id"] for result in mine}
    assert len(ids) == len(first), "two events share a result id"
    return first


def expected_id(lane: str, place: Place, sources: Mapping[Place, Source]) -> str:
    """The result id of a record."""
    name = f"{lane}\n{place.topic}\n{place.partition}\n{place.offset}\n{sources[place].timestamp_ms}"
    return str(uuid.uuid5(NAMESPACE, name))


def check_dead_letters(
    records: Sequence[Record], lane: str, sources: Mapping[Place, Source], results: Mapping[Place, Result]
) -> None:
    """Each dead result has one dead letter, byte for byte, in its source's partition; and there are no others."""
    found: dict[Place, list[Record]] = defaultdict(list)
    for record in records:
        headers = dict(record.headers)
        place = Place(
            headers["fanline-origin-topic"].decode(),
            int(headers["fanline-origin-partition"]),
            int(headers["fanline-origin-offset"]),
        )
        found[place].append(record)
    dead = {place for place, result in results.items() if result.data["dead_letter"]}
    faults: dict[str, list[Any]] = {
        "missing": [place for place in dead if place not in found],
        "from nowhere": [place for place in found if place not in dead],
        "twice": [place for place, records in found.items() if len(records) > 1],
        "differs": [
            (place, why)
            for place in dead & found.keys()
            if (why := _difference(found[place][0], lane, place, sources[place], results[place])) is not None
        ],
    }
    _raise_for(f"dead letters of {lane}", faults, len(dead))


def _difference(record: Record, lane: str, place: Place, source: Source, result: Result) -> str | None:
    """What of a dead letter is not as it has to be."""
    headers = tuple(record.headers)
    ours = {name: value.decode() for name, value in headers if name.startswith("fanline-")}
    foreign = tuple(header for header in headers if not header[0].startswith("fanline-"))
    kept = tuple(header for header in source.headers if not header[0].startswith("fanline-"))
    outcome, reason = result.verdict
    told = (ours.get("fanline-lane"), ours.get("fanline-outcome"), ours.get("fanline-reason"))
    checks = {
        "value": record.value == source.value,
        "key": record.key == source.key,
        "headers": foreign == kept,
        "a header repeated": len(ours) + len(foreign) == len(headers),
        "partition": record.partition == place.partition,
        "lane, outcome or reason": told == (lane, outcome, reason),
        "result id": ours.get("fanline-result-id") == result.document["id"],
        "replays": ours.get("fanline-replays") == "0",
    }
    return next((name for name, holds in checks.items() if not holds), None)


def event_calls(calls: Iterable[Call], accounts: Iterable[str]) -> list[Call]:
    """The joins of some accounts, in order of arrival."""
    wanted = set(accounts)
    return [call for call in calls if call.account in wanted and call.kind == "join"]


def check_order(
    calls: Iterable[Call], *, deaths_s: Sequence[float] = (), keyless: frozenset[str] = frozenset()
) -> None:
    """Per target, segments rise from call to call and no call starts before the one before it has ended.

    At each death (monotonic seconds) the order begins anew: what was not settled is called again.
    """
    faults: dict[str, list[Any]] = {"out of order": [], "overlapping": []}
    last: dict[str, Call] = {}
    lives: dict[str, int] = {}
    for call in calls:
        target = call.target or ""
        if target in keyless:
            continue
        life = sum(death < call.started_s for death in deaths_s)
        before = last.get(target)
        if before is not None and lives[target] == life:
            if int(call.entity or 0) < int(before.entity or 0):
                faults["out of order"].append((target, before.entity, call.entity))
            # One without an answer was given up by the client, which the sandbox notices a little later.
            if before.status is not None and (before.ended_s or 0.0) > call.started_s:
                faults["overlapping"].append((target, before.entity, call.entity))
        last[target], lives[target] = call, life
    _raise_for("order per contact", faults, len(last))


def check_each_called(calls: Iterable[Call], wanted: Iterable[tuple[str, int]]) -> None:
    """Every event took effect at the platform, and nothing else was asked of it."""
    effective = {(call.target, int(call.entity or 0)) for call in calls if call.effect}
    wanted = set(wanted)
    _raise_for(
        "calls",
        {"never took effect": list(wanted - effective), "never asked for": list(effective - wanted)},
        len(wanted),
    )


def repeats(calls: Iterable[Call]) -> list[tuple[Call, Call]]:
    """Calls that were made again although the one before was not answered with a reason to (429, 5xx, reset)."""
    last: dict[tuple[str | None, str | None], Call] = {}
    again: list[tuple[Call, Call]] = []
    for call in calls:
        before = last.get((call.target, call.entity))
        if before is not None and not (before.deviation and not before.effect and before.ended_s is not None):
            again.append((before, call))
        last[call.target, call.entity] = call
    return again


def check_repeats(
    calls: Sequence[Call],
    deaths: Sequence["Death"],
    settled_at_ms: Mapping[tuple[str, int], int],
) -> int:
    """Each repeated call is explained by a death: the call before it had started, and its event was not settled.

    ``settled_at_ms`` is when (wall clock) the transaction with the event's result was written. As a result that is
    visible was committed, one written before a death was settled by the process that died. Gives the repeats' number.
    """
    found = repeats(calls)
    faults: dict[str, list[Any]] = {"without a death": [], "settled before the death": []}
    for before, call in found:
        between = [death for death in deaths if before.started_s <= death.at_s < call.started_s]
        if not between:
            faults["without a death"].append((call.target, call.entity))
            continue
        at_ms = settled_at_ms[call.target or "", int(call.entity or 0)]
        if at_ms <= between[-1].at_ms:
            faults["settled before the death"].append((call.target, call.entity))
    _raise_for("repeated calls", faults, len(found))
    return len(found)


class Death(NamedTuple):
    """When a process was killed: calls that start after ``at_s`` (monotonic) and results that were written after
    ``at_ms`` (wall clock) are somebody else's."""

    at_s: float
    at_ms: float


def settled_times(results: Iterable[Result]) -> dict[tuple[str, int], int]:
    """When the result of each (target, segment) was written."""
    times: dict[tuple[str, int], int] = {}
    for result in results:
        for operation in result.data["operations"]:
            times.setdefault((operation["target"], int(operation["entity"])), result.at_ms)
    return times


def _raise_for(what: str, faults: Mapping[str, Sequence[Any]], of: int) -> None:
    told = [f"{len(found)} {name}, e.g. {list(found)[:_EXAMPLES]}" for name, found in faults.items() if found]
    assert not told, f"{what} (of {of}): " + "; ".join(told)
