"""The order in which those who wait for an account are served: fair between lanes, in turn within a lane.

Start-time fair queueing. Each lane is a flow with a weight; while several flows wait, each is served in proportion to
its weight, however many of it wait. A flow that waits for nothing leaves its share to the others, and what it left
lately it may use first when it comes back: so a few events are not halved in speed by a backlog beside them. What it
can catch up is bounded, and so is the time for which it keeps the others waiting.

The rejected way: first come, first served. A lane with a backlog has as many in line as it has workers, and each
request of another lane waits behind all of them.
"""

from collections import deque
from collections.abc import Iterator
from math import inf
from typing import Generic, TypeVar

Waiter = TypeVar("Waiter")

# How many requests a flow of weight 1 can catch up on those that were served while it waited for nothing.
CREDIT_REQUESTS = 128.0


class Flow(Generic[Waiter]):
    """Those of one lane who wait. ``weight`` is above 0."""

    __slots__ = ("cost", "served_to", "starts_at", "waiting")

    def __init__(self, weight: float = 1.0) -> None:
        self.cost = 1.0 / weight
        self.waiting: deque[Waiter] = deque()
        self.starts_at = 0.0  # virtual time at which the first of those that wait is to be served
        self.served_to = -inf  # virtual time up to which the flow has had its share


class FairLine(Generic[Waiter]):
    """Who is next. Pure; virtual time moves only when somebody is served."""

    def __init__(self) -> None:
        self._now = 0.0
        self._active: list[Flow[Waiter]] = []

    def add(self, waiter: Waiter, flow: Flow[Waiter]) -> None:
        """Behind those of the same flow."""
        if not flow.waiting:
            flow.starts_at = max(flow.served_to, self._now - CREDIT_REQUESTS)
            self._active.append(flow)
        flow.waiting.append(waiter)

    def first(self) -> tuple[Waiter, Flow[Waiter]] | None:
        """Who is to be served next; of equals the flow that has waited longer."""
        if not self._active:
            return None
        flow = min(self._active, key=_starts_at)
        return flow.waiting[0], flow

    def serve(self, waiter: Waiter, flow: Flow[Waiter]) -> None:
        """The waiter, mostly the first, has got what it waited for."""
        self._now = max(self._now, flow.starts_at)
        flow.served_to = flow.starts_at = flow.starts_at + flow.cost
        self.remove(waiter, flow)

    def remove(self, waiter: Waiter, flow: Flow[Waiter]) -> None:
        """The waiter leaves, and its flow is charged nothing. Raises ValueError if it does not wait."""
        flow.waiting.remove(waiter)
        # Among equals the next turn is another flow's.
        self._active.remove(flow)
        if flow.waiting:
            self._active.append(flow)

    def __iter__(self) -> Iterator[tuple[Waiter, Flow[Waiter]]]:
        """All who wait, the flows in the order of their first turn. May be changed meanwhile."""
        for flow in sorted(self._active, key=_starts_at):
            for waiter in list(flow.waiting):
                yield waiter, flow


def _starts_at(flow: Flow[Waiter]) -> float:
    return flow.starts_at
