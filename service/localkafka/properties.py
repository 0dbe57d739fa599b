"""The broker's configuration: pure, from what was chosen to ``server.properties``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from service.localkafka.ports import NodePorts


class Protocol(StrEnum):
    """How clients connect."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def tls(self) -> bool:
        return self in (Protocol.SSL, Protocol.SASL_SSL)

    @property
    def sasl(self) -> bool:
        return self in (Protocol.SASL_PLAINTEXT, Protocol.SASL_SSL)


@dataclass(frozen=True, kw_only=True)
class Security:
    """Who may connect, and to do what. Raises ValueError for what does not fit together.

    ``key_store`` is a PEM file with the certificate chain and the key in PKCS#8; ``trust_store`` one with the
    authorities whose clients are let in (a client's certificate is required then). ``scram_users`` and
    ``plain_users`` map names to passwords; SCRAM users are made when the data directory is formatted, for
    ``scram_mechanisms``. ``oauth_keys`` is a JSON Web Key Set (RFC 7517): bearer tokens signed by one of its keys are
    let in under the name in their ``sub``, if ``iss`` is ``OAUTH_ISSUER`` and ``aud`` ``OAUTH_AUDIENCE``. With
    ``acls`` whoever is not a super user (a name, without ``User:``) needs a right for everything.
    """

    protocol: Protocol = Protocol.PLAINTEXT
    key_store: Path | None = None
    trust_store: Path | None = None
    scram_users: Mapping[str, str] = field(default_factory=dict, repr=False)
    plain_users: Mapping[str, str] = field(default_factory=dict, repr=False)
    scram_mechanisms: Sequence[str] = ("SCRAM-SHA-512",)
    oauth_keys: Path | None = None
    acls: bool = False
    super_users: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.protocol.tls != (self.key_store is not None):
            raise ValueError("SSL and SASL_SSL need key_store, and no other protocol takes it")
        if self.protocol.sasl != bool(self.scram_users or self.plain_users or self.oauth_keys):
            raise ValueError("SASL_PLAINTEXT and SASL_SSL need users or oauth_keys, and no other protocol takes them")
        if self.acls and self.protocol is Protocol.PLAINTEXT:
            raise ValueError("ACLs need clients with a name: SASL, or SSL with client certificates")


OAUTH_ISSUER = "https://idp.example.org"
OAUTH_AUDIENCE = "kafka"
_OAUTH = "org.apache.kafka.common.security.oauthbearer"

# One small cluster on one machine, for demo, tests and benchmarks: quick to start, small, and with the short
# times that let a test see a member or a transaction expire.
SMALL = {
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.num.partitions": "8",
    "share.coordinator.state.topic.num.partitions": "8",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "broker.heartbeat.interval.ms": "500",
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
}


def server_properties(
    *,
    node: int,
    ports: Sequence[NodePorts],
    log_dir: Path,
    security: Security,
    extra: Mapping[str, str],
) -> dict[str, str]:
    """The configuration of broker ``node`` (from 0) of ``len(ports)``; ``extra`` overrides all else."""
    own, replicas = ports[node], min(3, len(ports))
    protocols = {"CLIENT": security.protocol, "INTERNAL": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
    properties = {
        "process.roles": "broker,controller",
        # A broker that was killed is let in again when its former session is over; one broker alone is
        # fenced by nobody else's doing.
        "broker.session.timeout.ms": "3000" if len(ports) == 1 else "4000",
        "node.id": str(node + 1),
        "log.dirs": str(log_dir),
        "controller.quorum.voters": ",".join(
            f"{number}@127.0.0.1:{each.controller}" for number, each in enumerate(ports, start=1)
        ),
        "listeners": f"CLIENT://127.0.0.1:{own.client},INTERNAL://127.0.0.1:{own.internal},"
        f"CONTROLLER://127.0.0.1:{own.controller}",
        "advertised.listeners": f"CLIENT://127.0.0.1:{own.client},INTERNAL://127.0.0.1:{own.internal}",
        # Brokers speak among themselves in plain text on loopback: what is tested is the clients' side.
        "listener.security.protocol.map": ",".join(f"{name}:{value}" for name, value in protocols.items()),
        "inter.broker.listener.name": "INTERNAL",
        "controller.listener.names": "CONTROLLER",
        "default.replication.factor": str(replicas),
        "offsets.topic.replication.factor": str(replicas),
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": str(max(1, replicas - 1)),
        "share.coordinator.state.topic.replication.factor": str(replicas),
        "share.coordinator.state.topic.min.isr": str(max(1, replicas - 1)),
        "min.insync.replicas": str(max(1, replicas - 1)),
    }
    return properties | SMALL | _security(security) | dict(extra)


def _security(security: Security) -> dict[str, str]:
    properties: dict[str, str] = {}
    if security.key_store:
        properties["ssl.keystore.type"] = "PEM"
        properties["ssl.keystore.location"] = str(security.key_store)
    if security.trust_store:
        properties["ssl.truststore.type"] = "PEM"
        properties["ssl.truststore.location"] = str(security.trust_store)
        properties["listener.name.client.ssl.client.auth"] = "required"
    mechanisms: list[str] = []
    if security.scram_users:
        mechanisms += security.scram_mechanisms
        for mechanism in security.scram_mechanisms:
            properties[f"listener.name.client.{mechanism.lower()}.sasl.jaas.config"] = (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            )
    if security.oauth_keys:
        mechanisms.append("OAUTHBEARER")
        properties |= _bearer_tokens(security.oauth_keys)
    if security.plain_users:
        mechanisms.append("PLAIN")
        users = " ".join(f"user_{name}={_quoted(password)}" for name, password in security.plain_users.items())
        properties["listener.name.client.plain.sasl.jaas.config"] = (
            f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
        )
    if mechanisms:
        properties["listener.name.client.sasl.enabled.mechanisms"] = ",".join(mechanisms)
    if security.acls:
        properties["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
        # The brokers themselves come without a name, through the listeners that no client is given.
        names = ("ANONYMOUS", *security.super_users)
        properties["super.users"] = ";".join(f"User:{name}" for name in names)
    return properties


def _bearer_tokens(keys: Path) -> dict[str, str]:
    prefix = "listener.name.client.oauthbearer.sasl"
    return {
        f"{prefix}.jaas.config": f"{_OAUTH}.OAuthBearerLoginModule required;",
        f"{prefix}.server.callback.handler.class": f"{_OAUTH}.OAuthBearerValidatorCallbackHandler",
        "listener.name.client.sasl.oauthbearer.jwks.endpoint.url": keys.as_uri(),
        "listener.name.client.sasl.oauthbearer.expected.issuer": OAUTH_ISSUER,
        "listener.name.client.sasl.oauthbearer.expected.audience": OAUTH_AUDIENCE,
    }


def java_options(security: Security) -> list[str]:
    """What the broker's Java has to be told: it reads keys from places that are named there alone."""
    if security.oauth_keys is None:
        return []
    return [
        f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={security.oauth_keys.as_uri()}",
        f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.files={security.oauth_keys}",
    ]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def render(properties: Mapping[str, str]) -> str:
    """The text of a Java properties file."""
    escaped = {key: value.replace("\\", "\\\\").replace("\n", "\\n") for key, value in properties.items()}
    return "".join(f"{key}={value}\n" for key, value in escaped.items())
