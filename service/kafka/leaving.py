"""Takes a member out of its group, also in the middle of a rebalance.

aiokafka leaves at the end of its ``stop()``, which first waits for a join that is under way: until every other member
has drained. Whoever does not wait that long goes without a word, is dealt partitions by the rebalance that it began,
and they stand still for a session.
"""

import asyncio

from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest

from service.kafka.clients import stop_within
from service.kafka.private import membership

# A stop that is not waiting for others is over by then.
_WAITS_S = 0.3
_RETRY_S = 0.2


async def stop_member(consumer: AIOKafkaConsumer, client: AIOKafkaClient, group_id: str, *, within_s: float) -> None:
    """Stop the consumer and leave the group; ``client`` is another one of the same process. A static member does not
    leave: its partitions wait for its restart. Raises what ``stop_within`` raises."""
    leaving = asyncio.create_task(_leave(consumer, client, group_id))
    try:
        await stop_within(consumer, within_s)
    finally:
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)


async def _leave(consumer: AIOKafkaConsumer, client: AIOKafkaClient, group_id: str) -> None:
    """The join that the consumer waits for is then answered at once, and as it is being stopped it joins no more."""
    await asyncio.sleep(_WAITS_S)
    while True:
        member = membership(consumer, group_id)
        if member.instance_id is not None or not member.member_id:
            return
        try:
            node = await client.coordinator_lookup(CoordinationType.GROUP, group_id)
            await client.send(node, LeaveGroupRequest(group_id, member.member_id), group=ConnectionGroup.COORDINATION)
        except (KafkaError, AssertionError):
            await asyncio.sleep(_RETRY_S)
        else:
            return
