"""Ends Kafka clients from tasks that may be cancelled at any moment."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def end_within(closing: Coroutine[Any, Any, object], within_s: float) -> None:
    """Wait for a client's ``stop()`` or ``close()``. Raises what it raises, and TimeoutError; then it is left alone.

    aiokafka suppresses every CancelledError that meets it there, also one that is meant for the caller: whoever was
    cancelled meanwhile would go on for ever. So the client ends in a task of its own, and a cancellation of the caller
    is kept until it has ended, or the time is over.
    """
    task = asyncio.ensure_future(closing)
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    cancelled = False
    while not task.done() and (left_s := until - loop.time()) > 0:
        try:
            await asyncio.wait({task}, timeout=left_s)
        except asyncio.CancelledError:
            cancelled = True
    if not task.done():
        task.cancel()
        # Nobody will ask for what it raises in the end.
        task.add_done_callback(_take_exception)
    if cancelled:
        raise asyncio.CancelledError
    if not task.done():
        raise TimeoutError
    # Cancelled by nobody of ours: aiokafka waits for tasks of its own that have been cancelled already.
    if not task.cancelled():
        task.result()


def _take_exception(task: "asyncio.Future[object]") -> None:
    if not task.cancelled():
        task.exception()
