"""An event that was published several times is delivered once, on the real broker."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from tests.support.events import ContactEvent, Feed
from tests.support.harness import Stage
from tests.support.kafka import Message, produce
from tests.support.oracle import Expect, Place, Source, check_each_called, read_sources, until
from tests.support.workflows import notification, performed

# A static member that comes back in time is taken for the same one: nobody waits for a session to end.
STATIC = {"instance_id": "pod-0", "session_timeout": "30s", "transaction_timeout": "1s"}
WINDOW_MS = 600_000
LANES = {"lane": {"dedupe": "10m"}}
WORKFLOWS: dict[str, Any] = {
    "handler": "np6.workflows",
    "topics": ["notes"],
    "batch": {"max_events": 20, "linger": "50ms"},
    "in_doubt": "dead_letter",
}


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
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=LANES, kafka=STATIC, sources={"contacts": 3}) as stage:
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
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=LANES, kafka=STATIC, sources={"contacts": 1}) as stage:
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


async def test_a_notification_published_three_times_is_executed_once(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """With the default of `np6.workflows`: twice at once, a kill in the middle of the executions, and once more. None
    is executed twice. Of a lane that says so another type of event and a deleted contact are skipped or executed."""
    by_key = {"workflow": 9, "receiver": {"type": "id", "value": "key"}, "data": {"event": "event.id"}}
    lanes: dict[str, dict[str, Any]] = {
        "lane": WORKFLOWS,
        "lenient": WORKFLOWS | by_key | {"other_types": "skip", "deleted": "deliver"},
        "strict": WORKFLOWS | by_key,
    }
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=lanes, kafka=STATIC, sources={"notes": 2}) as stage:
        for lane in lanes:
            stage.sandbox.platforms["np6"].configure(lane, {})
        notes = [notification(f"e-{n:03d}", f"t-{n:03d}") for n in range(60)]
        topic = stage.topic("notes")
        await produce(bootstrap_servers, topic, [*notes, *notes])
        service = stage.process()
        service.start()
        await until(lambda: len(performed(stage.sandbox, "lane")) > 0, within_s=40, what="something is executed")
        await stage.kill(service)
        gone = _contact("gone", "contact.changed.v1", {"contact_id": "c", "change": "deleted"})
        other = _contact("other", "something.else.v1", {})
        await produce(bootstrap_servers, topic, [*notes, gone, gone, other, other])
        service.start()
        await stage.results.until(dict.fromkeys(lanes, 184), within_s=60, alive=service.must_live)

        for lane in lanes:
            executed = Counter(one.event for one in performed(stage.sandbox, lane))
            # None at all where the kill came behind the journal's entry and in front of the only call.
            assert set(executed.values()) <= {1}, "executed twice"
            told = Counter(result.verdict for result in stage.results.found if result.lane == lane)
            assert told["skipped", "duplicate"] == 122
            last = {
                str(result.document["subject"]): result.verdict
                for result in stage.results.found
                if result.lane == lane and result.verdict != ("skipped", "duplicate")
            }
            in_doubt = {event for event, verdict in last.items() if verdict == ("in_doubt", "interrupted")}
            assert executed.keys() | in_doubt >= {f"e-{n:03d}" for n in range(60)}
            lenient = lane == "lenient"
            assert last["gone"] == (("delivered", None) if lenient else ("skipped", "nothing_to_do"))
            assert last["other"] == (("skipped", "other_type") if lenient else ("invalid", "contract"))
            assert ("gone" in executed) is lenient


def _contact(event_id: str, event_type: str, data: dict[str, Any]) -> Message:
    envelope = {"specversion": "1.0", "id": event_id, "source": "crm", "type": event_type, "data": data}
    return Message(json.dumps(envelope).encode(), key=b"c")
