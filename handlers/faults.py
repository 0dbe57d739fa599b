"""What an expression gave that cannot be delivered, in words that name its place in the configuration.

No message holds a value of the event.
"""

from typing import Any

from contracts.outcomes import Outcome, Reason
from handlers.base import Expression, ExpressionError, Refusal, RowValue


def wrong_value(expression: Expression | RowValue, key: str, fault: str) -> ExpressionError:
    """To be raised where an expression gives what its key cannot take; ``key`` is its key in the lane."""
    return ExpressionError(f"{place_of(expression, key)}: {fault}")


def unresolved(expression: Expression | RowValue, key: str, fault: str) -> Refusal:
    """The plan of an event where an expression gives nothing that can be used."""
    return Refusal(Outcome.INVALID, Reason.UNRESOLVED, f"{place_of(expression, key)}: {fault}")


def place_of(expression: Expression | RowValue, key: str) -> str:
    """Where an expression stands in the configuration, if it tells; its key else."""
    place: Any = getattr(expression, "place", None)
    return place if isinstance(place, str) else key
