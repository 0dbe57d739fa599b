"""Where every task stands: functions and line numbers, nothing of what they hold."""

import asyncio
from collections import Counter
from types import CodeType, FrameType
from typing import Any

_DEPTH = 30
_MOST = 50


def task_stacks() -> list[dict[str, object]]:
    """The stacks of all tasks, outermost call first; of equal ones how many there are, the most frequent last."""
    stacks = Counter(tuple(_stack(task)) for task in asyncio.all_tasks())
    rarest = sorted(stacks.items(), key=lambda entry: entry[1])[:_MOST]
    return [{"tasks": count, "stack": list(stack)} for stack, count in rarest]


def _stack(task: asyncio.Task[Any]) -> list[str]:
    """What a task's coroutine awaits, and what that awaits in turn."""
    places: list[str] = []
    waiting: Any = task.get_coro()
    while waiting is not None and len(places) < _DEPTH:
        frame, code = _where(waiting)
        if code is not None:
            line = frame.f_lineno if frame is not None else code.co_firstlineno
            places.append(f"{code.co_filename}:{line} {code.co_qualname}")
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return places


def _where(waiting: Any) -> tuple[FrameType | None, CodeType | None]:
    for kind in ("cr", "gi", "ag"):
        code = getattr(waiting, f"{kind}_code", None)
        if code is not None:
            return getattr(waiting, f"{kind}_frame", None), code
    return None, None
