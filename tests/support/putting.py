"""Imports before a sandbox or a folder that obeys the test: the real dispatcher, journal, settler and spool; time is
real, and short."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

from contracts.events import CONTACT_CHANGED, ContactChanged, Event
from contracts.ids import ResultIds
from contracts.journal import Delivery, DeliveryState, decode_entry, decode_key
from handlers.base import Answer, Expression, Refusal, Reply, Request
from handlers.imports.rows import ImportHandler
from handlers.np6.imports import Np6ImportsConfig, Np6ImportsHandler
from service.clock import SystemClock
from service.config.expressions import compile_expression
from service.delivery.bulk_dispatcher import BulkHooks
from service.delivery.lane_delivery import DeliveryMeans, DeliveryPolicy, LoadHooks
from service.delivery.retry import RetryPolicy
from service.imports.carrying import ImportHooks, ImportMeans
from service.imports.policy import ImportPolicy
from service.imports.runs import ImportDelivery, ImportRun, Stage
from service.imports.seams import FileWay, Spooled
from service.imports.slots import SlotTable
from service.imports.torn import Share
from service.imports.way import dispatcher_of
from service.intake.assignment import Assignment
from service.intake.item import Item
from service.journal.deliveries import OpenDeliveries, OpenEntry
from service.journal.writer import JournalWriter
from service.settling.settler import SettleHooks, SettlePolicy, Settler
from service.transport.account import Account
from tests.support.bulks import JOURNAL, open_entries
from tests.support.fakes import FakeAccountObserver, FakeBroker, Source, eventually
from tests.support.patience import patiently
from tests.support.settling import documents_for


def compiled(text: str, key: str, wants: Literal["value", "bool"] = "value") -> Expression:
    return compile_expression(text, place=key, wants=wants)


def putting_handler(**keys: Any) -> Np6ImportsHandler:
    """A handler whose file has the contact and a name."""
    columns = {"contact": "data.contact_id", "name": "data.attributes.name"}
    given = {"import": {"id": 23}, "columns": columns, "poll": {"every": 0.1, "deadline": 60.0}, **keys}
    return Np6ImportsHandler(msgspec.convert(given, Np6ImportsConfig), compiled, None)


class NobodyElse:
    """All of an import is one process's."""

    async def read(self, share: Share, assignment: Assignment) -> list[Item] | None:
        raise AssertionError("nothing of it is another's")

    async def crowded(self, slots: int) -> bool:
        raise AssertionError("all slots are this process's")


class PuttingBench:
    """One lane's way of imports. ``ended`` are the items that reached an end, ``settled`` those committed."""

    def __init__(
        self, account: Account, way: FileWay | None, handler: ImportHandler, *, broker: FakeBroker | None = None
    ) -> None:
        clock = SystemClock()
        self.handler = handler
        self.account = account
        self.source = Source()
        self.broker = broker or FakeBroker()
        self.broker.generation = self.source.assignment.membership.generation
        self.ended: list[Item] = []
        self.settled: list[Item] = []
        self.finished: list[ImportRun] = []
        self.again: list[str] = []
        self.deliveries = OpenDeliveries(JOURNAL)
        hooks = SettleHooks(
            settled=lambda items, _: self.settled.extend(items),
            fenced=lambda _: None,
            refused=lambda _: None,
            lost=lambda _: None,
            recovered=lambda: None,
        )
        self.settler = Settler(
            self.broker, documents_for(), SettlePolicy(), hooks, clock, self.broker.read_offsets, self.deliveries
        )
        self.journal = JournalWriter(
            self.broker, self.settler, self.deliveries, hooks, lambda: self.source.assignment, clock, handler.name
        )
        imports = ImportMeans(
            handler,
            ImportPolicy(slots=1, orphan_life_s=60.0, max_file_bytes=50_000_000),
            None,
            self.journal,
            self.deliveries,
            ResultIds("vip"),
            NobodyElse(),
            NobodyElse(),
            way,
        )
        slots = SlotTable()
        slots.begin(1, frozenset({0}))
        self.dispatcher = dispatcher_of(imports)(
            imports,
            DeliveryMeans(
                account=account,
                policy=DeliveryPolicy(2, RetryPolicy(0.01, 0.05, 5)),
                guard=None,
                requests=FakeAccountObserver(),
                clock=clock,
                random=Random(0),
            ),
            LoadHooks(retried=lambda _: None, hold_changed=lambda: None, expires_at_ms=None, fault=lambda _: None),
            BulkHooks(ended=self._ended, released=lambda _: None, operations_ended=lambda *_: None),
            ImportHooks(
                released=lambda _: None,
                go_on=lambda: False,
                again=self._again,
                finished=self.finished.append,
                slots=slots,
            ),
        )

    def _again(self, run: ImportRun) -> None:
        self.again.extend(item.event.id for item in run.items if item.event is not None)

    def _ended(self, items: Sequence[Item]) -> None:
        self.ended.extend(items)
        self.settler.add_all(items)

    def item(self, name: str) -> Item:
        """The next record, planned."""
        event = Event(name, "crm", CONTACT_CHANGED, ContactChanged(name, "updated", attributes={"name": name.upper()}))
        planned = self.handler.plan(event, None)
        assert not isinstance(planned, Refusal)
        item = self.source.item(name.encode(), *(row.operation for row in planned))
        item.event, item.rows = event, list(planned)
        return item

    def deliver(self, *names: str) -> ImportRun:
        """An import of events of these names."""
        items = [self.item(name) for name in names]
        for item in items:
            item.batch_id = "batch-1"
        run = ImportRun("batch-1", items, 0, self.source.assignment)
        self.dispatcher.begin([run])
        return run

    def find(self, record: Delivery, *names: str, delivery_id: str = "batch-1.x0") -> ImportRun:
        """An import that an earlier owner left in the journal, with its events."""
        entry = OpenEntry(delivery_id, 0, left=len(names))
        self.deliveries.found({entry})
        delivery = ImportDelivery.found(entry.delivery_id, record, {0: entry}, self.source.assignment)
        run = ImportRun.found(delivery, 0, Stage.POLL, len(names))
        for name in names:
            item = self.item(name)
            item.entry = entry
            run.attach(item)
        self.dispatcher.begin([run])
        return run

    def outcomes(self) -> dict[str, str]:
        """How each event has ended."""
        return {
            (item.event.id if item.event else "?"): "/".join(str(p) for p in (item.outcome, item.reason) if p)
            for item in self.ended
        }

    def states(self) -> list[tuple[DeliveryState, str | None] | None]:
        """What the journal has said of imports, in order: state and reference; None: taken out."""
        found: list[tuple[DeliveryState, str | None] | None] = []
        for write in self.broker.written:
            for _, key, value, _ in write.records if write.topic == JOURNAL else ():
                name = decode_key(key)
                assert name is not None
                entry = None if value is None else decode_entry(name, value)
                assert entry is None or isinstance(entry, Delivery)
                found.append(None if entry is None else (entry.state, entry.reference))
        return found

    def is_over(self) -> bool:
        """Nothing is under way, and nothing is left in the journal."""
        return not self.dispatcher.runs and not open_entries(self.broker) and self.dispatcher.in_flight == 0

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for it."""
        await eventually(condition, within_s=patiently(5), every_s=0.01)


@asynccontextmanager
async def putting(bench: PuttingBench) -> AsyncIterator[PuttingBench]:
    """Dispatcher, journal and settler at work; an error of theirs comes out here."""
    bench.broker.offsets.update({tp: state.last_commit for tp, state in bench.source.assignment.partitions.items()})
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part.run()) for part in (bench.dispatcher, bench.journal, bench.settler)]
        yield bench
        for task in tasks:
            task.cancel()
    for run in bench.dispatcher.runs:
        run.close_file()


class FakeFolder:
    """A folder of an FTP server as ``service.uploading.ftp`` tells of it, and what picks files up. A way of its own.

    ``replies`` are given instead, by method, one after the other; what they stand for happens if ``effect`` says so.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.taken: list[bytes] = []
        self.asked: list[str] = []
        self.replies: dict[str, list[tuple[Reply, bool]]] = {}
        self.picks_up_at_once = False

    def transport(self, file: Spooled | None, before: bytes = b"", behind: bytes = b"") -> "_FakeLogin":
        return _FakeLogin(self, file)

    def pick_up(self) -> None:
        """As the platform's scheduler does: files that are there by their own names."""
        for name in [name for name in self.files if not name.startswith(".")]:
            self.taken.append(self.files.pop(name))

    def carry_out(self, request: Request, content: bytes) -> Reply:
        name = unquote(request.path.rpartition("/")[2])
        match request.method:
            case "HEAD":
                return Answer(204 if name in self.files else 404, {}, b"")
            case "PUT":
                self.files[name] = content
            case "MOVE":
                to = unquote(dict(request.headers)["Destination"].rpartition("/")[2])
                if to in self.files:
                    return Answer(409, {}, b"there is one")
                if name not in self.files:
                    return Answer(404, {}, b"550 none")
                self.files[to] = self.files.pop(name)
                if self.picks_up_at_once:
                    self.pick_up()
            case "DELETE" if self.files.pop(name, None) is None:
                return Answer(404, {}, b"550 none")
        return Answer(204, {}, b"")


class _FakeLogin:
    def __init__(self, folder: FakeFolder, file: Spooled | None) -> None:
        self._folder = folder
        self._file = file

    async def send(self, request: Request, credentials: Mapping[str, str]) -> Reply:
        self._folder.asked.append(request.method)
        content = b"" if self._file is None else b"".join([block async for block in self._file.blocks()])
        prescribed = self._folder.replies.get(request.method)
        if prescribed:
            reply, effect = prescribed.pop(0)
            if effect:
                self._folder.carry_out(request, content)
            return reply
        return self._folder.carry_out(request, content)
