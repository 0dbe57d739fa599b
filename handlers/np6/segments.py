"""``np6.segments``: joins targets to segments and takes them out."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from contracts.events import Event
from contracts.outcomes import Outcome, Reason
from contracts.results import Operation
from handlers.base import Expression, Refusal, Reply, Request, Verdict
from handlers.expressions import Expr
from handlers.faults import unresolved, wrong_value
from handlers.np6 import client, verdicts

JOIN = "segment.join"
LEAVE = "segment.leave"

# Our own bound: what one event may ask for, so that no event occupies its key and the memory without end.
MAX_OPERATIONS = 1_000

_INT32_LOW, _INT32_HIGH = -(2**31), 2**31 - 1
_NOTHING_TO_DO = Refusal(Outcome.SKIPPED, Reason.NOTHING_TO_DO)


class SegmentsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of a lane that are this handler's own."""

    target: Annotated[
        Expr,
        Meta(
            description="NP6's id of the target. Null, an empty string and what cannot stand in a path "
            "(`.`, `..`) are invalid/unresolved."
        ),
    ]
    join: Annotated[
        Expr,
        Meta(
            description=f"The segments to join: an int, a list of ints or null. One event may join and leave "
            f"{MAX_OPERATIONS} segments together; more is invalid/contract."
        ),
    ] = "null"
    leave: Annotated[Expr, Meta(description="The segments to leave, likewise; left before any is joined.")] = "null"
    confirm_conflicts: Annotated[
        bool,
        Meta(
            description="A 409 is settled by reading the target's segments; false: it counts as delivered. A "
            "leave's 404 is always settled by reading.",
            extra={"hurts": "With `false` a missing right or a dynamic segment, which get a 409 too, is delivered."},
        ),
    ] = True

    def __post_init__(self) -> None:
        if self.join == "null" and self.leave == "null":
            raise ValueError("at least one of join and leave is needed")


class SegmentsHandler:
    """Plans one call per segment and judges by ``verdicts``. Implements ``handlers.base.Handler``.

    An event is checked in this order: both lists empty → skipped/nothing_to_do; a segment in both →
    invalid/contradictory; the target null, empty or not fit to stand in a path (``client.addressable``) →
    invalid/unresolved; more than ``MAX_OPERATIONS`` operations → invalid/contract. Leaves come before joins,
    each in list order, without duplicates.
    """

    name: ClassVar[str] = "np6.segments"
    platform: ClassVar[str] = "np6"

    def __init__(self, target: Expression, join: Expression, leave: Expression, confirm_conflicts: bool = True) -> None:
        self._target = target
        self._join = join
        self._leave = leave
        self._confirm_conflicts = confirm_conflicts

    def plan(self, event: Event, key: bytes | None) -> Sequence[Operation] | Refusal:
        """The calls for an event, or why there are none. Raises ExpressionError, also for a wrong type."""
        joins, leaves = self._join(event, key), self._leave(event, key)
        # One of the two is nearly always empty, and needs no look.
        if joins != []:
            joins = _segments(joins, self._join, "join")
        if leaves != []:
            leaves = _segments(leaves, self._leave, "leave")
        if not joins and not leaves:
            return _NOTHING_TO_DO
        if joins and leaves and (both := set(leaves).intersection(joins)):
            return _contradiction(both)
        target = self._target(event, key)
        if type(target) is not str:
            if target is not None:
                raise wrong_value(self._target, "target", "must give a string or null")
            return unresolved(self._target, "target", "gives null")
        if not ((target.isascii() and target.isalnum()) or client.addressable(target)):
            return unresolved(self._target, "target", "cannot stand in a path" if target else "gives an empty string")
        if len(joins) + len(leaves) > MAX_OPERATIONS:
            return _too_many(len(joins) + len(leaves))
        if not leaves and len(joins) == 1:
            return (Operation(JOIN, target, str(joins[0])),)
        operations = [Operation(LEAVE, target, str(segment)) for segment in leaves]
        return operations + [Operation(JOIN, target, str(segment)) for segment in joins]

    def merges_with(self, operation: Operation, earlier: Operation) -> bool:
        """Equal neighbours of one target are one call; a leave between two joins makes them three calls."""
        return (
            operation.entity == earlier.entity and operation.kind == earlier.kind and operation.target == earlier.target
        )

    def batch_of(self, operation: Operation) -> Hashable:
        """All operations of the lane may share a batch."""
        return None

    def request(self, operation: Operation) -> Request:
        """The call that carries the operation."""
        target, segment = _address(operation)
        if operation.kind == JOIN:
            return client.join_segment(target, segment)
        return client.leave_segment(target, segment)

    def judge(self, operation: Operation, reply: Reply) -> Verdict:
        """What the answer to :meth:`request` means."""
        if operation.kind == JOIN:
            return verdicts.judge_join(reply, confirm_conflicts=self._confirm_conflicts)
        return verdicts.judge_leave(reply, confirm_conflicts=self._confirm_conflicts)

    def confirmation(self, operation: Operation) -> Request:
        """The call that reads which segments the target is in."""
        return client.segments_of(_address(operation)[0])

    def judge_confirmation(self, operation: Operation, reply: Reply) -> Verdict:
        """What the answer to :meth:`confirmation` means."""
        segment = int(_address(operation)[1])
        return verdicts.judge_confirmation(reply, segment=segment, member=operation.kind == JOIN)


def _segments(value: Any, expression: Expression, name: str) -> Sequence[int]:
    """The segments of what an expression gave, without duplicates. Raises ExpressionError for a wrong value."""
    if value is None:
        return ()
    if type(value) is int:
        value = (value,)
    elif not isinstance(value, (list, tuple)):
        raise wrong_value(expression, name, "must give an int, a list of ints or null")
    for segment in value:
        if type(segment) is not int:  # a bool is none, and neither is 7.0
            raise wrong_value(expression, name, "must give an int, a list of ints or null")
        if not _INT32_LOW <= segment <= _INT32_HIGH:
            raise wrong_value(expression, name, "gives a segment beyond int32")
    return value if len(value) < 2 else tuple(dict.fromkeys(value))


def _address(operation: Operation) -> tuple[str, str]:
    target, segment = operation.target, operation.entity
    if target is None or segment is None:
        raise ValueError("not an operation that this handler planned")
    return target, segment


def _contradiction(segments: Iterable[int]) -> Refusal:
    named = ", ".join(map(str, sorted(segments)[:5]))
    return Refusal(Outcome.INVALID, Reason.CONTRADICTORY, f"to be joined and left at once: segment {named}")


def _too_many(count: int) -> Refusal:
    detail = f"{count} operations in one event; at most {MAX_OPERATIONS} are carried out"
    return Refusal(Outcome.INVALID, Reason.CONTRACT, detail)
