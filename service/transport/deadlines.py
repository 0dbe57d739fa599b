"""Ends what takes too long, with one timer for all requests of an account instead of one for each."""

import asyncio

_SHARE = 20
_LONGEST_PERIOD_S = 0.25


class Deadlines:
    """Every request may take ``total_s``, and up to a twentieth or a quarter of a second more.

    Used by the task that makes the request: ``begin``, ``end`` in any case, and ``passed`` when it was cancelled.
    """

    def __init__(self, total_s: float) -> None:
        self._total_s = total_s
        self._period_s = min(total_s / _SHARE, _LONGEST_PERIOD_S)
        # In the order begun, which is the order in which they are due.
        self._running: dict[asyncio.Task[object], float] = {}
        # Cancelled by us and not taken back yet.
        self._overdue: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> asyncio.Task[object]:
        """The current task makes a request from now on."""
        task = asyncio.current_task()
        assert task is not None, "requests are made by tasks"
        loop = asyncio.get_running_loop()
        self._running[task] = loop.time() + self._total_s
        if self._timer is None:
            self._timer = loop.call_later(self._period_s, self._sweep)
        return task

    def end(self, task: asyncio.Task[object]) -> None:
        """The request has ended, however."""
        self._running.pop(task, None)
        # Whoever made another error of our cancellation: it must not be left for what the task does next.
        if task in self._overdue:
            self._overdue.remove(task)
            task.uncancel()

    def passed(self, task: asyncio.Task[object]) -> bool:
        """Whether the task was cancelled by its deadline alone; then the cancellation is taken back."""
        if task not in self._overdue:
            return False
        self._overdue.remove(task)
        return not task.uncancel()

    def close(self) -> None:
        """No more requests."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        due: list[asyncio.Task[object]] = []
        for task, at in self._running.items():
            if at > now:
                break
            due.append(task)
        for task in due:
            del self._running[task]
            self._overdue.add(task)
            task.cancel()
        self._timer = loop.call_later(self._period_s, self._sweep) if self._running else None
