"""What a handler is: code for one kind of delivery to one platform.

A handler is pure. It plans operations from an event, says which request carries an operation, and judges the
reply. It never sends, waits, counts attempts or knows the time: the lane does (``service/delivery``).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Protocol, runtime_checkable

import msgspec

from contracts.events import Envelope, Event
from contracts.outcomes import Outcome, Reason
from contracts.results import Operation

# A compiled expression of the configuration: (event, record key) -> value; None where a field is missing.
# Raises ExpressionError.
Expression = Callable[[Event, bytes | None], Any]
# The same with ``row``, an element of a list that another expression gave.
RowValue = Callable[[Event, bytes | None, Any], Any]


class ExpressionError(Exception):
    """An expression could not be evaluated on an event; the message names its place in the configuration."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """One HTTP request, relative to the account's base URL. Credentials are added by the account."""

    method: str
    path: str  # begins with "/", each part percent-encoded
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What the platform answered. ``headers`` are found by their lower-case names; ``body`` is read up to a bound."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool = False  # the body was longer than the bound


class FailureKind(StrEnum):
    """Why there is no answer."""

    NOT_SENT = "not_sent"  # DNS, refused, TLS handshake, no connection: the platform saw nothing
    BAD_CERTIFICATE = "bad_certificate"
    TIMED_OUT = "timed_out"  # after sending
    RESET = "reset"  # after sending


class Failure(msgspec.Struct, frozen=True, gc=False):
    """There is no answer. ``detail`` is ours and holds neither credentials nor the request."""

    kind: FailureKind
    detail: str


Reply = Answer | Failure


class Settle(msgspec.Struct, frozen=True, gc=False):
    """The operation has reached its end."""

    outcome: Outcome
    reason: Reason | None = None
    detail: str | None = None  # the platform's own words, not yet masked
    reference: str | None = None


class Confirm(msgspec.Struct, frozen=True, gc=False):
    """Only a second, reading request can tell what the state is."""


class RetryCause(StrEnum):
    """Why an operation is tried again; the label of ``fanline_retries_total``."""

    NOT_SENT = "not_sent"
    THROTTLED = "throttled"  # 429, 503: nothing took effect
    TIMED_OUT = "timed_out"
    RESET = "reset"
    SERVER_ERROR = "server_error"
    UNAUTHORIZED = "unauthorized"  # after a hold of the account


class Retry(msgspec.Struct, frozen=True, gc=False):
    """Try the same operation again. Whether it counts an attempt against ``retry.max_attempts`` is the cause's:
    a 5xx, a reset or a time-out does, while other requests of the account succeed."""

    cause: RetryCause
    detail: str | None = None
    reference: str | None = None  # the platform's id of the failed request, should it be the last


class HoldScope(StrEnum):
    """Who waits: this lane alone, or each lane on the account."""

    LANE = "lane"
    ACCOUNT = "account"


class Hold(msgspec.Struct, frozen=True, gc=False):
    """Nobody's item is at fault: the credentials, the address or our request is. The operation stays unfinished."""

    scope: HoldScope
    reason: str  # e.g. "credentials refused (401)"


class Forbidden(msgspec.Struct, frozen=True, gc=False):
    """403: the item's fault if another operation of the lane succeeded within 60 s, else the lane holds."""

    detail: str | None = None
    reference: str | None = None


Verdict = Settle | Confirm | Retry | Hold | Forbidden


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """The plan of an event that needs no call: skipped or invalid."""

    outcome: Outcome
    reason: Reason
    detail: str | None = None


class Piece(msgspec.Struct, frozen=True, gc=False):
    """The one operation of an event that is delivered together with others, and what the platform is sent for it."""

    operation: Operation
    payload: bytes  # encoded once, at planning; its bytes count as held memory


class Member(msgspec.Struct, gc=False):
    """One piece in a request that carries several, with what its deterministic ids are made of.

    ``name`` is the handler's own, by which it may know the piece again in the answer.
    """

    operation: Operation
    payload: bytes
    event: Event | Envelope
    result_id: str
    timestamp_ms: int  # of the record that was read; -1: it has none
    name: str | None = None


class InDoubt(msgspec.Struct, frozen=True, gc=False):
    """The piece, or the whole request, may or may not have taken effect."""

    detail: str | None = None
    reference: str | None = None


class Split(msgspec.Struct, frozen=True, gc=False):
    """The platform refused the request as a whole, and nothing took effect: halves of it are tried, until the one at
    fault is alone. That one is rejected with ``reason``."""

    reason: Reason  # refused or too_large
    detail: str | None = None
    reference: str | None = None


# Forbidden splits, unless it means the lane: the dispatcher knows. A sequence holds one end for each member, in order.
BatchVerdict = Retry | Hold | Forbidden | Split | InDoubt | Sequence[Settle | InDoubt]


@runtime_checkable
class BatchHandler(Protocol):
    """One kind of delivery whose requests carry several events and must not be repeated blindly.

    The lane journals the members before the call. All methods are pure and quick.
    """

    name: ClassVar[str]
    platform: ClassVar[str]

    def plan(self, event: Event, key: bytes | None) -> Piece | Refusal:
        """The piece of an event. Raises ExpressionError."""

    def batch_of(self, operation: Operation) -> Hashable:
        """Batches are formed per this value."""

    def batch_request(self, members: Sequence[Member], batch_id: str) -> Request:
        """The request that carries the members, in order: the same bytes whenever it is made of the same."""

    def judge_batch(self, members: Sequence[Member], reply: Reply) -> BatchVerdict:
        """Whose fault the reply is, and what now."""


class Handler(Protocol):
    """One kind of delivery, one request for each operation. All methods are pure and quick."""

    name: ClassVar[str]  # e.g. "np6.segments"
    platform: ClassVar[str]  # e.g. "np6"

    def plan(self, event: Event, key: bytes | None) -> Sequence[Operation] | Refusal:
        """The operations of an event in the order in which they are carried out. Raises ExpressionError."""

    def merges_with(self, operation: Operation, earlier: Operation) -> bool:
        """Whether ``operation`` is the same assignment as ``earlier``, its neighbour of the same target."""

    def batch_of(self, operation: Operation) -> Hashable:
        """Batches are formed per this value."""

    def request(self, operation: Operation) -> Request:
        """The request that carries the operation."""

    def judge(self, operation: Operation, reply: Reply) -> Verdict:
        """Whose fault the reply is, and what now."""

    def confirmation(self, operation: Operation) -> Request:
        """The reading request after :class:`Confirm`."""

    def judge_confirmation(self, operation: Operation, reply: Reply) -> Verdict:
        """What the state is; never :class:`Confirm` again."""
