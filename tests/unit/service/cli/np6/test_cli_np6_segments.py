"""``fanline np6 segments``, and what every call by hand has in common: the account, and what is said of trouble."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from handlers.sandbox import Prescription, SandboxServer, Step
from tests.support.by_hand import KEY, account, without_request, write_configuration
from tests.unit.service.cli.np6.conftest import Call


def prescribe(sandbox: SandboxServer, *answers: Any, repeat: bool = False) -> None:
    """What the next calls get."""
    steps = [answer if isinstance(answer, Step) else Step(status=answer) for answer in answers]
    sandbox.prescriptions.add([Prescription(list(steps), repeat=repeat)])


async def test_the_segments_of_a_target(call: Call, sandbox: SandboxServer) -> None:
    """Sorted; a table, or one JSON document."""
    sandbox.platforms["np6"].configure("main", {})
    members = sandbox.platforms["np6"].state("main")["segments"]
    assert members == {}
    prescribe(sandbox, Step(status=200, body="[501, -7, 12]"))
    table = await call("segments", "000PKXK4")
    assert table.exit_code == 0
    assert table.stdout.split() == ["segment", "-7", "12", "501"]
    assert table.stderr == "000PKXK4 is in 3 segments\n"
    prescribe(sandbox, Step(status=200, body="[501, -7]"))
    document = await call("segments", "000PKXK4", "--json")
    assert json.loads(document.stdout) == {"account": "main", "target": "000PKXK4", "segments": [-7, 501]}
    assert document.stderr == ""
    assert [(seen.kind, seen.target, seen.key) for seen in sandbox.log.calls()] == [("get", "000PKXK4", "right")] * 2


async def test_a_target_in_no_segment(call: Call) -> None:
    """Is no error."""
    result = await call("segments", "a/b %", "--json")
    assert (result.exit_code, json.loads(result.stdout)["segments"]) == (0, [])


async def test_an_unknown_target(call: Call, sandbox: SandboxServer) -> None:
    """Exit 1, and it is named."""
    sandbox.platforms["np6"].configure("main", {"unknown_targets": ["T"]})
    result = await call("segments", "T")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "account main: the platform knows no target T (404)\n"


@pytest.mark.parametrize("target", ["", "..", "a/../b", "a\udcffb"])
async def test_what_is_no_target_is_not_asked_for(call: Call, sandbox: SandboxServer, target: str) -> None:
    """Wrong use; nothing is sent."""
    result = await call("segments", target)
    assert result.exit_code == 2
    assert "is no target id" in result.stderr
    assert sandbox.log.count == 0


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (401, "the platform refuses our credentials (401); see accounts.main.api_key"),
        (403, "the account may not do this (403); ask the platform for the right"),
        (405, "this is not where the platform's API is (405); see accounts.main.base_url"),
        (302, "this is not where the platform's API is (302); see accounts.main.base_url"),
        (429, "the platform asks for patience (429); try again later"),
        (Step(status=429, headers={"Retry-After": "7"}), "asks for patience (429); try again in 7 s"),
        (503, "the platform asks for patience (503); try again later"),
        (500, "the platform fails (500); try again later"),
        (400, "the platform refused (400)"),
        (Step(status=400, body='{"Message": "no such thing"}'), "the platform refused (400): no such thing"),
        (Step(reset="before"), "the connection broke; try again later"),
        (Step(hang=True), "no answer in time; see accounts.main.timeouts"),
        (Step(status=200, body="<html>"), "the platform answered 200 and no list of segments"),
        (Step(status=200, body='["501"]'), "the platform answered 200 and no list of segments"),
        (Step(status=200, cut=True, body="[1"), "the answer broke off"),
    ],
)
async def test_trouble_is_told_in_one_line(call: Call, sandbox: SandboxServer, answer: Any, said: str) -> None:
    """What, where, what to do; exit 1, and nothing on standard output. The call is not repeated."""
    prescribe(sandbox, answer)
    result = await call("segments", "T")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("account main: ")
    assert said in without_request(result.stderr)
    assert result.stderr.count("\n") == 1
    assert sandbox.log.count == 1


async def test_the_platforms_words_are_masked(call: Call, sandbox: SandboxServer) -> None:
    """The key, addresses, long numbers and what a terminal would obey; its name of the request is kept."""
    body = json.dumps({"Message": f"key {KEY} of bob@example.org, 0612345678 \x1b[31m\nred"})
    prescribe(sandbox, Step(status=400, body=body, headers={"x-request-id": "req-77"}))
    result = await call("segments", "T")
    assert "key ••• of •••, ••• ?[31m red (the platform calls the request req-77)" in result.stderr


async def test_nobody_listens(call: Call, tmp_path: Path) -> None:
    """The address is told, and where it is written."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/np6/main"
        result = await call("segments", "T", config=write_configuration(tmp_path / "f.yaml", account(url)))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"account main: {url}: no connection; see accounts.main.base_url and proxy")


async def test_which_account_is_called(call: Call, sandbox: SandboxServer, tmp_path: Path) -> None:
    """The only one, or the one that is named; with several it must be."""
    urls = [sandbox.base_url("np6", name) for name in ("main", "other")]
    two = write_configuration(tmp_path / "two.yaml", account(urls[0]), account(urls[1], "other"))
    undecided = await call("segments", "T", config=two)
    assert undecided.exit_code == 2
    assert "say which account, with --account; the file has: main, other" in undecided.stderr
    unknown = await call("segments", "T", "--account", "third", config=two)
    assert unknown.exit_code == 2
    assert "--account third: is not in the file; of NP6 it has: main, other" in unknown.stderr
    assert sandbox.log.count == 0
    named = await call("segments", "T", "-a", "other", "--json", config=two)
    assert json.loads(named.stdout)["account"] == "other"
    assert [seen.account for seen in sandbox.log.calls()] == ["other"]


async def test_a_key_that_cannot_be_read(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 2: it is the configuration's."""
    monkeypatch.delenv("FANLINE_TEST_KEY")
    result = await call("segments", "T")
    assert result.exit_code == 2
    assert result.stderr == "environment variable FANLINE_TEST_KEY is not set\n"


async def test_the_accounts_proxy_is_used(call: Call, sandbox: SandboxServer, tmp_path: Path) -> None:
    """One that is not there is told."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        proxied = account(sandbox.base_url("np6", "main"), more=f', proxy: "http://127.0.0.1:{bound.getsockname()[1]}"')
        result = await call("segments", "T", config=write_configuration(tmp_path / "f.yaml", proxied))
        long = await call("notifications", "T", config=write_configuration(tmp_path / "f.yaml", proxied))
    assert result.exit_code == long.exit_code == 1
    assert "the proxy cannot be reached; see accounts.main.base_url and proxy" in result.stderr
    assert "the proxy cannot be reached; see accounts.main.base_url and proxy" in long.stderr
    assert sandbox.log.count == 0


async def test_a_ca_file_that_is_none(call: Call, sandbox: SandboxServer, tmp_path: Path) -> None:
    """Exit 2, with its place."""
    (tmp_path / "ca.pem").write_text("no certificate")
    own = account(sandbox.base_url("np6", "main"), more=f', ca_file: "{tmp_path}/ca.pem"')
    file = write_configuration(tmp_path / "f.yaml", own)
    for command in (["segments", "T"], ["notifications", "T"], ["workflows", "duplicate", "1"]):
        result = await call(*command, config=file)
        assert result.exit_code == 2, command
        assert "accounts.main.ca_file" in result.stderr
