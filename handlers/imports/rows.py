"""What an import handler plans and what the file of an import is made of."""

from collections.abc import Hashable, Sequence
from typing import Annotated, ClassVar, Literal, Protocol, runtime_checkable

import msgspec
from msgspec import Meta

from contracts.events import ContactChanged, Event
from contracts.outcomes import Outcome, Reason
from contracts.results import Operation
from handlers.base import Expression, Refusal, Reply, Request
from handlers.faults import place_of
from handlers.imports.cells import CellError
from handlers.imports.verdicts import CreateVerdict, PollVerdict, UploadVerdict

IMPORT_ROW = "import.row"


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row of an event. ``key`` is what the platform keys it by: personal data, never shown; None: rows are never
    the same. ``line`` is the row as it stands in the file; ``group``: rows of one group go into one file.

    A key of one text is that text: Python keeps the hash of a text, and reckons that of a tuple each time."""

    operation: Operation
    key: str | tuple[str, ...] | None
    line: bytes
    group: Hashable = None


class Poll(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"every_s": "every", "deadline_s": "deadline"}
):
    """When an import's status is asked for."""

    every_s: Annotated[
        float, Meta(ge=0.1, le=3_600, description="Time between two looks.", extra={"form": "duration"})
    ] = 5.0
    deadline_s: Annotated[
        float,
        Meta(
            gt=0,
            description="An import that has not ended so long after its upload: its events are in_doubt/interrupted; "
            "its slot stays taken until the platform calls it final or unknown.",
            extra={"form": "duration"},
        ),
    ] = 86_400.0


PartialFailures = Annotated[
    Literal["report", "split"],
    Meta(
        description="What follows when the platform reports failed rows without saying which: all events of the file "
        "are unattributed, or halves of it are imported until the failed rows are alone.",
        extra={"hurts": "`split` sends rows that were taken once more, and uses up to `split_budget` imports."},
    ),
]
SplitBudget = Annotated[
    int, Meta(ge=2, le=10_000, description="Imports that `partial_failures: split` may use for one failed file.")
]
Slots = Annotated[
    Annotated[int, Meta(ge=1, le=100)] | None,
    Meta(
        description="Imports that the lane may have open at once, over all replicas; null: the account's "
        "`max_open_imports`, shared by its import lanes."
    ),
]


@runtime_checkable
class ImportHandler(Protocol):
    """One kind of import. All methods are pure and quick; the lane sends, waits and journals.

    A file is :meth:`head`, the rows' lines with :meth:`between` them, :meth:`tail`.

    ``carries_rows``: the create has the rows itself, and no upload follows. What an unanswered one has done nobody
    knows then: ``repeatable`` says whether it may be sent twice. Where the create carries none, an unanswered one costs
    a slot for a while and nothing else. ``poll_settings``: the lane's ``poll``; ``split_budget``: None where
    ``partial_failures`` is ``report``. ``creates_per_minute``: so many the platform allows an account; None: unknown.
    """

    name: ClassVar[str]
    platform: ClassVar[str]
    max_file_bytes: int
    creates_per_minute: ClassVar[int | None]

    @property
    def carries_rows(self) -> bool: ...

    @property
    def repeatable(self) -> bool: ...

    @property
    def poll_settings(self) -> Poll: ...

    @property
    def split_budget(self) -> int | None: ...

    def plan(self, event: Event, key: bytes | None) -> Sequence[Row] | Refusal:
        """The rows of an event. Raises ExpressionError."""

    def head(self, group: Hashable) -> bytes:
        """What comes before the first row."""

    def between(self) -> bytes:
        """What stands between two rows."""

    def tail(self) -> bytes:
        """What comes behind the last row."""

    def create(self, group: Hashable, file: bytes) -> Request:
        """The request that opens an import; ``file`` only where it carries the rows itself."""

    def judge_create(self, reply: Reply) -> CreateVerdict:
        """Whose fault the answer to the create is, and what now."""

    def judge_upload(self, reply: Reply, *, expired: bool) -> UploadVerdict:
        """The same of the upload."""

    def poll(self, import_id: str) -> Request:
        """The request that tells how far an import is."""

    def judge_poll(self, reply: Reply, rows: int) -> PollVerdict:
        """What its answer says of an import of so many rows."""


@runtime_checkable
class StreamsRows(Protocol):
    """What a handler has beside :class:`ImportHandler` whose create carries the rows."""

    def around(self, group: Hashable) -> tuple[Request, bytes, bytes]:
        """The create without its body, and what stands there before and behind the file."""


def contact_of(event: Event) -> str | None:
    """Whom a row is about, as results may name him."""
    return event.data.contact_id


def is_contact(event: Event) -> bool:
    """Whether an event tells of a contact's state, part by part."""
    return type(event.data) is ContactChanged


def beyond_the_contract(expression: Expression, key: str, error: CellError) -> Refusal:
    """The plan of an event one of whose cells the platform cannot take."""
    return Refusal(Outcome.INVALID, Reason.CONTRACT, f"{place_of(expression, key)}: {error}")


def distinct(names: Sequence[str], what: str) -> None:
    """Raises ValueError for a name that stands twice."""
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{what} {twice[0]!r} stands twice")
