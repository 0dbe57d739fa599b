"""An event that was published several times is delivered once, on the real broker."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from tests.support.events import ContactEvent, Feed
from tests.support.harness import Stage
from tests.support.kafka import Message
from tests.support.oracle import Expect, Place, Source, check_each_called, read_sources

FAST = {"session_timeout": "2500ms", "transaction_timeout": "1s"}
WINDOW_MS = 600_000
LANES = {"lane": {"dedupe": "10m"}}


def once(sources: Mapping[Place, Source]) -> Expect:
    """The rule, looked up in the whole topic."""

    def expect(place: Place, source: Source) -> tuple[str, str | None]:
        for other, earlier in sources.items():
            if (
                other[:2] == place[:2]
                and other.offset < place.offset
                and _identity(earlier) == _identity(source)
                and abs(earlier.timestamp_ms - source.timestamp_ms) <= WINDOW_MS
            ):
                return "skipped", "duplicate"
        return "delivered", None

    return expect


def _identity(source: Source) -> tuple[str, str]:
    assert source.value is not None
    document = json.loads(source.value)
    return document["source"], document["id"]


def at(events: Sequence[ContactEvent], timestamp_ms: int) -> list[ContactEvent]:
    """The same events, published at another time."""
    return [
        ContactEvent(
            event.id,
            event.key,
            event.target,
            event.segment,
            Message(event.message.value, key=event.key, timestamp_ms=timestamp_ms),
        )
        for event in events
    ]


async def test_published_three_times_and_through_a_restart_and_kills_it_is_delivered_once(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """Twice at once; again after a restart, so that the window has to be read back; again after each of three kills
    in the middle of the work. What was published in an aborted transaction does not count."""
    random = Random(5)
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=LANES, kafka=FAST, sources={"contacts": 3}) as stage:
        feed = Feed(25, seed=11)
        aborted = feed.take(10)
        await stage.publish(aborted, transactional_id=f"{prefix}-publisher", abort=True)
        first = feed.take(60)
        await stage.publish([*aborted, *first, *random.sample(first, 60)])
        published = 130
        service = stage.process()
        service.start()
        await stage.results.until({"lane": published}, within_s=40, alive=service.must_live)
        check_each_called(stage.calls("lane"), ((event.target, event.segment) for event in feed.events))
        assert len(stage.calls("lane")) == 70, "an event was delivered twice"

        service.terminate()
        assert await service.ended(within_s=30) == 0
        for _ in range(3):
            again = random.sample(feed.events, 40)
            await stage.publish([*again, *feed.take(40), *random.sample(again, 20)])
            published += 100
            calls = len(stage.calls("lane"))
            service.start()
            await stage.until_called(calls + random.randint(1, 30), "lane")
            await stage.kill(service)
        service.start()
        await stage.publish(random.sample(feed.events, 50))
        await stage.results.until({"lane": published + 50}, within_s=60, alive=service.must_live)
        sources = await read_sources(bootstrap_servers, stage.topics_of("lane"))
        results = await stage.check("lane", once(sources), sources=sources)
        assert sum(result.verdict[0] == "delivered" for result in results) == len(feed.events)


async def test_the_window_is_one_of_record_timestamps_also_read_back(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """Ten minutes apart is a repetition and a millisecond more is none, whenever it is read; the timestamps of a
    backlog count and not the clock. Another source's event of the same id is another event."""
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=LANES, kafka=FAST, sources={"contacts": 1}) as stage:
        feed = Feed(5, seed=2)
        long_ago = int(time.time() * 1000) - 3_600_000
        events = feed.take(6)
        await stage.publish(at(events, long_ago))
        await stage.publish(at(feed.take(300), long_ago + 1_000))
        service = stage.process()
        service.start()
        await stage.results.until({"lane": 306}, within_s=40, alive=service.must_live)
        service.terminate()
        assert await service.ended(within_s=30) == 0

        await stage.publish(at(events[:2], long_ago + WINDOW_MS))
        await stage.publish(at(events[2:4], long_ago + WINDOW_MS + 1))
        await stage.publish(at(events[4:], long_ago - WINDOW_MS))
        service.start()
        await stage.results.until({"lane": 312}, within_s=40, alive=service.must_live)
        sources = await read_sources(bootstrap_servers, stage.topics_of("lane"))
        results = await stage.check("lane", once(sources), sources=sources)
        last = sorted(results, key=lambda result: result.place.offset)[-6:]
        duplicate, delivered = ("skipped", "duplicate"), ("delivered", None)
        assert [result.verdict for result in last] == [duplicate] * 2 + [delivered] * 2 + [duplicate] * 2
