"""What our user of Kafka may do, as far as the brokers tell."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.transaction import InitProducerIdRequest

from service.checking.requests import (
    DESCRIBE_GROUPS,
    GROUPS_WITH_RIGHTS,
    METADATA,
    METADATA_WITH_RIGHTS,
    GroupRightsRequest,
    RightsRequest,
)
from service.config import Configuration
from service.findings import Finding, Severity
from service.kafka.codes import COORDINATOR_MOVED, Code, name_of
from service.kafka.names import lane_names
from service.kafka.probing import api_versions, ask, close, connect
from service.kafka.rights import Need, Right, topic_needs
from service.kafka.topics import Role

_UNTOLD = -(2**31)  # the broker does not say
_GROUP, _TRANSACTION = 0, 1
_COORDINATOR_WITHIN_S = 15.0
_POLL_S = 0.1
# Ends the transactional id of the trial: no process has it, and it is the same each time.
_TRIAL = "fanline-check"
_LOADING = COORDINATOR_MOVED | {Code.CONCURRENT_TRANSACTIONS}


async def check_rights(
    config: Configuration, connection: AIOKafkaConnection, arguments: Mapping[str, Any], topics: Mapping[str, Role]
) -> list[Finding]:
    """Findings about existing topics, groups and transactional ids. Raises UnreachableError."""
    findings = await check_topic_rights(connection, topics)
    for lane in config.lanes:
        names = lane_names(config.kafka.topic_prefix, lane)
        findings += await _group_rights(connection, arguments, names.group)
        if config.kafka.delivery == "exactly_once":
            timeout_ms = int(config.kafka.transaction_timeout_s * 1000)
            findings += await _transaction_rights(connection, arguments, names.transactional_prefix, timeout_ms)
    return findings


async def check_topic_rights(connection: AIOKafkaConnection, topics: Mapping[str, Role]) -> list[Finding]:
    """The rights on topics that exist and may be seen; nothing where the brokers do not tell. Raises
    UnreachableError."""
    if not topics or (await api_versions(connection)).get(METADATA, 0) < METADATA_WITH_RIGHTS:
        return []
    answer = await ask(connection, RightsRequest(list(topics)))
    bits = {topic[1]: topic[4] for topic in answer.topics}
    return [fault for name, role in topics.items() for fault in topic_rights(name, role, bits.get(name, _UNTOLD))]


def topic_rights(name: str, role: Role, bits: int) -> Iterator[Finding]:
    """The rights that a topic's use needs and ``bits`` lacks."""
    for need in topic_needs(role, name):
        if _lacks(bits, need.right):
            yield need.finding


async def _group_rights(connection: AIOKafkaConnection, arguments: Mapping[str, Any], group: str) -> list[Finding]:
    need = Need("group", group, Right.READ)
    subject, lacking = need.subject, need.finding
    node = await _coordinator(connection, group, _GROUP)
    if not isinstance(node, tuple):
        return [lacking if node == Code.GROUP_AUTHORIZATION_FAILED else _not_proven(subject, node)]
    coordinator = await connect(*node, arguments)
    try:
        if (await api_versions(coordinator)).get(DESCRIBE_GROUPS, 0) < GROUPS_WITH_RIGHTS:
            return []
        answer = await _until_loaded(coordinator, GroupRightsRequest(group), lambda answer: answer.groups[0][0])
    finally:
        await close(coordinator)
    [(code, *_, bits)] = answer.groups
    if code == Code.GROUP_AUTHORIZATION_FAILED or (not code and _lacks(bits, Right.READ)):
        return [lacking]
    return [_not_proven(subject, code)] if code else []


async def _transaction_rights(
    connection: AIOKafkaConnection, arguments: Mapping[str, Any], prefix: str, timeout_ms: int
) -> list[Finding]:
    """Whether a transactional id may be taken: the trial takes one that no process has."""
    need = Need("transactional-id", prefix, Right.WRITE)
    subject, lacking = need.subject, need.finding
    node = await _coordinator(connection, prefix + _TRIAL, _TRANSACTION)
    if not isinstance(node, tuple):
        return [lacking if node == Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED else _not_proven(subject, node)]
    coordinator = await connect(*node, arguments)
    try:
        request = InitProducerIdRequest(prefix + _TRIAL, timeout_ms)
        code = (await _until_loaded(coordinator, request, lambda answer: answer.error_code)).error_code
    finally:
        await close(coordinator)
    match code:
        case Code.NONE:
            return []
        case Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED | Code.CLUSTER_AUTHORIZATION_FAILED:
            return [lacking]
        case Code.INVALID_TRANSACTION_TIMEOUT:
            problem = f"the brokers do not allow a transaction timeout of {timeout_ms} ms"
            remedy = "lower kafka.transaction_timeout or raise the brokers' transaction.max.timeout.ms"
            return [Finding(Severity.ERROR, subject, problem, remedy)]
        case _:
            return [_not_proven(subject, code)]


async def _coordinator(connection: AIOKafkaConnection, key: str, kind: int) -> tuple[str, int] | int:
    """Host and port of a coordinator, or the error code. The first question ever makes the brokers create their own
    topics, which takes a moment."""
    request = FindCoordinatorRequest(key, kind)
    answer = await _until_loaded(connection, request, lambda answer: answer.error_code)
    return int(answer.error_code) or (answer.host, answer.port)


async def _until_loaded(connection: AIOKafkaConnection, request: Any, code_of: Callable[[Any], int]) -> Any:
    """The answer, asked for again while a coordinator is loading; after 15 s the last one."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _COORDINATOR_WITHIN_S
    while True:
        answer = await ask(connection, request)
        if code_of(answer) not in _LOADING or loop.time() > deadline:
            return answer
        await asyncio.sleep(_POLL_S)


def _lacks(bits: int, right: Right) -> bool:
    return bits != _UNTOLD and not bits & (1 << right)


def _not_proven(subject: str, code: int) -> Finding:
    return Finding(Severity.WARNING, subject, f"rights could not be proven: {name_of(code)}", "try again")
