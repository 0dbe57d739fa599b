"""``np6.imports``: each contact's state as a row of a file for an import that stands at NP6."""

from collections.abc import Hashable, Sequence
from hashlib import blake2s
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote

from msgspec import Meta, Struct

from contracts.events import INT32_MAX, Event
from contracts.results import Operation
from handlers.base import Answer, Expression, Hold, HoldScope, Refusal, Reply, Request, Retry
from handlers.deletions import DELETED, Deleted, is_deletion
from handlers.expressions import Expr
from handlers.imports.cells import CellError
from handlers.imports.columns import Columns, text_column
from handlers.imports.csv_rows import row_writer
from handlers.imports.putting import Begun, LookVerdict, PutVerdict, WithdrawVerdict
from handlers.imports.rows import IMPORT_ROW, Poll, Row, beyond_the_contract, contact_of, distinct
from handlers.imports.verdicts import CreateVerdict, PollVerdict, UploadVerdict
from handlers.looks import Fault, Look
from handlers.np6 import client, import_verdicts
from handlers.np6.import_definitions import Definition, Finding, Standing, place_problem
from handlers.templates import Compile

# NP6 names no bound of its own; such a file is what other platforms take.
MAX_FILE_BYTES = 50_000_000

Name = Annotated[str, Meta(min_length=1, max_length=500)]


class ImportConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """An import that stands at the platform: one of the two."""

    id: Annotated[Annotated[int, Meta(ge=0, le=INT32_MAX)] | None, Meta(description="NP6's id of the import.")] = None
    definition: Annotated[
        Annotated[str, Meta(extra={"form": "path"})] | None,
        Meta(
            description="A file with the platform's own JSON. The import is made where there is none of its name, and "
            "found again by it."
        ),
    ] = None

    def __post_init__(self) -> None:
        if (self.id is None) == (self.definition is None):
            raise ValueError("expected either an id or a definition")


class FtpConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The FTP server from which the platform takes files."""

    host: Annotated[str, Meta(min_length=1, max_length=253, description="Its host, without a port.")]
    username: Annotated[Any, Meta(description="The name that we log in with.", extra={"form": "username"})]
    password: Annotated[Any, Meta(description="The password.", extra={"form": "secret"})]
    port: Annotated[int, Meta(ge=1, le=65_535, description="Its port.")] = 21
    tls: Annotated[
        Literal["explicit", "none"],
        Meta(
            description="`explicit`: FTPS (RFC 4217). `none` needs `i_know: true`.",
            extra={"hurts": "With `none` password and contacts go over the network in the open."},
        ),
    ] = "explicit"
    folder: Annotated[
        str | None,
        Meta(
            description="The folder, relative to where the login arrives, or with a slash from the root; null: the one "
            "of the import's definition."
        ),
    ] = None
    i_know: Annotated[bool, Meta(description="Needed for `tls: none`.")] = False

    def __post_init__(self) -> None:
        if not all(letter.isalnum() or letter in ".-_:" for letter in self.host) or not self.host.isascii():
            raise ValueError("host: expected a host's name or address, without scheme, port and path")
        if self.tls == "none" and not self.i_know:
            raise ValueError("tls: none sends password and contacts in the open: it needs i_know: true")


class ViaFtp(Struct, frozen=True, forbid_unknown_fields=True):
    """Files are laid into a folder of an FTP server."""

    ftp: Annotated[FtpConfig, Meta(description="The FTP server from which the platform takes files.")]


class Np6ImportsConfig(Struct, frozen=True, forbid_unknown_fields=True, rename={"import_": "import"}):
    """The keys of a lane that are this handler's own. One lane per import: its executions cannot be told apart."""

    import_: Annotated[ImportConfig, Meta(description="The import: `{id: 23}`, or `{definition: FILE.json}`.")]
    columns: Annotated[
        dict[str, Expr],
        Meta(
            min_length=1,
            description="The cells of a row by the columns' names, in the order of the file, which is what the "
            "import's binding goes by; null is an empty cell.",
        ),
    ]
    separator: Annotated[Literal[";", ",", "\t", "|"], Meta(description="What stands between two cells.")] = ";"
    header: Annotated[
        bool, Meta(description="Whether the first row names the columns: a setting of the import's format.")
    ] = True
    encoding: Annotated[
        Literal["utf-8", "iso-8859-1", "windows-1252"],
        Meta(description="Of the file. A character that it has not is invalid/contract."),
    ] = "utf-8"
    via: Annotated[
        Literal["file"] | ViaFtp,
        Meta(
            description="How files reach the platform: `file`, or `{ftp: {…}}`. It must agree with the source of the "
            "import's definition."
        ),
    ] = "file"
    poll: Annotated[Poll, Meta(description="When an import's state is asked for.")] = Poll()
    partial_failures: Annotated[
        Literal["report", "split"],
        Meta(
            description="What follows when the platform says that an execution failed: all events of the file are "
            "unattributed. `split` is refused here: what becomes of rows that are sent twice is the import's own."
        ),
    ] = "report"
    deleted: Deleted = "skip"

    def __post_init__(self) -> None:
        distinct(list(self.columns), "column")
        if self.partial_failures == "split":
            raise ValueError(
                "partial_failures: split sends rows once more, and what NP6's import makes of them nobody says: report"
            )


class Np6ImportsHandler:
    """One row per event. Implements ``handlers.imports.rows.ImportHandler`` and ``handlers.imports.putting.PutsFirst``.

    An event is checked in this order: deleted → skipped/nothing_to_do, unless the lane delivers it; a cell that the
    file cannot hold → invalid/contract. What the platform keys rows by is its binding's, and nobody tells it: rows are
    told apart by the contact.
    """

    name: ClassVar[str] = "np6.imports"
    platform: ClassVar[str] = "np6"
    max_file_bytes = MAX_FILE_BYTES
    creates_per_minute: ClassVar[int | None] = None
    # The start is all that is left to do once the file is in its place.
    carries_rows = True
    repeatable = False
    split_budget = None

    def __init__(self, options: Np6ImportsConfig, compile_: Compile, definition: Definition | None) -> None:
        """``definition``: what the file holds that ``import`` names."""
        wanted = definition if options.import_.id is None else options.import_.id
        assert wanted is not None, "a definition's file was not read"
        self.poll_settings = options.poll
        self._deliver_deleted = options.deleted == "deliver"
        self._finding = Finding(wanted)
        self._ftp = options.via.ftp if isinstance(options.via, ViaFtp) else None
        self._read = [(compile_(text, f"columns.{name}"), f"columns.{name}") for name, text in options.columns.items()]
        self._columns = Columns([text_column(*one) for one in self._read])
        self._line = row_writer(options.separator, options.encoding)
        self._head = self._line(list(options.columns)) if options.header else b""
        self._entity = str(wanted) if isinstance(wanted, int) else wanted.name

    def plan(self, event: Event, key: bytes | None) -> Sequence[Row] | Refusal:
        """The row of an event, or why there is none. Raises ExpressionError."""
        if not self._deliver_deleted and is_deletion(event):
            return DELETED
        cells: list[str] = []
        refusal = self._columns.add_to(cells, event, key)
        if refusal is not None:
            return refusal
        try:
            line = self._line(cells)
        except UnicodeEncodeError as error:
            expression, place = self._unencodable(cells, error.encoding)
            return beyond_the_contract(expression, place, CellError(f"gives a character that {error.encoding} has not"))
        contact = contact_of(event)
        return (Row(Operation(IMPORT_ROW, contact, self._entity), contact, line),)

    def head(self, group: Hashable) -> bytes:
        """The columns' names, where the import wants them."""
        return self._head

    def between(self) -> bytes:
        """Nothing: each line has its end."""
        return b""

    def tail(self) -> bytes:
        """Nothing."""
        return b""

    # -- what the platform alone can say

    @property
    def elsewhere(self) -> bool:
        """Whether files are laid into a folder of an FTP server."""
        return self._ftp is not None

    def import_id(self) -> str:
        """NP6's id of the import."""
        return str(self._standing.id)

    def missing(self) -> Request | None:
        """What is to be asked to find the import."""
        return self._finding.request()

    def learn(self, reply: Reply) -> Retry | Hold | None:
        """Take the answer in. An import that takes its files in another way holds the lane."""
        trouble = self._finding.learn(reply)
        found = self._finding.found
        if trouble is not None or found is None:
            return trouble
        wanted = "file" if self._ftp is None else "ftp"
        problem = None
        if found.source is not None and found.source != wanted:
            problem = f"takes its files by {found.source}, and `via` says {wanted}"
        elif self._ftp is not None:
            problem = place_problem(self._folder(found), found.file_name)
        if problem is None:
            return None
        self._finding.found = None
        return Hold(HoldScope.LANE, f"import {found.id}: {problem}")

    def looks(self) -> Sequence[Look]:
        """Whether the import is there, and takes its files as the lane brings them."""
        request = self.missing()
        return [] if request is None else [Look("the import's definition", "import", request, self._judged)]

    def _judged(self, answer: Answer) -> Sequence[Fault] | None:
        match self.learn(answer):
            case Hold() as hold:
                return [Fault("import", hold.reason)]
            case Retry():
                return None
        return []

    # -- the steps

    def look(self) -> Request:
        """The last execution's state, or whether the file lies in the folder."""
        if self._ftp is not None:
            return Request("HEAD", self._place())
        return client.execution_state(self._standing.id)

    def judge_look(self, reply: Reply) -> LookVerdict:
        """Whether an import may be begun."""
        return import_verdicts.judge_look(reply) if self._ftp is None else import_verdicts.judge_ftp_look(reply)

    def put(self, name: str) -> Request:
        """The file as the import's source, or in the folder under a name of its own."""
        if self._ftp is not None:
            # What a crash has left of an earlier file is taken away with it.
            return Request("PUT", self._place(self._part(name)), (("Clears", self._part("")),))
        return client.put_source(self._standing.id, f"{name}.csv")

    def judge_put(self, reply: Reply) -> PutVerdict:
        """What became of it."""
        return import_verdicts.judge_put(reply) if self._ftp is None else import_verdicts.judge_ftp_put(reply)

    def start(self, name: str) -> Request:
        """Executes the import, or gives the file the name that the platform waits for."""
        if self._ftp is not None:
            return Request("MOVE", self._place(self._part(name)), (("Destination", self._place()),))
        return client.execute_import(self._standing.id, self._standing.binding)

    def withdraw(self, name: str) -> Request | None:
        """Takes the file out of the folder that was not given its name. An execution has nothing of the kind: of it
        the last one's state is all that is told."""
        return None if self._ftp is None else Request("DELETE", self._place(self._part(name)))

    def judge_withdraw(self, reply: Reply) -> WithdrawVerdict:
        """Whether it lay there."""
        return Begun() if self._ftp is None else import_verdicts.judge_ftp_withdraw(reply)

    def judge_create(self, reply: Reply) -> CreateVerdict:
        """What became of the start."""
        if self._ftp is not None:
            return import_verdicts.judge_ftp_start(reply, self.import_id())
        return import_verdicts.judge_start(reply, self.import_id())

    def poll(self, import_id: str) -> Request:
        """The same as the first look."""
        return self.look()

    def judge_poll(self, reply: Reply, rows: int) -> PollVerdict:
        """How far it is; the platform tells no counts."""
        return import_verdicts.judge_state(reply) if self._ftp is None else import_verdicts.judge_ftp_poll(reply)

    def create(self, group: Hashable, file: bytes) -> Request:
        """There is nothing to create: the import stands there."""
        raise RuntimeError("the import stands there: its file is put, and then it is started")

    def judge_upload(self, reply: Reply, *, expired: bool) -> UploadVerdict:
        """There is no upload behind the start."""
        raise RuntimeError("there is nothing to upload behind the start")

    # -- in short

    @property
    def _standing(self) -> Standing:
        assert self._finding.found is not None, "something is missing still"
        return self._finding.found

    def _folder(self, found: Standing) -> str | None:
        assert self._ftp is not None
        return self._ftp.folder or found.folder

    def _place(self, name: str | None = None) -> str:
        """A path of ``service.uploading.ftp``: of the file, or of another in its folder."""
        folder = (self._folder(self._standing) or "").rstrip("/")
        return f"/{quote(folder)}/{quote(name or self._standing.file_name or '', safe='')}"

    def _part(self, name: str) -> str:
        """A file's name until it is whole: hidden, none that a template would mean, and told apart from those of other
        imports in the same folder."""
        own = blake2s((self._standing.file_name or "").encode(), digest_size=6).hexdigest()
        return f".fanline-part-{own}-{name}"

    def _unencodable(self, cells: Sequence[str], encoding: str) -> tuple[Expression, str]:
        """The expression and the place of the first cell that the encoding has not."""
        for cell, column in zip(cells, self._read, strict=True):
            try:
                cell.encode(encoding)
            except UnicodeEncodeError:
                return column
        return self._read[0]
