"""The cells of an event's columns, read together: a file has a dozen columns and 50,000 rows.

Nearly every column is an entry of the event's attributes or identifiers that holds a text. Such a text is its own cell,
and is taken here without asking the column's expression; whatever else stands there the expression reads and the
column's own rule writes, and the cells are the same either way.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from contracts.events import Event
from handlers.base import Expression, Refusal
from handlers.imports.cells import CellError
from handlers.imports.rows import beyond_the_contract

_MAPS = ("attributes", "identifiers")


class Column(msgspec.Struct, frozen=True):
    """``place``: where ``read`` stands in the lane. ``cell`` writes its value, and raises CellError. ``text_up_to``: a
    text of at most so many characters, which is far less than an expression may give, is its own cell; 0: none is."""

    read: Expression
    place: str
    cell: Callable[[Any], str]
    text_up_to: int = 0


class Columns:
    """Columns in the order of the file's."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = [(_entry_of(one), one.text_up_to, one.read, one.cell, one.place) for one in columns]

    def add_to(self, cells: list[str], event: Event, key: bytes | None) -> Refusal | None:
        """Add the event's cells; why the platform would not take one. Raises ExpressionError."""
        add, data = cells.append, event.data
        maps = (getattr(data, "attributes", None), getattr(data, "identifiers", None))
        for at_entry, text_up_to, read, cell, place in self._columns:
            if at_entry is not None:
                at, entry = at_entry
                entries = maps[at]
                text = None if entries is None else entries.get(entry)
                if type(text) is str and len(text) <= text_up_to:
                    add(text)
                    continue
            try:
                add(cell(read(event, key)))
            except CellError as error:
                return beyond_the_contract(read, place, error)
        return None


def _entry_of(column: Column) -> tuple[int, str] | None:
    """Which of the maps a column's expression reads, and which entry of it, where it does no more than that."""
    name, entry = getattr(column.read, "entry", (None, ""))
    return (_MAPS.index(name), entry) if column.text_up_to and name in _MAPS else None
