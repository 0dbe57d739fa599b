"""Copernica as the sandbox imitates it, and what is read of its answers."""

from typing import Any

import msgspec
import pytest

from handlers.base import Answer, Request
from handlers.copernica import client, wire
from handlers.copernica.sandbox import CopernicaSandbox, Rules
from handlers.copernica.wire import ImportStatus
from handlers.sandbox import KeyState, PlatformAnswer

ROWS = [{"Email": "a@example.com", "City": "Hull"}, {"Email": "b@example.com", "City": ""}]


class Caller:
    """Calls a sandbox as a client would."""

    def __init__(self, **rules: Any) -> None:
        self.sandbox = CopernicaSandbox({"main": Rules(**rules)})
        self.headers: dict[str, str] = {}

    def ask(self, request: Request, base: str = "") -> PlatformAnswer:
        path, _, query = (base + request.path).partition("?")
        subject = msgspec.structs.replace(self.sandbox.subject(request.method, path), query=query)
        return self.sandbox.answer("main", request.method, subject, self.headers, request.body or b"", 0.0)

    def log_in(self, token: str = "t") -> PlatformAnswer:
        answer = self.ask(client.exchange_token({"access_token": token}), "/token")
        given = wire.token_in(answer.body)
        if given is not None:
            self.headers = {"Authorization": f"Bearer {given.text}"}
        return answer

    def create(self, **more: Any) -> PlatformAnswer:
        body = {"database": 1, "name": "n", "action": "update or add", "keyFields": ["Email"], "source": ROWS, **more}
        return self.ask(client.create_import(msgspec.json.encode(body), 4))

    def status(self, import_id: str) -> ImportStatus | None:
        return wire.status_of(self.ask(client.import_status(import_id, 4)).body)


def caller(**rules: Any) -> Caller:
    made = Caller(**rules)
    made.log_in()
    return made


def test_an_import_from_create_to_its_end() -> None:
    """The id stands in a header; the status is told by line counts that are texts."""
    platform = caller()
    answer = platform.create()
    assert (answer.status, answer.body) == (201, b"")
    found = wire.import_id({name.lower(): value for name, value in answer.headers.items()})
    assert found is not None
    assert platform.status(found) == ImportStatus("ready for start", 2, 0, False, None)
    assert platform.status(found) == ImportStatus("done", 2, 2, True, None)
    assert platform.sandbox.profiles("main") == ROWS


def test_lines_that_fail_are_counted_and_not_named() -> None:
    """All others are carried out."""
    platform = caller(bad_values={"Hull"}, polls=1)
    answer = platform.create()
    told = platform.status(answer.headers["X-Created"])
    assert told == ImportStatus("done", 2, 1, False, "Some lines could not be imported")
    assert platform.sandbox.profiles("main") == ROWS[1:]


def test_a_repeated_add_doubles_profiles() -> None:
    """An update or add does not."""
    platform = caller()
    platform.create()
    platform.create()
    assert len(platform.sandbox.profiles("main")) == 2
    platform.create(action="add", keyFields=[])
    assert len(platform.sandbox.profiles("main")) == 4
    platform.create(action="delete")
    assert platform.sandbox.profiles("main") == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"database": 7}, "Unknown database"),
        ({"action": "replace"}, "Unknown action"),
        ({"keyFields": []}, "No key field"),
        ({"source": [{"Email": "a", "Nonsense": "b"}]}, "Unknown field"),
        ({"source": [{"Email": "a", "City": "b"}, {"City": "b", "Email": "a"}]}, "keys are not the same"),
        ({"source": "a"}, "could not be read"),
    ],
)
def test_faults_are_400s_that_only_their_message_tells_apart(more: dict[str, Any], message: str) -> None:
    """As on the platform."""
    answer = caller(databases={1: ["Email", "City"]}).create(**more)
    assert answer.status == 400
    assert message in (wire.platform_text(answer.body) or "")


def test_sources_as_text() -> None:
    """JSON and CSV."""
    platform = caller()
    platform.create(source=msgspec.json.encode(ROWS).decode(), format="json")
    platform.create(source="Email;City\r\nc@example.com;York\r\n", format="csv", delimiter=";")
    assert [one["City"] for one in platform.sandbox.profiles("main")] == ["Hull", "", "York"]


def test_who_may_call() -> None:
    """Version 3: the token in the address; version 4: exchanged. A 400 says that it is not taken."""
    platform = Caller(tokens={"right"})
    answer = platform.create()
    assert wire.refuses_token(answer.status, answer.body)
    assert platform.log_in("wrong").status == 400
    assert platform.log_in("right").status == 200
    assert platform.create().status == 201
    assert platform.sandbox.key_state("main", platform.headers) is KeyState.RIGHT
    platform.sandbox.configure("main", {"generation": 1})
    refused = platform.create()
    assert client.token_ended(Answer(refused.status, {}, refused.body))
    platform.headers = {}
    body = msgspec.json.encode({"database": 1, "source": ROWS})
    assert platform.ask(Request("POST", "/v3/imports?access_token=right", (), body)).status == 201


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-created": "12"}, "12"),
        ({"x-location": "https://x/v3/import/13"}, "13"),
        ({"location": "https://x/v3/import/14/?a=b"}, "14"),
        ({"x-created": "none", "location": "15"}, "15"),
        ({"location": "https://x/import/../etc"}, None),
        ({}, None),
    ],
)
def test_where_an_imports_id_stands(headers: dict[str, str], expected: str | None) -> None:
    """In one header or another, or nowhere."""
    assert wire.import_id(headers) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            {"status": "x", "totallines": "3", "processedLines": "1", "lasterror": "broken\nfile"},
            ImportStatus("x", 3, 1, False, "broken file"),
        ),
        (
            {"totallines": False, "processedlines": 2, "lastrun": "0000-00-00 00:00:00", "status": "x"},
            ImportStatus("x", None, 2, False, None),
        ),
        ({"unknown": 1}, None),
        ([], None),
    ],
)
def test_a_status_is_read_whatever_its_types(body: Any, expected: ImportStatus | None) -> None:
    """Numbers as texts, ``false`` for null, one name in two spellings."""
    assert wire.status_of(msgspec.json.encode(body)) == expected


def test_an_id_that_is_no_number_is_not_asked_about() -> None:
    """It could name another resource."""
    with pytest.raises(ValueError, match="number"):
        client.import_status("1/../2", 4)
