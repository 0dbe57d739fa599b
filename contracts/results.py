"""``sync.result.v1``: what became of one event in one lane."""

import msgspec

from .outcomes import Outcome, Reason


class Operation(msgspec.Struct, gc=False):
    """One unit of work planned from an event, and what became of it. Mutable while the lane carries it out."""

    kind: str
    target: str | None
    entity: str | None
    outcome: Outcome | None = None
    reason: Reason | None = None
    detail: str | None = None
    status: int | None = None
    reference: str | None = None
    attempts: int = 0
