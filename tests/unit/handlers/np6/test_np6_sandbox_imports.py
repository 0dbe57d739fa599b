"""NP6's imports as the sandbox imitates them, held against the vendor's own examples."""

from typing import Any

import msgspec
import pytest

from handlers.base import Request
from handlers.np6 import client
from handlers.np6.sandbox import Np6Sandbox, Rules
from handlers.sandbox import PlatformAnswer
from tests.support.vendor import shape_of, vendor_bytes, vendor_example


def ask(sandbox: Np6Sandbox, request: Request) -> PlatformAnswer:
    body = request.body or b""
    headers = {"X-Key": "k", "Content-Length": str(len(body)), **dict(request.headers)}
    return sandbox.answer("main", request.method, sandbox.subject(request.method, request.path), headers, body, 12.5)


def put(number: int, file: bytes) -> Request:
    return Request("PUT", f"/imports/{number}/source", (("Content-Type", "application/octet-stream"),), file)


def execute(number: int) -> Request:
    body = b'{"binding": 7}'
    return Request("POST", f"/imports/{number}/executions", (("Content-Type", "application/json"),), body)


def state(sandbox: Np6Sandbox, number: int) -> tuple[int, Any]:
    answer = ask(sandbox, Request("GET", f"/imports/{number}/executions"))
    return answer.status, msgspec.json.decode(answer.body).get("state")


def test_an_import_agrees_with_the_vendors_examples() -> None:
    """Made of a definition, shown, listed; of its scheduler the id alone is told."""
    sandbox = Np6Sandbox()
    made = ask(sandbox, client.create_import(vendor_bytes("np6-import-request.json")))
    assert made.status == 201
    document = msgspec.json.decode(made.body)
    assert shape_of(document) == shape_of(vendor_example("np6-import-answer.json"))
    assert document["source"]["folder"] == f"{document['id']} - Newsletter readers"
    shown = ask(sandbox, client.import_of(document["id"]))
    assert msgspec.json.decode(shown.body) == document
    listed = ask(sandbox, client.imports())
    assert shape_of(msgspec.json.decode(listed.body)) == shape_of(vendor_example("np6-imports-list.json"))


def test_a_file_is_put_and_executed() -> None:
    """The state is that of the last execution; before any there is none."""
    sandbox = Np6Sandbox({"main": Rules(import_looks=2)})
    number = msgspec.json.decode(ask(sandbox, client.create_import(vendor_bytes("np6-import-request.json"))).body)["id"]
    assert state(sandbox, number)[0] == 404
    assert ask(sandbox, execute(number)).status == 400
    assert ask(sandbox, put(number, b"a;b")).status == 204
    assert ask(sandbox, execute(number)).status == 204
    assert [state(sandbox, number) for _ in range(3)] == [(200, 0), (200, 1), (200, 1)]
    sandbox.configure("main", {"imports_fail": True})
    ask(sandbox, put(number, b"c;d"))
    ask(sandbox, execute(number))
    assert [state(sandbox, number) for _ in range(2)] == [(200, 0), (200, 2)]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (client.import_of(99), 404),
        (Request("DELETE", "/imports/1"), 405),
        (Request("GET", "/imports/1/2/3"), 404),
        (Request("GET", "/imports/1/id"), 404),
        (client.create_import(b"[]"), 400),
        (client.create_import(b'{"name": "a", "binding": 1, "source": {"type": "mail"}}'), 400),
        (client.create_import(b'{"name": "a"}'), 400),
        (Request("PUT", "/imports/1/source", (("Content-Type", "text/csv"),), b"a"), 415),
    ],
)
def test_what_is_refused(request_: Request, status: int) -> None:
    """Unknown imports, other methods and places, definitions that are none, wrong media types."""
    assert ask(Np6Sandbox(), request_).status == status
