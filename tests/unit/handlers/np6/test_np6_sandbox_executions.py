"""The sandbox's batched executions: what is refused as a whole, what item by item, and the record of what was done."""

import json
from typing import Any

import pytest

from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox import Match, Prescription, SandboxClient, SandboxServer, Step
from handlers.sandbox.platform import PlatformAnswer

MEDIA_TYPE = "application/vnd.np6.cm.workflow-v4"
PATH = "/scripting/workflows/42/executions"
HEADERS = {"X-Key": "k", "Content-Type": MEDIA_TYPE}


def execution(receiver: str, number: int = 1) -> dict[str, Any]:
    return {"id": f"x-{number}", "receiver": {"type": "id", "value": receiver}}


def ask(
    sandbox: Np6Sandbox, executions: Any, *, path: str = PATH, items: int | None = None, **headers: str | None
) -> PlatformAnswer:
    body = json.dumps(executions).encode()
    given = {**HEADERS, "Content-Length": str(len(body)), **{k.replace("_", "-"): v for k, v in headers.items()}}
    sent = {name: value for name, value in given.items() if value is not None}
    return sandbox.answer("main", "POST", sandbox.subject("POST", path), sent, body, 1000.0, items)


def performed(sandbox: Np6Sandbox) -> list[str]:
    return [one.receiver["value"] for one in sandbox.performed("main")]


def test_each_item_is_performed_and_recorded() -> None:
    """One item of the answer for each of the request, in order; the record says which request did it."""
    sandbox = Np6Sandbox()
    answer = ask(sandbox, [execution("A", 1), execution("B", 2)])
    assert (answer.status, answer.effect, answer.headers["Content-Type"]) == (200, True, MEDIA_TYPE)
    assert [item["type"] for item in json.loads(answer.body)] == ["success", "success"]
    ask(sandbox, [execution("A", 1)])
    assert [(one.workflow, one.id, one.call) for one in sandbox.performed("main")] == [
        (42, "x-1", 1),
        (42, "x-2", 1),
        (42, "x-1", 2),
    ]


@pytest.mark.parametrize(
    ("status", "headers"),
    [(415, {"Content_Type": "application/json"}), (411, {"Content_Length": None}), (401, {"X_Key": None})],
)
def test_a_wrong_form_is_refused(status: int, headers: dict[str, str | None]) -> None:
    """The vendor's media type and the length are wanted, and the key."""
    sandbox = Np6Sandbox()
    assert ask(sandbox, [execution("A")], **headers).status == status
    assert not performed(sandbox)


@pytest.mark.parametrize("body", [{}, [], [1], [{"receiver": "A"}], [{"receiver": {"type": "id", "value": ""}}]])
def test_a_body_without_executions_is_refused(body: Any) -> None:
    """No list, an empty one, no receiver: 400."""
    assert ask(Np6Sandbox(), body).status == 400


def test_a_bad_receiver_refuses_the_whole_request() -> None:
    """Nothing of the request takes effect, and the answer does not say whose fault it was."""
    sandbox = Np6Sandbox()
    sandbox.configure("main", {"bad_receivers": ["B"]})
    answer = ask(sandbox, [execution("A"), execution("B")])
    assert (answer.status, answer.effect) == (400, False)
    assert b"B" not in answer.body
    assert not performed(sandbox)


def test_a_refused_receiver_is_an_error_among_successes() -> None:
    """The status says nothing of the items."""
    sandbox = Np6Sandbox()
    sandbox.configure("main", {"refused_receivers": ["B"]})
    answer = ask(sandbox, [execution("A"), execution("B")])
    assert answer.status == 200
    assert [item["type"] for item in json.loads(answer.body)] == ["success", "error"]
    assert performed(sandbox) == ["A"]


@pytest.mark.parametrize(
    ("rules", "status"), [({"unknown_workflows": [42]}, 404), ({"workflows": [1]}, 404), ({"max_executions": 1}, 413)]
)
def test_requests_refused_for_what_they_name(rules: dict[str, Any], status: int) -> None:
    """An unknown workflow, or more executions than the platform takes."""
    sandbox = Np6Sandbox()
    sandbox.configure("main", rules)
    assert ask(sandbox, [execution("A"), execution("B")]).status == status


@pytest.mark.parametrize(
    ("how", "types"), [("short", ["success"]), ("long", ["success"] * 3), ("other", ["queued"] * 2)]
)
def test_answers_that_do_not_fit_the_request(how: str, types: list[str]) -> None:
    """All was performed; the answer says too little, too much or what nobody knows."""
    sandbox = Np6Sandbox()
    sandbox.configure("main", {"items": how})
    answer = ask(sandbox, [execution("A"), execution("B")])
    assert [item["type"] for item in json.loads(answer.body)] == types
    assert performed(sandbox) == ["A", "B"]


def test_without_memory_nothing_is_kept() -> None:
    """For benchmarks: answered like any other."""
    sandbox = Np6Sandbox(remember=False)
    assert ask(sandbox, [execution("A")]).effect
    assert not performed(sandbox)


async def test_a_reset_after_some_of_the_items() -> None:
    """Prescribed: the first of three takes effect, then the connection is gone; the record shows it."""
    async with SandboxServer(np6=Np6Sandbox()) as server, SandboxClient(server.url) as client:
        some = Prescription([Step(reset="after", items=1)], Match(kind="executions", entity="42"))
        await client.prescribe_all([some])
        session = client._open()
        body = json.dumps([execution("A", 1), execution("B", 2), execution("C", 3)]).encode()
        with pytest.raises(Exception, match=r"(?i)disconnect|reset"):
            await session.post(server.base_url("np6", "main") + PATH, data=body, headers=HEADERS)
        state = await client.state(platform="np6", account="main")
        assert [one["id"] for one in state["platforms"]["np6"]["executions"]] == ["x-1"]
        (call,) = await client.calls()
        assert (call.kind, call.entity, call.effect, call.status) == ("executions", "42", True, None)
