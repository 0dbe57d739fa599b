"""The terminal states of an event in a lane, and the reasons that each of them can have.

The pairs in :data:`PAIRS` are closed: nothing else is ever published, and a test walks the table.
"""

from enum import StrEnum


class Outcome(StrEnum):
    """The terminal state of an event in a lane. A value, never an exception."""

    DELIVERED = "delivered"
    SKIPPED = "skipped"
    SUPERSEDED = "superseded"
    INVALID = "invalid"
    REJECTED = "rejected"
    EXPIRED = "expired"
    IN_DOUBT = "in_doubt"
    UNATTRIBUTED = "unattributed"
    HELD = "held"


class Reason(StrEnum):
    """Why an event ended as it did; which reasons an outcome can have stands in :data:`PAIRS`."""

    WHERE = "where"
    NOTHING_TO_DO = "nothing_to_do"
    TOMBSTONE = "tombstone"
    OTHER_TYPE = "other_type"
    DUPLICATE = "duplicate"
    MALFORMED = "malformed"
    CONTRACT = "contract"
    UNRESOLVED = "unresolved"
    CONTRADICTORY = "contradictory"
    HANDLER_ERROR = "handler_error"
    REFUSED = "refused"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    UNCONFIRMED = "unconfirmed"
    EXHAUSTED = "exhausted"
    DEADLINE = "deadline"
    INTERRUPTED = "interrupted"
    UNATTRIBUTED = "unattributed"
    BEHIND_DEAD = "behind_dead"


PAIRS: dict[Outcome, frozenset[Reason | None]] = {
    Outcome.DELIVERED: frozenset({None}),
    Outcome.SKIPPED: frozenset(
        {Reason.WHERE, Reason.NOTHING_TO_DO, Reason.TOMBSTONE, Reason.OTHER_TYPE, Reason.DUPLICATE}
    ),
    Outcome.SUPERSEDED: frozenset({None}),
    Outcome.INVALID: frozenset(
        {Reason.MALFORMED, Reason.CONTRACT, Reason.UNRESOLVED, Reason.CONTRADICTORY, Reason.HANDLER_ERROR}
    ),
    Outcome.REJECTED: frozenset(
        {Reason.REFUSED, Reason.NOT_FOUND, Reason.TOO_LARGE, Reason.UNCONFIRMED, Reason.EXHAUSTED}
    ),
    Outcome.EXPIRED: frozenset({Reason.DEADLINE}),
    Outcome.IN_DOUBT: frozenset({Reason.INTERRUPTED}),
    Outcome.UNATTRIBUTED: frozenset({Reason.UNATTRIBUTED}),
    Outcome.HELD: frozenset({Reason.BEHIND_DEAD}),
}

# Whatever was not delivered and was not skipped goes, whole, to the lane's dead-letter topic.
DEAD: frozenset[Outcome] = frozenset(
    {
        Outcome.INVALID,
        Outcome.REJECTED,
        Outcome.EXPIRED,
        Outcome.IN_DOUBT,
        Outcome.UNATTRIBUTED,
        Outcome.HELD,
    }
)

# The outcome of an event is the worst of its operations', in this order; the first of equals counts.
WORST_FIRST: tuple[Outcome, ...] = (
    Outcome.IN_DOUBT,
    Outcome.UNATTRIBUTED,
    Outcome.REJECTED,
    Outcome.EXPIRED,
    Outcome.DELIVERED,
    Outcome.SUPERSEDED,
)
