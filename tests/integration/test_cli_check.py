"""``fanline check --online`` against real brokers, open and guarded, and a sandbox."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handlers.np6.sandbox import Np6Sandbox, Rules
from handlers.sandbox import SandboxServer
from service.localkafka import Cluster, Options, Protocol, Security
from tests.support.acls import Operation, Resource, grant
from tests.support.cli import API_KEY, KEY_VARIABLE, configuration, lane, run
from tests.support.kafka import UNHURRIED, create_topics, unique
from tests.support.tls import Certificates, make_certificates, make_impostors

PASSWORD = "kafka-password-that-nobody-may-read"
PASSWORD_VARIABLE = "FANLINE_TEST_KAFKA_PASSWORD"


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, API_KEY)
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def guarded(certificates: Certificates) -> Iterator[str]:
    """The address of a broker with TLS, passwords and ACLs: ada may do all, eve what she is given."""
    security = Security(
        protocol=Protocol.SASL_SSL,
        key_store=certificates.server_store,
        scram_users={"ada": PASSWORD, "eve": PASSWORD},
        acls=True,
        super_users=["ada"],
    )
    with Cluster(
        Options(security=security, properties={**UNHURRIED, "transaction.max.timeout.ms": "60000"})
    ) as cluster:
        yield cluster.bootstrap_servers


def secured(certificates: Certificates, user: str, *, ca: bool = True, password: str = PASSWORD_VARIABLE) -> str:
    """The keys below ``kafka`` of a user."""
    ca_file = f'ca_file: "{certificates.ca}", ' if ca else ""
    return (
        f"security: {{protocol: SASL_SSL, mechanism: SCRAM-SHA-512, username: {user}, {ca_file}"
        f"password: {{env: {password}}}}}, topics: {{replication: 1}}"
    )


async def checked(file: Path, *, code: int) -> list[dict[str, Any]]:
    """The findings of a check, which must end with ``code`` and show no secret."""
    result = await asyncio.to_thread(run, "check", "--config", file, "--online", "--json")
    assert result.exit_code == code, result.output
    assert API_KEY not in result.output
    assert PASSWORD not in result.output
    document = json.loads(result.stdout)
    assert document["ok"] is (code == 0)
    findings: list[dict[str, Any]] = document["findings"]
    return findings


def errors(findings: list[dict[str, Any]], about: str = "") -> list[str]:
    """What is said to be wrong with subjects that begin with ``about``."""
    return [
        f"{finding['subject']}: {finding['problem']}"
        for finding in findings
        if finding["severity"] == "error" and finding["subject"].startswith(about)
    ]


async def test_all_is_well(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Kafka, topics, rights and the account are looked at, and the check changes nothing on the platform."""
    source = f"{prefix}-source"
    await create_topics(bootstrap_servers, {source: 2})
    async with SandboxServer(np6=Np6Sandbox()) as sandbox:
        url = sandbox.base_url("np6", "main")
        file = configuration(tmp_path / "f", bootstrap_servers, prefix, lane("a", source), base_url=url)
        ensured = await asyncio.to_thread(run, "topics", "ensure", "--config", file)
        assert ensured.exit_code == 0
        findings = await checked(file, code=0)
        calls = [(call.method, call.kind) for call in sandbox.log.calls()]
    fine = {finding["subject"].split()[0] for finding in findings if finding["severity"] == "fine"}
    assert fine == {"Kafka", "topics", "rights", "account"}
    assert calls == [("GET", "get")]


async def test_a_refused_key_and_missing_topics(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """One look finds both; each says what to do."""
    source = f"{prefix}-source"
    await create_topics(bootstrap_servers, {source: 2})
    async with SandboxServer(np6=Np6Sandbox({"main": Rules(keys={"another"})})) as sandbox:
        url = sandbox.base_url("np6", "main")
        file = configuration(tmp_path / "f", bootstrap_servers, prefix, lane("a", source), base_url=url)
        findings = await checked(file, code=1)
    assert errors(findings, "account") == ["account main: the platform refuses our credentials (401)"]
    assert len(errors(findings, "topic ")) == 7
    assert {finding["remedy"] for finding in findings if finding["subject"] == f"topic {prefix}.a.journal"} == {
        "`fanline topics ensure` creates it"
    }


async def test_what_keeps_us_out_is_named(
    guarded: str, bootstrap_servers: str, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong password, an unknown authority, the wrong protocol on either side: each by its name."""
    monkeypatch.setenv("FANLINE_TEST_WRONG", "wrong")
    tls = f'security: {{protocol: SSL, ca_file: "{certificates.ca}"}}'
    cases = [
        (guarded, secured(certificates, "ada", password="FANLINE_TEST_WRONG"), "refuse user name or password"),
        (guarded, secured(certificates, "nobody"), "refuse user name or password"),
        (guarded, secured(certificates, "ada", ca=False), "signed by an authority that we do not know"),
        (guarded, secured(certificates, "ada").replace("512", "256"), "do not offer kafka.security.mechanism SCRAM"),
        (guarded, "client_id: x", "that port speaks TLS, and kafka.security.protocol is PLAINTEXT: use SSL"),
        (guarded, tls, "the listener wants a user, and kafka.security.protocol is SSL: use SASL_SSL"),
        (bootstrap_servers, secured(certificates, "ada"), "speaks plain text, and kafka.security.protocol is SASL_SSL"),
        (bootstrap_servers, tls, "that port speaks plain text, and kafka.security.protocol is SSL"),
    ]
    for address, kafka, told in cases:
        file = configuration(tmp_path / "f", address, "p", lane("a", "s"), kafka=kafka)
        found = errors(await checked(file, code=1), "Kafka at ")
        assert len(found) == 1, (told, found)
        assert told in found[0]


async def test_a_topic_whose_name_is_almost_right(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """The one that is probably meant is named."""
    await create_topics(bootstrap_servers, [f"{prefix}.contacts.changed"])
    wrong = f"{prefix}.contact.changes"
    findings = await checked(configuration(tmp_path / "f", bootstrap_servers, prefix, lane("a", wrong)), code=1)
    assert errors(findings, f"topic {wrong}") == [
        f"topic {wrong}: a source topic that does not exist (there is {prefix}.contacts.changed)"
    ]


@pytest.mark.parametrize(
    ("impostor", "told"),
    [
        ("expired", "its certificate has expired"),
        ("not_yet", "its certificate is not valid yet"),
        ("other_name", "its certificate is made for another name"),
        (
            "stranger",
            "signed by an authority that we do not know",
        ),
    ],
)
async def test_a_certificate_that_is_wrong_is_named(tmp_path: Path, impostor: str, told: str) -> None:
    """Expired, not yet valid, of another name, of another authority: each with what to do."""
    impostors = make_impostors(tmp_path)
    kafka = f'security: {{protocol: SSL, ca_file: "{impostors.ca}"}}'

    def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0, ssl=getattr(impostors, impostor)) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        file = configuration(tmp_path / "f", address, "p", lane("a", "s"), kafka=kafka)
        assert told in errors(await checked(file, code=1), f"Kafka at {address}")[0]


async def test_a_broker_that_does_not_answer(tmp_path: Path, prefix: str) -> None:
    """Somebody listens and says nothing: told within seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        file = configuration(tmp_path / "f", f"127.0.0.1:{silent.getsockname()[1]}", prefix, lane("a", "s"))
        began = time.monotonic()
        findings = await checked(file, code=1)
        assert time.monotonic() - began < 30
    assert "no answer within 5 s" in errors(findings, "Kafka at")[0]


async def test_one_of_two_addresses_is_enough_and_the_other_is_told(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    """The dead one is an error, and topics were looked at through the other."""
    addresses = f"127.0.0.1:1,{bootstrap_servers}"
    findings = await checked(configuration(tmp_path / "f", addresses, prefix, lane("a", f"{prefix}-s")), code=1)
    assert "connection refused" in errors(findings, "Kafka at 127.0.0.1:1")[0]
    assert errors(findings, f"topic {prefix}-s")


async def test_missing_rights_are_named(guarded: str, certificates: Certificates, tmp_path: Path) -> None:
    """First eve sees nothing; then she sees topics and may neither read nor write; then she may do all."""
    prefix = unique()
    ada: dict[str, Any] = {
        "security_protocol": "SASL_SSL",
        "ssl_context": certificates.client_context(),
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "ada",
        "sasl_plain_password": PASSWORD,
    }
    of_ada = configuration(
        tmp_path / "ada", guarded, prefix, lane("a", f"{prefix}.s"), kafka=secured(certificates, "ada")
    )
    of_eve = configuration(
        tmp_path / "eve", guarded, prefix, lane("a", f"{prefix}.s"), kafka=secured(certificates, "eve")
    )
    denied = await asyncio.to_thread(run, "topics", "ensure", "--config", of_eve, "--sources", 2)
    assert denied.exit_code == 1
    assert f"topic {prefix}.s: this user of Kafka may not create it" in denied.stderr
    made = await asyncio.to_thread(run, "topics", "ensure", "--config", of_ada, "--sources", 2)
    assert made.exit_code == 0, made.output

    blind = await checked(of_eve, code=1)
    assert any(
        f"topic {prefix}.s: our user of Kafka lacks the right Read, and may not even see" in e for e in errors(blind)
    )
    assert f"group {prefix}.a: our user of Kafka lacks the right Read" in errors(blind)
    assert f"transactional ids {prefix}.a.*: our user of Kafka lacks the right Write" in errors(blind)

    seeing = [(resource, Operation.DESCRIBE) for resource in Resource]
    await grant(guarded, "eve", prefix, seeing, **ada)
    sees = await checked(of_eve, code=1)
    assert {error for error in errors(sees) if "lacks" in error} == {
        f"{subject}: our user of Kafka lacks the right {right}"
        for subject, right in (
            (f"topic {prefix}.s", "Read"),
            (f"topic {prefix}.results", "Write"),
            (f"topic {prefix}.a.dead-letters", "Write"),
            (f"topic {prefix}.a.replay", "Read"),
            (f"topic {prefix}.a.journal", "Read"),
            (f"topic {prefix}.a.journal", "Write"),
            (f"topic {prefix}.status", "Write"),
            (f"topic {prefix}.control", "Read"),
            (f"group {prefix}.a", "Read"),
            (f"transactional ids {prefix}.a.*", "Write"),
        )
    }
    assert any("its settings may not be read" in finding["problem"] for finding in sees)

    await grant(guarded, "eve", prefix, [(resource, Operation.ALL) for resource in Resource], **ada)
    allowed = await checked(of_eve, code=1)
    assert [error for error in errors(allowed) if not error.startswith("account")] == []


async def test_a_transaction_timeout_that_brokers_refuse(
    guarded: str, certificates: Certificates, tmp_path: Path
) -> None:
    """The brokers' bound is told before a lane would stop at it; at_least_once has no transactions."""
    prefix = unique()
    for delivery, told in (("exactly_once", 1), ("at_least_once", 0)):
        times = f"transaction_timeout: 61s, session_timeout: 70s, delivery: {delivery}"
        kafka = f"{secured(certificates, 'ada')}, {times}"
        findings = await checked(
            configuration(tmp_path / "f", guarded, prefix, lane("a", f"{prefix}-s"), kafka=kafka), code=1
        )
        found = errors(findings, "transactional ids")
        assert len(found) == told
        assert all("do not allow a transaction timeout of 61000 ms" in error for error in found)
