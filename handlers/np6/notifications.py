"""What happened to what targets were shown: NP6's rows, read as a stream, as ``notification.occurred.v1`` events.

Pure: bytes in, rows out. The answer may be as long as it likes: what is kept of it is one row, and of that the fields
that are known here. A row's other fields are passed over whatever they hold.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec

from contracts.events import INT32_MAX, INT32_MIN, NOTIFICATION_OCCURRED
from contracts.ids import notification_id
from contracts.timestamps import parse_rfc3339_ms, rfc3339_ms

# In the order in which they come about.
ACTIONS = ("impression", "activation", "redirection", "dismiss")

# Between the ends of two rows: what is longer is not read on.
MAX_ROW_BYTES = 1024 * 1024

_FIELDS = frozenset(("notification_key", "target", "libelle", *ACTIONS))
# At most so much is parsed at once, because what is found in it is held.
_PIECE_BYTES = 64 * 1024
# .NET's DateTime without a value.
_NO_DATE = "0001-01-01T00:00:00"
_BLANKS = b" \t\r\n"


class AnswerError(ValueError):
    """The answer is no list of rows. The message holds nothing of it."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One notification. ``number`` counts the answer's rows from 1."""

    number: int
    key: int | None = None  # None: a fault
    target: str | None = None  # as the platform writes it
    label: str | None = None
    happened: tuple[tuple[int, str], ...] = ()  # (milliseconds since 1970, action), earliest first
    faults: tuple[str, ...] = ()  # e.g. "dismiss: expected a date-time"; never a value


class Window(msgspec.Struct, frozen=True, gc=False):
    """From ``start_ms`` on and before ``end_ms``; None: no bound. Milliseconds since 1970."""

    start_ms: int | None = None
    end_ms: int | None = None

    def __contains__(self, ms: object) -> bool:
        if not isinstance(ms, int):
            return False
        return (self.start_ms is None or ms >= self.start_ms) and (self.end_ms is None or ms < self.end_ms)


class Happening(msgspec.Struct, frozen=True, gc=False):
    """One of up to four things that a row tells."""

    key: int
    target: str
    action: str
    at_ms: int
    label: str | None

    @property
    def at(self) -> str:
        """When, in UTC with milliseconds: what the event's id is made of, however the platform wrote it."""
        return rfc3339_ms(self.at_ms)


class RowReader:
    """The rows of an answer, as its bytes come. Feed all of them, then ``finish``.

    Raises AnswerError for what is no JSON list, is cut off, or holds a row longer than ``MAX_ROW_BYTES``. Nesting costs
    nothing: the parser counts levels, and nothing is built of what is not a row's own field.
    """

    def __init__(self) -> None:
        # Imported where it is used: no other part of Fanline has a use for it.
        import ijson
        from ijson.common import JSONError
        from ijson.utils import sendable_list

        # Beside its own: text that is no UTF-8.
        self._errors: tuple[type[Exception], ...] = (JSONError, ValueError)
        self._found: Any = sendable_list()
        # With use_float a number beyond 64 bits is an error. Without it one of more digits than Python reads (4,300)
        # leaves a hole in memory: ijson 3.6 does not look whether the conversion succeeded.
        self._parser: Any = ijson.basic_parse_coro(self._found, use_float=True)
        self._began = False
        self._depth = 0
        self._row: dict[str, Any] | None = None
        self._field = ""
        self._number = 0
        self._unfinished_bytes = 0

    def feed(self, chunk: bytes) -> Iterator[Row]:
        """The rows that end in ``chunk``."""
        if not self._began:
            chunk = chunk.lstrip(_BLANKS)
            if not chunk:
                return
            if chunk[:1] != b"[":
                raise AnswerError("the answer is no list of notifications")
            self._began = True
        for start in range(0, len(chunk), _PIECE_BYTES):
            yield from self._feed_piece(chunk[start : start + _PIECE_BYTES])

    def finish(self) -> None:
        """The answer has ended."""
        if not self._began:
            raise AnswerError("the answer is empty")
        try:
            self._parser.close()
        except self._errors:
            raise AnswerError(f"the answer is cut off or no JSON after row {self._number}") from None

    def _feed_piece(self, piece: bytes) -> Iterator[Row]:
        before = self._number
        try:
            self._parser.send(piece)
        except self._errors:
            broken = True
        else:
            broken = False
        for event, value in self._found:
            row = self._take(event, value)
            if row is not None:
                yield row
        del self._found[:]
        if broken:
            raise AnswerError(f"the answer is no JSON after row {self._number}")
        self._unfinished_bytes = len(piece) + (self._unfinished_bytes if self._number == before else 0)
        if self._unfinished_bytes > MAX_ROW_BYTES:
            raise AnswerError(f"row {self._number + 1} is longer than {MAX_ROW_BYTES} bytes")

    def _take(self, event: str, value: Any) -> Row | None:
        """Follow one event of the parser; the row that it ends."""
        if event == "map_key":
            self._field = value  # one below is followed by another of the row's own, or by the row's end
            return None
        if event in ("start_map", "start_array"):
            self._begin(event)
            return None
        if event in ("end_map", "end_array"):
            self._depth -= 1
            if self._depth != 1:
                return None
            row, self._row = self._row, None
            return self._ended(row)
        if self._depth == 1:  # a list of something else
            return self._ended(None)
        if self._depth == 2:
            self._keep(value)
        return None

    def _begin(self, event: str) -> None:
        if self._depth == 2:
            self._keep(...)  # an object or a list, where a row's field holds neither
        self._depth += 1
        if self._depth == 2:
            self._row = {} if event == "start_map" else None

    def _keep(self, value: Any) -> None:
        if self._row is not None and self._field in _FIELDS:
            self._row[self._field] = value

    def _ended(self, fields: dict[str, Any] | None) -> Row:
        self._number += 1
        if fields is None:
            return Row(self._number, faults=("expected an object",))
        return _row(self._number, fields)


def happenings(row: Row, asked: str, window: Window, *, latest_first: bool = False) -> Iterator[Happening]:
    """What a row tells and the window takes, in the order of time. ``asked`` is the target that was asked for: it
    counts where the row does not name its own."""
    if row.key is None:
        return
    for at_ms, action in reversed(row.happened) if latest_first else row.happened:
        if at_ms in window:
            yield Happening(row.key, row.target or asked, action, at_ms, row.label)


def event_bytes(happening: Happening, account: str) -> bytes:
    """The happening as a CloudEvent in structured mode: the same bytes each time."""
    at = happening.at
    data: dict[str, Any] = {
        "notification_key": happening.key,
        "target": happening.target,
        "action": happening.action,
        "occurred_at": at,
    }
    if happening.label is not None:
        data["label"] = happening.label
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": notification_id(account, happening.key, happening.target, happening.action, at),
            "source": f"np6/{quote(account, safe='')}",
            "type": NOTIFICATION_OCCURRED,
            "time": at,
            "datacontenttype": "application/json",
            "data": data,
        }
    )


def instant_ms(text: str) -> int | None:
    """Milliseconds since 1970 of a date-time; without a zone it is UTC. None for what is none, or before 1970."""
    ms = parse_rfc3339_ms(text)
    if ms is None:
        ms = parse_rfc3339_ms(text + "Z")
    return None if ms is None or ms < 0 else ms


def _row(number: int, fields: dict[str, Any]) -> Row:
    faults: list[str] = []
    key = _int32(fields.get("notification_key"))
    if key is None:
        faults.append("notification_key: expected an int32")
    target = fields.get("target")
    if target is not None and not isinstance(target, str):
        faults.append("target: expected a text")
        key = None
    label = fields.get("libelle")
    happened = []
    for action in ACTIONS:
        given = fields.get(action)
        if given is None or given == "" or (isinstance(given, str) and given.startswith(_NO_DATE)):
            continue
        at_ms = instant_ms(given) if isinstance(given, str) else None
        if at_ms is None:
            faults.append(f"{action}: expected a date-time")
        else:
            happened.append((at_ms, action))
    happened.sort(key=lambda pair: pair[0])  # stable: at the same moment in the order in which they come about
    return Row(
        number,
        key,
        target or None,
        label if isinstance(label, str) else None,
        tuple(happened),
        tuple(faults),
    )


def _int32(value: Any) -> int | None:
    """An int may be written 7.0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not INT32_MIN <= value <= INT32_MAX:
        return None
    return int(value) if value == int(value) else None
