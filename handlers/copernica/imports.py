"""``copernica.imports``: each contact's state as rows of an import into a database."""

from collections.abc import Callable, Hashable, Sequence
from typing import Annotated, Any, ClassVar, Literal, NoReturn

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from contracts.events import Event
from contracts.outcomes import Outcome, Reason
from contracts.results import Operation
from handlers.base import Expression, Refusal, Reply, Request, RowValue
from handlers.copernica import client
from handlers.copernica.verdicts import judge_create, judge_poll
from handlers.deletions import DELETED, Deleted, is_deletion
from handlers.expressions import Expr, RowExpr
from handlers.faults import unresolved, wrong_value
from handlers.imports.cells import CellError, text_cell
from handlers.imports.columns import Columns, text_column
from handlers.imports.csv_rows import row_writer
from handlers.imports.rows import IMPORT_ROW, PartialFailures, Poll, Row, Slots, SplitBudget, contact_of
from handlers.imports.verdicts import Completed, CreateVerdict, PollVerdict, Unnamed, UploadVerdict
from handlers.templates import Compile

Name = Annotated[str, Meta(min_length=1, max_length=200)]
# Compiles an expression that may read ``row``; ``key`` is where it stands.
CompileRow = Callable[[str, str], RowValue]

# What may be carried out twice without harm, given key fields.
_REPEATABLE = frozenset({"update", "update or add", "ignore or add", "delete"})
_NOTHING = Refusal(Outcome.SKIPPED, Reason.NOTHING_TO_DO)
_encode = msgspec.json.Encoder().encode


class SourceConfig(Struct, frozen=True, forbid_unknown_fields=True, rename={"form": "as"}):
    """How the rows are sent."""

    form: Annotated[Literal["array", "json", "csv"], Meta(description="An array, or a text in JSON or CSV.")] = "array"
    delimiter: Annotated[Literal[",", ";", "\t"], Meta(description="What stands between two cells; for `csv`.")] = ","


class CopernicaImportsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of a lane that are this handler's own."""

    database: Annotated[int, Meta(ge=1, description="The platform's id of the database.")]
    fields: Annotated[
        dict[str, RowExpr],
        Meta(
            min_length=1,
            description="The cells of a row by the database's fields, `Collection.Field` for subprofiles; null is an "
            "empty cell.",
        ),
    ]
    name: Annotated[Name, Meta(description="The name of each import, for people at the platform.")] = "fanline"
    action: Annotated[
        Literal["add", "update", "update or add", "ignore or add", "delete"],
        Meta(
            description="What becomes of profiles.",
            extra={"hurts": "`add` repeated doubles profiles, so what may have taken effect is in_doubt."},
        ),
    ] = "update or add"
    key_fields: Annotated[
        tuple[Name, ...],
        Meta(
            max_length=20,
            description="Fields by which profiles are known; needed but for `add`. Null and empty cells "
            "there are invalid/unresolved.",
        ),
    ] = ()
    rows: Annotated[
        Expr | None,
        Meta(description="A list: a row for each element, which is `row` in `fields`. Null or empty: nothing to do."),
    ] = None
    source: Annotated[SourceConfig, Meta(description="How the rows are sent.")] = SourceConfig()
    followups: Annotated[bool, Meta(description="Whether the platform carries out follow-up actions.")] = False
    rebuild: Annotated[bool, Meta(description="Whether selections are built anew.")] = False
    ignore_empty_fields: Annotated[bool, Meta(description="Whether empty cells leave a field as it is.")] = False
    remove_missing: Annotated[
        bool,
        Meta(
            description="Whether profiles that are not among the rows are removed. Needs `i_know: true`.",
            extra={"hurts": "A batch is a part of the data: everybody else is deleted."},
        ),
    ] = False
    delete_target: Annotated[Literal["profile", "subprofile"], Meta(description="What `delete` deletes.")] = "profile"
    autostart: Annotated[
        bool,
        Meta(
            description="Whether imports start by themselves. `false` needs `i_know: true`.",
            extra={"hurts": "Imports that nobody starts stay open, and the lane waits."},
        ),
    ] = True
    without_id: Annotated[
        Literal["hold", "delivered"],
        Meta(
            description="What a success without the import's number means: the lane holds, or its rows count as "
            "delivered, unproven.",
            extra={"hurts": "With `delivered` a row that the platform refuses later is not told."},
        ),
    ] = "hold"
    i_know: Annotated[bool, Meta(description="Needed for what can do harm: see there.")] = False
    poll: Annotated[Poll, Meta(description="When an import's status is asked for.")] = Poll()
    slots: Slots = None
    partial_failures: PartialFailures = "report"
    split_budget: SplitBudget = 100
    deleted: Deleted = "skip"

    def __post_init__(self) -> None:
        if self.action != "add" and not self.key_fields:
            raise ValueError(f"key_fields: are needed with action {self.action}")
        if missing := [field for field in self.key_fields if field not in self.fields]:
            raise ValueError(f"key_fields: {missing[0]!r} is none of fields")
        if self.remove_missing and not self.i_know:
            raise ValueError("remove_missing: deletes everybody who is not in a batch: it needs i_know: true")
        if not self.autostart and not self.i_know:
            raise ValueError("autostart: false leaves imports open until somebody starts them: it needs i_know: true")
        if self.partial_failures == "split" and self.action == "add":
            raise ValueError("partial_failures: split sends rows once more, and action add would double their profiles")
        if self.partial_failures == "split" and self.remove_missing:
            raise ValueError("partial_failures: split sends halves, and remove_missing deletes who is not among them")


class CopernicaImportsHandler:
    """A row per event, or one per element of ``rows``. Implements ``handlers.imports.rows.ImportHandler``.

    An event is checked in this order: deleted → skipped/nothing_to_do, unless the lane delivers it; ``rows`` null or
    empty → skipped/nothing_to_do; a key field null or empty → invalid/unresolved.
    """

    name: ClassVar[str] = "copernica.imports"
    platform: ClassVar[str] = "copernica"
    max_file_bytes = 50_000_000
    creates_per_minute: ClassVar[int | None] = None
    carries_rows = True

    def __init__(
        self, options: CopernicaImportsConfig, compile_: Compile, compile_row: CompileRow, *, api_version: int
    ) -> None:
        self._options = options
        self.poll_settings = options.poll
        self.split_budget = options.split_budget if options.partial_failures == "split" else None
        self._api_version = api_version
        self._rows = None if options.rows is None else compile_(options.rows, "rows")
        names = self._names = list(options.fields)
        places = [f"fields.{name}" for name in names]
        self._of_rows: list[tuple[RowValue, str]] = []
        of_events: list[tuple[Expression, str]] = []
        for text, place in zip(options.fields.values(), places, strict=True):
            if options.rows is None:
                of_events.append((compile_(text, place), place))
            else:
                self._of_rows.append((compile_row(text, place), place))
        self._columns = Columns([text_column(*one) for one in of_events], _raise_wrong_value)
        self._fields: Sequence[tuple[Expression | RowValue, str]] = of_events or self._of_rows
        self._key_places = [names.index(field) for field in options.key_fields]
        self._line = self._writer(options.source)
        self._entity = str(options.database)

    def plan(self, event: Event, key: bytes | None) -> Sequence[Row] | Refusal:
        """The rows of an event, or why there are none. Raises ExpressionError, also for a wrong type."""
        if self._options.deleted != "deliver" and is_deletion(event):
            return DELETED
        elements: Sequence[Any] = [None]
        if self._rows is not None:
            found = self._rows(event, key)
            if not found and (found is None or isinstance(found, list)):
                return _NOTHING
            if not isinstance(found, list):
                raise wrong_value(self._rows, "rows", "must give a list or null")
            elements = found
        rows = []
        for element in elements:
            row = self._row(event, key, element)
            if isinstance(row, Refusal):
                return row
            rows.append(row)
        return rows

    def _row(self, event: Event, key: bytes | None, element: Any) -> Row | Refusal:
        cells: list[str] = []
        self._columns.add_to(cells, event, key)
        for value, place in self._of_rows:
            try:
                cells.append(text_cell(value(event, key, element)))
            except CellError as error:
                raise wrong_value(value, place, str(error)) from None
        for at in self._key_places:
            if not cells[at]:
                return unresolved(*self._fields[at], "gives null or an empty string, and is a key field")
        keys = tuple([cells[at] for at in self._key_places])
        keyed = keys[0] if len(keys) == 1 else keys or None
        return Row(Operation(IMPORT_ROW, contact_of(event), self._entity), keyed, self._line(cells))

    def _writer(self, source: SourceConfig) -> Callable[[Sequence[str]], bytes]:
        """What writes a row as it stands in the request: a source that is a text stands there in JSON's escapes, so
        that a file is sent from the disk as it is."""
        if source.form == "array":
            return self._object
        write = row_writer(source.delimiter) if source.form == "csv" else self._object
        return lambda cells: _encode(write(cells).decode())[1:-1]

    def _object(self, cells: Sequence[str]) -> bytes:
        """A row as a JSON object: all keys, in the same order each time."""
        return _encode(dict(zip(self._names, cells, strict=True)))

    def head(self, group: Hashable) -> bytes:
        """The columns' names, or the beginning of the list."""
        return self._line(list(self._options.fields)) if self._options.source.form == "csv" else b"["

    def between(self) -> bytes:
        """A comma; a line of CSV has its end."""
        return b"" if self._options.source.form == "csv" else b","

    def tail(self) -> bytes:
        """The end of the list."""
        return b"" if self._options.source.form == "csv" else b"]"

    def create(self, group: Hashable, file: bytes) -> Request:
        """Creates an import with its rows, which are in memory."""
        request, before, behind = self.around(group)
        return replace(request, body=before + file + behind)

    def around(self, group: Hashable) -> tuple[Request, bytes, bytes]:
        """The create without its body, and what stands there before and behind the file."""
        options = self._options
        body: dict[str, Any] = {
            "database": options.database,
            "name": options.name,
            "action": options.action,
            "followups": options.followups,
            "autostart": options.autostart,
            "rebuild": options.rebuild,
            "ignoreEmptyFields": options.ignore_empty_fields,
            "removeMissing": options.remove_missing,
        }
        if options.key_fields:
            body["keyFields"] = list(options.key_fields)
        if options.action == "delete":
            body["deleteTarget"] = options.delete_target
        quote = b"" if options.source.form == "array" else b'"'
        if options.source.form != "array":
            body["format"] = options.source.form
        if options.source.form == "csv":
            body["delimiter"] = options.source.delimiter
        request = replace(client.create_import(b"", self._api_version), body=None)
        return request, _encode(body)[:-1] + b',"source":' + quote, quote + b"}"

    def judge_create(self, reply: Reply) -> CreateVerdict:
        """Whose fault the answer to the create is, and what now."""
        verdict = judge_create(reply, repeatable=self.repeatable)
        if isinstance(verdict, Unnamed) and self._options.without_id == "delivered":
            return Completed()
        return verdict

    @property
    def repeatable(self) -> bool:
        """Whether the same import may be sent twice without harm."""
        return self._options.action in _REPEATABLE and bool(self._options.key_fields)

    def judge_upload(self, reply: Reply, *, expired: bool) -> UploadVerdict:
        """There is no upload: the create carries the rows."""
        raise RuntimeError("there is nothing to upload: the create carries the rows")

    def poll(self, import_id: str) -> Request:
        """The request that tells how far an import is."""
        return client.import_status(import_id, self._api_version)

    def judge_poll(self, reply: Reply, rows: int) -> PollVerdict:
        """What its answer says of an import of so many rows."""
        return judge_poll(reply, rows)


def _raise_wrong_value(expression: Expression, place: str, error: CellError) -> NoReturn:
    raise wrong_value(expression, place, str(error)) from None
