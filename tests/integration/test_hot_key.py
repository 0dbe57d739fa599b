"""One contact with very many events does not stop the others of its partition, nor fill the memory."""

import asyncio
import json
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random

import pytest
from aiokafka import TopicPartition

from handlers.sandbox import Match, Prescription, Step
from service.dedupe.readback import ReadBack
from service.offsets.metadata import MAX_BYTES
from tests.support.cli import run
from tests.support.events import ContactEvent, Feed, contact_event
from tests.support.harness import DRAIN_S, Stage, until_state
from tests.support.kafka import Message, delete_before
from tests.support.oracle import check_each_called, check_order, until
from tests.support.patience import Patience, patiently

HOT = 0
OTHERS = {"where": 'data.change != "deleted"'}
SMALL = {"buffer": "512KiB", "batch": {"linger": "20ms", "max_events": 20, "max_bytes": "256KiB"}}
ONE = {"contacts": 1}
FAST = {"limits": {"requests_per_second": None, "max_in_flight": 32}}
# A static member that comes back in time is taken for the same one: nobody waits for a session to end.
STATIC = {"instance_id": "pod-0", "session_timeout": "30s", "transaction_timeout": "1s"}


def _mixed(feed: Feed, hot: int, others: int, skipped: int, seed: int) -> list[ContactEvent]:
    """Events of the hot contact among one of each other contact and some that the lane passes by."""
    random = Random(seed)
    kinds = ["hot"] * hot + ["other"] * others + ["skipped"] * skipped
    random.shuffle(kinds)
    numbers = iter(range(1, others + 1))
    return [
        feed.of(HOT) if kind == "hot" else feed.of(next(numbers)) if kind == "other" else _skipped(number)
        for number, kind in enumerate(kinds)
    ]


def _skipped(number: int) -> ContactEvent:
    name = f"gone-{number}"
    value = contact_event(name, name, target=name, join=[1], change="deleted")
    return ContactEvent(name, name.encode(), name, 1, Message(value, key=name.encode()))


async def test_ten_thousand_events_of_one_contact(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """The platform takes 50 ms for each call of one contact that has 10,000 events among 16,000 others in the same
    partition, and the lane may hold 4 MiB: 1,000 other contacts are delivered meanwhile. A process that is killed is
    followed by one that calls none of them again, and goes on with the one in order."""
    lane = {"lane": {"buffer": "4MiB", **OTHERS}}
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=lane, sources=ONE, account=FAST, kafka=STATIC) as stage:
        feed = Feed(0, seed=31)
        hot = feed.target(HOT)
        slow = Prescription([Step(delay_s=0.05)], Match(target=hot), repeat=True)
        stage.sandbox.prescriptions.add([slow])
        events = _mixed(feed, 10_000, 1_000, 15_000, seed=31)
        await stage.publish(events)
        service = stage.process()
        service.start()
        await stage.until_called(1, "lane")
        wanted = {event.id for event in events if event.target != hot}
        await _settled(stage, wanted, within_s=80)
        of_hot = sum(call.target == hot for call in stage.calls("lane"))
        assert of_hot < 5_000, "the hot contact was not slow: this proves nothing"
        death = await stage.kill(service)
        [(_, metadata)] = (await stage.commits("lane")).values()
        assert metadata.startswith("fl2")
        assert len(metadata) <= MAX_BYTES
        calls = len(stage.calls("lane"))
        service.start()
        await stage.until_called(calls + 200, "lane")
        service.terminate()
        assert await service.ended(within_s=DRAIN_S) == 0
        assert {call.target for call in stage.calls("lane")[calls:]} == {hot}
        check_order(stage.calls("lane"), deaths_s=[death.at_s])


async def _settled(stage: Stage, wanted: set[str], *, within_s: float) -> None:
    """Wait until these events have results."""
    patience = Patience(within_s)
    while missing := wanted - {str(result.document["subject"]) for result in stage.results.found}:
        assert not patience.is_over(len(missing)), f"{len(missing)} of {len(wanted)} events have no result"
        await stage.results.look(0.3)


async def test_what_was_deferred_comes_to_its_end(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """A buffer for a hundred records, a contact with 1,500 among others, two deaths on the way: each event has one
    result, in order."""
    lane = {"lane": {**SMALL, **OTHERS}}
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=lane, sources=ONE, account=FAST, kafka=STATIC) as stage:
        feed = Feed(0, seed=32)
        events = _mixed(feed, 1_500, 300, 0, seed=32)
        await stage.publish(events)
        service, deaths = stage.process(), []
        for calls in (300, 900):
            service.start()
            await stage.until_called(calls, "lane")
            deaths.append(await stage.kill(service))
        service.start()
        await stage.results.until({"lane": len(events)}, within_s=60, alive=service.must_live)
        service.terminate()
        assert await service.ended(within_s=DRAIN_S) == 0
        await stage.check("lane")
        check_each_called(stage.calls("lane"), [(event.target, event.segment) for event in events])
        check_order(stage.calls("lane"), deaths_s=[death.at_s for death in deaths])


async def test_what_retention_took_of_what_was_put_off(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Records of a hot contact are deleted before their turn comes. One lane holds and names the offsets until somebody
    gives them up, the other one (`on_gap: continue`) goes on by itself. All that was left has one result, and an audit
    tells the rest as lost."""
    small = {**SMALL, **OTHERS}
    lanes = {"holds": small, "goes": {**small, "on_gap": "continue"}}
    async with Stage(
        bootstrap_servers, prefix, tmp_path, lanes=lanes, sources=ONE, account=FAST, kafka=STATIC
    ) as stage:
        file, tp = tmp_path / "operator.yaml", TopicPartition(stage.topic(), 0)
        file.write_bytes(stage.configuration())
        feed = Feed(0, seed=33)
        slow = Prescription([Step(delay_s=0.2)], Match(target=feed.target(HOT)), repeat=True)
        stage.sandbox.prescriptions.add([slow])
        await stage.publish(_mixed(feed, 1_200, 100, 0, seed=33))
        async with stage.application() as application:

            def put_off() -> bool:
                held = [application.lanes[name].assignment for name in lanes]
                ledgers = [one.partitions[tp].ledger for one in held if one is not None and one.ready]
                return len(ledgers) == 2 and all(one.deferred and one.position == 1_300 for one in ledgers)

            await until(put_off, within_s=40, what="all is read, and some of it put off")
            await delete_before(bootstrap_servers, {tp: 1_200})
            stage.sandbox.prescriptions.clear()
            reason = await until_state(application.lanes["holds"], "holding", "lost: ", within_s=40)
            assert re.fullmatch(rf"lost: {tp.topic}-0 offsets \d+ to 1199", reason), reason
            await stage.publish([feed.of(HOT) for _ in range(5)])
            await _told(stage, "goes", range(1_200, 1_305))
            assert max(place.offset for place in stage.results.of("holds")) < 1_300
            given_up = await asyncio.to_thread(
                run, "lanes", "accept-loss", "holds", "--reason", "retention", "--config", file
            )
            assert given_up.exit_code == 0, given_up.output
            await _told(stage, "holds", range(1_200, 1_305))
        audited = await asyncio.to_thread(run, "audit", "--config", file, "--json")
        assert audited.exit_code == 0, audited.output
        for name, lane in json.loads(audited.stdout)["lanes"].items():
            assert (lane["missing"], lane["duplicate"], lane["pending"], lane["events"]) == (0, 0, 0, 105)
            # Who goes on by itself may have read again all that it had put off before it was deleted.
            assert lane["lost"] > 100 or name == "goes"


async def test_what_retention_takes_in_the_middle_of_reading_again(
    bootstrap_servers: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was put off is deleted after the lane has looked where its partition begins, and before it reads there: it
    is not passed over without a word."""
    lanes = {"holds": {**SMALL, **OTHERS}}
    async with Stage(
        bootstrap_servers, prefix, tmp_path, lanes=lanes, sources=ONE, account=FAST, kafka=STATIC
    ) as stage:
        feed, tp = Feed(0, seed=34), TopicPartition(stage.topic(), 0)
        look, deleted = ReadBack.first_offsets, asyncio.Event()

        async def look_and_delete(reading: ReadBack, tps: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
            found = await look(reading, tps)
            if not deleted.is_set():
                await delete_before(bootstrap_servers, {tp: 1_200})
                deleted.set()
            return found

        monkeypatch.setattr(ReadBack, "first_offsets", look_and_delete)
        await stage.publish(_mixed(feed, 1_200, 100, 0, seed=34))
        async with stage.application() as application:
            reason = await until_state(application.lanes["holds"], "holding", "lost: ", within_s=40)
            assert deleted.is_set()
            assert re.fullmatch(rf"lost: {tp.topic}-0 offsets \d+ to 1199", reason), reason


async def _told(stage: Stage, lane: str, offsets: range) -> None:
    """Wait until these have results."""
    deadline = time.monotonic() + patiently(40)
    while missing := set(offsets) - {place.offset for place in stage.results.of(lane)}:
        assert time.monotonic() < deadline, f"{len(missing)} of {len(offsets)} have no result in {lane}"
        await stage.results.look()
