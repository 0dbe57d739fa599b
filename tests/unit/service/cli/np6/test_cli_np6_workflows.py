"""``fanline np6 workflows``: nothing is done twice, and what nobody can know is called in doubt."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from handlers.sandbox import Prescription, SandboxServer, Step
from service.cli.np6 import workflows
from tests.support.by_hand import without_request
from tests.unit.service.cli.np6.conftest import Call

EXAMPLE = Path(__file__).parents[4] / "golden" / "vendor" / "np6-workflow-duplicated.json"


def prescribe(sandbox: SandboxServer, answer: Any) -> None:
    step = answer if isinstance(answer, Step) else Step(status=answer)
    sandbox.prescriptions.add([Prescription([step])])


def performed(sandbox: SandboxServer) -> list[dict[str, Any]]:
    """What has taken effect, as it was sent."""
    held: list[dict[str, Any]] = sandbox.platforms["np6"].state("main")["executions"]
    return [each["execution"] for each in held]


async def test_a_copy_is_shown_whole(call: Call, sandbox: SandboxServer) -> None:
    """With --json as the platform answered it: unknown fields, numbers of any length, in its order."""
    body = EXAMPLE.read_text().replace('"state": 0', '"state": 1, "unknown": {"n": 12345678901234567890123, "f": 1.10}')
    prescribe(sandbox, Step(status=201, body=body))
    result = await call("workflows", "duplicate", "42", "--json")
    assert result.exit_code == 0
    assert "".join(result.stdout.split()) == "".join(body.split())
    assert [(seen.kind, seen.entity, seen.headers) for seen in sandbox.log.calls()] == [
        ("duplicate", "42", {"Accept": "application/json", "Content-Length": "0"})
    ]


async def test_a_copy_as_a_table(call: Call, sandbox: SandboxServer) -> None:
    """What it is, and of lists how long they are; every field is named."""
    result = await call("workflows", "duplicate", "42")
    assert result.exit_code == 0
    lines = dict(line.rstrip().split(maxsplit=1) for line in result.stdout.splitlines())
    assert lines["id"] == "900001"
    assert lines["nodes"] == "2 of them"
    assert lines["scripting"] == "version"
    assert set(json.loads(EXAMPLE.read_text())) < set(lines)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (500, "the platform fails (500). In doubt: a copy of workflow 42 may have been made"),
        (
            Step(reset="after"),
            "the connection broke. In doubt: a copy of workflow 42 may have been made",
        ),
        (Step(hang=True, effect=True), "no answer in time"),
        (Step(status=200, body="<html>"), "has made a copy of workflow 42, but its answer cannot be read"),
        (Step(status=200, body="[]"), "has made a copy of workflow 42, but its answer cannot be read"),
        (503, "the platform asks for patience (503); try again later. Nothing was copied."),
        (401, "refuses our credentials (401); see accounts.main.api_key. Nothing was copied."),
        (400, "the platform refused (400). Nothing was copied."),
        (404, "the platform does not know it (404). It says so of workflow 42; nothing was done."),
    ],
)
async def test_a_copy_that_was_not_made_or_nobody_knows(
    call: Call, sandbox: SandboxServer, answer: Any, said: str
) -> None:
    """Exit 1; the call is made once, whatever becomes of it."""
    prescribe(sandbox, answer)
    result = await call("workflows", "duplicate", "42")
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in without_request(result.stderr)
    assert sandbox.log.count == 1


async def test_an_execution(call: Call, sandbox: SandboxServer) -> None:
    """Has an id of its own, which is told before the call and printed after it; what is left out is not sent."""
    result = await call("workflows", "execute", "42", "--receiver", "000PKXK4", "--yes")
    assert result.exit_code == 0
    execution = result.stdout.strip()
    assert uuid.UUID(execution).version == 4
    assert result.stderr == f"Execution {execution} of workflow 42 for target 000PKXK4 on account main\nExecuted.\n"
    assert performed(sandbox) == [{"id": execution, "receiver": {"type": "id", "value": "000PKXK4"}}]
    media_type = "application/vnd.np6.cm.workflow-v4"
    (seen,) = sandbox.log.calls()
    assert (seen.headers["Content-Type"], seen.headers["Accept"]) == (media_type, media_type)


async def test_an_execution_with_all_that_can_be_said(call: Call, sandbox: SandboxServer) -> None:
    """Node and data; as JSON with the platform's answer."""
    options = ["--receiver", "T", "--node", "n7", "--data", '{"a": [1, "é", null]}', "-y", "--json"]
    result = await call("workflows", "execute", "42", *options)
    document = json.loads(result.stdout)
    assert performed(sandbox) == [
        {
            "id": document["execution"],
            "receiver": {"type": "id", "value": "T"},
            "node": "n7",
            "data": {"a": [1, "é", None]},
        }
    ]
    assert document == {
        "account": "main",
        "workflow": 42,
        "target": "T",
        "execution": document["execution"],
        "answer": {"type": "success", "flow": {"id": document["execution"]}},
    }


async def test_nobody_to_ask(call: Call, sandbox: SandboxServer) -> None:
    """Away from a terminal it needs --yes: exit 2, and nothing is sent."""
    result = await call("workflows", "execute", "42", "--receiver", "T", stdin=b"y\n")
    assert result.exit_code == 2
    assert result.stderr == "nobody is here to be asked; --yes executes it without asking\n"
    assert sandbox.log.count == 0


@pytest.mark.parametrize(("answer", "code", "count"), [(b"y\n", 0, 1), (b"n\n", 1, 0), (b"\n", 1, 0), (b"", 1, 0)])
async def test_it_asks_first(
    call: Call, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch, answer: bytes, code: int, count: int
) -> None:
    """Whom, what and where; only a yes is one."""
    monkeypatch.setattr(workflows, "_is_terminal", lambda: True)
    result = await call("workflows", "execute", "42", "--receiver", "T", "--node", "n7", stdin=answer)
    assert result.exit_code == code
    url = sandbox.base_url("np6", "main")
    assert f"Execute workflow 42 for target T, from node n7, on account main ({url})? [y/N]" in result.stderr
    assert len(performed(sandbox)) == count
    assert sandbox.log.count == count


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (500, "the platform fails (500)"),
        (504, "the platform fails (504)"),
        (408, "the platform fails (408)"),
        (Step(reset="after"), "the connection broke"),
        (Step(hang=True, effect=True), "no answer in time"),
        (Step(status=200, body=""), "answered 200, but nothing that says what became of it"),
        (Step(status=200, body="<html>"), "answered 200, but nothing that says what became of it"),
        (Step(status=200, body='{"type": "queued"}'), "answered 200, but nothing that says what became of it"),
        (Step(status=200, body="[]"), "answered 200, but nothing that says what became of it"),
        (Step(status=200, body='{"type": "success"}, {"type": "success"}'), "but nothing that says what became of it"),
        (Step(status=200, cut=True, body='{"type": "success"}'), "the answer broke off"),
    ],
)
async def test_what_nobody_knows_is_in_doubt(call: Call, sandbox: SandboxServer, answer: Any, said: str) -> None:
    """Exit 1, with the execution's id to look for; the call is made once."""
    prescribe(sandbox, answer)
    result = await call("workflows", "execute", "42", "--receiver", "T", "--yes")
    assert (result.exit_code, result.stdout) == (1, "")
    told, trouble = result.stderr.splitlines()
    execution = told.split()[1]
    assert said in without_request(trouble)
    assert "try again later" not in trouble
    assert f"In doubt: execution {execution} may have been performed" in trouble
    assert sandbox.log.count == 1
    assert len(performed(sandbox)) <= 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (429, "the platform asks for patience (429); try again later. Nothing was executed."),
        (503, "the platform asks for patience (503); try again later. Nothing was executed."),
        (401, "refuses our credentials (401); see accounts.main.api_key. Nothing was executed."),
        (415, "this is not where the platform's API is (415); see accounts.main.base_url. Nothing was executed."),
        (
            Step(status=400, body='{"Message": "bad node"}'),
            "the platform refused (400): bad node. Nothing was executed.",
        ),
        (404, "does not know it (404). It says so of workflow 42 or target T; nothing was done."),
        (Step(status=200, body='{"type": "error"}'), "the platform refused the execution. Nothing was executed."),
        (
            Step(status=200, body='{"type": "error", "flow": "bob@example.org is unknown"}'),
            "the platform refused the execution: ••• is unknown. Nothing was executed.",
        ),
    ],
)
async def test_what_was_not_executed(call: Call, sandbox: SandboxServer, answer: Any, said: str) -> None:
    """Is said so; exit 1."""
    prescribe(sandbox, answer)
    result = await call("workflows", "execute", "42", "--receiver", "T", "--yes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in without_request(result.stderr)
    assert "In doubt" not in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["execute", "42"],
        ["execute", "x", "--receiver", "T"],
        ["execute", "-1", "--receiver", "T"],
        ["execute", "2147483648", "--receiver", "T"],
        ["execute", "42", "--receiver", ".."],
        ["execute", "42", "--receiver", "T", "--node", ""],
        ["execute", "42", "--receiver", "T", "--data", "[1]"],
        ["execute", "42", "--receiver", "T", "--data", "{"],
        ["execute", "42", "--receiver", "T", "--data", '{"a": "\udcff"}'],
        ["execute", "42", "--receiver", "T", "--node", "\udcff"],
        ["duplicate"],
        ["duplicate", "x"],
    ],
)
async def test_wrong_use(call: Call, sandbox: SandboxServer, words: list[str]) -> None:
    """Exit 2, before anything is sent; no value of the data is repeated."""
    result = await call("workflows", *words, *(["--yes"] if words[0] == "execute" else []))
    assert result.exit_code == 2
    assert sandbox.log.count == 0
