"""Services with import lanes of all platforms, each on an account of its own in one sandbox."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from contracts.journal import Delivery, DeliveryKey, decode_entry, decode_key
from handlers.apsis.sandbox import ApsisSandbox
from handlers.copernica.sandbox import CopernicaSandbox
from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox import Match, Prescription, SandboxServer, Step
from tests.support.events import Feed
from tests.support.harness import KEY_VARIABLE, Stage
from tests.support.kafka import read_committed_all
from tests.support.oracle import Expect, Result, read_results, read_sources, until
from tests.support.vendor import vendor_example

# A static member that comes back in time is taken for the same one: nobody waits for a session to end.
STATIC = {"instance_id": "pod-0", "session_timeout": "30s", "transaction_timeout": "15s"}
COLUMNS = {"contact": "data.contact_id", "newest": "event.id"}
KEYSPACE = "com.apsis1.keyspaces.email"
COMMON: dict[str, Any] = {
    "batch": {"max_events": 1000, "linger": "300ms"},
    "poll": {"every": "100ms", "deadline": "10m"},
}
APSIS: dict[str, Any] = {
    **COMMON,
    "handler": "apsis.imports",
    "slots": 1,
    "section": "shop",
    "keyspaces": [{"discriminator": KEYSPACE, "column": "contact", "value": "data.contact_id"}],
    "attributes": [{"version_id": "1", "column": "newest", "value": "event.id"}],
}
COPERNICA: dict[str, Any] = {
    **COMMON,
    "slots": 1,
    "handler": "copernica.imports",
    "database": 1,
    "fields": COLUMNS,
    "key_fields": ["contact"],
}
NP6: dict[str, Any] = {**COMMON, "handler": "np6.imports", "import": {"id": 23}, "columns": COLUMNS}
# So long lives what nobody knows of, and so long an upload's address. Brokers take no record of an hour ahead.
ORPHANS_LIVE_S = 1_200
# No account of a sandbox lets a second import be open.
ONE_OPEN = {"max_open": 1, "imports_per_minute": None, "tokens_per_minute": None, "upload_life_s": ORPHANS_LIVE_S}


class ImportStage(Stage):
    """A stage whose lanes import. ``lanes`` by name; ``account_keys`` of a lane are added to its account."""

    def __init__(
        self, bootstrap_servers: str, prefix: str, directory: Path, lanes: Mapping[str, Mapping[str, Any]]
    ) -> None:
        super().__init__(bootstrap_servers, prefix, directory, lanes=lanes, kafka=STATIC, sources={"contacts": 3})
        self.apsis, self.copernica, self.np6 = ApsisSandbox(), CopernicaSandbox(), Np6Sandbox()
        self.sandbox = SandboxServer(apsis=self.apsis, copernica=self.copernica, np6=self.np6)
        for name, lane in lanes.items():
            if lane["handler"] == "apsis.imports":
                self.apsis.configure(name, ONE_OPEN)
            elif lane["handler"] == "np6.imports":
                self.np6._account(name).imports.create(_definition("ftp" if "via" in lane else "file"))

    def configuration(self, **given: Any) -> bytes:
        document = json.loads(super().configuration(**given))
        for name, lane in self._lanes.items():
            platform = str(lane["handler"]).partition(".")[0]
            base = self.sandbox.base_url(platform, name)
            secret = {"env": KEY_VARIABLE}
            own: dict[str, Any] = {
                "apsis": {"client_id": secret, "client_secret": secret, "upload_hosts": ["files.example"]},
                "copernica": {"token_url": f"{base}/token", "access_token": secret},
                "np6": {"api_key": secret},
            }[platform]
            orphans = {} if platform == "np6" else {"orphan_life": f"{ORPHANS_LIVE_S}s"}
            limits = {"limits": {"requests_per_second": None, **orphans}}
            document["accounts"][name] = {
                "platform": platform,
                "base_url": base,
                **own,
                **limits,
                **lane.get("account_keys", {}),
            }
        return json.dumps(document, indent=1).encode()

    def change(self, keys: Mapping[str, Mapping[str, Any]]) -> None:
        """What lanes are configured with from the next process on."""
        self._lanes = {name: {**lane, **keys.get(name, {})} for name, lane in self._lanes.items()}

    def prescribe(self, lane: str, kind: str, *answers: Step | int | None, skip: int = 0) -> None:
        """What the next calls of a kind from a lane are answered with."""
        self.sandbox.prescriptions.add([Prescription(list(answers), Match(kind=kind, account=lane), skip)])

    def asked(self, lane: str) -> list[str]:
        """What kinds of calls a lane has made, in order; those for tokens left out."""
        return [call.kind for call in self.sandbox.log.calls() if call.account == lane and call.kind != "token"]

    async def until_asked(self, lane: str, kind: str, times: int = 1) -> None:
        """Wait for so many calls of a kind."""
        await until(lambda: self.asked(lane).count(kind) >= times, within_s=30, what=f"{lane}: {times} times {kind}")

    def sent(self, lane: str) -> list[str]:
        """The contacts of the rows that NP6 has carried out of files that were put to it."""
        files = [one.file.decode() for one in self.np6.imported(lane)]
        return [contact for file in files for contact in contacts_in(file)]

    async def open_entries(self) -> dict[str, list[Delivery]]:
        """What a committed reader of the lanes' journals finds open, by lane; lanes without such are left out."""
        found: dict[tuple[str, int, str], Delivery] = {}
        topics = {f"{self.prefix}.{lane}.journal": lane for lane in self._lanes}
        for record in await read_committed_all(self.bootstrap_servers, list(topics)):
            name = decode_key(record.key or b"")
            if not isinstance(name, DeliveryKey):
                continue
            place = topics[record.topic], record.partition, name.id
            found.pop(place, None)
            if record.value is not None:
                entry = decode_entry(name, record.value)
                assert isinstance(entry, Delivery)
                found[place] = entry
        by_lane: dict[str, list[Delivery]] = {}
        for (lane, _, _), entry in found.items():
            by_lane.setdefault(lane, []).append(entry)
        return by_lane

    async def check_all(self, expected: Mapping[str, Expect]) -> dict[str, list[Result]]:
        """One result for each event in each lane, as expected; the results of each."""
        sources = await read_sources(self.bootstrap_servers, list(self.sources))
        results = await read_results(self.bootstrap_servers, self.results_topic)
        return {
            lane: await self.check(lane, expect, sources=sources, results=results) for lane, expect in expected.items()
        }


def contacts_in(file: str) -> list[str]:
    """The contacts of a file's rows."""
    return [line.partition(";")[0] for line in file.split("\r\n")[1:] if line]


def contacts_of(feed: Feed) -> list[str]:
    """The contact of each event."""
    return [json.loads(event.message.value or b"")["data"]["contact_id"] for event in feed.events]


def newest_of(feed: Feed) -> dict[str, str]:
    """The newest event of each contact."""
    return {event.target: event.id for event in feed.events}


def _definition(source: str) -> bytes:
    file = {"type": source, "filename": "a.csv", "templateFilename": "a.csv"}
    return msgspec.json.encode({**vendor_example("np6-import-request.json"), "source": file})
