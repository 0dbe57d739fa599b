"""How a consumer asks where a partition ends while its request for records waits at the broker.

A broker answers the requests of one connection one after the other, so that the question would wait for as long as the
broker keeps the other one: on a connection of its own it does not.
"""

from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.client import ConnectionGroup
from aiokafka.protocol.offset import OffsetRequest


def ask_offsets_aside(consumer: AIOKafkaConsumer) -> None:
    """To be called once the consumer has started. One without a group uses that connection for nothing else."""
    client: Any = consumer._client
    send = client.send

    async def send_aside(node_id: int, request: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT) -> Any:
        return await send(
            node_id, request, group=ConnectionGroup.COORDINATION if isinstance(request, OffsetRequest) else group
        )

    client.send = send_aside
