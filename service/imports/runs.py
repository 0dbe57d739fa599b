"""An import on its way: its events, how far it is, and its entry in the journal."""

from collections import deque
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from contracts.journal import Delivery, DeliveryState, ImportEntry
from contracts.outcomes import Outcome, Reason
from handlers.imports.verdicts import Opened, Upload
from service.delivery.bulk import Bulk, Part
from service.imports.files import FileRows
from service.imports.torn import WHOLE, Share
from service.intake.assignment import Assignment
from service.intake.item import Item
from service.journal.deliveries import Named, OpenDelivery, OpenEntry
from service.uploading.spool import Spool

# How an event was planned that is in an import: told if the import comes to nothing.
Planned = tuple[Outcome | None, Reason | None, str | None]


class Stage(StrEnum):
    """What comes next: create -> upload -> poll, without upload where the create carries the rows. Lapse: nothing,
    until what may be open counts as ended; then create, if there are events."""

    CREATE = "create"
    UPLOAD = "upload"
    POLL = "poll"
    LAPSE = "lapse"


class Ends(msgspec.Struct, frozen=True):
    """What an import has come to, for all its events. ``detail`` is masked for each."""

    outcome: Outcome
    reason: Reason | None = None
    detail: str | None = None
    status: int | None = None


class ImportDelivery(OpenDelivery):
    """The entries of one import: in each partition that it has records of, rewritten as it comes on."""

    __slots__ = ()
    items: list[Item]  # of one that was found, they come as they are read

    def __init__(
        self, delivery_id: str, kind: str, items: Sequence[Item], begun_at_ms: int, slot: int, named: Named
    ) -> None:
        super().__init__(delivery_id, kind, list(items), begun_at_ms, named)
        self.becomes(state=DeliveryState.INTENDED, opened=ImportEntry(slot))

    @classmethod
    def found(
        cls, delivery_id: str, record: Delivery, entries: dict[int, OpenEntry], assignment: Assignment
    ) -> "ImportDelivery":
        """One that an earlier owner began; ``entries`` are those of the partitions that we have."""
        self = cls.__new__(cls)
        self.id, self.record, self.entries, self.assignment = delivery_id, record, entries, assignment
        self.items = []
        self.attempted = True
        self.tps = [tp for tp in assignment.tps if tp.partition in entries]
        self._value = None
        return self

    @property
    def opened(self) -> ImportEntry:
        """What the entry says of the import."""
        opened = self.record.opened
        assert isinstance(opened, ImportEntry)
        return opened

    def becomes(self, *, state: DeliveryState, opened: ImportEntry, reference: str | None = None) -> None:
        """What will be written next."""
        reference = reference or self.record.reference
        self.record = msgspec.structs.replace(self.record, state=state, opened=opened, reference=reference)
        self._value = None


class ImportRun(Bulk):
    """A batch that becomes an import, or several one after the other where it is divided; or what was found in the
    journal, whose events come as they are read. The import of the first part is the one that is under way."""

    __slots__ = (
        "asks",
        "begun",
        "budget",
        "delivery",
        "detached",
        "ends",
        "file",
        "is_dry",
        "key",
        "known",
        "lapses_at_ms",
        "others",
        "others_gone",
        "others_since",
        "planned",
        "proved_at",
        "put_as",
        "rows",
        "share",
        "slot",
        "stage",
        "unread",
        "waits_since",
        "word",
    )

    def __init__(self, batch_id: str, items: list[Item], slot: int, assignment: Assignment) -> None:
        self.id = batch_id
        self.assignment = assignment
        self.parts = deque([Part(items)])
        self.slot = slot
        # By what its slots are taken.
        self.key = f"{batch_id} {id(self):x}"
        self.stage = Stage.CREATE
        self.delivery: ImportDelivery | None = None
        self.rows: FileRows | None = None
        self.file: Spool | None = None
        # What an import may still be divided into; None: it is not.
        self.budget: int | None = None
        # Whether the platform has the file is not known: its status tells.
        self.asks = False
        # What was put cannot be withdrawn any more: it was begun, as far as anybody can tell.
        self.begun = False
        # Records of it that are still to be read, where it was found in the journal.
        self.unread = 0
        self.planned: dict[int, Planned] = {}
        # What of it is not ours; those events, while they are needed; whether they cannot be had any more.
        self.share: Share = WHOLE
        self.others: list[Item] | None = None
        self.others_gone = False
        self.others_since: float | None = None
        # Reported, and not begun: nothing is called.
        self.is_dry = False
        # Found in the journal, not begun here.
        self.known = False
        # Its end, where that is known and records of it are not read yet; and since when they are waited for.
        self.ends: Ends | None = None
        self.waits_since: float | None = None
        # Its events have ended, and its entry stays: something is open still.
        self.detached = False
        self.lapses_at_ms = 0
        # When the last transaction began that proved that the import is ours (monotonic).
        self.proved_at: float | None = None
        self.word: str | None = None  # the platform's, for a person
        # Under which name the file lies in its place, where it is put there before its import is begun.
        self.put_as: str | None = None

    @classmethod
    def found(cls, delivery: ImportDelivery, slot: int, stage: Stage, unread: int, share: Share = WHOLE) -> "ImportRun":
        """One that an earlier owner began."""
        run = cls(delivery.id.partition(".")[0], [], slot, delivery.assignment)
        run.delivery, run.stage, run.unread, run.known, run.share = delivery, stage, unread, True, share
        run.asks = stage is Stage.POLL and delivery.record.state is not DeliveryState.UPLOADED
        return run

    @property
    def items(self) -> list[Item]:
        """The events of the import that is under way."""
        return self.parts[0].items if self.parts else []

    @property
    def is_acting(self) -> bool:
        """Whether what comes next changes the platform."""
        return self.stage in (Stage.CREATE, Stage.UPLOAD)

    @property
    def is_lapsing(self) -> bool:
        """Whether nobody can be asked what is open."""
        return self.stage is Stage.LAPSE

    @property
    def how_far(self) -> str:
        """How far it is, for a person."""
        return self.led(self.word or self.stage.value)

    def led(self, state: str) -> str:
        """A state for a person; and who leads the import, where that is another process."""
        return state if self.share.leads else f"{state}, led by the process that has partition {self.share.lowest}"

    @property
    def opened(self) -> Opened:
        """The import as the create's answer named it; also after a restart."""
        assert self.delivery is not None
        entry, reference = self.delivery.opened, self.delivery.record.reference
        assert reference is not None
        upload = None if entry.url is None else Upload(entry.url, entry.fields, entry.expires_at_ms)
        return Opened(reference, upload)

    def attach(self, item: Item) -> None:
        """A record of an import that was found has been read. Its plan may be another by now: what was sent counts."""
        self.planned[id(item)] = (item.outcome, item.reason, item.detail)
        item.outcome = item.reason = item.detail = None
        item.batch_id = self.id
        item.called = True
        self.parts[0].items.append(item)
        assert self.delivery is not None
        self.delivery.items.append(item)
        self.unread -= 1

    def let_go(self) -> None:
        """Its events have ended, or are delivered anew."""
        self.parts[0] = Part([])
        self.rows = None
        self.planned.clear()

    def divide(self, first: list[Item], second: list[Item]) -> None:
        """Two parts instead of the first one."""
        whole = self.parts.popleft()
        self.parts.extendleft([whole.of(second), whole.of(first)])
        self.close_file()

    def close_file(self) -> None:
        """The file is not needed, or not any more."""
        if self.file is not None:
            self.file.close()
        self.file = self.rows = self.put_as = self.others = None
