"""Whether Kafka is there, can do what we need, has our topics and lets us use them."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any

from aiokafka.conn import AIOKafkaConnection

from service.checking.rights import check_rights
from service.config import Configuration
from service.findings import Finding, Severity
from service.kafka.connection import connection_arguments
from service.kafka.ensuring import review_topics
from service.kafka.probing import Node, UnreachableError, api_versions, certificate_ends_at, close, connect, view
from service.kafka.requests import OffsetFetch, OffsetFetchRequest_v7, TxnOffsetCommit, TxnOffsetCommitRequest_v3

_KAFKA = "Kafka"
_CERTIFICATE_SOON_S = 14 * 86_400.0


async def check_kafka(config: Configuration) -> list[Finding]:
    """All findings about Kafka, in the order in which one would mend them. Raises StartError, SecretError."""
    arguments = connection_arguments(config.kafka)
    connection, findings = await _first_connection(arguments)
    if connection is None:
        return findings
    try:
        findings += features(config, await api_versions(connection))
        findings += await _advertised(connection, arguments)
        review = await review_topics(config, connection)
        findings += review.findings
        if not review.failed:
            findings.append(Finding(Severity.FINE, "topics", f"all {len(review.topics)} are there"))
        existing = {topic.name: topic.role for topic in review.topics if topic.partitions is not None}
        rights = await check_rights(config, connection, arguments, existing)
        findings += rights or [Finding(Severity.FINE, "rights", "all that can be seen are there")]
    except UnreachableError as error:
        findings.append(_unreachable(error))
    finally:
        await close(connection)
    return findings


async def _first_connection(arguments: Mapping[str, Any]) -> tuple[AIOKafkaConnection | None, list[Finding]]:
    """A connection, and what is to be said of every bootstrap address."""
    connection: AIOKafkaConnection | None = None
    findings: list[Finding] = []
    for address in arguments["bootstrap_servers"]:
        host, _, port = address.rpartition(":")
        try:
            made = await connect(host.strip("[]"), int(port), arguments)
        except UnreachableError as error:
            findings.append(_unreachable(error))
            continue
        findings.append(Finding(Severity.FINE, f"{_KAFKA} at {address}", "connected"))
        findings += certificate_ending(f"{_KAFKA} at {address}", certificate_ends_at(made), time.time())
        if connection is None:
            connection = made
        else:
            await close(made)
    return connection, findings


def certificate_ending(subject: str, ends_at: float | None, now: float) -> Iterator[Finding]:
    """A warning while there is still time; both in seconds since the epoch."""
    if ends_at is not None and ends_at - now < _CERTIFICATE_SOON_S:
        problem = f"its certificate ends in {max(0, int((ends_at - now) // 86_400))} days"
        yield Finding(Severity.WARNING, subject, problem, "renew it on the broker; behind that nobody gets in")


def features(config: Configuration, versions: Mapping[int, int]) -> Iterator[Finding]:
    """What the brokers are too old for; ``versions`` are the highest of each request."""
    stable = versions.get(OffsetFetch.API_KEY, -1) >= OffsetFetchRequest_v7.API_VERSION
    fenced = versions.get(TxnOffsetCommit.API_KEY, -1) >= TxnOffsetCommitRequest_v3.API_VERSION
    if not stable:
        problem = "the brokers cannot tell stable offsets (OffsetFetch version 7)"
        yield Finding(Severity.ERROR, _KAFKA, problem, "Kafka 2.5 or newer is needed")
    elif config.kafka.delivery == "exactly_once" and not fenced:
        problem = "the brokers have no transactions that carry the group's membership (TxnOffsetCommit version 3)"
        yield Finding(Severity.ERROR, _KAFKA, problem, "use Kafka 2.5 or newer, or kafka.delivery: at_least_once")
    else:
        yield Finding(Severity.FINE, _KAFKA, f"the brokers can do what {config.kafka.delivery} needs")


async def _advertised(connection: AIOKafkaConnection, arguments: Mapping[str, Any]) -> list[Finding]:
    """Brokers send their clients to the addresses that they advertise: each must be within reach."""
    nodes = (await view(connection, [])).nodes
    found = await asyncio.gather(*(_reach(node, arguments) for node in nodes))
    return [finding for finding in found if finding is not None]


async def _reach(node: Node, arguments: Mapping[str, Any]) -> Finding | None:
    try:
        await close(await connect(node.host, node.port, arguments))
    except UnreachableError as error:
        problem = f"broker {node.id} tells its clients to come to this address: {error.why}"
        remedy = "see its advertised.listeners"
        return Finding(Severity.ERROR, f"{_KAFKA} at {node.host}:{node.port}", problem, remedy)
    return None


def _unreachable(error: UnreachableError) -> Finding:
    return Finding(Severity.ERROR, f"{_KAFKA} at {error.address}", error.why)
