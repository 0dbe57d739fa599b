"""``fanline apsis import``."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from handlers.apsis.sandbox import ApsisSandbox, Rules
from handlers.sandbox import Prescription, SandboxServer, Step
from handlers.sandbox.prescriptions import Match
from tests.support.by_hand import account, write_configuration
from tests.support.calling import Call, caller

SECTION = "usercreated.sections.shop"
SECRET = "apsis-secret-that-nobody-may-read"


@pytest.fixture
async def platform() -> AsyncIterator[SandboxServer]:
    """The imitated platform, which knows one client."""
    rules = Rules(clients={"apsis-client": SECRET})
    async with SandboxServer(apsis=ApsisSandbox({"shop": rules})) as server:
        yield server


@pytest.fixture
def call(tmp_path: Path, platform: SandboxServer, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("FANLINE_TEST_KEY", "np6")
    monkeypatch.setenv("FANLINE_TEST_ID", "apsis-client")
    monkeypatch.setenv("FANLINE_TEST_SECRET", SECRET)
    base = platform.base_url("apsis", "shop")
    entry = (
        f'  shop: {{platform: apsis, base_url: "{base}", client_id: {{env: FANLINE_TEST_ID}}, '
        "client_secret: {env: FANLINE_TEST_SECRET}, upload_hosts: [a.example], timeouts: {connect: 1s, total: 1s}}"
    )
    file = write_configuration(tmp_path / "fanline.yaml", account("http://127.0.0.1:1"), entry)
    return caller("apsis", file, [SECRET])


def prescribe(platform: SandboxServer, kind: str, *steps: Step) -> None:
    platform.prescriptions.add([Prescription(list(steps), Match(kind=kind))])


STATUS = '{"import_id": "i-1", "result": {"status": "in_progress", "profiles_found": 12000, "profiles_processed": 5}}'


async def test_how_far_an_import_is(call: Call, platform: SandboxServer) -> None:
    """A table, or one JSON document; a token is got first, and the status is read without ``/v2``."""
    prescribe(platform, "status", Step(status=200, body=STATUS), Step(status=200, body=STATUS))
    table = await call("import", "i-1", "--section", SECTION)
    assert table.exit_code == 0, table.output
    assert table.stdout.split()[5:] == ["i-1", "in_progress", "12,000", "5", "-"]
    document = await call("import", "i-1", "-s", SECTION, "--json")
    told = json.loads(document.stdout)
    assert (told["account"], told["section"], told["import"]) == ("shop", SECTION, "i-1")
    assert told["status"] == {"state": "in_progress", "found": 12000, "processed": 5, "failed": None}
    assert [seen.kind for seen in platform.log.calls()] == ["token", "status"] * 2


async def test_an_import_that_the_platform_does_not_know(call: Call) -> None:
    """Exit 1, and it is named."""
    result = await call("import", "i-9", "--section", SECTION)
    assert result.exit_code == 1
    assert result.stderr == f"account shop: the platform knows no import i-9 in {SECTION} (404)\n"


async def test_secrets_that_the_platform_refuses(call: Call, platform: SandboxServer) -> None:
    """Told by their keys."""
    platform.platforms["apsis"].configure("shop", {"clients": {"apsis-client": "another"}})
    result = await call("import", "i-1", "--section", SECTION)
    assert result.exit_code == 1
    assert "the platform refuses our client_id and client_secret (401)" in result.stderr


@pytest.mark.parametrize("status", [401, 403])
async def test_a_token_that_ended_is_renewed_once(call: Call, platform: SandboxServer, status: int) -> None:
    """A second refusal in a row is a real one; tokens are too few to go on asking."""
    prescribe(platform, "status", Step(status=status), Step(status=200, body=STATUS))
    result = await call("import", "i-1", "--section", SECTION)
    assert result.exit_code == 1
    assert "a moment ago" in result.stderr
    assert [seen.kind for seen in platform.log.calls()] == ["token", "status"]


@pytest.mark.parametrize("wrong", ["../x", "a/../b", ""])
async def test_what_is_no_import(call: Call, platform: SandboxServer, wrong: str) -> None:
    """Wrong use; nothing is sent."""
    assert (await call("import", wrong, "--section", SECTION)).exit_code == 2
    assert platform.log.count == 0


LANE = """handler: apsis.imports, account: shop, topics: [t], attributes: [], section: {},
  keyspaces: [{{discriminator: k, column: email, value: data.contact_id}}]"""


@pytest.mark.parametrize(
    ("sections", "told"),
    [([], "with --section\n"), (["s1"], None), (["s1", "s1"], None), (["s1", "s2"], "the file has: s1, s2\n")],
)
async def test_the_section_of_the_accounts_lanes_need_not_be_said(
    call: Call, platform: SandboxServer, tmp_path: Path, sections: list[str], told: str | None
) -> None:
    """Where they have one; else the command says which there are, and sends nothing."""
    file = tmp_path / "fanline.yaml"
    lanes = [f"  lane-{n}: {{{LANE.format(section)}, slots: 1}}" for n, section in enumerate(sections)]
    file.write_text("\n".join([file.read_text().rstrip("\n"), *lanes, ""]))
    result = await call("import", "i-9")
    assert result.exit_code == (1 if told is None else 2), result.output
    if told is None:
        assert result.stderr == "account shop: the platform knows no import i-9 in s1 (404)\n"
    else:
        assert result.stderr.startswith("say which section")
        assert result.stderr.endswith(told)
        assert platform.log.count == 0
