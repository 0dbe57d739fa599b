"""A deadline, and the time that does not count against it, on the real broker."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from contracts.journal import HeldTime, HeldTimeKey, decode_entry, encode_key
from handlers.sandbox import Mode, Outage
from tests.support.events import ContactEvent, Feed
from tests.support.harness import Stage
from tests.support.kafka import Message, read_committed_all
from tests.support.oracle import Place, Source, until
from tests.support.patience import patiently

# A static member that comes back in time is taken for the same one: nobody waits for a session to end.
STATIC = {"instance_id": "pod-0", "session_timeout": "30s", "transaction_timeout": "1s"}
DEADLINE_S = 6


async def test_an_outage_of_the_credentials_expires_nothing_also_through_a_kill(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """The key is refused, the process is killed while it holds, and for longer than the deadline nobody runs: the
    next owner delivers everything. What is that old and was never held is expired, with its dead letter."""
    lanes = {"lane": {"deadline": f"{DEADLINE_S}s"}}
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=lanes, kafka=STATIC, sources={"contacts": 2}) as stage:
        stage.sandbox.outages.set(Outage(Mode("unavailable"), account="lane", status=401), time.monotonic())
        service = stage.process()
        service.start()
        await until(lambda: "partitions_assigned" in service.tail(), within_s=40, what="it reads")
        held = Feed(10, seed=1, name="held")
        await stage.publish(held.take(30))
        await _until_held_time(stage, lambda entry: entry.intervals[-1][1] is None, service.must_live)
        await stage.kill(service)
        killed = time.monotonic()
        await until(lambda: time.monotonic() > killed + DEADLINE_S + 1, within_s=20, what="the deadline has passed")

        stage.sandbox.outages.set(Outage(Mode.UP), time.monotonic())
        service.start()
        await stage.results.until({"lane": 30}, within_s=30, alive=service.must_live)
        await _until_held_time(stage, lambda entry: entry.intervals[-1][1] is not None, service.must_live)

        # From before the outage: the time that was held does not make these young enough.
        old = [_at(event, int(time.time() * 1000) - 60_000) for event in Feed(5, seed=2, name="old").take(10)]
        await stage.publish(old)
        await stage.results.until({"lane": 40}, within_s=30, alive=service.must_live)

        def expect(_place: Place, source: Source) -> tuple[str, str | None]:
            return ("expired", "deadline") if b'"old-' in (source.value or b"") else ("delivered", None)

        await stage.check("lane", expect)


async def _until_held_time(
    stage: Stage, condition: Callable[[HeldTime], bool], alive: Callable[[], object], *, within_s: float = 30.0
) -> None:
    """Wait until the newest entry of each partition of the journal is so."""
    deadline = time.monotonic() + patiently(within_s)
    while True:
        alive()
        newest: dict[int, HeldTime] = {}
        for record in await read_committed_all(stage.bootstrap_servers, [f"{stage.prefix}.lane.journal"]):
            if record.key == encode_key(HeldTimeKey()):
                entry = decode_entry(HeldTimeKey(), record.value or b"")
                assert isinstance(entry, HeldTime)
                newest[record.partition] = entry
        if len(newest) == 2 and all(condition(entry) for entry in newest.values()):
            return
        assert time.monotonic() < deadline, newest
        await asyncio.sleep(0.1)


def _at(event: ContactEvent, timestamp_ms: int) -> ContactEvent:
    message = Message(event.message.value, key=event.key, timestamp_ms=timestamp_ms)
    return ContactEvent(event.id, event.key, event.target, event.segment, message)
