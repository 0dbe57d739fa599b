"""Whether what lanes of imports name is there at their platforms, as ``check --online`` tells it."""

import asyncio
from collections.abc import Callable

import pytest

from handlers.apsis.sandbox import ApsisSandbox
from handlers.apsis.sandbox import Rules as ApsisRules
from handlers.base import Answer, Failure, FailureKind
from handlers.looks import Look, remedy_of
from handlers.np6.sandbox import Np6Sandbox
from handlers.sandbox import SandboxServer
from service.app import KINDS, PLATFORMS, Application
from service.checking import check_lanes
from service.checking.lanes import judged
from service.config import loads
from service.findings import Finding, Severity

SECRET = "secret-that-nobody-may-read"
CONFIGURATION = """
kafka: {bootstrap_servers: [localhost:9092]}
accounts:
  a: {platform: apsis, base_url: "APSIS", client_id: {env: CHECK_KEY}, client_secret: {env: CHECK_KEY},
      upload_hosts: [localhost]}
  n: {platform: np6, base_url: "NP6", api_key: {env: CHECK_KEY}}
lanes:
  profiles:
    handler: apsis.imports
    account: a
    topics: [source]
    section: usercreated.sections.shop
    keyspaces: [{discriminator: com.apsis1.keyspaces.email, column: email, value: data.identifiers.email}]
    attributes: [{version_id: "12", column: city, value: data.attributes.city}]
    consents:
      - {channel: com.apsis1.channels.email, topic: usercreated.topics.shoes, column: shoes, value: "true"}
  redlist:
    handler: np6.imports
    account: n
    topics: [source]
    import: {id: 23}
    columns: {Email: data.identifiers.email}
"""
WELL = ApsisRules(
    sections={"usercreated.sections.shop"}, topics={"usercreated.topics.shoes"}, attributes={"11": "2026", "12": None}
)
DEFINITION = b'{"name": "Redlist", "binding": 1, "source": {"type": "file", "filename": "redlist.csv"}}'


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECK_KEY", SECRET)


def found(
    rules: ApsisRules = WELL, definition: bytes | None = DEFINITION, prepare: Callable[[SandboxServer], None] = id
) -> list[Finding]:
    """The findings of both lanes, before platforms that are as the rules say."""

    async def look() -> list[Finding]:
        np6 = Np6Sandbox()
        if definition is not None:
            np6._account("n").imports.create(definition)
        async with SandboxServer(apsis=ApsisSandbox({"a": rules}), np6=np6) as server:
            prepare(server)
            text = CONFIGURATION.replace("APSIS", server.base_url("apsis", "a")).replace(
                "NP6", server.base_url("np6", "n")
            )
            config = loads(text.encode(), KINDS)
            application = Application(config)
            handlers = {name: application.handler(lane) for name, lane in config.lanes.items()}
            return await check_lanes(config, PLATFORMS, handlers)

    findings = asyncio.run(look())
    assert SECRET not in str(findings)
    return findings


def errors(findings: list[Finding]) -> list[str]:
    return [str(finding) for finding in findings if finding.severity is Severity.ERROR]


def test_what_is_there_is_fine() -> None:
    """A line for each lane says what was looked at."""
    findings = found()
    assert [finding.severity for finding in findings] == [Severity.FINE] * 2
    assert "the topics of section usercreated.sections.shop" in str(findings[0])
    assert "the import's definition" in str(findings[1])


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"sections": {"usercreated.sections.shops"}}, "lanes.profiles.section: the platform has no section"),
        ({"sections": {"usercreated.sections.shops"}}, 'did you mean "usercreated.sections.shops"?'),
        ({"keyspaces": {"x.y"}}, "lanes.profiles.keyspaces[0].discriminator: the platform has no keyspace com.apsis1"),
        ({"keyspaces": {"x.y"}}, "the platform has x.y"),
        ({"topics": set()}, "lanes.profiles.consents[0].topic: the platform has no topic usercreated.topics.shoes"),
        ({"topics": set()}, "the platform names none"),
        ({"attributes": {"13": None}}, "lanes.profiles.attributes[0].version_id: the platform has no version of an"),
        (
            {"attributes": {"12": "2026-01-01", "13": None}},
            "version_id: version 12 of an attribute was given up (2026-01-01)",
        ),
        ({"attributes": {"12": "2026-01-01", "13": None}}, '"13" is in use'),
        ({"attributes": {"12": "2026-01-01"}}, "the attribute has no version that is in use"),
    ],
)
def test_each_fault_says_what_where_and_what_to_do(rules: dict[str, object], told: str) -> None:
    """One name at a time is wrong; nothing else is complained of."""
    well = {"sections": WELL.sections, "topics": WELL.topics, "attributes": WELL.attributes}
    [error] = errors(found(ApsisRules(**{**well, **rules})))  # type: ignore[arg-type] # rules by their names
    assert error.startswith("lane profiles: ")
    assert told in error


def test_an_import_that_is_not_there_or_takes_files_otherwise() -> None:
    """The lane would hold at its first batch: the check says so before."""
    [error] = errors(found(definition=None))
    assert error == ("lane redlist: the platform does not know the import's definition (404); see lanes.redlist.import")
    [error] = errors(found(definition=DEFINITION.replace(b'"file"', b'"ftp"')))
    assert "lanes.redlist.import: import 23: takes its files by ftp, and `via` says file" in error


def test_a_platform_that_fails_proves_nothing() -> None:
    """A warning for each list, never an error: what the lane names may well be there."""

    def outage(server: SandboxServer) -> None:
        from handlers.sandbox import Mode, Outage

        server.outages.set(Outage(Mode.UNAVAILABLE, account="n", status=500), 0.0)

    findings = found(prepare=outage)
    assert [finding.severity for finding in findings] == [Severity.FINE, Severity.WARNING]
    assert "could not be looked at: 500" in str(findings[1])


def test_what_cannot_be_read_is_no_proof() -> None:
    """No JSON of the shape, cut off, no answer: each a warning, of the list that was looked at and the lane's key."""
    config = loads(CONFIGURATION.replace("APSIS", "https://a").replace("NP6", "https://n").encode(), KINDS)
    handler = Application(config).handler(config.lanes["profiles"])
    looks: list[Look] = list(handler.looks())  # type: ignore[union-attr] # the lane is one of imports
    section = "section usercreated.sections.shop"
    assert [(look.what, look.key) for look in looks] == [
        ("the account's sections", "section"),
        ("the account's keyspaces", "keyspaces"),
        (f"the topics of {section}", "section"),
        (f"the attributes of {section}", "section"),
    ]
    cut = Answer(200, {}, b'{"items":[]}', truncated=True)
    for look in looks:
        for reply in (cut, Answer(200, {}, b"[]"), Answer(200, {}, b"{"), Failure(FailureKind.TIMED_OUT, "timed out")):
            [finding] = judged("profiles", look, reply)
            assert finding.severity is Severity.WARNING
            assert look.what in finding.problem


def test_a_remedy_names_a_few() -> None:
    """Of a long list five, and how many more there are."""
    assert remedy_of("z", [f"name-{n}" for n in range(9)]).endswith("name-4 and 4 more")
