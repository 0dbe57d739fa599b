"""The record key of an event."""

import json
from typing import Any

import pytest

from service.publishing.keys import NoKey, key_at, own_key
from service.publishing.validating import Line, read_lines


def line(kind: str = "contact.changed.v1", **data: Any) -> Line:
    document = {"specversion": "1.0", "id": "e", "source": "s", "subject": "sub", "type": kind, "data": data}
    [read] = read_lines([json.dumps(document).encode()])
    assert isinstance(read, Line)
    return read


CONTACT = line(contact_id="ç1", change="updated", version=7, identifiers={"np6": "T1"}, tags=["a"])
NOTIFICATION = line(
    "notification.occurred.v1",
    notification_key=1,
    target="T9",
    action="dismiss",
    occurred_at="2026-01-01T00:00:00Z",
    contact_id="c1",
)


def test_the_key_is_the_contact_or_the_target() -> None:
    """Both types have the key that keeps their order."""
    assert own_key(CONTACT) == "ç1".encode()
    assert own_key(NOTIFICATION) == b"T9"


@pytest.mark.parametrize(
    ("path", "key"),
    [("data.identifiers.np6", b"T1"), ("subject", b"sub"), ("data.version", b"7"), ("data.contact_id", "ç1".encode())],
)
def test_a_path_chooses_another_key(path: str, key: bytes) -> None:
    """A text or a whole number, at any depth."""
    assert key_at(path)(CONTACT) == key


@pytest.mark.parametrize("path", ["data.nope", "data.identifiers", "data.tags", "data.contact_id.x", "data"])
def test_an_event_without_that_field_has_no_key(path: str) -> None:
    """A missing field, and what is no text and no number: the event is told, not published under a null key."""
    no_key = key_at(path)(CONTACT)
    assert isinstance(no_key, NoKey)
    assert no_key.problem.startswith(f"{path}: expected")


@pytest.mark.parametrize("path", ["", ".", "data.", "a..b"])
def test_what_is_no_path_is_refused(path: str) -> None:
    """Before any event is read."""
    with pytest.raises(ValueError, match="names with points"):
        key_at(path)
