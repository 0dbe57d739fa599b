"""Objects and lists whose leaves are expressions: each leaf knows its place, and gets the event with its key."""

from typing import Any

from contracts.events import ContactChanged, Event
from handlers.base import Expression
from handlers.templates import compile_template

EVENT = Event("e-1", "/crm", "contact.changed.v1", ContactChanged("c", "created"))


def echo(text: str, key: str, wants: str = "value") -> Expression:
    """An expression that gives what it was compiled of and what it was asked with; ``none`` gives None."""

    def fill(event: Event, record_key: bytes | None) -> Any:
        return None if text == "none" else (text, key, event, record_key)

    return fill


def test_leaves_know_where_they_stand() -> None:
    """The place of a mistake in the file is told by objects' names and lists' numbers."""
    fill = compile_template({"a": "one", "b": {"c": ["two", {"d": "three"}], "e": ("four",)}}, "data", echo)
    assert fill(EVENT, b"k") == {
        "a": ("one", "data.a", EVENT, b"k"),
        "b": {
            "c": [("two", "data.b.c[0]", EVENT, b"k"), {"d": ("three", "data.b.c[1].d", EVENT, b"k")}],
            "e": [("four", "data.b.e[0]", EVENT, b"k")],
        },
    }
    assert compile_template("alone", "node", echo)(EVENT, None) == ("alone", "node", EVENT, None)


def test_what_has_no_value() -> None:
    """It is left out of its object, and keeps its place in a list."""
    fill = compile_template({"a": "none", "b": ["none", "x"], "c": None, "d": {"e": "none"}}, "data", echo)
    assert fill(EVENT, None) == {"b": [None, ("x", "data.b[1]", EVENT, None)], "d": {}}
    assert compile_template(None, "node", echo)(EVENT, None) is None
