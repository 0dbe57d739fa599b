"""Ending clients from tasks that are cancelled meanwhile."""

import asyncio
from contextlib import suppress

import pytest

from service.kafka.clients import end_within


class Client:
    """Ends as aiokafka's clients do: in steps, each of which suppresses the cancellation that meets it."""

    def __init__(self, steps: int = 3, step_s: float = 0.02) -> None:
        self.ended = False
        self._steps = steps
        self._step_s = step_s

    async def stop(self) -> None:
        for _ in range(self._steps):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(self._step_s)
        self.ended = True


async def test_a_cancellation_outlives_the_end_of_a_client() -> None:
    """Whoever is cancelled while a client of theirs ends is cancelled behind it, and does not go on for ever."""
    client = Client()
    went_on = False

    async def reading() -> None:
        nonlocal went_on
        await end_within(client.stop(), 5)
        went_on = True

    task = asyncio.create_task(reading())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.ended
    assert not went_on


async def test_a_client_that_does_not_end_is_left_alone() -> None:
    """In time, whatever it suppresses."""
    client = Client(steps=2, step_s=0.3)
    with pytest.raises(TimeoutError):
        await end_within(client.stop(), 0.05)
    assert not client.ended


async def test_what_a_client_raises_is_raised() -> None:
    """And nothing of one that ends in order."""

    async def failing() -> None:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        await end_within(failing(), 5)
    client = Client()
    await end_within(client.stop(), 5)
    assert client.ended


async def test_a_task_of_the_clients_own_that_was_cancelled_is_no_cancellation_of_ours() -> None:
    """Its coordination was ended before: whoever closes it goes on, and closes what is behind it."""

    async def coordinating() -> None:
        await asyncio.Event().wait()

    coordination = asyncio.create_task(coordinating())
    await asyncio.sleep(0)
    coordination.cancel()

    async def stop() -> None:
        await coordination

    await end_within(stop(), 5)
