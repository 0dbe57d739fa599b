"""Cancels a coroutine at its n-th suspension point, for n = 0, 1, 2 … until it ends by itself.

The loop's tasks are wrapped, so that each turn of each of them counts. At the n-th the whole is cancelled, and with it
the very task that has just suspended: so every ``await`` of every part gets its cancellation once, exactly there.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any

from tests.support.fakes import FakeTime, run, settle_down


class _Counted(Coroutine[Any, Any, Any]):
    """A coroutine that tells of each of its suspensions."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], suspended: Callable[[Coroutine[Any, Any, Any]], None]
    ) -> None:
        self.coroutine = coroutine
        self._suspended = suspended

    def send(self, value: Any) -> Any:
        given = self.coroutine.send(value)
        self._suspended(self.coroutine)
        return given

    def throw(self, kind: Any, value: Any = None, trace: TracebackType | None = None) -> Any:
        given = self.coroutine.throw(kind if value is None else value)
        self._suspended(self.coroutine)
        return given

    def close(self) -> None:
        self.coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError


class Cancelling:
    """Counts suspensions once ``watch`` has been called; cancels at number ``at``. ``where`` is what it met there."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0
        self.where: str | None = None
        self.complaints: list[str] = []
        self._whole: asyncio.Task[Any] | None = None

    def install(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(
            lambda loop, coroutine, **options: asyncio.Task(
                _Counted(coroutine, self._suspended),
                loop=loop,
                **options,  # type: ignore[arg-type]
            )
        )
        loop.set_exception_handler(lambda loop, context: self.complaints.append(str(context)))

    def watch(self, whole: asyncio.Task[Any]) -> None:
        """From now on; ``whole`` is what is cancelled."""
        self._whole = whole

    def stop(self) -> None:
        """What follows is not cancelled."""
        self._whole = None

    @property
    def done(self) -> bool:
        return self.where is not None

    def _suspended(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        whole = self._whole
        if whole is None or self.done or whole.done() or not _is_ours(coroutine):
            return
        if self.count == self.at:
            self.where = _place(coroutine)
            whole.cancel()
            current = asyncio.current_task()
            if current is not None and current is not whole:
                current.cancel()
        self.count += 1


def _is_ours(coroutine: Coroutine[Any, Any, Any]) -> bool:
    """The service's own tasks: those of the fakes stand for Kafka's and the network's."""
    code = getattr(coroutine, "cr_code", None)
    return code is not None and _is_service(code.co_filename)


def _is_service(filename: str) -> bool:
    return "/service/" in filename and "/tests/" not in filename


def _place(coroutine: Any) -> str:
    """Where it waits: the innermost function of ours, and the line."""
    place = ""
    while coroutine is not None and getattr(coroutine, "cr_frame", None) is not None:
        code = coroutine.cr_code
        if _is_service(code.co_filename):
            place = f"{code.co_qualname}:{coroutine.cr_frame.f_lineno}"
        coroutine = coroutine.cr_await
    return place


def at_every_await(life: Callable[[FakeTime, Cancelling], Coroutine[Any, Any, None]], *, most: int) -> list[str]:
    """Run ``life`` once for each of its suspension points, and once more uncancelled. Where it was cancelled.

    ``life`` checks by itself. Raises AssertionError if more than ``most`` points come, if a task is left or if
    anything was complained of.
    """
    places: list[str] = []
    for at in range(most):
        cancelling = Cancelling(at)

        async def main(time: FakeTime, cancelling: Cancelling = cancelling) -> None:
            cancelling.install()
            await life(time, cancelling)
            await settle_down(5)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"cancelled at {cancelling.where}: {left}"
            assert not cancelling.complaints, f"cancelled at {cancelling.where}: {cancelling.complaints}"

        try:
            run(main)
        except BaseException as error:
            error.add_note(f"cancelled at point {at}: {cancelling.where}")
            raise
        if cancelling.where is None:
            return places
        places.append(cancelling.where)
    raise AssertionError(f"still not at its end after {most} suspensions")
