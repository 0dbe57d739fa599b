"""The whole service over secured connections: events go in, results come out, whatever proves who we are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from service.config import Kafka
from service.config import Security as ConfiguredSecurity
from service.config.secrets import Secret
from service.kafka.connection import connection_arguments
from service.kafka.probing import UnreachableError, connect
from service.localkafka import Cluster, Options, Protocol, Security
from tests.support.events import Feed
from tests.support.harness import Stage
from tests.support.kafka import UNHURRIED
from tests.support.oracle import until
from tests.support.tls import Certificates, make_certificates, make_impostors
from tests.support.tokens import TokenServer

PASSWORD = "kafka-password-that-nobody-may-read"
PASSWORD_VARIABLE = "FANLINE_TEST_KAFKA_PASSWORD"
SECRET_VARIABLE = "FANLINE_TEST_CLIENT_SECRET"
REAUTHENTICATION_MS = 5_000  # long enough to join a group in, also on a busy machine
EVENTS = 40


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    monkeypatch.setenv(SECRET_VARIABLE, PASSWORD)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TokenServer({}).write_keys(tmp_path_factory.mktemp("keys") / "jwks.json")


@pytest.fixture(scope="module")
def encrypted(certificates: Certificates, keys: Path) -> Iterator[Cluster]:
    """TLS, and every SASL mechanism; a connection is good for five seconds."""
    security = Security(
        protocol=Protocol.SASL_SSL,
        key_store=certificates.server_store,
        scram_users={"ada": PASSWORD},
        scram_mechanisms=["SCRAM-SHA-256", "SCRAM-SHA-512"],
        plain_users={"ada": PASSWORD},
        oauth_keys=keys,
    )
    with Cluster(
        Options(security=security, properties={**UNHURRIED, "connections.max.reauth.ms": str(REAUTHENTICATION_MS)})
    ) as one:
        yield one


async def runs(cluster: Cluster, prefix: str, folder: Path, security: dict[str, Any], count: int = EVENTS) -> None:
    """Events published in plain text by others are delivered, and their results committed, over ``security``."""
    kafka = {"bootstrap_servers": cluster.bootstrap_servers.split(","), "security": security}
    async with Stage(cluster.internal_servers, prefix, folder, lanes={"lane": {}}, kafka=kafka) as stage:
        feed = Feed(10)
        await stage.publish(feed.take(count))
        async with stage.application():
            await stage.settled_up_to(feed, within_s=30)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_with_a_password_over_tls(
    encrypted: Cluster, certificates: Certificates, prefix: str, tmp_path: Path, mechanism: str
) -> None:
    """SASL_SSL with each mechanism that has a password."""
    security = {
        "protocol": "SASL_SSL",
        "mechanism": mechanism,
        "username": "ada",
        "password": {"env": PASSWORD_VARIABLE},
        "ca_file": str(certificates.ca),
    }
    await runs(encrypted, prefix, tmp_path, security)


def bearer(certificates: Certificates, tokens: TokenServer) -> dict[str, Any]:
    return {
        "protocol": "SASL_SSL",
        "mechanism": "OAUTHBEARER",
        "token_url": tokens.url,
        "client_id": "ada",
        "client_secret": {"env": SECRET_VARIABLE},
        "ca_file": str(certificates.ca),
    }


async def test_with_bearer_tokens_that_end(
    encrypted: Cluster, certificates: Certificates, prefix: str, tmp_path: Path
) -> None:
    """OAUTHBEARER: the broker closes each connection when its token has ended. The service opens new ones, with new
    tokens: nothing is lost, nothing is settled twice, and no partition is given away."""
    async with TokenServer({"ada": PASSWORD}, life_s=8) as tokens:
        kafka = {
            "bootstrap_servers": encrypted.bootstrap_servers.split(","),
            "security": bearer(certificates, tokens),
            "session_timeout": "30s",  # a machine that stands still for a while takes no partition away
        }
        async with Stage(encrypted.internal_servers, prefix, tmp_path, lanes={"lane": {}}, kafka=kafka) as stage:
            feed = Feed(100)
            async with stage.application() as application:
                async with stage.load(feed, per_s=100):
                    await until(lambda: stage.calls("lane") != [], within_s=30, what="the first call")
                    assigned = application.lanes["lane"].assignment
                    await until(lambda: len(tokens.asked) >= 3, within_s=30, what="new tokens")
                await stage.settled_up_to(feed, within_s=30)
                assert application.lanes["lane"].assignment is assigned
            ids = [str(result.document["subject"]) for result in stage.results.found]
            assert sorted(ids) == sorted(event.id for event in feed.events)


async def test_with_a_password_in_plain_text(prefix: str, tmp_path: Path) -> None:
    """SASL_PLAINTEXT."""
    with Cluster(Options(security=Security(protocol=Protocol.SASL_PLAINTEXT, scram_users={"ada": PASSWORD}))) as open_:
        security = {
            "protocol": "SASL_PLAINTEXT",
            "mechanism": "SCRAM-SHA-512",
            "username": "ada",
            "password": {"env": PASSWORD_VARIABLE},
        }
        await runs(open_, prefix, tmp_path, security)


async def refusal(cluster: Cluster, **security: Any) -> str:
    """What is said where a connection is not let in."""
    [address] = cluster.bootstrap_servers.split(",")
    kafka = Kafka(bootstrap_servers=(address,), security=ConfiguredSecurity(**security))
    host, _, port = address.partition(":")
    with pytest.raises(UnreachableError) as caught:
        await connect(host, int(port), connection_arguments(kafka))
    return caught.value.why


async def test_a_token_that_the_brokers_do_not_take(encrypted: Cluster, certificates: Certificates) -> None:
    """For another audience, so to speak: said by name, though Kafka's client takes it for accepted; and a token
    server that refuses us is named too."""
    async with TokenServer({"ada": PASSWORD}) as tokens:
        options: dict[str, Any] = {
            "protocol": "SASL_SSL",
            "mechanism": "OAUTHBEARER",
            "token_url": tokens.url,
            "client_id": Secret(text="ada"),
            "client_secret": Secret(env=SECRET_VARIABLE),
            "ca_file": certificates.ca,
        }
        foreign = tokens.token("ada", aud="somebody else")
        tokens.script = [web.json_response({"access_token": foreign, "expires_in": 60})]
        assert "the brokers refuse our token" in await refusal(encrypted, **options)
        tokens.clients = {}
        told = await refusal(encrypted, **options)
        assert f"no token from {tokens.url.split('/')[2]}" in told
        assert "it refuses our client (401)" in told


async def test_with_a_client_certificate(certificates: Certificates, prefix: str, tmp_path: Path) -> None:
    """SSL where the brokers let in only who shows a certificate; without one, or with one of another authority, that
    is said."""
    stores = {"key_store": certificates.server_store, "trust_store": certificates.ca}
    with Cluster(Options(security=Security(protocol=Protocol.SSL, **stores))) as mutual:
        security = {
            "protocol": "SSL",
            "ca_file": str(certificates.ca),
            "cert_file": str(certificates.client_cert),
            "key_file": str(certificates.client_key),
        }
        await runs(mutual, prefix, tmp_path, security)
        trusting = {"protocol": "SSL", "ca_file": certificates.ca}
        assert "the broker wants a certificate of ours" in await refusal(mutual, **trusting)
        stranger = make_impostors(tmp_path)
        files = {"cert_file": stranger.stranger_cert, "key_file": stranger.stranger_key}
        assert "the broker does not accept our certificate" in await refusal(mutual, **trusting, **files)
