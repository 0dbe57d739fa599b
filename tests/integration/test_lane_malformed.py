"""Records of every malformed sort: the right outcome and reason, dead letters byte for byte, and the lane goes on."""

from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.support.events import Feed, contact_event
from tests.support.harness import DRAIN_S, Stage
from tests.support.kafka import Message, produce, produce_raw_record, read_committed_all
from tests.support.malformed import DELIVERED, MALFORMED, Sample, Verdict, at_limit, batch_bytes, samples
from tests.support.oracle import Place, Source

PARTITIONS = 3
WHEN_MS = 1_767_225_600_123
# Larger than what is fetched at once, of one partition and of all.
LIMIT = 5 * 2**20
# The records are old: retention must not take them.
LIMITS = {"max.message.bytes": str(LIMIT), "retention.ms": "-1"}
DEAD_LETTER_LIMITS = {"max.message.bytes": str(LIMIT + 64 * 1024)}
LARGE = b"large"


def largest() -> list[Sample]:
    """Values with which a record is as large as the topic takes: a right one, and one of random bytes."""
    random = Random(4)
    event = contact_event("large", "large", target="large", join=[1], attributes={"a": "MARK"})
    head, tail = event.split(b"MARK")
    right = at_limit(head, random.randbytes(LIMIT).hex().encode(), tail, key=LARGE, limit=LIMIT)
    broken = at_limit(b"", random.randbytes(LIMIT), b"", key=LARGE, limit=LIMIT)
    assert batch_bytes(LARGE, right) == batch_bytes(LARGE, broken) == LIMIT
    return [Sample("large", right, DELIVERED), Sample("large and random", broken, MALFORMED)]


def is_raw(sample: Sample) -> bool:
    """Whether the client library cannot, or by default does not, write it."""
    return sample.bad_header or len(sample.value or b"") > 2**20


async def publish(stage: Stage, found: list[tuple[bytes, Sample]]) -> dict[Place, tuple[Source, Sample]]:
    """The samples in turn over all partitions; what lies where."""
    topic, broker = stage.topic(), stage.bootstrap_servers
    written: dict[Place, tuple[Source, Sample]] = {}
    numbered = [(number % PARTITIONS, key, sample) for number, (key, sample) in enumerate(found)]
    for raw, group in groupby(numbered, lambda entry: is_raw(entry[2])):
        entries = list(group)
        if raw:
            places = [(n, await _produce_raw(broker, topic, n, key, sample)) for n, key, sample in entries]
        else:
            given = [_message(sample, key, n) for n, key, sample in entries]
            places = await produce(broker, topic, given, max_request_size=2 * LIMIT)
        for (partition, offset), (_, key, sample) in zip(places, entries, strict=True):
            source = Source(None, None) if sample.bad_header else Source(key, sample.value, sample.headers, WHEN_MS)
            written[Place(topic, partition, offset)] = (source, sample)
    return written


def _message(sample: Sample, key: bytes, partition: int) -> Message:
    headers: Any = sample.headers  # null values are written, though the library's type does not say so
    return Message(sample.value, key, partition, headers, WHEN_MS)


async def _produce_raw(broker: str, topic: str, partition: int, key: bytes, sample: Sample) -> int:
    headers = [(b"\xff\xfe", b"v"), (b"a", b"b")] if sample.bad_header else []
    return await produce_raw_record(
        broker, topic, partition, key=key, value=sample.value, headers=headers, timestamp_ms=WHEN_MS
    )


async def test_every_malformed_sort_ends_as_it_has_to(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """200 samples and records at the topic's size limit, right events among them: outcome and reason of each, dead
    letters byte for byte, everything right delivered."""
    async with Stage(
        bootstrap_servers,
        prefix,
        tmp_path,
        lanes={"lane": {}},
        sources={"contacts": PARTITIONS},
        topic_config=LIMITS,
        dead_letter_config=DEAD_LETTER_LIMITS,
    ) as stage:
        right = [Sample(event.id, event.message.value, DELIVERED) for event in Feed(30, seed=6).take(100)]
        given = [*samples(), *right]
        assert len(given) - len(right) >= 200
        found = [(f"key-{number}".encode(), sample) for number, sample in enumerate(given)]
        found += [(LARGE, sample) for sample in largest()]
        Random(5).shuffle(found)
        written = await publish(stage, found)

        service = stage.process()
        service.start()
        await stage.results.until({"lane": len(written)}, within_s=90, alive=service.must_live)
        service.terminate()
        assert await service.ended(within_s=DRAIN_S) == 0

        def expect(place: Place, _source: Source) -> Verdict:
            return written[place][1].verdict

        await stage.check("lane", expect, sources={place: source for place, (source, _) in written.items()})
        dead = await read_committed_all(bootstrap_servers, [stage.dead_letter_topic("lane")])
        assert len(dead) == sum(sample.verdict[0] == "invalid" for _, sample in written.values())


async def test_a_topic_takes_nothing_beyond_its_limit(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """The records above are at the limit indeed: one byte more is refused."""
    async with Stage(
        bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, sources={"contacts": 1}, topic_config=LIMITS
    ) as stage:
        for sample in largest():
            value = (sample.value or b"") + b" "
            with pytest.raises(RuntimeError, match="error 10"):
                await produce_raw_record(bootstrap_servers, stage.topic(), key=LARGE, value=value, timestamp_ms=WHEN_MS)


async def test_a_refused_dead_letter_stops_the_lane_and_commits_nothing(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """The broker refuses a dead letter for its size: the lane stops and names the topic; neither the result nor the
    offset is committed. Once the topic takes it, all is settled."""
    async with Stage(
        bootstrap_servers,
        prefix,
        tmp_path,
        lanes={"lane": {}},
        sources={"contacts": 1},
        topic_config={"retention.ms": "-1"},  # the record is old
        dead_letter_config={"max.message.bytes": "2000"},
        kafka={"session_timeout": "1500ms", "transaction_timeout": "1s"},
    ) as stage:
        dead_letters = stage.dead_letter_topic("lane")
        broken = [(b"k", Sample("random", Random(6).randbytes(20_000), MALFORMED))]
        written = await publish(stage, broken)
        service = stage.process()
        service.start()
        assert await service.ended(within_s=30) == 1
        assert dead_letters in service.log.read_text()
        assert await stage.committed("lane") in ({}, {(stage.topic(), 0): 0})
        # A reader of what is committed finds nothing, and no transaction stands open in its way.
        for topic in (stage.results_topic, dead_letters):
            assert await read_committed_all(bootstrap_servers, [topic]) == []

        await _set_limit(bootstrap_servers, dead_letters, 100_000)
        service.start()
        await stage.results.until({"lane": 1}, within_s=30, alive=service.must_live)
        sources = {place: source for place, (source, _) in written.items()}
        await stage.check("lane", lambda _place, _source: MALFORMED, sources=sources)


async def _set_limit(bootstrap_servers: str, topic: str, limit: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": str(limit)})
        await admin.alter_configs([resource])
    finally:
        await admin.close()
