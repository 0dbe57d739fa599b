"""The main job on a real broker: one result per event and lane, in the contacts' order as the platform sees it."""

import asyncio
from pathlib import Path
from random import Random

import pytest
import uvloop

from handlers.sandbox import Prescription, Step
from handlers.sandbox.prescriptions import Match
from tests.support.events import ContactEvent, Feed
from tests.support.harness import Stage
from tests.support.oracle import check_each_called, check_order, read_results, repeats

EVENTS = 20_000
ONE_IN = 50
# A 429 without a time would stop the account for a second each: here what is asked for is to come again at once.
_FAILURES: tuple[int | Step, ...] = (500, Step(status=429, headers={"Retry-After": "0"}))


def prescriptions(events: list[ContactEvent], account: str, random: Random) -> list[Prescription]:
    """One event in ``ONE_IN`` gets one to three failures before the platform's own answer."""
    return [
        Prescription(
            [random.choice(_FAILURES) for _ in range(random.randint(1, 3))],
            Match(account=account, target=event.target, entity=str(event.segment)),
        )
        for event in random.sample(events, len(events) // ONE_IN)
    ]


async def publish(stage: Stage, feed: Feed, topic: str, count: int) -> None:
    """Three publishers in turn: a plain one, a transactional one, and one whose transactions are aborted."""
    shares = (count // 2, count - count // 2)
    for share in shares:
        half = share // 2
        await stage.publish(feed.take(half), topic)
        # What is aborted is of contacts of its own: none of it may be seen anywhere.
        lost = Feed(50, name=f"lost-{topic}").take(40)
        await stage.publish(lost, topic, transactional_id=f"{stage.prefix}-aborting", abort=True)
        await stage.publish(feed.take(share - half), topic, transactional_id=f"{stage.prefix}-{topic}")
        await stage.publish(lost, topic, transactional_id=f"{stage.prefix}-aborting", abort=True)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_event_once_in_every_lane_and_in_order(
    bootstrap_servers: str, prefix: str, tmp_path: Path, seed: int
) -> None:
    """20,000 events, 2,000 contacts, 6 partitions, two lanes, one of them with a second source topic; failures first
    for one event in 50, aborted transactions and null keys in between: one result each, and each contact in order."""
    # The sandbox answers 44,000 calls a run: on this loop in half the time.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_deliver_all(bootstrap_servers, prefix, tmp_path, seed))


async def _deliver_all(bootstrap_servers: str, prefix: str, directory: Path, seed: int) -> None:
    lanes = {"first": {"topics": ["contacts", "more"]}, "second": {}}
    async with Stage(bootstrap_servers, prefix, directory, lanes=lanes, sources={"contacts": 6, "more": 6}) as stage:
        random = Random(seed)
        contacts = Feed(2_000, seed=seed, name="c", null_every=40)
        more = Feed(200, seed=seed, name="m", null_every=40)
        await publish(stage, contacts, "contacts", EVENTS)
        await publish(stage, more, "more", EVENTS // 10)
        stage.sandbox.prescriptions.add(prescriptions(contacts.events + more.events, "first", random))
        stage.sandbox.prescriptions.add(prescriptions(contacts.events, "second", random))

        service = stage.process()
        service.start()
        counts = {"first": EVENTS + EVENTS // 10, "second": EVENTS}
        await stage.results.until(counts, within_s=120, alive=service.must_live)
        service.terminate()
        assert await service.ended(within_s=30) == 0

        found = await read_results(bootstrap_servers, stage.results_topic)
        wanted = {"first": contacts.events + more.events, "second": contacts.events}
        for lane, events in wanted.items():
            assert len(await stage.check(lane, results=found)) == len(events)
            calls = stage.calls(lane)
            check_order(calls, keyless=frozenset(event.target for event in events if event.key is None))
            check_each_called(calls, ((event.target, event.segment) for event in events))
            assert not repeats(calls), "a call that had been answered was made again"
            assert len(calls) >= len(events) * (1 + 1 / ONE_IN), "the prescribed failures were met"
