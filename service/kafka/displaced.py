"""Whose place in the group an instance id of ours is (static membership).

Two processes with one ``group.instance.id`` push each other out for ever: aiokafka's heartbeats name no instance, so
that whoever was pushed out learns no more than that its member id is unknown, joins anew, and pushes out the other.
The coordinator does tell, if it is asked with the instance id: before we join anew.

It is not always right. A coordinator that serves while it is still reading its log knows former lives of processes, and
those that it read of when it served already have no session that could end: whoever waits for that waits for ever. So a
place that is said to be taken is taken back once, and only who is pushed out again soon has met another process: a
former life does not come back.
"""

import asyncio
from collections.abc import Callable
from enum import Enum

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError

from service.kafka.codes import Code
from service.kafka.private import Membership
from service.kafka.requests import StaticHeartbeat

_WITHIN_S = 30.0
_BACKOFF_S = 0.25
# A coordinator that is still reading its log may yet read of us: 3 s were not enough for one that had read for as long
# before.
_STAYS_S = 12.0
# Another process asks for as long before it takes its place back.
_SOON_S = 180.0
# Ours, or ours but for a generation.
_OURS = frozenset({Code.NONE, Code.ILLEGAL_GENERATION, Code.REBALANCE_IN_PROGRESS})


class Place(Enum):
    """What the coordinator says of a member's place. ``UNTOLD``: nothing in time, or nobody wants to know any more."""

    OURS = "ours"
    FREE = "free"
    TAKEN = "taken"
    UNTOLD = "untold"


async def place_of(
    client: AIOKafkaClient, membership: Membership, *, doubted: Callable[[], None], wanted: Callable[[], bool]
) -> Place:
    """Whose place it is; to be asked before this process joins again. That it is taken counts only when it has been
    said for 12 s; ``doubted`` is called when it is said first. Gives up after 30 s, or when the answer is not
    ``wanted``. A dynamic member's place is its own."""
    if membership.instance_id is None:
        return Place.OURS
    loop = asyncio.get_running_loop()
    since: float | None = None
    try:
        async with asyncio.timeout(_WITHIN_S):
            while wanted():
                code = await _code(client, membership)
                if code in _OURS:
                    return Place.OURS
                if code == Code.UNKNOWN_MEMBER_ID:
                    return Place.FREE
                if code != Code.FENCED_INSTANCE_ID:
                    since = None
                elif since is None:
                    since = loop.time()
                    doubted()
                elif loop.time() - since >= _STAYS_S:
                    return Place.TAKEN
                await asyncio.sleep(_BACKOFF_S)
    except TimeoutError:
        pass
    return Place.UNTOLD


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


class TakingBack:
    """Pure: what to do when the place is taken. ``now`` is monotonic, in seconds."""

    def __init__(self) -> None:
        self._at: float | None = None

    def may(self, now: float) -> bool:
        """Whether the place is to be taken back; if so, that is noted. False: it was, and is taken again."""
        if self._at is not None and now - self._at < _SOON_S:
            return False
        self._at = now
        return True


def doubted_text(membership: Membership) -> str:
    """Why a lane waits that the group knows under another member's name."""
    return (
        f"group {membership.group_id} knows another member as {membership.instance_id}: a former life of this process, "
        "or a second process with this kafka.instance_id"
    )


def displaced_text(membership: Membership) -> str:
    """What happened, and what to do."""
    instance, group = membership.instance_id, membership.group_id
    return (
        f"another process has joined group {group} as {instance}: two processes have one kafka.instance_id. "
        "Give each its own (a StatefulSet's pod name), then start this one again"
    )
