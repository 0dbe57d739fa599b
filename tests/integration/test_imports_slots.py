"""Imports of several replicas before a sandbox that refuses one too many: through kills, a freeze and a restart."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from handlers.apsis.sandbox import ApsisSandbox, Rules
from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox import SandboxServer
from tests.support.events import Feed
from tests.support.harness import Stage

SLOTS = 3
KEYSPACE = "com.apsis1.keyspaces.email"
LANE: dict[str, Any] = {
    "handler": "apsis.imports",
    "section": "shop",
    "keyspaces": [{"discriminator": KEYSPACE, "column": "target", "value": "data.identifiers.np6"}],
    "attributes": [{"version_id": "1", "column": "newest", "value": "event.id"}],
    "batch": {"max_events": 200, "max_bytes": "1MiB", "linger": "200ms"},
    "poll": {"every": "100ms", "deadline": "1h"},
}
# What a kill leaves between create and journal is open for so long.
# (The lane's ``orphan_life`` is a second longer.)
LIFE_S = 3.0
RULES = Rules(max_open=SLOTS, imports_per_minute=None, tokens_per_minute=None, upload_life_s=LIFE_S, takes_s=0.3)


class ImportStage(Stage):
    """A stage whose account is of Apsis One."""

    def __init__(self, *arguments: Any, **given: Any) -> None:
        super().__init__(*arguments, **given)
        self.apsis = ApsisSandbox({"apsis": RULES})
        self.sandbox = SandboxServer(np6=Np6Sandbox(), apsis=self.apsis)

    def configuration(self, **given: Any) -> bytes:
        """As of any stage, with the one account that its lanes share."""
        document = json.loads(super().configuration(**given))
        document["accounts"] = {
            "apsis": {
                "platform": "apsis",
                "base_url": self.sandbox.base_url("apsis", "apsis"),
                "client_id": {"env": "FANLINE_TEST_NP6_KEY"},
                "client_secret": {"env": "FANLINE_TEST_NP6_KEY"},
                "upload_hosts": ["files.example"],
                "limits": {"requests_per_second": None, "max_open_imports": SLOTS, "orphan_life": "4s"},
            }
        }
        return json.dumps(document, indent=1).encode()


@pytest.mark.parametrize("lanes", [1])
async def test_no_import_too_many_through_kills_and_restarts(
    bootstrap_servers: str, prefix: str, tmp_path: Path, lanes: int
) -> None:
    """Three replicas, two SIGKILLs, a rolling restart: no import beyond the slots is ever asked for, no file is
    uploaded twice, each event has one result, and each contact ends with its newest event."""
    names = [f"lane-{n}" for n in range(lanes)]
    async with ImportStage(
        bootstrap_servers, prefix, tmp_path, lanes={name: {**LANE, "account": "apsis"} for name in names}
    ) as stage:
        feed = Feed(300, seed=11)
        replicas = [stage.process(f"replica-{n}") for n in range(3)]
        for replica in replicas:
            replica.start()
        async with stage.load(feed, per_s=300):
            for victim in (0, 1):
                await _until_imports(stage, more=3)
                replicas[victim].kill()
                replicas[victim].start()
            for replica in replicas:
                await _until_imports(stage, more=1)
                replica.terminate()
                await replica.ended(within_s=40)
                replica.start()
        for name in names:
            await stage.settled_up_to(feed, name, within_s=90)
            await stage.check(name)
        _check(stage, feed)


async def _until_imports(stage: ImportStage, *, more: int, within_s: float = 40) -> None:
    """Wait until so many further imports have ended."""
    wanted = _ended(stage) + more
    until = time.monotonic() + within_s
    while _ended(stage) < wanted:
        assert time.monotonic() < until, f"{_ended(stage)} imports have ended, not {wanted}"
        await asyncio.sleep(0.05)


def _ended(stage: ImportStage) -> int:
    return sum(one.ended == "completed" for one in stage.apsis.imports("apsis"))


def _check(stage: ImportStage, feed: Feed) -> None:
    counts = stage.apsis.state("apsis")
    assert (counts["refused_open"], counts["most_open"] <= SLOTS) == (0, True), "one import too many was asked for"
    assert all(one.uploads <= 1 for one in stage.apsis.imports("apsis")), "a file was uploaded twice"
    newest = {event.target: event.id for event in feed.events}
    told = {key[0]: profile["cells"]["newest"] for key, profile in stage.apsis.profiles("apsis").items()}
    assert told == newest
