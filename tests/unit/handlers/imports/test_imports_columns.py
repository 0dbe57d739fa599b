"""The quick ways to a row give what the slow ones give."""

import csv
from functools import partial
from io import StringIO
from random import Random
from typing import Any

import pytest

from contracts.events import CONTACT_CHANGED, NOTIFICATION_OCCURRED, ContactChanged, Event, NotificationOccurred
from handlers.base import Refusal
from handlers.imports.cells import phone_cell, text_cell
from handlers.imports.columns import Column, Columns
from handlers.imports.csv_rows import row_writer
from service.config.expressions import compile_expression

LETTERS = ["a", "é", "🦊", " ", ",", ";", "\t", '"', "\r", "\n", "'", "", "="]


def cells_of(event: Event, texts: list[str], *, quick: bool, phones: bool = False) -> list[str] | Refusal:
    """Each expression's cell; ``quick``: by whatever way there is, and not by the expression alone."""
    columns = []
    for text in texts:
        read = compile_expression(text, place=text)
        if not quick:
            read = partial(lambda read, event, key: read(event, key), read)
        if phones:
            columns.append(Column(read, text, phone_cell))
        else:
            cell = partial(text_cell, max_characters=1000)
            columns.append(Column(read, text, cell, text_up_to=1000 if quick else 0))
    cells = ["before"]
    return Columns(columns).add_to(cells, event, b"k") or cells


@pytest.mark.parametrize(
    "value",
    ["Hull", "", "x" * 1000, "x" * 1001, None, True, False, 7, 2**62, 0.5, 7.0],
    ids=lambda value: str(value)[:9],
)
def test_a_text_is_its_own_cell(value: Any) -> None:
    """With whatever an entry holds, the same cells, or the same refusal, as by its expression alone."""
    event = Event("e", "s", CONTACT_CHANGED, ContactChanged("c", "updated", attributes={"city": value}))
    texts = ["data.attributes.city", "data.attributes.none", "data.identifiers.email", "data.contact_id", "event.id"]
    quick, slow = cells_of(event, texts, quick=True), cells_of(event, texts, quick=False)
    assert quick == slow
    assert isinstance(quick, Refusal) == (value == "x" * 1001)


@pytest.mark.parametrize(
    "value",
    ["+33 6 12.34-56/78", "0612", "", " ", "+٣٣ 6", "06 a", "é", "1" * 20_000, None, True, 33612, -1, 0.5, 2**62],
    ids=lambda value: str(value)[:9],
)
def test_a_phone_is_written_by_its_rule(value: Any) -> None:
    """The same cell, or the same refusal, as by its expression alone."""
    event = Event("e", "s", CONTACT_CHANGED, ContactChanged("c", "updated", attributes={"phone": value}))
    texts = ["data.attributes.phone", "data.attributes.none", "data.identifiers.phone"]
    assert cells_of(event, texts, quick=True, phones=True) == cells_of(event, texts, quick=False, phones=True)


def test_an_event_of_another_type_has_no_such_entries() -> None:
    """Empty cells."""
    data = NotificationOccurred(1, "T", "activation", "2026-01-01T00:00:00Z")
    event = Event("e", "s", NOTIFICATION_OCCURRED, data)
    assert cells_of(event, ["data.attributes.city", "data.target"], quick=True) == ["before", "", "T"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_row_is_the_library_s(delimiter: str) -> None:
    """Byte for byte, whatever stands in its cells."""
    random, write = Random(7), row_writer(delimiter)
    for _ in range(3_000):
        letters = LETTERS if random.random() < 0.5 else ["a", "é", "🦊", " ", ""]
        cells = ["".join(random.choices(letters, k=random.randrange(4))) for _ in range(random.randrange(1, 5))]
        expected = StringIO(newline="")
        csv.writer(expected, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
        assert write(cells) == expected.getvalue().encode()
