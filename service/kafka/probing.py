"""Connections for questions before the work: one broker at a time, and what keeps us from it told by name.

aiokafka's client tells only that it could not bootstrap; here the error of each single connection is looked at.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection, OAuthAuthenticator
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.protocol.metadata import MetadataRequest
from msgspec import Struct

from service.errors import FanlineError
from service.kafka.codes import Code
from service.kafka.obstacles import obstacle, speaks_plain_text, wants_a_name

# A broker that is there answers in milliseconds; one that drops our packets must not take the whole start.
CONNECT_TIMEOUT_MS = 5_000
_CLOSE_WITHIN_S = 1.0
_UNSEEN = frozenset({Code.UNKNOWN_TOPIC_OR_PARTITION, Code.INVALID_TOPIC_EXCEPTION, Code.TOPIC_AUTHORIZATION_FAILED})

# How a single connection fails. The last three are aiokafka's, of a server that does not speak as it should.
_FAILURES = (
    OSError,
    errors.KafkaError,
    TimeoutError,
    asyncio.IncompleteReadError,
    AssertionError,
    ValueError,
    KeyError,
)
# What connection_arguments gives for a client, and a single connection does not take.
_OF_CLIENTS = frozenset({"bootstrap_servers", "metadata_max_age_ms", "request_timeout_ms"})


class UnreachableError(FanlineError):
    """A broker could not be asked: which one, what went wrong, and what to do."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"Kafka at {address}: {why}")
        self.address = address
        self.why = why


class NoBrokerError(FanlineError):
    """No broker could be asked; a line for each address."""


class TopicState(Struct, frozen=True):
    """A topic in the brokers' metadata. ``error`` is Kafka's error code, 0 for none; partitions without a leader
    are counted too."""

    name: str
    error: int
    partitions: int
    replication: int
    leaderless: int

    @property
    def exists(self) -> bool:
        """Whether it exists and may be seen."""
        return self.error not in _UNSEEN

    @property
    def hidden(self) -> bool:
        """Whether we may not see it, nor whether it exists: each right on it but Create would let us."""
        return self.error == Code.TOPIC_AUTHORIZATION_FAILED


class Node(Struct, frozen=True):
    """A broker, and the address under which clients are told to reach it."""

    id: int
    host: str
    port: int


class ClusterView(Struct, frozen=True):
    """The brokers, and the topics that were asked for."""

    nodes: tuple[Node, ...]
    topics: dict[str, TopicState]

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those that do not exist or may not be seen."""
        return [name for name in names if name not in self.topics or not self.topics[name].exists]

    def hidden(self, names: Iterable[str]) -> list[str]:
        """Those of the missing that we have no right on."""
        return [name for name in names if name in self.topics and self.topics[name].hidden]


class _Connection(AIOKafkaConnection):
    """aiokafka's, which takes a refused bearer token for an accepted one: the broker then closes the connection at
    the next request."""

    def authenticator_oauth(self) -> Any:
        made: Any = _CheckedBearer  # its constructor is aiokafka's, untyped
        return made(sasl_oauth_token_provider=self._sasl_oauth_token_provider)


class _CheckedBearer(OAuthAuthenticator):
    async def step(self, payload: bytes | None) -> Any:
        if payload:  # RFC 7628, 3.2.3: an answer that is not empty is a refusal
            raise errors.SaslAuthenticationFailed
        step: Any = super().step  # untyped
        return await step(payload)


@asynccontextmanager
async def connected(arguments: Mapping[str, Any]) -> AsyncIterator[AIOKafkaConnection]:
    """A connection to the first broker that lets us in. ``arguments`` are those of a client. Raises
    NoBrokerError."""
    problems = []
    for address in arguments["bootstrap_servers"]:
        host, _, port = address.rpartition(":")
        try:
            connection = await connect(host.strip("[]"), int(port), arguments)
        except UnreachableError as error:
            problems.append(str(error))
            continue
        try:
            yield connection
        finally:
            await close(connection)
        return
    raise NoBrokerError("\n".join(problems))


async def connect(host: str, port: int, arguments: Mapping[str, Any]) -> AIOKafkaConnection:
    """A connection to one broker, authenticated. Raises UnreachableError."""
    own = {name: value for name, value in arguments.items() if name not in _OF_CLIENTS}
    protocol = arguments["security_protocol"]
    made: Any = _Connection
    connection: AIOKafkaConnection = made(host, port, request_timeout_ms=CONNECT_TIMEOUT_MS, **own)
    try:
        await _open(connection)
    except _FAILURES as error:
        raise UnreachableError(f"{host}:{port}", await _why(error, host, port, arguments)) from error
    if not protocol.startswith("SASL"):
        await _prove_welcome(connection, protocol)
    return connection


async def _open(connection: AIOKafkaConnection) -> None:
    """Raises what ``connect`` raises; aiokafka has closed it then, and does not wait for its socket."""
    try:
        await connection.connect()
    except BaseException:
        # What failed before there was a connection leaves nothing to close.
        if connection._protocol is not None:
            await close(connection)
        raise


async def _why(error: BaseException, host: str, port: int, arguments: Mapping[str, Any]) -> str:
    protocol = arguments["security_protocol"]
    hung_up = isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError)
    if hung_up and "SSL" in protocol and (told := await _second_look(host, port, arguments)) is not None:
        return told
    return obstacle(error, protocol, arguments.get("sasl_mechanism"), CONNECT_TIMEOUT_MS / 1000)


async def _prove_welcome(connection: AIOKafkaConnection, protocol: str) -> None:
    """A listener that wants authentication tells its versions to everybody, and hangs up at anything else. Closes the
    connection and raises UnreachableError then."""
    try:
        await ask(connection, MetadataRequest([]))
    except UnreachableError as error:
        hung_up = not connection.connected()
        await close(connection)
        raise UnreachableError(error.address, wants_a_name(protocol) if hung_up else error.why) from error


async def close(connection: AIOKafkaConnection) -> None:
    """Close a connection, and wait a moment for its socket: a loop that ends earlier would leave it open."""
    await asyncio.wait([connection.close()], timeout=_CLOSE_WITHIN_S)


async def _second_look(host: str, port: int, arguments: Mapping[str, Any]) -> str | None:
    """Of a port that hung up on a TLS handshake: whether it answers in plain text. None if it does not."""
    made: Any = AIOKafkaConnection
    plain: AIOKafkaConnection = made(
        host, port, client_id=arguments["client_id"], request_timeout_ms=CONNECT_TIMEOUT_MS
    )
    try:
        # Versions are answered before anybody has to authenticate.
        await _open(plain)
    except _FAILURES:
        return None
    await close(plain)
    return speaks_plain_text(arguments["security_protocol"])


async def ask(connection: AIOKafkaConnection, request: Any) -> Any:
    """The broker's answer. Raises UnreachableError if none comes."""
    try:
        return await connection.send(request)
    except (errors.KafkaError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        raise UnreachableError(f"{connection.host}:{connection.port}", "gave no answer") from error


async def view(connection: AIOKafkaConnection, topics: Sequence[str]) -> ClusterView:
    """The brokers and the given topics. Creates none, wherever the broker knows how to be told so (Kafka 0.11)."""
    answer = await ask(connection, MetadataRequest(list(topics), allow_auto_topic_creation=False))
    told = answer.to_object()
    nodes = tuple(Node(broker["node_id"], broker["host"], broker["port"]) for broker in told["brokers"])
    return ClusterView(nodes, {topic["topic"]: _state(topic) for topic in told["topics"]})


async def visible_topics(connection: AIOKafkaConnection) -> list[str]:
    """The names of all topics that we may see."""
    answer = await ask(connection, MetadataRequest(None))
    return [topic["topic"] for topic in answer.to_object()["topics"] if not topic["error_code"]]


def certificate_ends_at(connection: AIOKafkaConnection) -> float | None:
    """When the broker's certificate ends (seconds since the epoch); None without TLS."""
    writer: Any = connection._writer
    certificate = writer.get_extra_info("peercert") if writer is not None else None
    return ssl.cert_time_to_seconds(certificate["notAfter"]) if certificate else None


def _state(topic: Mapping[str, Any]) -> TopicState:
    parts = topic["partitions"]
    return TopicState(
        topic["topic"],
        topic["error_code"],
        len(parts),
        min((len(part["replicas"]) for part in parts), default=0),
        sum(part["leader"] < 0 for part in parts),
    )


async def api_versions(connection: AIOKafkaConnection) -> dict[int, int]:
    """The highest version that the broker speaks of each request, by API key."""
    answer = await ask(connection, ApiVersionRequest())
    return {key: highest for key, _, highest in answer.api_versions}
