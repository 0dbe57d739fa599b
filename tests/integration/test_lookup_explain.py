"""``fanline explain`` on a real broker: of an event in each state it tells the truth of that time."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from handlers.sandbox import Prescription, Step
from handlers.sandbox.outages import Mode, Outage
from handlers.sandbox.prescriptions import Match
from service.lookup.standing import living
from tests.support.cli import run
from tests.support.events import CITY, EMAIL_DOMAIN, ContactEvent, Feed, contact_event
from tests.support.harness import API_KEY, KEY_VARIABLE, SHORT_SESSION, Stage
from tests.support.kafka import Message, produce
from tests.support.patience import patiently
from tests.support.workflows import notification

SOON_S = 30.0  # processes tell each five seconds
# Who was killed is missed half a minute after it told last: for whoever asks that is over by so much sooner.
SOONER_S = 20.0


class Asking:
    """Asks on a stage."""

    def __init__(self, stage: Stage, directory: Path) -> None:
        self._file = directory / "asking.yaml"
        self._file.write_bytes(stage.configuration())

    async def text(self, event_id: str, code: int = 0) -> str:
        """What is printed."""
        told = await asyncio.to_thread(run, "explain", event_id, "--config", self._file)
        assert told.exit_code == code, told.output
        for secret in (EMAIL_DOMAIN, CITY, API_KEY):
            assert secret not in told.output
        return told.stdout

    async def until(self, event_id: str, *words: str) -> str:
        """What is printed, once all the words are in it."""
        deadline = time.monotonic() + patiently(SOON_S)
        while True:
            text = await self.text(event_id)
            if all(word in text for word in words):
                return text
            assert time.monotonic() < deadline, f"never {words}:\n{text}"

    async def until_any(self, event_ids: Sequence[str], *words: str) -> str:
        """What is printed of the first of several events that has all the words."""
        deadline = time.monotonic() + patiently(SOON_S)
        while True:
            for event_id in event_ids:
                text = await self.text(event_id)
                if all(word in text for word in words):
                    return text
                assert time.monotonic() < deadline, f"never {words}:\n{text}"

    async def document(self, event_id: str) -> dict[str, Any]:
        """What programs get."""
        told = await asyncio.to_thread(run, "explain", event_id, "--config", self._file, "--json")
        document: dict[str, Any] = json.loads(told.stdout)
        return document

    async def command(self, *arguments: str) -> None:
        """Another command, which must succeed."""
        done = await asyncio.to_thread(run, *arguments, "--config", self._file)
        assert done.exit_code == 0, done.output


def soon_missed(patch: pytest.MonkeyPatch) -> None:
    """Whoever asks from now on misses processes that are silent sooner: after ten seconds. None may live."""
    patch.setattr("service.lookup.search.living", lambda reports, now_ms: living(reports, now_ms + 1000 * SOONER_S))


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, API_KEY)


async def test_what_has_ended(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Delivered, skipped, a dead letter, in both lanes of the topic; structured, binary; published twice; broken; and
    one that nobody published, with what was searched."""
    lanes: dict[str, dict[str, Any]] = {"first": {}, "second": {"where": 'data.change == "deleted"'}}
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=lanes) as stage:
        ask, feed = Asking(stage, tmp_path), Feed(1_000)
        good, refused = feed.take(2)
        stage.sandbox.prescriptions.add([Prescription([400], Match(account="first", target=refused.target))])
        headers = (
            ("ce_specversion", b"1.0"),
            ("ce_id", 'évt "1"'.encode()),
            ("ce_source", b"crm"),
            ("ce_type", b"contact.changed.v1"),
            ("content-type", b"application/json"),
        )
        data = json.dumps(json.loads(contact_event("-", "c", target="T-binary", join=[7]))["data"]).encode()
        broken = contact_event("broken-1", "c", target="T")[:-20]
        async with stage.application():
            await stage.publish([good, refused, good])
            others = [Message(data, key=b"b", headers=headers), Message(broken, key=b"c")]
            escaped = json.dumps(json.loads(contact_event("évt 2", "d", target="T-2", join=[7]))).encode()
            await produce(bootstrap_servers, stage.topic(), [*others, Message(escaped, key=b"d")])
            await stage.results.until({"first": 6, "second": 6}, within_s=SOON_S)

        told = await ask.text(good.id)
        assert f"event {good.id}: 2 records" in told
        assert told.count("first   delivered at ") == 2
        assert told.count("segment.join 1 HTTP 204 (target ") == 2
        assert told.count("second  skipped: where at ") == 2

        told = await ask.text(refused.id)
        assert "first   rejected: refused at " in told
        assert ", after 1 attempt\n" in told
        assert "segment.join 1 refused HTTP 400" in told
        assert f"dead letter: {stage.dead_letter_topic('first')}-" in told
        [story] = (await ask.document(refused.id))["stories"]
        first, second = story["lanes"]
        assert (first["standing"], first["result"]["data"]["outcome"]) == ("ended", "rejected")
        assert first["dead_letter"]["told"]["result_id"] == first["result"]["id"]
        assert second["result"]["data"]["reason"] == "where"

        assert "first   delivered at " in await ask.text('évt "1"')
        assert "first   delivered at " in await ask.text("évt 2")
        told = await ask.text("broken-1")
        assert "this record cannot be read; it holds the id somewhere" in told
        assert "first   invalid: malformed at " in told
        told = await ask.text("nobody-1", code=1)
        assert "nothing is found" in told
        assert f"{stage.topic()} (source): 6 partitions, " in told
        assert f"{stage.results_topic} (results): 4 partitions, " in told


async def test_what_goes_on(
    bootstrap_servers: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not read because nobody runs, or the buffer is full; retrying; waiting for a breaker; paused, with a process and
    without; and each time the end, once it has come."""
    lanes: dict[str, dict[str, Any]] = {
        "some": {"retry": {"first_delay": "20s", "max_delay": "20s", "max_attempts": 1000}},
        "full": {
            "topics": ["slow"],
            "concurrency": 4,
            "buffer": "4KiB",
            "batch": {"linger": "20ms", "max_bytes": "4KiB"},
        },
        "dead": {"topics": ["down"]},
    }
    sources = {"contacts": 2, "slow": 1, "down": 1}
    async with Stage(bootstrap_servers, prefix, tmp_path, lanes=lanes, sources=sources, kafka=SHORT_SESSION) as stage:
        ask, feed = Asking(stage, tmp_path), Feed(1_000)
        failing, held, *others = feed.take(12)
        await stage.publish([failing, *others])
        assert "not read: the lane has never begun with its partition (start: earliest)" in await ask.text(failing.id)

        stage.sandbox.prescriptions.add(
            [
                Prescription([Step(status=500)], Match(account="some", target=failing.target), repeat=True),
                Prescription([Step(hang=True)], Match(account="full"), repeat=True),
            ]
        )
        stage.sandbox.outages.set(Outage(Mode.UNAVAILABLE, account="dead", status=500), time.monotonic())
        slow = Feed(1_000, name="s").take(1_200)
        await stage.publish(slow, "slow")
        down = Feed(1_000, name="d").take(40)
        await stage.publish(down, "down")
        service = stage.process()
        service.start()

        await ask.until(failing.id, "retrying (HTTP 500), attempt ", " in ", "process ")
        [lane] = (await ask.document(failing.id))["stories"][0]["lanes"]
        assert lane["standing"] == "waiting"
        assert lane["attempt"] >= 2
        assert lane["next_at"] > lane["as_of"]
        await ask.until(others[0].id, "delivered at")
        await ask.until(slow[-1].id, "not yet read: ", "offsets before it, from position ", "the lane is full: ")
        # Each call takes its whole time-out, and the account soon allows one at a time: which event has it changes.
        await ask.until_any([event.id for event in slow[:4]], "in flight for ", "attempt ")
        await ask.until(down[3].id, "account dead: breaker open")

        await ask.command("lanes", "pause", "some", "--reason", "a look at the segments")
        await stage.publish([held])
        await ask.until(held.id, "paused by ", "a look at the segments")
        service.kill()
        with monkeypatch.context() as patch:
            soon_missed(patch)
            await ask.until(held.id, "paused by ", "a look at the segments", "no process runs the lane now")
            later: list[ContactEvent] = feed.take(1)
            await stage.publish(later)
            assert "not settled: " in await ask.text(later[0].id)

        stage.sandbox.prescriptions.clear()
        stage.sandbox.outages.set(Outage(Mode.UP), time.monotonic())
        await ask.command("lanes", "resume", "some", "--reason", "seen")
        service.start()
        for event in (failing, held, later[0], slow[-1], down[3]):
            await ask.until(event.id, "delivered at ")


async def test_what_was_begun_and_not_ended(
    bootstrap_servers: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workflow execution on its way, then of a process that was killed, then in doubt: the journal's entry is told
    for as long as it is open. The same notification a second time is a duplicate."""
    lanes: dict[str, dict[str, Any]] = {"welcome": {"handler": "np6.workflows", "topics": ["notes"]}}
    async with Stage(
        bootstrap_servers, prefix, tmp_path, lanes=lanes, sources={"notes": 1}, kafka=SHORT_SESSION
    ) as stage:
        ask = Asking(stage, tmp_path)
        stage.sandbox.prescriptions.add([Prescription([Step(hang=True)], Match(account="welcome"))])
        await produce(bootstrap_servers, stage.topic("notes"), [notification("n-1", "T-1")])
        service = stage.process()
        service.start()
        begun = "the journal: a delivery with it was begun at "
        await ask.until("n-1", "in flight for ", begun)
        service.kill()
        with monkeypatch.context() as patch:
            soon_missed(patch)
            await ask.until("n-1", "no process runs the lane now", begun, "may have taken effect")
        service.start()
        told = await ask.until("n-1", "in_doubt: interrupted at ", "dead letter: ")
        assert begun not in told
        await produce(bootstrap_servers, stage.topic("notes"), [notification("n-1", "T-1")])
        await ask.until("n-1", "2 records", "in_doubt: interrupted at ", "skipped: duplicate at ")
