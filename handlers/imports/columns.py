"""The cells of an event's columns, read together: a file has a dozen columns and 50,000 rows.

Nearly every column is an entry of the event's attributes or identifiers. What stands there the column's expression
would give as it is, so it is taken here without asking; and most of it is its own cell, or nearly. The odd value the
expression reads and the column's own rule writes, and the cells are the same either way.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from contracts.events import INT64_MAX, INT64_MIN, ContactChanged, Event
from handlers.base import Expression, Refusal
from handlers.imports.cells import CellError, text_cell
from handlers.imports.rows import beyond_the_contract

_MAPS = ("attributes", "identifiers")
_NOTHING: Mapping[str, Any] = {}
# Far less than an expression may give.
_SHORT = 10_000
# What becomes of an event that gives what no cell can hold, by the expression, its place and what is wrong.
Fault = Callable[[Expression, str, CellError], Refusal]


class Column(msgspec.Struct, frozen=True):
    """``place``: where ``read`` stands in the lane. ``cell`` writes its value, and raises CellError. ``text_up_to``: it
    writes as ``text_cell`` does, a text of at most so many characters; 0: otherwise."""

    read: Expression
    place: str
    cell: Callable[[Any], str]
    text_up_to: int = 0


class Columns:
    """Columns in the order of the file's. ``fault`` may raise in the place of giving a Refusal."""

    def __init__(self, columns: Sequence[Column], fault: Fault = beyond_the_contract) -> None:
        self._fault = fault
        self._columns = [(*_entry_of(one), one.text_up_to, one.read, one.cell, one.place) for one in columns]

    def add_to(self, cells: list[str], event: Event, key: bytes | None) -> Refusal | None:
        """Add the event's cells; why the platform would not take one. Raises ExpressionError."""
        add, data = cells.append, event.data
        maps: tuple[Mapping[str, Any], Mapping[str, Any]] = (_NOTHING, _NOTHING)
        if type(data) is ContactChanged:
            maps = (data.attributes or _NOTHING, data.identifiers or _NOTHING)
        for at, entry, text_up_to, read, cell, place in self._columns:
            try:
                if at is None:
                    add(cell(read(event, key)))
                    continue
                value: Any = maps[at].get(entry)
                kind = type(value)
                if kind is str:
                    if len(value) <= text_up_to:
                        add(value)
                    else:
                        add(cell(value if len(value) <= _SHORT else read(event, key)))
                elif value is None or kind is bool:
                    add(cell(value) if not text_up_to else "true" if value else "" if value is None else "false")
                elif kind is int and text_up_to and INT64_MIN <= value <= INT64_MAX:
                    add(str(value))
                else:
                    add(cell(read(event, key)))
            except CellError as error:
                return self._fault(read, place, error)
        return None


def text_column(read: Expression, place: str) -> Column:
    """A column of texts as long as they are."""
    return Column(read, place, text_cell, _SHORT)


def _entry_of(column: Column) -> tuple[int, str] | tuple[None, str]:
    """Which of the maps a column's expression reads, and which entry of it, where it does no more than that."""
    name, entry = getattr(column.read, "entry", (None, ""))
    return (_MAPS.index(name), entry) if name in _MAPS else (None, "")
