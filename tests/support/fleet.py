"""A fleet: several replicas with lanes of imports on accounts of Apsis One, a hundred thousand events, and the verdict.

What is published and what was told of it is kept as numbers, a few bytes an event: the documents of so many results
would fill a gigabyte. As in ``oracle``, nothing here uses the service's code to judge it.
"""

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from handlers.apsis.sandbox import ApsisSandbox, Rules
from handlers.apsis.sandbox_imports import Import, Profiles
from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox import SandboxServer
from tests.support import import_halts
from tests.support.harness import KEY_VARIABLE, SHORT_SESSION, ServiceProcess, Stage, free_port
from tests.support.import_halts import Point
from tests.support.kafka import end_of
from tests.support.oracle import NAMESPACE
from tests.support.patience import Patience, patiently

PARTITIONS = 12
MOST_OPEN = 3
KEYSPACE = "com.apsis1.keyspaces.email"
LANE: dict[str, Any] = {
    "handler": "apsis.imports",
    "keyspaces": [{"discriminator": KEYSPACE, "column": "target", "value": "data.identifiers.np6"}],
    "attributes": [
        {"version_id": "1", "column": "newest", "value": "event.id"},
        {"version_id": "2", "column": "number", "value": "data.attributes.number"},
        {"version_id": "3", "column": "name", "value": "data.attributes.name"},
    ],
    "batch": {"max_events": 20_000, "max_bytes": "20MiB", "linger": "300ms"},
    "poll": {"every": "100ms", "deadline": "1h"},
}
# What a kill leaves between create and journal is open for so long; the lane counts its slot as taken for longer: the
# sandbox is a busy process, and may see a create late.
LIFE_S = 8.0
ORPHAN_LIFE = "12s"


_TRICKLE = 10


class Event(msgspec.Struct, frozen=True):
    """What of a result's input is told."""

    id: str | None


class Origin(msgspec.Struct, frozen=True):
    """Where a result says that its record lies."""

    partition: int
    offset: int


class Told(msgspec.Struct, frozen=True):
    """What is read of a result."""

    lane: str
    event: Event
    outcome: str
    reason: str | None
    origin: Origin


class ToldResult(msgspec.Struct, frozen=True):
    """A result's envelope."""

    id: str
    data: Told


class Crowd:
    """Events of so many contacts, in an order that ``seed`` decides, or each of one of its own (None); a contact's are
    in one partition."""

    def __init__(self, contacts: int | None, *, seed: int) -> None:
        self._contacts = contacts
        self._random = Random(seed)
        self.count = 0
        self.newest: dict[str, dict[str, str]] = {}
        # By partition: the timestamp of each record, in order.
        self.timestamps: list[list[int]] = [[] for _ in range(PARTITIONS)]

    def take(self, count: int) -> list[list[tuple[bytes, bytes, int]]]:
        """Key, value and timestamp of the next events, by partition."""
        found: list[list[tuple[bytes, bytes, int]]] = [[] for _ in range(PARTITIONS)]
        now_ms = int(time.time() * 1000)
        for number in range(self.count, self.count + count):
            contact = number if self._contacts is None else self._random.randrange(self._contacts)
            name = f"c{contact:05d}"
            self.newest[name] = {"newest": f"e{number}", "number": str(number), "name": f"{name} the {number}th"}
            value = (
                f'{{"specversion":"1.0","id":"e{number}","source":"crm","type":"contact.changed.v1",'
                f'"data":{{"contact_id":"{name}","change":"updated","identifiers":{{"np6":"{name}"}},'
                f'"attributes":{{"number":{number},"name":"{name} the {number}th"}}}}}}'
            )
            found[contact % PARTITIONS].append((name.encode(), value.encode(), now_ms))
        self.count += count
        for partition, records in enumerate(found):
            self.timestamps[partition] += [now_ms] * len(records)
        return found


class Tally:
    """Follows the results topic as it grows: how often each event of each lane has one."""

    def __init__(self, bootstrap_servers: str, topic: str, partitions: int) -> None:
        self._tps = [TopicPartition(topic, number) for number in range(partitions)]
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_partition_fetch_bytes=4 * 1024 * 1024,
        )
        self._decoder = msgspec.json.Decoder(ToldResult)
        self.found: dict[str, dict[tuple[int, int], ToldResult]] = {}
        self.repeated: list[ToldResult] = []

    async def __aenter__(self) -> "Tally":
        await self._consumer.start()
        self._consumer.assign(self._tps)
        return self

    async def __aexit__(self, *_: object) -> None:
        await end_of(self._consumer)

    async def look(self, wait_s: float = 0.1) -> None:
        """Take what has come."""
        for records in (await self._consumer.getmany(timeout_ms=int(wait_s * 1000), max_records=5_000)).values():
            for record in records:
                told = self._decoder.decode(record.value or b"")
                place = told.data.origin.partition, told.data.origin.offset
                if self.found.setdefault(told.data.lane, {}).setdefault(place, told) is not told:
                    self.repeated.append(told)

    def count(self, lane: str) -> int:
        """The events of a lane that have a result."""
        return len(self.found.get(lane, ()))

    def check(self, lane: str, crowd: Crowd) -> None:
        """Each event of a lane was delivered, and has one result with the id that the design names."""
        found = self.found.get(lane, {})
        wanted = {(at, n): ms for at, times in enumerate(crowd.timestamps) for n, ms in enumerate(times)}
        topic = self._tps[0].topic.removesuffix(".results") + ".contacts"
        wrong_ids = [
            place
            for place, told in found.items()
            if place in wanted
            and told.id != str(uuid.uuid5(NAMESPACE, f"{lane}\n{topic}\n{place[0]}\n{place[1]}\n{wanted[place]}"))
        ]
        faults: dict[str, Sequence[Any]] = {
            "missing": sorted(wanted.keys() - found.keys()),
            "from nowhere": sorted(found.keys() - wanted.keys()),
            "twice": [told.data for told in self.repeated if told.data.lane == lane],
            "wrong id": wrong_ids,
            "not delivered": [told.data for told in found.values() if told.data.outcome != "delivered"],
        }
        told_faults = [f"{len(what)} {name}, e.g. {what[:3]}" for name, what in faults.items() if what]
        assert not told_faults, f"results of {lane} (of {len(wanted)}): " + "; ".join(told_faults)


class Carried(Profiles):
    """An account's profiles, and which rows of a lane (its section) were carried out more than once."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: set[tuple[str, str]] = set()
        self.again: list[tuple[str, str]] = []

    def take(self, one: Import, row: Mapping[str, str]) -> None:
        place = one.section, row["newest"]
        if place in self._rows:
            self.again.append(place)
        self._rows.add(place)
        super().take(one, row)


class Fleet(Stage):
    """Replicas whose lanes import to accounts of a sandbox that refuses one open import too many, and counts.

    ``accounts``: the lanes of each account by name, each with its keys (``slots`` among them).
    """

    def __init__(
        self,
        bootstrap_servers: str,
        prefix: str,
        directory: Path,
        *,
        accounts: Mapping[str, Mapping[str, Mapping[str, Any]]],
        contacts: int | None,
        seed: int,
        **rules: Any,
    ) -> None:
        """``rules``: of each account, beside those that a fleet needs."""
        self.lanes = {
            lane: {**LANE, "section": lane, **keys, "account": account}
            for account, lanes in accounts.items()
            for lane, keys in lanes.items()
        }
        super().__init__(
            bootstrap_servers,
            prefix,
            directory,
            lanes=self.lanes,
            sources={"contacts": PARTITIONS},
            kafka=SHORT_SESSION,
        )
        rules = {"takes_s": 0.3, **rules}
        unpaced = Rules(
            max_open=MOST_OPEN, imports_per_minute=None, tokens_per_minute=None, upload_life_s=LIFE_S, **rules
        )
        self.accounts = list(accounts)
        self.apsis = ApsisSandbox(dict.fromkeys(accounts, unpaced))
        for name in accounts:
            self.apsis._account(name).profiles = Carried()
        self.sandbox = SandboxServer(np6=Np6Sandbox(), apsis=self.apsis)
        self.crowd = Crowd(contacts, seed=seed)
        self.replicas: list[ServiceProcess] = []
        self.tally: Tally
        self._ports: dict[int, int] = {}
        self._http: aiohttp.ClientSession
        self._more = AsyncExitStack()

    async def __aenter__(self) -> "Fleet":
        await super().__aenter__()
        self.tally = await self._more.enter_async_context(Tally(self.bootstrap_servers, self.results_topic, 4))
        timeout = aiohttp.ClientTimeout(total=2)
        self._http = await self._more.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        await self._more.aclose()
        await super().__aexit__(kind, error, trace)

    def configuration(self, *, slots: Mapping[str, int] | None = None, **given: Any) -> bytes:
        """As of any stage, with accounts of Apsis One; ``slots`` of lanes that this process thinks otherwise of."""
        document = json.loads(super().configuration(**given))
        for lane, count in (slots or {}).items():
            document["lanes"][lane]["slots"] = count
        for name in self.accounts:
            document["accounts"][name] = {
                "platform": "apsis",
                "base_url": self.sandbox.base_url("apsis", name),
                "client_id": {"env": KEY_VARIABLE},
                "client_secret": {"env": KEY_VARIABLE},
                "upload_hosts": ["files.example"],
                "limits": {
                    "requests_per_second": None,
                    "max_open_imports": MOST_OPEN,
                    "orphan_life": ORPHAN_LIFE,
                },
            }
        return json.dumps(document, indent=1).encode()

    # -- replicas

    def start(self, count: int, **configuration: Any) -> None:
        """So many replicas more."""
        for number in range(len(self.replicas), len(self.replicas) + count):
            self._ports[number] = free_port()
            replica = self.process(f"replica-{number}", http_port=self._ports[number], **configuration)
            replica.start()
            self.replicas.append(replica)

    async def status(self, number: int) -> list[dict[str, Any]]:
        """The lanes of a replica as it tells them; none while it does not answer."""
        with suppress(aiohttp.ClientError, TimeoutError):
            async with self._http.get(f"http://127.0.0.1:{self._ports[number]}/status") as answer:
                lanes: list[dict[str, Any]] = (await answer.json())["lanes"]
                return lanes
        return []

    async def importing(self, *, besides: Sequence[int] = (), within_s: float = 60.0) -> int:
        """The replica that has most imports open, as soon as one has."""
        until = time.monotonic() + patiently(within_s)
        while True:
            counts = [
                (sum(len(lane["open_imports"]) for lane in await self.status(number)), number)
                for number in range(len(self.replicas))
                if number not in besides
            ]
            if (most := max(counts))[0]:
                return most[1]
            assert time.monotonic() < until, "no replica has an import open"
            await self.look()

    def start_freezing(self, freezes: Sequence[tuple[str, Point]]) -> ServiceProcess:
        """One more replica, which freezes itself where it is told (see :mod:`tests.support.import_halts`)."""
        environment = import_halts.freezing(self.directory, freezes)
        self.start(1, module=import_halts.MODULE, environment=environment)
        return self.replicas[-1]

    async def until_frozen(self, point: Point, *, within_s: float = 60.0) -> None:
        """Wait until it has frozen itself there."""
        until = time.monotonic() + patiently(within_s)
        while not (self.directory / point.name).exists():
            assert time.monotonic() < until, f"no replica came to {point}"
            await self.look()

    async def until_taken_over(self, *, besides: int, within_s: float = 60.0) -> None:
        """Wait until all slots of all lanes are of the other replicas."""
        until = time.monotonic() + patiently(within_s)
        while True:
            owned: Counter[str] = Counter()
            for number in range(len(self.replicas)):
                for lane in await self.status(number) if number != besides else []:
                    owned[lane["lane"]] += lane["slots"]["owned"]
            if all(owned[lane] == keys["slots"] for lane, keys in self.lanes.items()):
                return
            assert time.monotonic() < until, f"of the slots the others have {owned}"
            await self.look()

    def ended(self) -> int:
        """The imports that have been carried out."""
        return sum(one.ended == "completed" for name in self.accounts for one in self.apsis.imports(name))

    async def until_imports(self, more: int, *, within_s: float = 60.0) -> None:
        """Wait until so many further imports have ended."""
        wanted = self.ended() + more
        until = time.monotonic() + patiently(within_s)
        while self.ended() < wanted:
            assert time.monotonic() < until, f"{self.ended()} imports have ended, not {wanted}"
            await self.look()

    async def look(self) -> None:
        """Take what has come; no replica may have ended by itself."""
        for replica in self.replicas:
            replica.must_not_have_ended()
        await self.tally.look()

    # -- events

    @asynccontextmanager
    async def crowding(self, events: int, *, per_s: int) -> AsyncIterator[None]:
        """Publish so many events while the block runs, and a few more for as long as it does: whatever happens in it
        happens under load. At its end all are written."""
        hurry = asyncio.Event()
        producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap_servers, max_batch_size=4 * 1024 * 1024, enable_idempotence=True
        )
        async with producer:
            publishing = asyncio.create_task(self._publish(producer, events, per_s, hurry))
            try:
                yield
            finally:
                hurry.set()
                await publishing

    async def _publish(self, producer: AIOKafkaProducer, events: int, per_s: int, hurry: asyncio.Event) -> None:
        tick_s, left = 0.25, events
        while left or not hurry.is_set():
            count = min(left, int(per_s * tick_s)) or _TRICKLE
            left = max(0, left - count)
            sent = []
            for partition, records in enumerate(self.crowd.take(count)):
                batch = producer.create_batch()
                for key, value, at_ms in records:
                    assert batch.append(key=key, value=value, timestamp=at_ms) is not None
                batch.close()
                if records:
                    sent.append(await producer.send_batch(batch, self.topic(), partition=partition))
            await asyncio.gather(*sent)
            with suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), tick_s)

    async def until_settled(self, *, within_s: float) -> None:
        """Wait until each event has a result in each lane."""
        patience = Patience(within_s)
        while any(self.tally.count(lane) < self.crowd.count for lane in self.lanes):
            counts = {lane: self.tally.count(lane) for lane in self.lanes}
            assert not patience.is_over(sum(counts.values())), f"of {self.crowd.count} events have a result: {counts}"
            await self.look()

    # -- the verdict

    def check_all(self) -> None:
        """One result for each event of each lane; each contact is on each account as its newest event says; no row was
        carried out twice."""
        for lane in self.lanes:
            self.tally.check(lane, self.crowd)
        for name in self.accounts:
            carried = self.apsis._account(name).profiles
            assert isinstance(carried, Carried)
            # The sandbox carries out what is asked about: a file that nobody followed is one that was sent again.
            left = [one.id for one in self.apsis.imports(name) if one.uploads and one.ended is None]
            assert not left, f"{len(left)} imports got their file and were forgotten, e.g. {left[:3]}"
            assert not carried.again, f"{len(carried.again)} rows were uploaded again, e.g. {carried.again[:3]}"
        for name in self.accounts:
            told = {key[0]: profile["cells"] for key, profile in self.apsis.profiles(name).items()}
            wrong = [contact for contact, cells in self.crowd.newest.items() if told.get(contact) != cells]
            assert not wrong, f"{len(wrong)} contacts of {name}, e.g. {wrong[0]}: {told.get(wrong[0])}"
            assert told.keys() == self.crowd.newest.keys()

    def refused(self) -> int:
        """How often one import too many was asked for."""
        return sum(int(self.apsis.state(name)["refused_open"]) for name in self.accounts)

    def most_open(self) -> int:
        """How many imports were open at once on an account."""
        return max(int(self.apsis.state(name)["most_open"]) for name in self.accounts)

    def uploads(self) -> Counter[int]:
        """How many imports got their file how often."""
        return Counter(one.uploads for name in self.accounts for one in self.apsis.imports(name))
