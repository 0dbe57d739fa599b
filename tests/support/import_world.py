"""A lane of imports before the sandbox of its platform, in memory: real parts, fake time, no network."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from random import Random
from typing import Any

import pytest

from contracts.journal import ImportEntry
from contracts.results import ResultData, decode_result
from handlers.apsis.sandbox import ApsisSandbox, Rules
from handlers.base import Answer, Failure, FailureKind, Hold, Reply, Request
from handlers.imports.form import form_around
from handlers.imports.rows import ImportHandler
from handlers.imports.verdicts import Opened
from service.app import KINDS, Application, lane_setup
from service.config import Configuration, loads
from service.delivery.limiter import LimiterPolicy
from service.imports.policy import ImportPolicy
from service.imports.seams import FileWay, Spooled
from service.imports.wiring import import_policy
from service.kafka.names import lane_names
from service.lane import Lane
from service.lane.setup import LaneMeans
from service.uploading.spool import Spools
from tests.support.dispatching import account_for
from tests.support.fakes import Call, FakeAccountObserver, FakePlatform, FakeTime, record, values
from tests.support.lane_world import HOP_S, SOURCES, FakeClient, Observer, World, _at_once, journal_of
from tests.support.settling import RESULTS, documents_for

ACCOUNT = "apsis"
CONFIGURATION = """
kafka: {bootstrap_servers: [localhost:9092], topic_prefix: p}
accounts:
  a: {platform: apsis, base_url: "https://api.example", client_id: {env: ID}, client_secret: {env: SECRET},
      upload_hosts: [files.example], limits: {max_open_imports: SLOTS, orphan_life: 2m, requests_per_second: PACE}}
lanes:
  vip:
    handler: apsis.imports
    account: a
    topics: [source]
    section: s
    keyspaces: [{discriminator: com.apsis1.keyspaces.email, column: email, value: data.identifiers.email}]
    attributes: [{version_id: "1", column: city, value: data.attributes.city}]
    batch: BATCH
    poll: {every: 2s, deadline: 5m}
    retry: {first_delay: 50ms, max_delay: 50ms, max_attempts: 3}
    guard: off
    OPTIONS
"""

# Answers a call otherwise than the sandbox does: None for "as the sandbox"; a failure comes after the effect.
Replies = Callable[[int, str], Reply | None]


@cache
def _configured(slots: int, options: str, batch: str, paced: bool) -> tuple[Configuration, ImportHandler]:
    text = CONFIGURATION.replace("SLOTS", str(slots)).replace("OPTIONS", options).replace("BATCH", batch)
    text = text.replace("PACE", "50" if paced else "null")
    config = loads(text.encode(), KINDS)
    handler = Application(config).handler(config.lanes["vip"])
    assert isinstance(handler, ImportHandler)
    return config, handler


class ImportWorld(World):
    """Kafka, Apsis One, and the lane that is there now. ``kinds`` are the platform's calls in order: create, upload,
    status."""

    def __init__(
        self,
        time: FakeTime,
        *,
        slots: int = 2,
        options: str = "",
        paced: bool = False,
        batch: str = "{max_events: 4, max_bytes: 1MiB, linger: 1s}",
        replies: Replies = lambda number, kind: None,
        rules: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(time, "imports", lambda number, call: None)
        self.config, self.import_handler = _configured(slots, options, batch, paced)
        self.kinds: list[str] = []
        self.way: FileWay | None = None
        # By what the platform knows a contact.
        self.email_of: Callable[[int], str] = "c{}@example.org".format
        self._answers = replies
        self.sandbox = ApsisSandbox({ACCOUNT: Rules(max_open=slots, imports_per_minute=None, upload_life_s=120.0)})
        if rules:
            self.sandbox.configure(ACCOUNT, rules)
        asked = {"grant_type": "client_credentials", "client_id": "i", "client_secret": "s"}
        told = self._ask(Request("POST", "/oauth/token", (), json.dumps(asked).encode()), {})
        self._token = json.loads(told.body)["access_token"]

    def publish(self, events: int, contacts: int = 3) -> None:
        """Events of a few contacts; the n-th moves its contact to the city n."""
        for number in range(events):
            self.publish_more(number, contact=number % contacts)

    def publish_more(self, number: int, *, contact: int) -> None:
        """One more, of this contact; even contacts are in one partition, odd ones in the other."""
        tp = SOURCES[contact % 2]
        data = {
            "contact_id": f"c{contact}",
            "change": "updated",
            "identifiers": {"email": self.email_of(contact)},
            "attributes": {"city": f"city-{number}"},
        }
        event = {"specversion": "1.0", "id": f"e{number}", "source": "s", "type": "contact.changed.v1", "data": data}
        offset = len(self.log[tp])
        value = json.dumps(event).encode()
        self.log[tp].append(record(tp, offset, b"c%d" % contact, value, timestamp=1_000 + offset))

    def lane(self) -> Lane:
        """A new process, which knows nothing of an earlier one."""
        lane = self.config.lanes["vip"]
        self.platform = FakePlatform(self.time, self._called, takes_s=HOP_S)  # type: ignore[arg-type]
        self.account = account_for(self.time, self.platform, limits=LimiterPolicy(max_in_flight=4))
        self.client, self.observer = FakeClient(), Observer()
        means = LaneMeans(
            handler=self.import_handler,
            where=None,
            account=self.account,
            documents=documents_for(),
            committer=self.broker,
            client=self.client,  # type: ignore[arg-type]
            connection={},
            observer=self.observer,  # type: ignore[arg-type]
            requests=FakeAccountObserver(),
            control=self.control,
            clock=self.time,
            random=Random(0),
            uploads=self,
            way=self.way,
        )
        return Lane(lane_setup(self.config, lane, lane_names("p", "vip"), 5.0, self.import_handler), means)

    def import_policy(self) -> ImportPolicy:
        """What a lane is told."""
        return import_policy(self.config, self.config.lanes["vip"], self.import_handler)

    # -- the platform

    def _ask(self, request: Request, headers: Mapping[str, str]) -> Answer:
        subject = self.sandbox.subject(request.method, request.path)
        now = self.time.wall_ms() / 1000
        given = self.sandbox.answer(ACCOUNT, request.method, subject, headers, request.body or b"", now)
        return Answer(given.status, dict(given.headers), given.body)

    async def _called(self, call: Call) -> Reply:
        headers = {**dict(call.request.headers), "Authorization": f"Bearer {self._token}"}
        subject = self.sandbox.subject(call.request.method, call.request.path)
        return await self._answered(subject.kind, lambda: self._ask(call.request, headers))

    async def _answered(self, kind: str, ask: Callable[[], Answer]) -> Reply:
        """What the platform does is done before its answer is on its way."""
        number = self.kinds.count(kind)
        self.kinds.append(kind)
        self.calls += 1
        reply = self._answers(number, kind)
        if reply is None or (isinstance(reply, Failure) and reply.kind is not FailureKind.NOT_SENT):
            answer = ask()
            reply = reply or answer
        await asyncio.sleep(HOP_S)
        return reply

    # -- uploads

    def problem(self, opened: Opened, file: Spooled) -> str | None:
        """None: it may be sent."""
        return None

    async def send(self, opened: Opened, file: Spooled) -> Reply | Hold:
        """The file as a form, to the sandbox's storage."""
        await asyncio.sleep(HOP_S)
        upload = opened.upload
        assert upload is not None
        before, behind = form_around(upload.fields, "b")
        body = before + b"".join([block async for block in file.blocks()]) + behind
        path = "/" + upload.url.split("/", 5)[5]
        request = Request("POST", path, (), body)
        return await self._answered(
            "upload", lambda: self._ask(request, {"Content-Type": "multipart/form-data; boundary=b"})
        )

    # -- what has become of it

    def settled(self) -> bool:
        """Whether everything that was published is committed."""
        return all(self._is_finished(tp) for tp in SOURCES)

    def results(self) -> list[ResultData]:
        """The results in the order written."""
        return [decode_result(value or b"").data for value in values(self.broker.written, RESULTS)]

    def cities(self) -> dict[str, str]:
        """What the platform knows of each contact."""
        return {key[0]: profile["cells"].get("city", "") for key, profile in self.sandbox.profiles(ACCOUNT).items()}

    def newest(self) -> dict[str, str]:
        """What the events say of each contact in the end."""
        found = {}
        for tp in SOURCES:
            for one in self.log[tp]:
                data = json.loads(one.value or b"")["data"]
                found[data["identifiers"]["email"]] = data["attributes"]["city"]
        return found

    def check(self) -> None:
        """Each record has one result; nothing was uploaded twice or opened beyond the slots; what is delivered is what
        the platform has."""
        places = Counter((r.origin.topic, r.origin.partition, r.origin.offset) for r in self.results())
        assert places == {(tp.topic, tp.partition, offset): 1 for tp in SOURCES for offset in range(len(self.log[tp]))}
        counts = self.sandbox.state(None)["accounts"][ACCOUNT]
        assert counts["refused_open"] == 0, "one import too many was asked for"
        assert all(one.uploads <= 1 for one in self.sandbox.imports(ACCOUNT)), "a file was uploaded twice"

    def open_entries(self) -> list[tuple[str, ImportEntry]]:
        """What stands in the journal."""
        found = []
        for delivery in journal_of(self.broker.written).deliveries.values():
            assert isinstance(delivery.opened, ImportEntry)
            found.append((delivery.state.value, delivery.opened))
        return found

    def patches(self, patch: pytest.MonkeyPatch) -> None:
        """What a lane makes or asks by itself."""
        super().patches(patch)
        patch.setattr("service.imports.opening.read_journal", self._journal)
        patch.setattr("service.imports.carrying.Spools", partial(Spools, offload=_at_once))


def outcomes(results: Iterable[ResultData]) -> Counter[str]:
    """How often each."""
    return Counter(result.outcome.value for result in results)


def coalesced(results: Sequence[ResultData]) -> int:
    """How many events had their row in another one's."""
    return sum(result.coalesced_into is not None for result in results)
