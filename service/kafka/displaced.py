"""Whether another process has joined the group under the instance id of ours (static membership).

Two processes with one ``group.instance.id`` push each other out for ever: aiokafka's heartbeats name no instance, so
that whoever was pushed out learns no more than that its member id is unknown, joins anew, and pushes out the other.
The coordinator does tell, if it is asked with the instance id: before we join anew.
"""

import asyncio
from collections.abc import Callable

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError

from service.kafka.codes import Code
from service.kafka.private import Membership
from service.kafka.requests import StaticHeartbeat

_SILENT_S = 20.0
_BACKOFF_S = 0.25
# A coordinator that has just become one may know a former life of this process instead of it: what made this one a
# member had not been written when its predecessor died. Nobody speaks for a former life, so it ends with its session,
# which begins anew when the coordinator has read its log; twelve seconds in which it stayed were seen. Another process
# keeps its session.
_BEYOND_SESSION_S = 5.0
# Ours, expired, or of an older generation: not another's.
_ANSWERS = frozenset({Code.NONE, Code.UNKNOWN_MEMBER_ID, Code.ILLEGAL_GENERATION, Code.REBALANCE_IN_PROGRESS})


async def is_displaced(
    client: AIOKafkaClient, membership: Membership, *, session_timeout_s: float, doubted: Callable[[], None]
) -> bool:
    """Whether another process is the member under the instance id of ``membership``; to be asked before this process
    joins again, or it is that member itself. ``doubted`` is called when the group knows another member: it is asked
    until that one's session would have ended. False also for a dynamic member, and if nobody tells for 20 s."""
    if membership.instance_id is None:
        return False
    loop = asyncio.get_running_loop()
    since: float | None = None
    try:
        async with asyncio.timeout(_SILENT_S) as silence:
            while (code := await _code(client, membership)) not in _ANSWERS:
                if code != Code.FENCED_INSTANCE_ID:
                    since = None  # the next coordinator counts the session from its own beginning
                else:
                    now = loop.time()
                    silence.reschedule(now + _SILENT_S)
                    if since is None:
                        since = now
                        doubted()
                    elif now - since >= session_timeout_s + _BEYOND_SESSION_S:
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


def doubted_text(membership: Membership, session_timeout_s: float) -> str:
    """Why a lane waits that the group knows under another member's name."""
    return (
        f"group {membership.group_id} knows another member as {membership.instance_id}: a former life of this process, "
        f"which ends with its session ({session_timeout_s:g} s), or a second process with this kafka.instance_id"
    )


def displaced_text(membership: Membership) -> str:
    """What happened, and what to do."""
    instance, group = membership.instance_id, membership.group_id
    return (
        f"another process has joined group {group} as {instance}: two processes have one kafka.instance_id. "
        "Give each its own (a StatefulSet's pod name), then start this one again"
    )
