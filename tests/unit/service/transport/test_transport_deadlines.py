"""Deadlines: one timer for many requests, and a cancellation that is told apart from everybody else's."""

import asyncio

import pytest

from service.transport.deadlines import Deadlines


async def _request(deadlines: Deadlines, answer: asyncio.Event) -> str:
    task = deadlines.begin()
    try:
        await answer.wait()
        return "answered"
    except asyncio.CancelledError:
        if deadlines.passed(task):
            return "too late"
        raise
    finally:
        deadlines.end(task)


async def test_what_takes_too_long_is_ended_and_what_is_in_time_is_not() -> None:
    """Each request is measured from its own beginning."""
    deadlines = Deadlines(0.2)
    never, soon = asyncio.Event(), asyncio.Event()
    slow = asyncio.create_task(_request(deadlines, never))
    quick = asyncio.create_task(_request(deadlines, soon))
    await asyncio.sleep(0)
    soon.set()
    assert await asyncio.wait_for(quick, 5) == "answered"
    assert await asyncio.wait_for(slow, 5) == "too late"
    assert slow.cancelling() == 0
    deadlines.close()


async def test_the_task_goes_on_after_its_request_was_ended() -> None:
    """A worker makes its next request as if nothing had happened."""
    deadlines = Deadlines(0.05)

    async def worker() -> list[str]:
        soon = asyncio.Event()
        soon.set()
        return [await _request(deadlines, asyncio.Event()), await _request(deadlines, soon)]

    assert await asyncio.wait_for(worker(), 5) == ["too late", "answered"]
    deadlines.close()


async def test_a_cancellation_by_somebody_else_goes_through() -> None:
    """A process that stops is not told that the platform was slow."""
    deadlines = Deadlines(60)
    task = asyncio.create_task(_request(deadlines, asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadlines.close()


async def test_a_cancellation_that_meets_the_deadline_goes_through() -> None:
    """Both at once: whoever cancelled us is obeyed."""
    deadlines = Deadlines(0.05)
    task = asyncio.create_task(_request(deadlines, asyncio.Event()))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        while not task.cancelling():  # noqa: ASYNC110 - the moment between the cancellation and its delivery
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadlines.close()


async def test_a_cancellation_that_became_another_error_is_taken_back() -> None:
    """A library may answer it with an error of its own: the worker's next request must not die of what is left."""
    deadlines = Deadlines(0.05)

    async def swallowed() -> str:
        task = deadlines.begin()
        try:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ConnectionError("closed") from None
        except ConnectionError:
            return "an error"
        finally:
            deadlines.end(task)
        return "answered"

    async def worker() -> list[str]:
        return [await swallowed(), await _request(deadlines, asyncio.Event())]

    task = asyncio.create_task(worker())
    assert await asyncio.wait_for(task, 5) == ["an error", "too late"]
    assert task.cancelling() == 0
    deadlines.close()


async def test_no_timer_is_left_when_nothing_runs() -> None:
    """An idle account costs nothing."""
    deadlines = Deadlines(0.05)
    soon = asyncio.Event()
    soon.set()
    assert await _request(deadlines, soon) == "answered"
    async with asyncio.timeout(5):
        while deadlines._timer is not None:  # noqa: ASYNC110 - polls the timer's own end
            await asyncio.sleep(0.01)
