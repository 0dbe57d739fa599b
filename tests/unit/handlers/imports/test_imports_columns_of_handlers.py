"""Handlers take what stands in an event as it is: their rows are those that their expressions alone would give."""

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest

from contracts.events import CONTACT_CHANGED, NOTIFICATION_OCCURRED, ContactChanged, Event, NotificationOccurred
from handlers.apsis.imports import ApsisImportsConfig, ApsisImportsHandler
from handlers.base import Expression, ExpressionError
from handlers.copernica.imports import CopernicaImportsConfig, CopernicaImportsHandler
from handlers.imports.rows import ImportHandler
from handlers.np6.imports import Np6ImportsConfig, Np6ImportsHandler
from service.config.expressions import compile_expression, compile_row_expression

Compile = Callable[..., Expression]
CELLS = {
    "Email": "data.identifiers.email",
    "Name": "data.attributes.name",
    "Points": "data.attributes.points",
    "None": "data.attributes.none",
    "Id": "data.contact_id",
    "Of": "event.id",
    "Both": 'data.attributes.name + "!"',
}
VALUES = [
    None,
    True,
    False,
    0,
    -7,
    2**62,
    0.5,
    7.0,
    1e21,
    "",
    "x",
    'a "b"; c\td\r\n',
    "é🦊€",
    "x" * 1000,
    "y" * 1001,
    "z" * 10_001,
]


def quick(text: str, place: str, wants: Any = "value") -> Expression:
    return compile_expression(text, place=place, wants=wants)


def slow(text: str, place: str, wants: Any = "value") -> Expression:
    """The expression, and nothing of how else it could be asked for."""
    read = quick(text, place, wants)
    return lambda event, key: read(event, key)


def row_expression(text: str, place: str) -> Any:
    return compile_row_expression(text, place=place)


def np6(compile_: Compile, **keys: Any) -> ImportHandler:
    given = {"import": {"id": 23}, "columns": CELLS, **keys}
    return Np6ImportsHandler(msgspec.convert(given, Np6ImportsConfig), compile_, None)


def copernica(compile_: Compile, **keys: Any) -> ImportHandler:
    given = {"database": 4, "fields": CELLS, "key_fields": ["Name"], **keys}
    options = msgspec.convert(given, CopernicaImportsConfig)
    return CopernicaImportsHandler(options, compile_, row_expression, api_version=4)


def apsis(compile_: Compile, **keys: Any) -> ImportHandler:
    keyspace = {"discriminator": "k", "column": "k", "value": CELLS["Name"]}
    attributes = [{"version_id": name, "column": name, "value": text} for name, text in CELLS.items()]
    attributes[2]["as"] = "phone"
    given = {"section": "s", "keyspaces": [keyspace], "attributes": attributes, **keys}
    return ApsisImportsHandler(msgspec.convert(given, ApsisImportsConfig), compile_)


def said(handler: ImportHandler, event: Event) -> Any:
    """What a handler makes of an event."""
    try:
        return handler.plan(event, b"k")
    except ExpressionError as error:
        return str(error)


@pytest.mark.parametrize(
    ("handler", "keys"),
    [
        (np6, {}),
        (np6, {"encoding": "iso-8859-1"}),
        (copernica, {}),
        (copernica, {"source": {"as": "json"}}),
        (copernica, {"source": {"as": "csv"}, "action": "add", "key_fields": []}),
        (apsis, {}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else value.__name__,
)
def test_the_rows_are_the_same_either_way(handler: Callable[..., ImportHandler], keys: dict[str, Any]) -> None:
    """With whatever stands in the entries, and also where they are not, or the event is another; so are the words about
    what no cell can hold."""
    random, fast, exact = Random(5), handler(quick, **keys), handler(slow, **keys)
    events = [
        Event("e", "s", NOTIFICATION_OCCURRED, NotificationOccurred(1, "T", "activation", "2026-01-01T00:00:00Z"))
    ]
    for _ in range(600):
        entries = {name: random.choice(VALUES) for name in ("name", "points") if random.random() < 0.9}
        identifiers = {"email": random.choice([v for v in VALUES if isinstance(v, str)])}
        data = ContactChanged("c", "updated", identifiers=identifiers, attributes=entries)
        events.append(Event("e", "s", CONTACT_CHANGED, data))
    found = [said(fast, event) for event in events]
    assert found == [said(exact, event) for event in events]
    assert any(isinstance(one, list | tuple) for one in found)


def test_an_object_is_written_as_its_cells_are() -> None:
    """Name by name, in JSON's escapes."""
    (row,) = copernica(quick, fields={'a"': "data.attributes.name", "é": "data.contact_id"}, key_fields=["é"]).plan(
        Event("e", "s", CONTACT_CHANGED, ContactChanged("c", "updated", attributes={"name": 'x"\n\x01🦊'})), b"k"
    )  # type: ignore[misc] # it is no refusal
    assert row.line == '{"a\\"":"x\\"\\n\\u0001🦊","é":"c"}'.encode()
