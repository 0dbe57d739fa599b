"""Apsis One as the sandbox imitates it."""

from typing import Any

import msgspec
import pytest

from handlers.apsis import client
from handlers.apsis.sandbox import ApsisSandbox, Rules
from handlers.apsis.wire import ImportState, OpenImport, opened_import, status_of, token_in
from handlers.base import Request
from handlers.imports.form import content_type, form_around, length_range
from handlers.sandbox import KeyState, PlatformAnswer
from tests.support.vendor import shape_of, vendor_bytes, vendor_example

SECTION = "usercreated.sections.shop"
EMAIL = "com.apsis1.keyspaces.email"


class Caller:
    """Calls a sandbox as a client would."""

    def __init__(self, **rules: Any) -> None:
        self.sandbox = ApsisSandbox({"main": Rules(**rules)})
        self.now = 1_000_000.0
        self.token = ""

    def ask(self, request: Request, **headers: str) -> PlatformAnswer:
        path, _, query = request.path.partition("?")
        subject = msgspec.structs.replace(self.sandbox.subject(request.method, path), query=query)
        given = {"Host": "127.0.0.1:1", "Authorization": f"Bearer {self.token}", **dict(request.headers), **headers}
        return self.sandbox.answer("main", request.method, subject, given, request.body or b"", self.now)

    def log_in(self, secret: str = "s") -> PlatformAnswer:
        answer = self.ask(client.ask_token({"client_id": "c", "client_secret": secret}))
        token = token_in(answer.body)
        self.token = "" if token is None else token.text
        return answer

    def create(self, **more: Any) -> PlatformAnswer:
        body = {**vendor_example("apsis-import-request.json"), **more}
        return self.ask(client.create_import(SECTION, msgspec.json.encode(body), api_version=2))

    def opened(self, **more: Any) -> OpenImport:
        answer = self.create(**more)
        opened = opened_import(answer.body)
        assert opened is not None, answer
        return opened

    def upload(self, opened: OpenImport, file: bytes, **headers: str) -> PlatformAnswer:
        before, behind = form_around(opened.fields, "b")
        path = "/uploads/" + opened.upload_url.rpartition("/")[2]
        subject = self.sandbox.subject("POST", path)
        given = {"Content-Type": content_type("b"), **headers}
        return self.sandbox.answer("main", "POST", subject, given, before + file + behind, self.now)

    def status(self, opened: OpenImport) -> Any:
        return status_of(self.ask(client.import_status(SECTION, opened.import_id)).body)


def caller(**rules: Any) -> Caller:
    made = Caller(**rules)
    made.log_in()
    return made


FILE = b"email-address,city,garden-tools\r\na@example.com,Hull,1\r\nb@example.com,,0\r\n"


def test_an_import_from_create_to_completed() -> None:
    """The answers have the vendor's shape; profiles hold what the file said."""
    platform = caller()
    answer = platform.create()
    assert answer.status == 201
    assert shape_of(msgspec.json.decode(answer.body)) == shape_of(vendor_example("apsis-import-answer.json"))
    opened = opened_import(answer.body)
    assert opened is not None
    assert platform.status(opened).state is ImportState.WAITING_FOR_FILE
    assert length_range(opened.fields, 50_000_000).at_most == 50_000_000
    assert platform.upload(opened, FILE).status == 200
    assert platform.status(opened).state is ImportState.QUEUED
    told = platform.ask(client.import_status(SECTION, opened.import_id))
    assert shape_of(msgspec.json.decode(told.body)) == shape_of(vendor_example("apsis-import-status.json"))
    status = status_of(told.body)
    assert status is not None
    assert (status.state, status.found, status.processed, status.failed) == (ImportState.COMPLETED, 2, 2, 0)
    profiles = platform.sandbox.profiles("main")
    assert profiles[("a@example.com",)] == {
        "cells": {"city": "Hull", "garden-tools": "1"},
        "tags": ["usercreated.attributes.spring"],
    }
    # An empty cell changes nothing, a 0 is no opt-out.
    assert profiles[("b@example.com",)]["cells"] == {}


def test_the_status_is_read_without_v2() -> None:
    """With it there is no such call."""
    platform = caller()
    opened = platform.opened()
    path = f"/v2/audience/sections/{SECTION}/imports/{opened.import_id}"
    assert platform.ask(Request("GET", path)).status == 404


def test_no_call_without_a_token_in_force() -> None:
    """Missing, ended, or of another generation; some platforms say 403 to it."""
    platform = Caller(token_life_s=10)
    assert platform.create().status == 401
    platform.log_in()
    assert platform.create().status == 201
    platform.now += 11
    assert platform.create().status == 401
    platform.log_in()
    platform.sandbox.configure("main", {"token_generation": 1, "refuses_with": 403})
    assert platform.create().status == 403


def test_clients_that_are_not_known_get_no_token() -> None:
    """And ten tokens a minute are all that there are."""
    platform = Caller(clients={"c": "right"})
    assert platform.log_in("wrong").status == 401
    assert [platform.log_in("right").status for _ in range(9)] == [200] * 9
    assert platform.log_in("right").status == 429
    platform.now += 61
    assert platform.log_in("right").status == 200
    headers = {"Authorization": f"Bearer {platform.token}"}
    assert platform.sandbox.key_state("main", headers) is KeyState.RIGHT
    assert platform.sandbox.key_state("main", {"Authorization": "Bearer x"}) is KeyState.WRONG
    assert platform.sandbox.key_state("main", {}) is KeyState.NONE


def test_a_fourth_open_import_is_refused_and_counted() -> None:
    """An import without its file is open until its address lapses, or does not count, as the rule says."""
    platform = caller()
    for _ in range(3):
        platform.opened()
    assert platform.create().status == 429
    counts = platform.sandbox.state(None)["accounts"]["main"]
    assert (counts["most_open"], counts["refused_open"]) == (3, 1)
    platform.now += 3_601
    platform.log_in()
    assert platform.create().status == 201
    platform.sandbox.configure("main", {"waiting_counts": False})
    assert [platform.create().status for _ in range(3)] == [201] * 3


def test_eleven_imports_in_a_minute_are_one_too_many() -> None:
    """The other 429; nothing tells the two apart."""
    platform = caller(max_open=100)
    assert [platform.create().status for _ in range(11)] == [201] * 10 + [429]


@pytest.mark.parametrize(
    ("file", "headers", "status"),
    [(b"", {}, 400), (b"x" * 101, {}, 400), (FILE, {"Authorization": "Bearer t"}, 400)],
)
def test_what_the_storage_does_not_take(file: bytes, headers: dict[str, str], status: int) -> None:
    """An empty file, one over the policy's bound, a bearer token; its errors are XML."""
    platform = caller(max_file_bytes=100)
    answer = platform.upload(platform.opened(), file, **headers)
    assert answer.status == status
    assert answer.body.startswith(b"<?xml")


def test_a_form_that_was_changed_or_came_late() -> None:
    """403, as the policy's signature would not fit any more."""
    platform = caller()
    opened = platform.opened()
    changed = msgspec.structs.replace(opened, fields=(("key", "other"), *opened.fields[1:]))
    assert platform.upload(changed, FILE).status == 403
    platform.now += 3_600
    assert platform.upload(opened, FILE).status == 403
    platform.log_in()
    assert platform.status(opened).state is ImportState.ERROR


@pytest.mark.parametrize("file", [b"wrong,columns\r\na,b\r\n", b"\xff\xfe", FILE + b"a,b\r\n"])
def test_a_file_that_is_none_ends_in_error(file: bytes) -> None:
    """Other columns, other encodings, rows of another length."""
    platform = caller(polls=1)
    opened = platform.opened()
    platform.upload(opened, file)
    assert platform.status(opened).state is ImportState.ERROR


def test_failed_rows_are_counted_and_not_named() -> None:
    """And rows that are passed over are not even found."""
    platform = caller(polls=1, bad_values={"a@example.com"}, passes_over=0)
    opened = platform.opened()
    platform.upload(opened, FILE)
    status = platform.status(opened)
    assert (status.found, status.processed, status.failed) == (2, 1, 1)
    platform.sandbox.configure("main", {"passes_over": 1})
    again = platform.opened()
    platform.upload(again, FILE)
    assert platform.status(again).found == 1


def test_clearing_empties_attributes() -> None:
    """With ``clear_existing_attributes`` an empty cell is told apart from none."""
    platform = caller(polls=1)
    for cleared, city in [(False, "Hull"), (False, "Hull"), (True, "")]:
        options = {"update_existing_profiles": True, "clear_existing_attributes": cleared}
        opened = platform.opened(options=options)
        value = b"Hull" if not platform.sandbox.profiles("main") else b""
        platform.upload(opened, b"email-address,city,garden-tools\r\na@example.com," + value + b",1\r\n")
        platform.status(opened)
        assert platform.sandbox.profiles("main")[("a@example.com",)]["cells"]["city"] == city


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"keyspace_mapping": {"keyspace_discriminator": "unknown", "field_selector": "a"}}, 400),
        ({"keyspace_mapping": None}, 400),
        ({"options": None}, 400),
        ({"tag_mappings": [{"tag_discriminator": "x" * 100_000}]}, 413),
    ],
)
def test_creates_that_are_refused(change: dict[str, Any], status: int) -> None:
    """Unknown keyspaces, other shapes, bodies over 100 kB."""
    assert caller().create(**change).status == status


def test_lists_and_the_stuck_status() -> None:
    """What discovery reads; and a status that never moves."""
    platform = caller(topics={"t1"}, attributes={"7": None}, stuck_at="resting")
    topics = msgspec.json.decode(platform.ask(client.topics(SECTION)).body)
    assert topics == {"items": [{"discriminator": "t1"}]}
    keyspaces = msgspec.json.decode(platform.ask(client.keyspaces()).body)
    assert keyspaces == {"items": [{"discriminator": EMAIL}]}
    opened = platform.opened()
    platform.upload(opened, FILE)
    assert platform.status(opened).state is ImportState.UNKNOWN
    assert vendor_bytes("apsis-import-status.json")
    platform.sandbox.reset()
    assert platform.sandbox.imports("main") == []
