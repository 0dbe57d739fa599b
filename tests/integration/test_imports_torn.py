"""Imports whose partitions come to two processes, because ``slots`` was changed while they were open: through a real
broker, each lane with its import in another state. Nothing missing, nothing twice, no file sent by both, slots free."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from handlers.apsis.sandbox_imports import Import
from service.lifecycle import WAITING_FOR_SLOT
from tests.support import import_halts
from tests.support.harness import ServiceProcess, free_port
from tests.support.import_halts import Point
from tests.support.import_kills import EVENTS, Killed, Scene
from tests.support.import_stage import APSIS, KEYSPACE, ORPHANS_LIVE_S, ImportStage
from tests.support.kafka import Message, produce
from tests.support.oracle import Place, Result, Source, until
from tests.support.patience import patiently

# Contacts of all partitions share rows: the n-th event of each has one.
SHARING = {
    **APSIS,
    "keyspaces": [{"discriminator": KEYSPACE, "column": "contact", "value": "string(data.segments.join[0])"}],
}
# A contact's first two events have a row; all further ones, of whatever contact, share another.
SPLITTING = {
    **APSIS,
    "keyspaces": [
        {
            "discriminator": KEYSPACE,
            "column": "contact",
            "value": 'data.segments.join[0] > 2 ? "many" : data.contact_id',
        }
    ],
    "partial_failures": "split",
    "split_budget": 60,
    "guard": "off",
}
LANES: dict[str, Mapping[str, Any]] = {
    "created": SHARING,
    "another-file": APSIS,
    "uploaded": SHARING,
    "failed-rows": SPLITTING,
}
SCENES = {
    "created": Scene(Point.CREATED),
    "another-file": Scene(Point.CREATED, lapses=True, again={"delimiter": ";"}),
    "uploaded": Scene(looks=2),
    "failed-rows": Scene(looks=2),
}
POLLED = ("uploaded", "failed-rows")
# An import in each of three partitions: of two slots the first has two of them then.
CROWDED: dict[str, Mapping[str, Any]] = {"crowded": {**APSIS, "slots": 3}}
MANY_POLLS = 1_000_000

# Of both processes what each tells of its lanes, by name.
Told = list[dict[str, Any]]


class Torn(Killed):
    """The process that is killed had all partitions; two come back, who share them otherwise."""

    def __init__(self, stage: ImportStage, scenes: Mapping[str, Scene] = SCENES) -> None:
        super().__init__(stage, scenes)
        self._ports = [free_port(), free_port()]
        self._services: list[ServiceProcess] = []

    async def order(self, action: str) -> None:
        """An operator pauses or resumes all lanes."""
        value = {"action": action, "by": "test", "why": "slots", "at_ms": int(time.time() * 1000), "version": 1}
        orders = [Message(json.dumps(value).encode(), key=f"lane/{lane}".encode()) for lane in self._scenes]
        await produce(self.stage.bootstrap_servers, f"{self.stage.prefix}.control", orders)

    def come_back_as_two(self) -> None:
        """Each is told of two slots."""
        self.stage.change({lane: {"slots": 2, **scene.again} for lane, scene in self._scenes.items()})
        for lane in self._scenes:
            self.stage.apsis.configure(lane, {"max_open": 2})
        for number, port in enumerate(self._ports):
            environment = import_halts.environment(self._folder, {})
            service = self.stage.process(
                f"again-{number}",
                module=import_halts.MODULE,
                environment=environment,
                kafka={"instance_id": f"pod-{number}"},
                http_port=port,
            )
            service.start()
            self._services.append(service)
        self._service = self._services[0]

    async def until_torn(self) -> Told:
        """Wait until both have a slot of each lane and have found its import; what they tell of the lanes."""

        def found(told: Told) -> bool:
            return all(len(lanes) == len(self._scenes) and all(map(_has_found, lanes.values())) for lanes in told)

        return await self.until_told(found)

    async def until_told(self, wanted: Callable[[Told], bool]) -> Told:
        """Wait until what both tell of their lanes is as wanted."""
        deadline = time.monotonic() + patiently(40)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
            while True:
                told = [await _status(http, port) for port in self._ports]
                if wanted(told):
                    return told
                for service in self._services:
                    service.must_live()
                assert time.monotonic() < deadline, told


def _has_found(lane: dict[str, Any]) -> bool:
    return lane["slots"]["owned"] == 1 and bool(lane["open_imports"])


async def _status(http: aiohttp.ClientSession, port: int) -> dict[str, Any]:
    try:
        async with http.get(f"http://127.0.0.1:{port}/status") as answer:
            return {lane["lane"]: lane for lane in (await answer.json())["lanes"]}
    except (aiohttp.ClientError, TimeoutError):
        return {}


async def test_slots_are_changed_while_imports_are_open(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """What waits for its file gets it from one of the two, who reads the other's records; each ends its own events as
    the import ends, and names the row that was sent though it was the other's."""
    async with ImportStage(bootstrap_servers, prefix, tmp_path, LANES) as stage:
        for lane in POLLED:
            stage.apsis.configure(lane, {"stuck_at": "in_progress"})
        torn = Torn(stage)
        await torn.up_to_the_points("status", lambda lane: stage.apsis.imports(lane))
        first = {lane: opened for lane in LANES for opened in stage.apsis.imports(lane)}
        await torn.order("pause")
        torn.come_back_as_two()
        told = await torn.until_torn()
        for number, lanes in enumerate(told):
            for lane, one in lanes.items():
                leads = not one["open_imports"][0]["state"].endswith(", led by the process that has partition 0")
                assert leads is (number == 0), lane
                assert [opened["id"] for opened in one["open_imports"]] == [first[lane].id], lane
                assert one["slots"] == {"owned": 1, "free": 0}, lane
        bad = _bad_event(torn)
        stage.apsis.configure("failed-rows", {"bad_values": {bad}})
        await torn.order("resume")
        for lane in POLLED:
            stage.apsis.configure(lane, {"stuck_at": None})
        await torn.all_have_results(but=True)
        assert not stage.results.of("another-file"), "a slot was taken for free, or another file sent"
        # The platform's time and ours go on at once, as far as anybody can see: each of both begins another import.
        stage.apsis.configure("another-file", {"upload_life_s": 3 * ORPHANS_LIVE_S, "stuck_at": "waiting_for_file"})
        first["another-file"].expires_at = 0.0
        torn.let_time_pass()
        await until(lambda: len(stage.apsis.imports("another-file")) == 3, within_s=30, what="both have begun anew")
        stage.apsis.configure("another-file", {"stuck_at": None})
        await torn.all_have_results(but=False)
        contacts = {event.id: (event.target, event.segment) for event in torn.feed.events}

        def of_bad_row(_place: Place, source: Source) -> tuple[str, str | None]:
            contact, segment = contacts[json.loads(source.value or b"")["id"]]
            if segment > 2:
                return "unattributed", "unattributed"
            return ("rejected", "refused") if contact == contacts[bad][0] else ("delivered", None)

        results = await torn.check({"failed-rows": of_bad_row})
        for lane in ("created", "uploaded"):
            assert [one.uploads for one in stage.apsis.imports(lane)] == [1], lane
            _check_rows(torn, lane, results[lane], first[lane])
        for lane in LANES:
            opened = stage.apsis.imports(lane)
            assert all(one.uploads <= 1 for one in opened), f"{lane}: a file was uploaded twice"
            assert stage.apsis.state(lane)["refused_open"] == 0, f"{lane}: one import too many was asked for"
        assert not first["another-file"].uploads
        assert len(stage.apsis.imports("failed-rows")) <= 1 + SPLITTING["split_budget"]


async def test_a_slot_has_two_imports(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Three slots become two, an import in each: two of them are of one slot now. The other process's slot is free as
    soon as its import ends, and it begins none for as long as that would be one too many; then it does."""
    async with ImportStage(bootstrap_servers, prefix, tmp_path, CROWDED) as stage:
        stage.apsis.configure("crowded", {"max_open": 3, "polls": MANY_POLLS})
        torn = Torn(stage, {"crowded": Scene()})

        def opened() -> list[Import]:
            return stage.apsis.imports("crowded")

        await torn.up_to_the_points("status", ready=lambda: len(opened()) == 3 and all(one.polls for one in opened()))
        torn.come_back_as_two()
        told = await torn.until_torn()
        counts = [len(lanes["crowded"]["open_imports"]) for lanes in told]
        assert sorted(counts) == [1, 2]
        alone = counts.index(1)
        [only] = told[alone]["crowded"]["open_imports"]
        _let_end(opened(), only["id"])
        await torn.until_told(lambda told: not told[alone]["crowded"]["open_imports"])
        await torn.more(EVENTS)
        await torn.until_told(lambda told: told[alone]["crowded"]["reason"] == WAITING_FOR_SLOT)
        assert len(opened()) == 3
        _let_end(opened(), told[1 - alone]["crowded"]["open_imports"][0]["id"])
        await until(lambda: len(opened()) == 4, within_s=30, what="it begins one")
        stage.apsis.configure("crowded", {"polls": 2})
        await torn.all_have_results(but=False)
        await torn.check()
        assert stage.apsis.state("crowded")["refused_open"] == 0, "one import too many was asked for"
        assert {one.uploads for one in opened()} == {1}


def _let_end(imports: Sequence[Import], name: str) -> None:
    """It has been asked for often enough."""
    [one] = [one for one in imports if one.id == name]
    one.polls = MANY_POLLS


def _bad_event(torn: Torn) -> str:
    """The second event of a contact that has two."""
    return next(event.id for event in torn.feed.events if event.segment == 2)


def _check_rows(torn: Torn, lane: str, results: list[Result], sent: Import) -> None:
    """Each event was in the one import; whoever's row was not sent names the event whose row was."""
    ids = {operation["reference"] for result in results for operation in result.data["operations"]}
    assert ids == {sent.id}, lane
    by_row: defaultdict[str, list[Result]] = defaultdict(list)
    segments = {event.id: str(event.segment) for event in torn.feed.events}
    for result in results:
        by_row[segments[result.data["event"]["id"]]].append(result)
    newest = {key[0]: profile["cells"]["newest"] for key, profile in torn.stage.apsis.profiles(lane).items()}
    across = 0
    for row, found in by_row.items():
        own = [result for result in found if result.data["coalesced_into"] is None]
        assert [result.data["event"]["id"] for result in own] == [newest[row]], f"{lane}: row {row}"
        others = {result.data["coalesced_into"] for result in found} - {None}
        assert others <= {own[0].document["id"]}, f"{lane}: row {row}"
        across += len({result.place.partition % 2 for result in found}) > 1
    assert across, "no row is of both processes"
