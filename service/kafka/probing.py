"""Connections for questions before the work: one broker at a time, and what keeps us from it told by name.

aiokafka's client tells only that it could not bootstrap; here the error of each single connection is looked at.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.protocol.metadata import MetadataRequest

from service.errors import FanlineError

# A broker that is there answers in milliseconds; one that drops our packets must not take the whole start.
CONNECT_TIMEOUT_MS = 5_000
UNKNOWN_TOPIC = 3
TOPIC_AUTHORIZATION_FAILED = 29

# What connection_arguments gives for a client, and a single connection does not take.
_OF_CLIENTS = frozenset({"bootstrap_servers", "metadata_max_age_ms", "request_timeout_ms"})


class UnreachableError(FanlineError):
    """No broker could be asked. The message names each address, what went wrong there, and what to do."""


class TopicState:
    """A topic as the brokers' metadata has it; ``error`` is Kafka's error code, 0 for none."""

    __slots__ = ("error", "name", "partitions", "replication")

    def __init__(self, name: str, error: int, partitions: int, replication: int) -> None:
        self.name = name
        self.error = error
        self.partitions = partitions
        self.replication = replication


@asynccontextmanager
async def connected(arguments: Mapping[str, Any]) -> AsyncIterator[AIOKafkaConnection]:
    """A connection to the first broker that lets us in. ``arguments`` are those of a client. Raises
    UnreachableError."""
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
            connection.close()
        return
    raise UnreachableError("\n".join(problems))


async def connect(host: str, port: int, arguments: Mapping[str, Any]) -> AIOKafkaConnection:
    """A connection to one broker, authenticated. Raises UnreachableError."""
    own = {name: value for name, value in arguments.items() if name not in _OF_CLIENTS}
    protocol = arguments["security_protocol"]
    try:
        connection: AIOKafkaConnection = await create_conn(host, port, request_timeout_ms=CONNECT_TIMEOUT_MS, **own)
    except (OSError, errors.KafkaError, TimeoutError, asyncio.IncompleteReadError) as error:
        raise UnreachableError(f"Kafka at {host}:{port}: {_why(error, protocol)}") from error
    return connection


def _why(error: BaseException, protocol: str) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate is not accepted ({error.verify_message}); kafka.security.ca_file must hold the "
                "authority that signed it, and the address must be a name in it"
            )
        case ssl.SSLError():
            return f"no TLS connection ({error.reason or error}); does that port speak {protocol}?"
        case errors.SaslAuthenticationFailed():
            return "the brokers refuse user name or password; see kafka.security"
        case errors.UnsupportedSaslMechanismError():
            return "the brokers do not offer kafka.security.mechanism"
        case errors.IllegalSaslStateError():
            return f"the listener does not authenticate; is kafka.security.protocol {protocol} right?"
        case TimeoutError():
            return f"no answer within {CONNECT_TIMEOUT_MS / 1000:g} s; is the address right, does a firewall drop it?"
        case ConnectionRefusedError():
            return "connection refused; is the broker running, is kafka.bootstrap_servers right?"
        case OSError() if not isinstance(error, ConnectionError):
            return f"{error.strerror or type(error).__name__}; see kafka.bootstrap_servers"
        case errors.KafkaError() | ConnectionError() | asyncio.IncompleteReadError():
            return f"the broker closed the connection; is kafka.security.protocol {protocol} what that port speaks?"
        case _:
            return type(error).__name__


async def topic_states(connection: AIOKafkaConnection, names: Sequence[str]) -> dict[str, TopicState]:
    """The state of each topic; one that does not exist, or that we may not see, has an error code. Creates none,
    wherever the broker knows how to be told so (Kafka 0.11)."""
    answer: Any = await connection.send(MetadataRequest(list(names), allow_auto_topic_creation=False))
    states = {}
    for topic in answer.to_object()["topics"]:
        parts = topic["partitions"]
        replication = min((len(part["replicas"]) for part in parts), default=0)
        states[topic["topic"]] = TopicState(topic["topic"], topic["error_code"], len(parts), replication)
    return states


async def api_versions(connection: AIOKafkaConnection) -> dict[int, int]:
    """The highest version that the broker speaks of each request, by API key."""
    answer: Any = await connection.send(ApiVersionRequest())
    return {key: highest for key, _, highest in answer.api_versions}
