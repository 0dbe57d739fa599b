"""The sandbox's workflows: which executions were performed, and which copies were made."""

from typing import Any

import msgspec

MEDIA_TYPE = "application/vnd.np6.cm.workflow-v4"

_one = msgspec.json.Decoder(dict[str, Any])
_several = msgspec.json.Decoder(list[dict[str, Any]])
_WRITTEN_AT = "2026-01-01T08:00:00Z"


class Performed(msgspec.Struct, frozen=True):
    """An execution that has taken effect."""

    workflow: int
    id: Any  # as it was sent
    receiver: Any
    call: int  # those of one request have the same
    at_s: float  # wall time
    execution: Any  # all that was sent


class Workflows:
    """The workflows of one account."""

    def __init__(self, *, remember: bool = True) -> None:
        self._remember = remember
        self.performed: list[Performed] = []
        self._calls = 0
        self._copies: dict[int, int] = {}  # copy -> what it was made of

    def is_copy(self, workflow: int) -> bool:
        """Whether a duplication has made it."""
        return workflow in self._copies

    def begin_call(self) -> int:
        """The number of a request that executes."""
        self._calls += 1
        return self._calls

    def perform(self, workflow: int, execution: dict[str, Any], call: int, now: float) -> dict[str, Any]:
        """Carries one execution out; the answer's item. What ``flow`` holds is not known of the platform."""
        if self._remember:
            receiver = execution.get("receiver")
            self.performed.append(Performed(workflow, execution.get("id"), receiver, call, now, execution))
        return {"type": "success", "flow": {"id": execution.get("id")}}

    def duplicate(self, workflow: int) -> dict[str, Any]:
        """Makes a copy; it, in the shape of the vendor's example."""
        copy = 900_000 + len(self._copies) + 1
        self._copies[copy] = workflow
        return {
            "id": copy,
            "name": f"Workflow {workflow} - Copy",
            "description": "A copy made by the sandbox",
            "state": 0,
            "creationDate": _WRITTEN_AT,
            "updateDate": _WRITTEN_AT,
            "scripting": {"version": "4"},
            "settings": {},
            "listeners": [
                {"id": "l1", "name": "entry", "description": "", "event": {"type": "api"}, "handler": "n1"},
            ],
            "capping": [
                {"key": {"type": "target"}, "increment": 1, "threshold": 3, "period": {"type": "day"}, "nodes": ["n1"]},
            ],
            "nodes": [{"type": "entry", "id": "n1"}, {"type": "notification", "id": "n2"}],
            "tasks": [
                {
                    "id": "t1",
                    "name": "daily",
                    "description": "",
                    "schedulers": [{"type": "periodic"}],
                    "provider": {"type": "segment"},
                    "handler": "n1",
                },
            ],
        }


def read_executions(body: bytes, *, several: bool) -> list[dict[str, Any]]:
    """The executions of a request, each with a receiver. Raises BadExecutions."""
    try:
        executions = _several.decode(body) if several else [_one.decode(body)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadExecutions(f"The body is no JSON {'list of objects' if several else 'object'}") from None
    if not executions:
        raise BadExecutions("There is nothing to execute")
    for execution in executions:
        receiver = receiver_value(execution)
        if not isinstance(receiver, str) or not receiver:
            raise BadExecutions("A receiver is missing")
    return executions


class BadExecutions(ValueError):
    """The platform does not understand the body of a request."""


def receiver_value(execution: dict[str, Any]) -> Any:
    """Who the execution is for; None where it does not say so as the platform wants it."""
    receiver = execution.get("receiver")
    if not isinstance(receiver, dict) or not isinstance(receiver.get("type"), str):
        return None
    return receiver.get("value")
