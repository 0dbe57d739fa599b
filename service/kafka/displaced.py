"""Whether another process has joined the group under the instance id of ours (static membership).

Two processes with one ``group.instance.id`` push each other out for ever: aiokafka's heartbeats name no instance, so
that whoever was pushed out learns no more than that its member id is unknown, joins anew, and pushes out the other.
The coordinator does tell, if it is asked with the instance id: before we join anew.
"""

import asyncio

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError

from service.kafka.codes import Code
from service.kafka.private import Membership
from service.kafka.requests import StaticHeartbeat

_WITHIN_S = 20.0
_BACKOFF_S = 0.1
# A coordinator that has just become one may know a former life of this process instead of it until it has read its log
# to the end: 3 s were not enough for one that had read for as long before.
_STAYS_S = 12.0
# Ours, expired, or of an older generation: not another's.
_ANSWERS = frozenset({Code.NONE, Code.UNKNOWN_MEMBER_ID, Code.ILLEGAL_GENERATION, Code.REBALANCE_IN_PROGRESS})


async def is_displaced(client: AIOKafkaClient, membership: Membership, *, within_s: float = _WITHIN_S) -> bool:
    """Whether the group knows another member under the instance id of ``membership``; to be asked before this process
    joins again, or it is that member itself. False also for a dynamic member, and if nobody tells in time."""
    if membership.instance_id is None:
        return False
    loop = asyncio.get_running_loop()
    since: float | None = None
    try:
        async with asyncio.timeout(within_s):
            while (code := await _code(client, membership)) not in _ANSWERS:
                if code != Code.FENCED_INSTANCE_ID:
                    since = None
                elif since is None:
                    since = loop.time()
                elif loop.time() - since >= _STAYS_S:
                    return True
                await asyncio.sleep(_BACKOFF_S)
    except TimeoutError:
        pass
    return False


async def _code(client: AIOKafkaClient, membership: Membership) -> int | None:
    """What the coordinator says to a heartbeat of the member; None if it says nothing now."""
    request = StaticHeartbeat(
        group_id=membership.group_id,
        generation_id=membership.generation,
        member_id=membership.member_id,
        instance_id=membership.instance_id,
    )
    try:
        node = await client.coordinator_lookup(CoordinationType.GROUP, membership.group_id)
        answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
    except (KafkaError, AssertionError):
        return None
    code: int = answer.error_code
    return code


def displaced_text(membership: Membership) -> str:
    """What happened, and what to do."""
    instance, group = membership.instance_id, membership.group_id
    return (
        f"another process has joined group {group} as {instance}: two processes have one kafka.instance_id. "
        "Give each its own (a StatefulSet's pod name), then start this one again"
    )
