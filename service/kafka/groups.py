"""A consumer group as an operator sees it: who is in it, and offsets for one that nobody is in."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.structs import TopicPartition

from service.errors import FanlineError, RefusedError
from service.kafka.codes import COORDINATOR_MOVED, FENCED, REFUSED, name_of
from service.kafka.offsets import CommittedOffset

_BACKOFF_S = 0.1
_GONE = frozenset({"Dead", "Empty"})
_NO_MEMBER = (-1, "")
_NO_RETENTION = -1


class GroupBusyError(FanlineError):
    """The group has members, so that only they may move its offsets."""

    def __init__(self, group: str, clients: tuple[str, ...] = ()) -> None:
        who = f" ({', '.join(clients)})" if clients else ""
        super().__init__(
            f"group {group} has members{who}: stop every process that runs the lane first. "
            "One that was killed stays a member until its session has ended"
        )
        self.group = group


class Members(msgspec.Struct, frozen=True):
    """The clients of a group and the hosts that they call from."""

    clients: tuple[str, ...]


async def members_of(client: AIOKafkaClient, group: str) -> Members:
    """Who is in the group. The caller bounds the time. Raises RefusedError."""
    while True:
        answer = await _ask(client, group, DescribeGroupsRequest([group]))
        if answer is not None:
            code, _, state, _, _, members, *_ = answer.groups[0]
            if code in REFUSED:
                raise RefusedError(f"group {group}", name_of(code))
            if not code:
                if state in _GONE:
                    return Members(())
                return Members(tuple(sorted({f"{of}{host}" for _, of, host, *_ in members})))
        await asyncio.sleep(_BACKOFF_S)


async def refuse_members(client: AIOKafkaClient, group: str) -> None:
    """Raises GroupBusyError if somebody is in the group."""
    if (members := await members_of(client, group)).clients:
        raise GroupBusyError(group, members.clients)


async def commit_for_empty_group(
    client: AIOKafkaClient, group: str, offsets: Mapping[TopicPartition, CommittedOffset]
) -> None:
    """Write offsets from outside of the group: the coordinator takes them only while nobody is in it. The caller
    bounds the time. Raises GroupBusyError (nothing was written), RefusedError."""
    topics: dict[str, list[tuple[int, int, str]]] = {}
    for tp, committed in sorted(offsets.items()):
        topics.setdefault(tp.topic, []).append((tp.partition, committed.offset, committed.metadata))
    while True:
        answer = await _ask(client, group, OffsetCommitRequest(group, *_NO_MEMBER, _NO_RETENTION, list(topics.items())))
        if answer is not None:
            codes = {code for _, parts in answer.topics for _, code in parts} - {0}
            if not codes:
                return
            if codes & FENCED:
                raise GroupBusyError(group)
            if not codes <= COORDINATOR_MOVED:
                raise RefusedError(f"group {group}", name_of(min(codes & REFUSED or codes)))
        await asyncio.sleep(_BACKOFF_S)


async def _ask(client: AIOKafkaClient, group: str, request: Any) -> Any:
    """The coordinator's answer; None if there is none now."""
    try:
        node = await client.coordinator_lookup(CoordinationType.GROUP, group)
        return await client.send(node, request, group=ConnectionGroup.COORDINATION)
    except (KafkaError, AssertionError):
        return None
