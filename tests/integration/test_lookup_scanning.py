"""Reading stretches of topics on a real broker: everything committed once, in order, past what cannot be parsed."""

import time
from contextlib import aclosing

import pytest
from aiokafka.structs import TopicPartition

from service.app import KINDS
from service.config import loads
from service.errors import FanlineError
from service.kafka.connection import connection_arguments
from service.lookup.scanning import Span, reading
from tests.support.kafka import Message, create_topics, delete_before, produce, produce_raw_record

PARTITIONS = 20  # more than are read at once
EACH = 30
BEGAN_MS = int(time.time() * 1000) - 60_000


def connection(bootstrap_servers: str) -> dict[str, object]:
    config = f"""
kafka: {{bootstrap_servers: [{bootstrap_servers}]}}
accounts: {{main: {{platform: np6, base_url: "https://api-cm.np6.com", api_key: {{env: KEY}}}}}}
lanes: {{vip: {{handler: np6.segments, account: main, topics: [t], target: data.identifiers.np6,
                join: data.segments.join, leave: data.segments.leave}}}}
"""
    return connection_arguments(loads(config.encode(), KINDS).kafka)


async def fill(bootstrap_servers: str, topic: str) -> None:
    """In each partition: records a millisecond apart, some of them between others that were aborted."""
    await create_topics(bootstrap_servers, {topic: PARTITIONS})

    def some(first: int, end: int) -> list[Message]:
        return [
            Message(b"%d" % n, partition=partition, timestamp_ms=BEGAN_MS + 1_000 * n + partition)
            for n in range(first, end)
            for partition in range(PARTITIONS)
        ]

    await produce(bootstrap_servers, topic, some(0, EACH // 2))
    await produce(bootstrap_servers, topic, some(0, 5), transactional_id=topic, abort=True)
    await produce(bootstrap_servers, topic, some(EACH // 2, EACH), transactional_id=topic)


async def test_scan_and_merge_give_every_committed_record_once(bootstrap_servers: str, prefix: str) -> None:
    """Over more partitions than are read at once, past aborted records and markers; merged ones the oldest first; from
    a time on; the progress adds up to the offsets."""
    await fill(bootstrap_servers, prefix)
    async with reading(connection(bootstrap_servers)) as reader:
        count = await reader.partitions([prefix, f"{prefix}-not-there"])
        assert count == {prefix: PARTITIONS}
        parts = [TopicPartition(prefix, n) for n in range(PARTITIONS)]
        spans = await reader.spans(parts)
        total, steps = sum(span.size for span in spans.values()), []
        found: dict[TopicPartition, list[bytes | None]] = {tp: [] for tp in parts}
        async for tp, records in reader.scan(spans, steps.append):
            found[tp] += [record.value for record in records]
        assert all(values == [b"%d" % n for n in range(EACH)] for values in found.values())
        assert sum(steps) == total > PARTITIONS * EACH

        steps.clear()
        merged = [record.timestamp async for record in reader.merge(spans, steps.append)]
        assert merged == sorted(merged)
        assert len(merged) == PARTITIONS * EACH
        assert sum(steps) == total

        middle_ms = BEGAN_MS + 1_000 * (EACH // 2 - 3)
        late = [record async for record in reader.merge(await reader.spans(parts, middle_ms))]
        assert len(late) == (EACH - EACH // 2 + 3) * PARTITIONS
        assert min(record.timestamp for record in late) >= middle_ms
        assert not [record async for record in reader.merge(await reader.spans(parts, BEGAN_MS + 3_600_000))]


async def test_what_cannot_be_parsed_is_passed(bootstrap_servers: str, prefix: str) -> None:
    """A header key that is not UTF-8, first, last and in between: the records around it are read, and it is counted."""
    await create_topics(bootstrap_servers, {prefix: 2})
    for partition in range(2):
        await produce_raw_record(bootstrap_servers, prefix, partition, value=b"bad", headers=[(b"\xff", b"")])
        await produce(bootstrap_servers, prefix, [Message(b"%d" % n, partition=partition) for n in range(3)])
        await produce_raw_record(bootstrap_servers, prefix, partition, value=b"bad", headers=[(b"\xff", b"")])
        await produce(bootstrap_servers, prefix, [Message(b"%d" % n, partition=partition) for n in range(3, 5)])
        await produce_raw_record(bootstrap_servers, prefix, partition, value=b"bad", headers=[(b"\xff", b"")])
    async with reading(connection(bootstrap_servers)) as reader:
        spans = await reader.spans([TopicPartition(prefix, n) for n in range(2)])
        found: list[tuple[int, bytes | None]] = []
        async for tp, records in reader.scan(spans):
            found += [(tp.partition, record.value) for record in records]
        assert sorted(found) == [(partition, b"%d" % n) for partition in range(2) for n in range(5)]
        assert reader.passed == 6


async def test_what_is_deleted_before_it_is_read_is_told(bootstrap_servers: str, prefix: str) -> None:
    """Retention is faster than the reading, up to the middle of one partition and beyond what is wanted of another: all
    that is left is read, once, and what is not is named."""
    parts = [TopicPartition(prefix, n) for n in range(3)]
    await create_topics(bootstrap_servers, {prefix: len(parts)})
    await produce(bootstrap_servers, prefix, [Message(b"%d" % n, partition=n % 3) for n in range(90)])
    async with reading(connection(bootstrap_servers)) as reader:
        spans = {tp: Span(0, 25) for tp in parts}
        await delete_before(bootstrap_servers, {parts[0]: 10, parts[1]: 28})
        gone: list[tuple[TopicPartition, Span]] = []
        steps: list[int] = []
        found: dict[TopicPartition, list[int]] = {tp: [] for tp in parts}
        async for tp, records in reader.scan(spans, steps.append, deleted=lambda tp, span: gone.append((tp, span))):
            found[tp] += [record.offset for record in records]
        assert found == {parts[0]: list(range(10, 25)), parts[1]: [], parts[2]: list(range(25))}
        assert sorted(gone, key=lambda one: one[0]) == [(parts[0], Span(0, 10)), (parts[1], Span(0, 25))]
        assert sum(steps) == 75
        told, gone = sorted(gone, key=lambda one: one[0]), []
        merged = [
            (record.partition, record.offset)
            async for record in reader.merge(spans, deleted=lambda tp, span: gone.append((tp, span)))
        ]
        assert sorted(merged) == [(0, n) for n in range(10, 25)] + [(2, n) for n in range(25)]
        assert sorted(gone, key=lambda one: one[0]) == told
        gone = []
        async with aclosing(reader.follow({parts[1]: 5}, lambda tp, span: gone.append((tp, span)))) as followed:
            assert (await anext(followed)).offset == 28
        assert gone == [(parts[1], Span(5, 28))]


async def test_a_kafka_that_is_not_there_is_named() -> None:
    """The address, and what to look at."""
    with pytest.raises(FanlineError, match=r"127\.0\.0\.1:1.*is the broker running"):
        async with reading(connection("127.0.0.1:1")):
            pass
