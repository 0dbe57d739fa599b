"""SIGKILL in the middle: nothing missing, nothing twice, and no call again that need not be."""

from pathlib import Path
from random import Random

import pytest

from handlers.sandbox import Match, Prescription, Step
from tests.support.events import Feed
from tests.support.harness import Stage
from tests.support.oracle import Death, check_each_called, check_order, check_repeats, settled_times

PER_ROUND = 150
# A round ends when the group has noticed that its member died; a machine may stand still for a while.
FAST = {"session_timeout": "5s", "transaction_timeout": "1s"}
# A static member that comes back in time is taken for the same one: nobody waits for a session to end.
STATIC = {"instance_id": "pod-0", "session_timeout": "30s", "transaction_timeout": "1s"}
PARTITIONS = 3


@pytest.mark.parametrize(("instance", "rounds"), [("pod-0", 10), (None, 5)])
async def test_killed_in_the_middle_again_and_again(
    bootstrap_servers: str, prefix: str, tmp_path: Path, instance: str | None, rounds: int
) -> None:
    """Again and again a process is killed while it works and a new one goes on, behind one event in each partition that
    does not come to an end: one result per event; a call is made again only if it had started before a kill and its
    event was not settled; so what had finished beyond the stuck events is not delivered again."""
    kafka = STATIC if instance else FAST
    random = Random(7 if instance else 8)
    async with Stage(
        bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, kafka=kafka, sources={"contacts": PARTITIONS}
    ) as stage:
        feed = Feed(60, seed=3)
        stuck = await _one_stuck_event_per_partition(stage)
        service = stage.process()
        deaths: list[Death] = []
        for _ in range(rounds):
            await stage.publish(feed.take(PER_ROUND))
            calls = len(stage.calls("lane"))
            service.start()
            await stage.until_called(calls + random.randint(1, PER_ROUND), "lane")
            # Some kills fall between calls and settlement, some later.
            settled = len(stage.results.found) + random.choice([0, 0, 20])
            await _until_found(stage, settled)
            service.must_live()
            deaths.append(await stage.kill(service))
        stage.sandbox.prescriptions.clear()
        service.start()
        events = [*feed.events, *stuck.events]
        await stage.results.until({"lane": len(events)}, within_s=40, alive=service.must_live)

        results = await stage.check("lane")
        joins = stage.calls("lane")
        check_each_called(joins, ((event.target, event.segment) for event in events))
        check_order(joins, deaths_s=[death.at_s for death in deaths])
        assert check_repeats(joins, deaths, settled_times(results)), "no kill fell between a call and its settlement"


async def _one_stuck_event_per_partition(stage: Stage) -> Feed:
    """Events at the head of each partition whose calls are never answered."""
    stuck = Feed(1_000, name="stuck")
    partitions: set[int] = set()
    for contact in range(1_000):
        event = stuck.of(contact)
        stage.sandbox.prescriptions.add([_never_answered(event.target)])
        [place] = await stage.publish([event])
        partitions.add(place.partition)
        if len(partitions) == PARTITIONS:
            return stuck
    raise AssertionError("no key for some partition")


def _never_answered(target: str) -> Prescription:
    return Prescription([Step(hang=True)], Match(target=target), repeat=True)


async def _until_found(stage: Stage, count: int) -> None:
    """Wait for so many results, but not for long: there may be no more to come."""
    for _ in range(10):
        if len(stage.results.found) >= count:
            return
        await stage.results.look()


async def test_what_finished_beyond_a_stuck_event_travels_with_the_commit(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """The first of 300 events of a partition cannot be delivered and the others are: the committed offset stays with
    the first and its metadata names the others, so that a new process calls none of them again."""
    async with Stage(
        bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, kafka=STATIC, sources={"contacts": 1}
    ) as stage:
        stuck, feed = Feed(1, name="stuck"), Feed(40, seed=1)
        first = stuck.of(0)
        stage.sandbox.prescriptions.add([_never_answered(first.target)])
        [place] = await stage.publish([first])
        await stage.publish(feed.take(300))
        service = stage.process()
        service.start()
        await stage.results.until({"lane": 300}, within_s=40, alive=service.must_live)
        offset, metadata = (await stage.commits("lane"))[place.topic, place.partition]
        assert offset == place.offset, "a commit passed an unfinished record"
        assert metadata, "nothing is known of what finished beyond it"

        death = await stage.kill(service)
        stage.sandbox.prescriptions.clear()
        service.start()
        await stage.results.until({"lane": 301}, within_s=40, alive=service.must_live)
        after = [call for call in stage.calls("lane") if call.started_s > death.at_s]
        assert {call.target for call in after} == {first.target}
        await stage.check("lane")


async def test_at_least_once_repeats_results_with_the_same_id_and_loses_none(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """``delivery: at_least_once`` through five kills: every event has a result; one that appears again has its id."""
    kafka = {**STATIC, "delivery": "at_least_once"}
    # Slow enough that each kill falls between the first settlement and the last call.
    paced = {"limits": {"requests_per_second": 300, "max_in_flight": 8}}
    async with Stage(
        bootstrap_servers,
        prefix,
        tmp_path,
        lanes={"lane": {}},
        kafka=kafka,
        sources={"contacts": PARTITIONS},
        account=paced,
    ) as stage:
        feed = Feed(60, seed=5)
        service = stage.process()
        for _ in range(5):
            await stage.publish(feed.take(PER_ROUND))
            settled = len(stage.results.of("lane"))
            service.start()
            await stage.results.until({"lane": settled + PER_ROUND // 3}, within_s=30, alive=service.must_live)
            await stage.kill(service)
        service.start()
        await stage.results.until({"lane": len(feed.events)}, within_s=40, alive=service.must_live)
        await stage.check("lane", repeats_allowed=True)
        check_each_called(stage.calls("lane"), ((event.target, event.segment) for event in feed.events))
