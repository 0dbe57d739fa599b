"""Imports of NP6 and Copernica through a real broker, and SIGKILL in each state of their journal: nothing missing,
nothing twice, and nothing begun again that may have begun."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handlers.copernica.sandbox import CopernicaSandbox
from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox import Match, Prescription, SandboxServer, Step
from tests.support.events import Feed
from tests.support.harness import KEY_VARIABLE, ServiceProcess, Stage
from tests.support.oracle import Place, Source, until
from tests.support.vendor import vendor_example

# A static member that comes back in time is taken for the same one: nobody waits for a session to end.
STATIC = {"instance_id": "pod-0", "session_timeout": "30s", "transaction_timeout": "1s"}
COLUMNS = {"contact": "data.contact_id", "target": "data.identifiers.np6"}
COMMON = {"batch": {"max_events": 1000, "linger": "300ms"}, "poll": {"every": "100ms", "deadline": "10m"}}
NP6 = {**COMMON, "handler": "np6.imports", "import": {"id": 23}, "columns": COLUMNS}
COPERNICA = {
    **COMMON,
    "slots": 1,
    "handler": "copernica.imports",
    "database": 1,
    "fields": COLUMNS,
    "key_fields": ["contact"],
}
EVENTS = 40


class ImportStage(Stage):
    """A stage with one import lane on its platform's sandbox."""

    def __init__(self, bootstrap_servers: str, prefix: str, directory: Path, lane: dict[str, Any]) -> None:
        super().__init__(
            bootstrap_servers, prefix, directory, lanes={"lane": lane}, kafka=STATIC, sources={"contacts": 3}
        )
        self.np6, self.copernica = Np6Sandbox(), CopernicaSandbox()
        self.sandbox = SandboxServer(np6=self.np6, copernica=self.copernica)
        self.platform = lane["handler"].partition(".")[0]
        document = {**vendor_example("np6-import-request.json"), "source": {"type": "file", "filename": "a.csv"}}
        self.np6._account("lane").imports.create(msgspec.json.encode(document))

    def configuration(self, **given: Any) -> bytes:
        document = json.loads(super().configuration(**given))
        if self.platform == "copernica":
            base = self.sandbox.base_url("copernica", "lane")
            document["accounts"]["lane"] = {
                "platform": "copernica",
                "base_url": base,
                "token_url": f"{base}/token",
                "access_token": {"env": KEY_VARIABLE},
                "limits": {"requests_per_second": None, "orphan_life": "1s"},
            }
        return json.dumps(document).encode()

    def kinds(self) -> list[str]:
        """What the platform was asked for, in order."""
        return [call.kind for call in self.sandbox.log.calls()]

    async def until_asked(self, kind: str, times: int = 1) -> None:
        await until(lambda: self.kinds().count(kind) >= times, within_s=30, what=f"{times} times {kind}")

    def executed(self) -> list[str]:
        """The contacts of the rows that NP6 has carried out."""
        files = [one.file.decode() for one in self.np6.imported("lane")]
        return [line.partition(";")[0] for file in files for line in file.split("\r\n")[1:] if line]

    async def all_have_results(self, count: int, service: ServiceProcess) -> None:
        await self.results.until({"lane": count}, within_s=60, alive=service.must_live)


def in_doubt(_place: Place, _source: Source) -> tuple[str, str | None]:
    return "in_doubt", "interrupted"


def contacts_of(feed: Feed) -> list[str]:
    return [json.loads(event.message.value or b"")["data"]["contact_id"] for event in feed.events]


# Where the process is when it is killed: what the platform's answers are, and what it must have been asked for.
NP6_STATES: dict[str, tuple[list[Prescription], str]] = {
    "before anything has begun": ([Prescription([Step(hang=True)], Match(kind="put_source"))], "put_source"),
    "intended": ([Prescription([Step(hang=True, effect=True)], Match(kind="execute_import"))], "execute_import"),
    "uploaded": ([], "import_state"),
}


@pytest.mark.parametrize("state", NP6_STATES)
async def test_np6_is_killed(bootstrap_servers: str, prefix: str, tmp_path: Path, state: str) -> None:
    """Whenever it is: each row is carried out once, and what runs is followed to its end."""
    prescribed, asked = NP6_STATES[state]
    async with ImportStage(bootstrap_servers, prefix, tmp_path, NP6) as stage:
        # It ends only once the new process looks.
        stage.np6.configure("lane", {"import_looks": 1_000_000})
        stage.sandbox.prescriptions.add(prescribed)
        feed = Feed(EVENTS, seed=1)
        await stage.publish(feed.take(EVENTS))
        service = stage.process()
        service.start()
        await stage.until_asked(asked, 3 if asked == "import_state" else 1)
        if asked == "execute_import":
            await until(lambda: bool(stage.executed()), within_s=30, what="the execution")
        await stage.kill(service)
        stage.sandbox.prescriptions.clear()
        seen = len(stage.kinds())
        service.start()
        await until(lambda: "import_state" in stage.kinds()[seen:], within_s=30, what="a look at the state")
        stage.np6.configure("lane", {"import_looks": 1})
        await stage.all_have_results(EVENTS, service)
        await stage.check("lane")
        assert sorted(stage.executed()) == sorted(set(contacts_of(feed)))


COPERNICA_STATES: dict[str, tuple[str, dict[str, Any], Callable[[Place, Source], tuple[str, str | None]] | None]] = {
    "intended, may be repeated": ("create", {}, None),
    "intended, may not": ("create", {"action": "add", "key_fields": []}, in_doubt),
    "uploaded": ("status", {"action": "add", "key_fields": []}, None),
}


@pytest.mark.parametrize("state", COPERNICA_STATES)
async def test_copernica_is_killed(bootstrap_servers: str, prefix: str, tmp_path: Path, state: str) -> None:
    """Rows that may not be sent twice are in doubt where nobody can ask; else they are there once."""
    asked, keys, expected = COPERNICA_STATES[state]
    async with ImportStage(bootstrap_servers, prefix, tmp_path, {**COPERNICA, **keys}) as stage:
        stage.copernica.configure("lane", {"stuck": True})
        if asked == "create":
            stage.sandbox.prescriptions.add([Prescription([Step(hang=True, effect=True)], Match(kind="create"))])
        feed = Feed(EVENTS, seed=1)
        await stage.publish(feed.take(EVENTS))
        service = stage.process()
        service.start()
        await stage.until_asked(asked, 2 if asked == "status" else 1)
        await until(lambda: bool(stage.copernica.profiles("lane")), within_s=30, what="the rows")
        await stage.kill(service)
        stage.sandbox.prescriptions.clear()
        stage.copernica.configure("lane", {"stuck": False})
        service.start()
        await stage.all_have_results(EVENTS, service)
        await stage.check("lane", *([expected] if expected else []))
        there = [profile["contact"] for profile in stage.copernica.profiles("lane")]
        # Without key fields each event is a row of its own; with them a contact is.
        rows = contacts_of(feed) if "key_fields" in keys else set(contacts_of(feed))
        assert sorted(there) == sorted(rows)
