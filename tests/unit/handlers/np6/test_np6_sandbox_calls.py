"""NP6's notifications and workflows as the sandbox imitates them, held against the vendor's own examples."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from handlers.np6.sandbox import Np6Sandbox, Rules
from handlers.np6.sandbox_notifications import Row
from handlers.sandbox import PlatformAnswer

EXAMPLES = Path(__file__).parents[3] / "golden" / "vendor"
WORKFLOW = "application/vnd.np6.cm.workflow-v4"


def ask(
    sandbox: Np6Sandbox,
    method: str,
    path: str,
    body: Any = None,
    *,
    media_type: str | None = None,
) -> PlatformAnswer:
    raw = b"" if body is None else msgspec.json.encode(body)
    headers = {"X-Key": "k", "Content-Length": str(len(raw))}
    if media_type is not None:
        headers["Content-Type"] = media_type
    resource, _, query = path.partition("?")
    subject = msgspec.structs.replace(sandbox.subject(method, resource), query=query)
    return sandbox.answer("main", method, subject, headers, raw, 12.5)


def rows_of(sandbox: Np6Sandbox, path: str) -> list[dict[str, Any]]:
    answer = ask(sandbox, "GET", path)
    assert answer.status == 200
    found: list[dict[str, Any]] = msgspec.json.decode(answer.body)
    return found


def example(name: str) -> Any:
    return msgspec.json.decode((EXAMPLES / name).read_bytes())


def agrees(ours: Any, theirs: Any) -> bool:
    """Whether what the vendor shows is there, with the types that it shows; null may stand for anything."""
    if isinstance(theirs, dict):
        return isinstance(ours, dict) and all(key in ours and agrees(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, list):
        return isinstance(ours, list) and all(agrees(item, theirs[0]) for item in ours)
    return ours is None or type(ours) is type(theirs)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/targets/T/notifications", ("notifications", "T", None)),
        ("GET", "/targets/a%2Fb/notifications", ("notifications", "a/b", None)),
        ("POST", "/targets/T/notifications", ("unsupported", None, None)),
        ("GET", "/targets/%2E%2E/notifications", ("other", None, None)),
        ("POST", "/scripting/workflows/42/execution", ("execute", None, "42")),
        ("POST", "/scripting/workflows/42/duplication", ("duplicate", None, "42")),
        ("GET", "/scripting/workflows/42/duplication", ("unsupported", None, None)),
        ("POST", "/scripting/workflows/42", ("other", None, None)),
        ("POST", "/scripting/workflows/42/else", ("other", None, None)),
    ],
)
def test_what_these_requests_are_about(method: str, path: str, expected: tuple[str, ...]) -> None:
    """Kind and id are read from method and path."""
    subject = Np6Sandbox().subject(method, path)
    assert (subject.kind, subject.target, subject.entity) == expected


def test_notifications_agree_with_the_vendors_example() -> None:
    """Every key that the vendor shows, of its type or null."""
    rows = rows_of(Np6Sandbox(), "/targets/000PKXK4/notifications")
    assert rows
    assert agrees(rows, example("np6-notifications.json"))
    assert all(list(row) == list(example("np6-notifications.json")[0]) for row in rows)


def test_a_copy_agrees_with_the_vendors_example() -> None:
    """Every key that the vendor shows, at every level; a copy is a workflow of its own, and can be copied."""
    sandbox = Np6Sandbox({"main": Rules(workflows={42})})
    first = ask(sandbox, "POST", "/scripting/workflows/42/duplication")
    assert (first.status, first.effect) == (200, True)
    copy = msgspec.json.decode(first.body)
    assert agrees(copy, example("np6-workflow-duplicated.json"))
    assert list(copy) == list(example("np6-workflow-duplicated.json"))
    second = msgspec.json.decode(ask(sandbox, "POST", f"/scripting/workflows/{copy['id']}/duplication").body)
    assert len({42, copy["id"], second["id"]}) == 3
    assert ask(sandbox, "POST", "/scripting/workflows/43/duplication").status == 404


def test_rows_are_the_same_each_time_and_mixed_unless_sorted() -> None:
    """asc and desc are each other's reverse; without sort it is neither."""
    sandbox = Np6Sandbox({"main": Rules(notifications_per_target=9)})
    unordered = rows_of(sandbox, "/targets/T/notifications")
    assert unordered == rows_of(sandbox, "/targets/T/notifications")
    upwards = rows_of(sandbox, "/targets/T/notifications?sort=asc")
    assert upwards == rows_of(sandbox, "/targets/T/notifications?sort=desc")[::-1]
    assert unordered not in (upwards, upwards[::-1])
    assert [row["impression"] for row in upwards] == sorted(row["impression"] for row in upwards)
    assert any(row["dismiss"] is None for row in upwards)
    assert any(not row["impression"].endswith("Z") for row in upwards)


def test_the_window_takes_its_start_and_leaves_its_end() -> None:
    """A row is listed if one of its happenings lies within; either bound may be left out, seconds do as well."""
    rows = [
        Row(1, "T", impression="2026-03-01T10:00:00Z"),
        Row(2, "T", impression="2026-03-01T09:00:00", activation="2026-03-01T11:00:00Z"),
        Row(3, "T"),
    ]
    sandbox = Np6Sandbox({"main": Rules(notifications={"T": rows})})

    def keys(query: str) -> list[int]:
        return [row["notification_key"] for row in rows_of(sandbox, f"/targets/T/notifications?sort=asc{query}")]

    assert keys("") == [2, 1]
    assert keys("&start=2026-03-01T10:00:00Z") == [1, 2]
    assert keys("&start=2026-03-01T10:00:00.001Z") == [2]
    assert keys("&end=2026-03-01T10:00:00%2B00:00") == [2]
    assert keys("&start=2026-03-01T11:00:00Z&end=2026-03-01T11:00:00Z") == []
    assert keys("&start=1772359200") == [1, 2]


@pytest.mark.parametrize("query", ["sort=up", "start=yesterday", "end=", "start=99999999999999999999"])
def test_a_query_that_is_not_understood(query: str) -> None:
    """Is refused."""
    assert ask(Np6Sandbox(), "GET", f"/targets/T/notifications?{query}").status == 400


def test_an_unknown_target_has_a_404_or_nothing() -> None:
    """Both were seen of the platform."""
    sandbox = Np6Sandbox({"main": Rules(unknown_targets={"T"})})
    assert ask(sandbox, "GET", "/targets/T/notifications").status == 404
    sandbox.configure("main", {"unknown_have_none": True})
    assert rows_of(sandbox, "/targets/T/notifications") == []
    assert rows_of(sandbox, "/targets/U/notifications") != []


def execution(**given: Any) -> dict[str, Any]:
    return {"id": "e-1", "receiver": {"type": "id", "value": "T"}, **given}


def test_an_execution_is_performed_and_remembered() -> None:
    """Whole, with the workflow and when; each call has its number."""
    sandbox = Np6Sandbox()
    body = execution(data={"a": 1})
    answer = ask(sandbox, "POST", "/scripting/workflows/42/execution", body, media_type=WORKFLOW)
    assert (answer.status, answer.effect) == (200, True)
    assert answer.headers["Content-Type"] == WORKFLOW
    assert msgspec.json.decode(answer.body)["type"] == "success"
    ask(sandbox, "POST", "/scripting/workflows/42/execution", execution(id="e-2"), media_type=WORKFLOW)
    held = sandbox.state("main")["executions"]
    assert held[0] == {
        "workflow": 42,
        "id": "e-1",
        "receiver": {"type": "id", "value": "T"},
        "call": 1,
        "at_s": 12.5,
        "execution": body,
    }
    assert [each["call"] for each in held] == [1, 2]
    assert sandbox.state(None)["accounts"]["main"]["executions"] == 2
    sandbox.reset()
    assert sandbox.state("main")["executions"] == []


def test_a_refused_receiver_is_an_error_inside_a_200() -> None:
    """And nothing is performed."""
    sandbox = Np6Sandbox({"main": Rules(refused_receivers={"T"})})
    answer = ask(sandbox, "POST", "/scripting/workflows/42/execution", execution(), media_type=WORKFLOW)
    assert (answer.status, answer.effect) == (200, False)
    assert msgspec.json.decode(answer.body)["type"] == "error"
    assert sandbox.state("main")["executions"] == []


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (execution(), "application/json", 415),
        (execution(), None, 415),
        ([execution()], WORKFLOW, 400),
        ({"id": "e"}, WORKFLOW, 400),
        (execution(receiver={"type": "id", "value": ""}), WORKFLOW, 400),
        (execution(receiver={"value": "T"}), WORKFLOW, 400),
    ],
)
def test_executions_that_are_refused(body: Any, media_type: str | None, status: int) -> None:
    """For their media type or their form; nothing is performed."""
    sandbox = Np6Sandbox()
    answer = ask(sandbox, "POST", "/scripting/workflows/42/execution", body, media_type=media_type)
    assert (answer.status, answer.effect) == (status, False)
    assert sandbox.state("main")["executions"] == []


def test_an_unknown_workflow_is_a_404() -> None:
    """By either rule, and if its id is none."""
    sandbox = Np6Sandbox({"main": Rules(unknown_workflows={7})})
    for workflow in ("7", "x", "99999999999"):
        path = f"/scripting/workflows/{workflow}/execution"
        assert ask(sandbox, "POST", path, execution(), media_type=WORKFLOW).status == 404
