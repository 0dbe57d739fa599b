"""The limits of an account that lanes and processes share, on the broker."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median, quantiles

from aiokafka import AIOKafkaProducer

from contracts.timestamps import parse_rfc3339_ms
from handlers.sandbox import Bucket, Call
from tests.support.events import ContactEvent, Feed
from tests.support.harness import DRAIN_S, Stage
from tests.support.oracle import Place, Result, check_each_called

PER_SECOND = 50
# The account's own rate is off: the headers alone set the pace.
UNLIMITED = {"limits": {"requests_per_second": None, "max_in_flight": 32}}


async def test_two_processes_keep_to_the_platforms_rate(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """5,000 operations, a bucket of 50 requests a second and its headers: fewer than 1 % are refused, and at least 90 %
    of the rate is used. Measured by the sandbox in slices of 5 s while both have work; the middle one counts, so that
    a machine that stands still for a while does not."""
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, account=UNLIMITED) as stage:
        stage.sandbox.buckets.set(Bucket(PER_SECOND), time.time())
        feed = Feed(2000, seed=21)
        await stage.publish(feed.take(5000))
        processes = [stage.process(name, account_suffix=f"-{name}") for name in ("one", "two")]
        for process in processes:
            process.start()
        await stage.until_called(1, "lane-one", within_s=40)
        await stage.until_called(1, "lane-two", within_s=40)
        both_since = time.monotonic()
        await stage.results.until({"lane": 5000}, within_s=180, alive=processes[0].must_live)
        for process in processes:
            process.terminate()
        for process in processes:
            assert await process.ended(within_s=DRAIN_S) == 0
        await stage.check("lane")
        calls = stage.calls("lane-one", "lane-two")
        refused = sum(call.status == 429 for call in calls)
        used = _used([call for call in calls if call.status == 204], both_since)
        print(f"{refused} of {len(calls)} refused, used {used:.3f} of the rate")
        assert refused < 0.01 * len(calls)
        assert used >= 0.9
        wanted = [(event.target, event.segment) for event in feed.events]
        check_each_called([call for call in calls if call.status != 429], wanted)


def _used(calls: Sequence[Call], since: float, slice_s: float = 5.0) -> float:
    """The part of the rate that was used in the middle one of the slices in which more than 300 calls were to come."""
    starts = sorted(call.started_s for call in calls)
    end = starts[-300]
    counts = []
    while since + slice_s <= end:
        counts.append(sum(since <= start < since + slice_s for start in starts))
        since += slice_s
    assert len(counts) >= 5
    return median(counts) / (PER_SECOND * slice_s)


async def test_a_few_events_beside_a_large_backlog(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Two lanes on one account of 50 requests a second, in one process: 100 events of the one take no more than twice
    as long beside 200,000 that wait in the other as alone (99th percentile, from their writing to their end; the best
    of three, so that a machine that stands still for a while does not count)."""
    lanes = {"large": {"account": "main", "topics": ["large"]}, "small": {"account": "main", "topics": ["small"]}}
    paced = {"limits": {"requests_per_second": PER_SECOND, "max_in_flight": 32}}
    sources = {"large": 4, "small": 4}
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=lanes, sources=sources, account=paced) as stage:
        service, feed = stage.process(), Feed(100, seed=22)
        service.start()
        # Once before, so that nothing is measured of the start.
        await stage.publish(feed.take(100), "small")
        await stage.results.until({"small": 100}, within_s=60, alive=service.must_live)
        alone = await _p99_s(stage, feed)
        backlog = Feed(5000, seed=23, name="backlog")
        await _publish_quickly(stage, "large", backlog.take(5000), times=40)
        await stage.until_called(500, "main", within_s=60)
        beside = await _p99_s(stage, feed)
        for _ in range(2):
            if beside > 2 * alone:
                beside = min(beside, await _p99_s(stage, feed))
        service.terminate()
        assert await service.ended(within_s=DRAIN_S) == 0
        large_results = len(stage.results.of("large"))
        print(f"alone {alone:.2f} s, beside {beside:.2f} s, {large_results} of the large lane")
        assert large_results > 100
        assert beside <= 2 * alone


async def _p99_s(stage: Stage, feed: Feed) -> float:
    before = len(stage.results.of("small"))
    places = set(await stage.publish(feed.take(100), "small"))
    await stage.results.until({"small": before + 100}, within_s=60)
    return quantiles(_latencies_s(stage.results.found, places), n=100)[98]


def _latencies_s(results: Iterable[Result], places: set[Place]) -> list[float]:
    """From the record's timestamp to the end of its delivery."""
    of_ours = [result.data for result in results if result.place in places]
    return [(_ms(data["completed_at"]) - _ms(data["origin"]["timestamp"])) / 1000 for data in of_ours]


def _ms(text: str) -> int:
    found = parse_rfc3339_ms(text)
    assert found is not None
    return found


async def _publish_quickly(stage: Stage, topic: str, events: Sequence[ContactEvent], *, times: int) -> None:
    """The same events again and again: 200,000 in a few seconds."""
    producer = AIOKafkaProducer(bootstrap_servers=stage.bootstrap_servers, max_batch_size=500_000)
    await producer.start()
    name = stage.topic(topic)
    try:
        partitions = sorted(await producer.partitions_for(name))
        sent = []
        for partition in partitions:
            share = [event for n, event in enumerate(events) if n % len(partitions) == partition]
            for _ in range(times):
                batch = producer.create_batch()
                for event in share:
                    if batch.append(key=event.key, value=event.message.value, timestamp=None) is None:
                        sent.append(await producer.send_batch(batch, name, partition=partition))
                        batch = producer.create_batch()
                        batch.append(key=event.key, value=event.message.value, timestamp=None)
                sent.append(await producer.send_batch(batch, name, partition=partition))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
