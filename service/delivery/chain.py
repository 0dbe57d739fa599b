"""What has to be delivered one after the other: the operations of one key in one batch.

Neighbouring equal assignments of one target are one call, whose end is each of their ends.
"""

from collections.abc import Iterable
from enum import Enum, auto

from contracts.outcomes import WORST_FIRST, Outcome
from contracts.results import Operation
from handlers.base import Handler, Settle
from service.intake.item import Item

_RANK = {outcome: rank for rank, outcome in enumerate(WORST_FIRST)}


class Stage(Enum):
    """What the next call of a unit is. ACT -> CONFIRM -> end; never back."""

    ACT = auto()
    CONFIRM = auto()


class Unit:
    """One call to make, for one or more equal operations. ``counted`` are the attempts that may exhaust it."""

    __slots__ = ("attempts", "called_at", "counted", "failed_at", "last", "members", "operation", "stage")

    def __init__(self, item: Item, operation: Operation) -> None:
        self.operation = operation
        self.members: list[tuple[Item, Operation]] = [(item, operation)]
        self.stage = Stage.ACT
        self.attempts = 0
        self.counted = 0
        self.failed_at = float("-inf")  # when it failed the last time, on the dispatcher's clock
        self.called_at: float | None = None  # monotonic; None while no call is under way
        self.last: str | None = None  # why it was tried again, for a person

    def settle(self, end: Settle, status: int | None, detail: str | None) -> list[Item]:
        """Write the end to every member; the items of which nothing remains."""
        done: list[Item] = []
        for item, operation in self.members:
            operation.outcome = end.outcome
            operation.reason = end.reason
            operation.detail = detail
            operation.reference = end.reference
            operation.status = status
            operation.attempts = self.attempts
            item.remaining -= 1
            if not item.remaining:
                done.append(item)
        return done


class Chain:
    """The units of one key, in order; ``position`` is the next to be done."""

    __slots__ = ("items", "key", "position", "since", "units")

    def __init__(self, key: bytes | None, items: list[Item], units: list[Unit]) -> None:
        self.key = key
        self.items = items
        self.units = units
        self.position = 0
        self.since = 0.0

    @property
    def current(self) -> Unit:
        return self.units[self.position]


def chains_of(items: Iterable[Item], handler: Handler) -> list[Chain]:
    """The chains of a batch, in the order in which their keys came. A null key is a chain of its own."""
    by_key: dict[bytes, list[Item]] = {}
    chains: list[list[Item]] = []
    for item in items:
        key = item.record.key
        group = by_key.get(key) if key is not None else None
        if group is None:
            group = [item]
            chains.append(group)
            if key is not None:
                by_key[key] = group
        else:
            group.append(item)
    return [Chain(group[0].record.key, group, _units(group, handler)) for group in chains]


def _units(items: list[Item], handler: Handler) -> list[Unit]:
    units: list[Unit] = []
    if len(items) == 1:
        item = items[0]
        return [Unit(item, operation) for operation in item.operations]
    newest: dict[str | None, Unit] = {}
    for item in items:
        for operation in item.operations:
            earlier = newest.get(operation.target)
            if earlier is not None and handler.merges_with(operation, earlier.operation):
                earlier.members.append((item, operation))
                continue
            unit = Unit(item, operation)
            newest[operation.target] = unit
            units.append(unit)
    return units


def close(item: Item) -> None:
    """Give an item whose operations have all ended its own outcome: the worst of them, the first of equals."""
    operations = item.operations
    worst = operations[0]
    if len(operations) > 1:
        worst = min(operations, key=lambda operation: _RANK[operation.outcome or Outcome.IN_DOUBT])
    item.outcome, item.reason, item.detail = worst.outcome, worst.reason, worst.detail
