"""Where a partition ends is asked on a connection of its own."""

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest

from service.kafka.aside import ask_offsets_aside


def test_only_offsets_are_asked_for_aside() -> None:
    """Whatever else is asked goes where it always went."""
    sent: list[tuple[int, type, ConnectionGroup]] = []

    async def send(node_id: int, request: Any, *, group: ConnectionGroup) -> str:
        sent.append((node_id, type(request), group))
        return "answer"

    client = SimpleNamespace(send=send)
    ask_offsets_aside(SimpleNamespace(_client=client))  # type: ignore[arg-type] # as far as it is looked at
    offsets, records = OffsetRequest(-1, 0, []), FetchRequest(500, 1, 1, 0, [])

    async def ask() -> list[str]:
        return [await client.send(1, offsets), await client.send(2, records)]

    assert asyncio.run(ask()) == ["answer", "answer"]
    assert sent == [(1, OffsetRequest, ConnectionGroup.COORDINATION), (2, FetchRequest, ConnectionGroup.DEFAULT)]


def test_the_client_asks_as_it_is_thought_to() -> None:
    """By such a request, through what is replaced."""
    assert {"_client", "send", "OffsetRequest"} <= set(Fetcher._proc_offset_request.__code__.co_names)
    assert "group" in AIOKafkaClient.send.__code__.co_varnames
