"""The test helpers against the broker: what they say of a topic is what stands in it."""

import pytest

from tests.support.kafka import (
    Message,
    create_topics,
    end_offsets,
    produce,
    produce_raw_record,
    read_all,
    read_committed_all,
)

# The records' timestamps are those of another age.
KEPT = {"retention.ms": "-1"}


async def test_records_are_read_back_as_they_were_written(bootstrap_servers: str, prefix: str) -> None:
    """Key, value, headers, timestamp and order within a partition come back, from every partition."""
    topic = f"{prefix}.a"
    await create_topics(bootstrap_servers, {topic: 3}, config=KEPT)
    sent = [
        Message(b"%d" % n, key=b"k", partition=n % 3, headers=[("h", b"1")], timestamp_ms=1_000 + n) for n in range(30)
    ]
    places = await produce(bootstrap_servers, topic, sent)
    records = await read_committed_all(bootstrap_servers, [topic])
    found = {(r.partition, r.offset): (r.value, r.key, r.timestamp, tuple(r.headers)) for r in records}
    assert found == {
        place: (m.value, m.key, m.timestamp_ms, tuple(m.headers)) for place, m in zip(places, sent, strict=True)
    }
    for n in range(3):
        assert [r.offset for r in records if r.partition == n] == list(range(10))


async def test_aborted_records_are_read_only_uncommitted(bootstrap_servers: str, prefix: str) -> None:
    """``read_committed`` passes over an aborted transaction at the very end and still comes to an end."""
    topic = f"{prefix}.a"
    await create_topics(bootstrap_servers, [topic])
    await produce(bootstrap_servers, topic, [Message(b"kept")], transactional_id=f"{prefix}-1")
    await produce(bootstrap_servers, topic, [Message(b"gone")], transactional_id=f"{prefix}-2", abort=True)
    assert [r.value for r in await read_committed_all(bootstrap_servers, [topic])] == [b"kept"]
    raw = await read_all(bootstrap_servers, [topic], isolation_level="read_uncommitted")
    assert [r.value for r in raw] == [b"kept", b"gone"]
    assert list((await end_offsets(bootstrap_servers, [topic])).values()) == [4]


async def test_an_empty_topic_is_read_to_its_end(bootstrap_servers: str, prefix: str) -> None:
    """Nothing to read is no reason to wait."""
    await create_topics(bootstrap_servers, [f"{prefix}.a", f"{prefix}.b"])
    assert await read_committed_all(bootstrap_servers, [f"{prefix}.a", f"{prefix}.b"]) == []


async def test_a_topic_that_is_there_is_not_created_again(bootstrap_servers: str, prefix: str) -> None:
    """The helper says what the broker refused."""
    await create_topics(bootstrap_servers, [f"{prefix}.a"])
    with pytest.raises(RuntimeError, match="not created"):
        await create_topics(bootstrap_servers, [f"{prefix}.a"])


async def test_a_raw_record_lies_where_it_is_said_to(bootstrap_servers: str, prefix: str) -> None:
    """A raw record whose header keys are UTF-8 is read like any other."""
    topic = f"{prefix}.a"
    await create_topics(bootstrap_servers, {topic: 2}, config=KEPT)
    await produce(bootstrap_servers, topic, [Message(b"before", partition=1)])
    offset = await produce_raw_record(
        bootstrap_servers, topic, 1, key=b"k", value=b"v", headers=[("é".encode(), b"x")], timestamp_ms=5
    )
    assert offset == 1
    [_, record] = await read_committed_all(bootstrap_servers, [topic])
    assert (record.key, record.value, record.timestamp) == (b"k", b"v", 5)
    assert record.headers == (("é", b"x"),)
