"""Rights on a broker with ACLs, given by a super user."""

import asyncio
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import DescribeAclsRequest_v1
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int8, Int16, Int32, Schema, String

from service.kafka.rights import Need
from tests.support.patience import patiently

_LITERAL, _PREFIXED, _ALLOW = 3, 4, 3
_ANY = 1
_WITHIN_S = 10.0


class Resource(IntEnum):
    """Kafka's numbers of what a right is about."""

    TOPIC = 2
    GROUP = 3
    TRANSACTIONAL_ID = 5


class Operation(IntEnum):
    """Kafka's numbers of rights."""

    ALL = 2
    READ = 3
    WRITE = 4
    DESCRIBE = 8


class _CreateAclsResponse_v1(Response):
    API_KEY = 30
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("results", Array(("error_code", Int16), ("error_message", String("utf-8")))),
    )


class _CreateAclsRequest_v1(RequestStruct):
    API_KEY = 30
    API_VERSION = 1
    RESPONSE_TYPE = _CreateAclsResponse_v1
    SCHEMA = Schema(
        (
            "creations",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                ("resource_pattern_type", Int8),
                ("principal", String("utf-8")),
                ("host", String("utf-8")),
                ("operation", Int8),
                ("permission_type", Int8),
            ),
        ),
    )


class _CreateAcls(Request[_CreateAclsRequest_v1]):
    API_KEY = 30

    def __init__(self, creations: list[tuple[int, str, int, str, str, int, int]]) -> None:
        self._creations = creations

    def build(self, request_struct_class: type[_CreateAclsRequest_v1]) -> _CreateAclsRequest_v1:
        return request_struct_class(self._creations)


class _DescribeAcls(Request[DescribeAclsRequest_v1]):
    API_KEY = 29

    def __init__(self, user: str) -> None:
        self._user = user  # with ``User:``

    def build(self, request_struct_class: type[DescribeAclsRequest_v1]) -> DescribeAclsRequest_v1:
        return request_struct_class(_ANY, None, _ANY, self._user, None, _ANY, _ANY)


Creation = tuple[int, str, int, str, str, int, int]


async def grant(
    bootstrap_servers: str, user: str, prefix: str, rights: list[tuple[Resource, Operation]], **client: Any
) -> None:
    """Gives rights on all resources whose names begin with ``prefix``."""
    creations = [_creation(user, resource, prefix, _PREFIXED, operation) for resource, operation in rights]
    await _create(bootstrap_servers, creations, **client)


async def allow(bootstrap_servers: str, user: str, needs: Iterable[Need], **client: Any) -> None:
    """Gives a user exactly these rights."""
    creations = [
        _creation(
            user,
            Resource[need.kind.upper().replace("-", "_")],
            need.name,
            _PREFIXED if need.kind == "transactional-id" else _LITERAL,
            Operation[need.right.name],
        )
        for need in needs
    ]
    await _create(bootstrap_servers, creations, **client)


def _creation(user: str, resource: Resource, name: str, pattern: int, operation: Operation) -> Creation:
    return (int(resource), name, pattern, f"User:{user}", "*", int(operation), _ALLOW)


async def _create(bootstrap_servers: str, creations: list[Creation], **client: Any) -> None:
    """Returns when the brokers go by them: the controller, who answers, knows them a moment before."""
    kafka = AIOKafkaClient(bootstrap_servers=bootstrap_servers, **client)
    await kafka.bootstrap()
    try:
        answer: Any = await kafka.send(kafka.get_random_node(), _CreateAcls(creations))
        if failed := [text for code, text in answer.results if code]:
            raise RuntimeError(f"rights were not given: {failed}")
        users = {user for _, _, _, user, *_ in creations}
        async with asyncio.timeout(patiently(_WITHIN_S)):
            while set(creations) - await _in_effect(kafka, users):  # noqa: ASYNC110 - polls the broker
                await asyncio.sleep(0.02)
    finally:
        await kafka.close()


async def _in_effect(kafka: AIOKafkaClient, users: Iterable[str]) -> set[Creation]:
    """The rights of users (with ``User:``) that a broker goes by."""
    found: set[Creation] = set()
    for user in users:
        answer: Any = await kafka.send(kafka.get_random_node(), _DescribeAcls(user))
        for resource, name, pattern, rights in answer.resources:
            found |= {(resource, name, pattern, *right) for right in rights}
    return found
