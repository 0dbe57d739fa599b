"""Members that freeze, stop, come and go: what they leave is taken up once, and nothing of it is lost."""

import asyncio
import json
from pathlib import Path

from service.localkafka import Cluster
from tests.support.cli import run
from tests.support.events import Feed
from tests.support.harness import DRAIN_S, Stage
from tests.support.oracle import check_each_called, check_order, repeats, settled_times, until

# Only who waits for a session to end needs it short: a busy machine can silence a process for seconds.
FAST = {"session_timeout": "3s", "transaction_timeout": "1s"}
# Slow enough that a backlog is still there when the fault comes.
PACED = {"limits": {"requests_per_second": 400, "max_in_flight": 16}}


def wanted(feed: Feed) -> list[tuple[str, int]]:
    """The calls that the events of a feed ask for."""
    return [(event.target, event.segment) for event in feed.events]


async def test_a_member_frozen_past_its_session_and_thawed(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """One of two processes stands still until the other has its partitions, and goes on: one result per event; what
    was settled meanwhile is not committed again; and the thawed one gets partitions and delivers again."""
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, kafka=FAST, account=PACED) as stage:
        feed = Feed(300, seed=11)
        frozen = stage.process("frozen", account_suffix="-frozen")
        other = stage.process("other", account_suffix="-other")
        async with stage.load(feed):
            frozen.start()
            await stage.until_called(50, "lane-frozen")
            other.start()
            await stage.until_called(50, "lane-other")
            await stage.until_called(len(stage.calls("lane-frozen")) + 100, "lane-frozen")
            frozen.freeze()
            # Everything that was there before, and so what the frozen one had under way, is settled by the other.
            await stage.settled_up_to(feed, within_s=30)
            newest, by_frozen = len(feed.events), len(stage.calls("lane-frozen"))
            settled = set(settled_times(stage.results.found))
            frozen.thaw()
            await until(
                lambda: _delivers(stage, feed, newest, by_frozen), within_s=30, what="the thawed process delivers"
            )
        await stage.results.until({"lane": len(feed.events)}, within_s=60, alive=frozen.must_live)
        for process in (frozen, other):
            process.terminate()
        for process in (frozen, other):
            assert await process.ended(within_s=DRAIN_S) == 0
        await stage.check("lane")
        check_each_called(stage.calls("lane-frozen", "lane-other"), wanted(feed))
        # HTTP has no fence: what was at the door when the process froze may still go out, and nothing else.
        late = [c for c in stage.calls("lane-frozen")[by_frozen:] if (c.target, int(c.entity or 0)) in settled]
        assert len(late) <= 2, f"the thawed process made {len(late)} calls for events that others had settled"


def _delivers(stage: Stage, feed: Feed, newest: int, calls_before: int) -> bool:
    """Whether the frozen process has called for events that did not exist while it stood still."""
    fresh = {(event.target, event.segment) for event in feed.events[newest:]}
    calls = stage.calls("lane-frozen")[calls_before:]
    return any((call.target, int(call.entity or 0)) in fresh for call in calls)


async def test_sigterm_under_load_drains_and_loses_nothing(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Five times SIGTERM in the middle of work: exit code 0 within the drain; whatever was called is settled, so that
    the next process calls nothing again."""
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, account=PACED) as stage:
        feed = Feed(200, seed=12)
        service = stage.process()
        for _ in range(5):
            await stage.publish(feed.take(300))
            calls = len(stage.calls("lane"))
            service.start()
            await stage.until_called(calls + 100, "lane")
            service.terminate()
            assert await service.ended(within_s=DRAIN_S) == 0
        service.start()
        await stage.results.until({"lane": len(feed.events)}, within_s=40, alive=service.must_live)
        await stage.check("lane")
        calls_made = stage.calls("lane")
        check_each_called(calls_made, wanted(feed))
        check_order(calls_made)
        assert not repeats(calls_made), "what had been called was not settled"


async def test_replicas_come_and_go_under_load(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """A second and a third process join, two leave: each time partitions move under load; one result per event, each
    contact in order over all processes, and no call twice."""
    names = ("a", "b", "c")
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, account=PACED) as stage:
        feed = Feed(300, seed=13)
        processes = {name: stage.process(name, account_suffix=f"-{name}") for name in names}
        async with stage.load(feed):
            for name in names:
                processes[name].start()
                await stage.until_called(60, f"lane-{name}")
            for name in ("a", "c"):
                processes[name].terminate()
                assert await processes[name].ended(within_s=DRAIN_S) == 0
        await stage.results.until({"lane": len(feed.events)}, within_s=60, alive=processes["b"].must_live)
        await stage.check("lane")
        calls = stage.calls(*(f"lane-{name}" for name in names))
        check_each_called(calls, wanted(feed))
        check_order(calls)
        assert not repeats(calls), "a partition moved before its calls were settled"


async def test_a_broker_killed_and_restarted_under_load(prefix: str, tmp_path: Path) -> None:
    """The only broker is killed twice while a process works, and comes back: the process goes on by itself, with one
    result per event and no call again. It still hears an operator's orders, and tells how it is."""
    # A single broker can lose the abort of a transaction that times out while it is away: so none may time out.
    times = {"session_timeout": "90s", "transaction_timeout": "60s"}
    with Cluster() as cluster:
        async with Stage(
            cluster.bootstrap_servers, prefix, tmp_path, lanes={"lane": {}}, kafka=times, account=PACED
        ) as stage:
            feed = Feed(200, seed=14)
            await stage.publish(feed.take(1_500))
            service = stage.process()
            service.start()
            for calls in (200, 700):
                await stage.until_called(calls, "lane")
                cluster.kill()
                cluster.spawn()
                # The platform is in this process, and answers meanwhile: else calls would fail, and be made again.
                await until(cluster.is_ready, within_s=30, what="the broker is back")
            await stage.results.until({"lane": 1_500}, within_s=90, alive=service.must_live)
            await stage.publish(feed.take(100))
            await stage.results.until({"lane": 1_600}, within_s=60, alive=service.must_live)
            await stage.check("lane")
            check_each_called(stage.calls("lane"), wanted(feed))
            paused = ["lanes", "pause", "lane", "--reason", "a test", "--config", tmp_path / "service.yaml"]
            assert (await asyncio.to_thread(run, *paused)).exit_code == 0
            await until(lambda: '"state":"paused"' in service.tail(), within_s=30, what="the order is heard")
            told = await asyncio.to_thread(run, "status", "--config", tmp_path / "service.yaml", "--json")
            (lane,) = json.loads(told.stdout)["lanes"]
            assert not lane["silent"]
            service.terminate()
            assert await service.ended(within_s=DRAIN_S) == 0
            assert not repeats(stage.calls("lane")), "an outage of the broker is no reason to call again"
