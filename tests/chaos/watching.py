"""What is taken down while a run goes on: each result as it becomes visible, the commits, what processes serve."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.chaos.books import Book, Settled
from tests.support.kafka import end_of, partitions_of
from tests.support.oracle import Place
from tests.support.secrecy import leaks

_ERRORS = (KafkaError, OSError, AssertionError, TimeoutError)


class _Origin(msgspec.Struct):
    topic: str
    partition: int
    offset: int


class _Data(msgspec.Struct):
    lane: str
    outcome: str
    reason: str | None
    dead_letter: bool
    origin: _Origin


class _Document(msgspec.Struct):
    id: str
    data: _Data


_decode = msgspec.json.Decoder(_Document).decode


class Commits(NamedTuple):
    """The offsets of a lane's group with their metadata, but for those that are as they were in the sample before; and
    up to where the results topic was written when they had been read. ``at_s`` is monotonic."""

    lane: str
    offsets: dict[tuple[str, int], tuple[int, str]]
    ends: dict[int, int]
    at_s: float = 0.0


class Watch:
    """Follows the results topic as any reader of committed records, and asks around while faults fall."""

    def __init__(self, bootstrap_servers: str, results_topic: str, groups: dict[str, str]) -> None:
        """``groups`` by lane."""
        self._servers = bootstrap_servers
        self._topic = results_topic
        self._groups = groups
        self.settled: dict[str, Book] = defaultdict(Book)
        self.again: list[tuple[str, Place, Settled]] = []
        self.leaks: Counter[str] = Counter()
        self.commits: list[Commits] = []
        self.samples = 0
        self._told: dict[str, dict[tuple[str, int], tuple[int, str]]] = defaultdict(dict)
        self.scrapes = 0
        self._reader = self._consumer("read_committed")
        self._ends = self._consumer("read_uncommitted")

    def _consumer(self, isolation: str) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            isolation_level=isolation,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=100,
        )

    async def start(self) -> None:
        for consumer in (self._reader, self._ends):
            await consumer.start()
            partitions = await partitions_of(consumer, [self._topic])
        self._reader.assign(partitions)

    async def stop(self) -> None:
        for consumer in (self._reader, self._ends):
            await end_of(consumer)

    def _partitions(self) -> list[TopicPartition]:
        return [TopicPartition(self._topic, n) for n in self._ends.partitions_for_topic(self._topic) or ()]

    async def follow(self) -> None:
        """Until cancelled."""
        while True:
            try:
                found = await self._reader.getmany(timeout_ms=100, max_records=300)
            except _ERRORS:
                await asyncio.sleep(0.2)
                continue
            for records in found.values():
                self._take(records)
            await asyncio.sleep(0)

    def _take(self, records: Iterable[object]) -> None:
        now = time.monotonic()
        for record in records:
            document = _decode(record.value)
            data = document.data
            place = Place(data.origin.topic, data.origin.partition, data.origin.offset)
            one = Settled(
                document.id,
                data.outcome,
                data.reason,
                data.dead_letter,
                record.key,
                now,
                record.partition,
                record.offset,
            )
            if not self.settled[data.lane].add(place, one):
                self.again.append((data.lane, place, one))
            self.look_for_leaks("a result", record.value.decode())

    async def caught_up(self, within_s: float) -> None:
        """Wait until everything that is written and committed has been read. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            ends = await self._reader.end_offsets(self._partitions())
            for tp, end in ends.items():
                while await self._reader.position(tp) < end:  # noqa: ASYNC110 - polls
                    await asyncio.sleep(0.05)

    async def written(self, topics: list[str]) -> int:
        """How many records stand in topics without transactions, nothing of which has been deleted."""
        while True:
            try:
                # Who asks for some topics forgets the others.
                all_of = await partitions_of(self._ends, [self._topic, *topics])
                ends = await self._ends.end_offsets([tp for tp in all_of if tp.topic in topics])
                return sum(ends.values())
            except _ERRORS:
                await asyncio.sleep(0.5)

    async def sample(self, every_s: float) -> None:
        """Take down commits until cancelled; what the broker does not tell now is left out."""
        while True:
            with suppress(*_ERRORS):
                await self._sample_once()
            await asyncio.sleep(every_s)

    async def _sample_once(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers, request_timeout_ms=5_000)
        await admin.start()
        try:
            for lane, group in self._groups.items():
                found = await admin.list_consumer_group_offsets(group)
                ends = await self._ends.end_offsets(self._partitions())
                self.samples += 1
                told = {tuple(tp): (value.offset, value.metadata) for tp, value in found.items() if value.offset > 0}
                before = self._told[lane]
                new = {tp: value for tp, value in told.items() if before.get(tp) != value}
                before.update(new)
                now = time.monotonic()
                self.commits.append(Commits(lane, new, {tp.partition: end for tp, end in ends.items()}, now))
        finally:
            await admin.close()

    async def scrape(self, ports: Iterable[int], every_s: float) -> None:
        """Read what the processes serve, until cancelled."""
        timeout = aiohttp.ClientTimeout(total=3)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                for port in ports:
                    for page in ("/metrics", "/status"):
                        with suppress(aiohttp.ClientError, TimeoutError, OSError):
                            async with session.get(f"http://127.0.0.1:{port}{page}") as answer:
                                self.look_for_leaks(page, await answer.text())
                                self.scrapes += 1
                await asyncio.sleep(every_s)

    def look_for_leaks(self, where: str, text: str) -> None:
        """Take down what stands in a text that must not."""
        for secret in leaks(text):
            self.leaks[f"{secret} in {where}"] += 1
