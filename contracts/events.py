"""The events that Fanline consumes: ``contact.changed.v1`` and ``notification.occurred.v1``.

A field that is None was absent (or null, which is the same). The structs are what a valid record is decoded
into (:func:`contracts.envelope.decode`); the bounds on their fields are the contract.

The contracts tolerate unknown fields. That the structs forbid them is how the decoder notices them
(:mod:`contracts.fast_decoding`); use :func:`contracts.envelope.decode`, not a decoder of your own.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from .timestamps import parse_rfc3339_ms

CONTACT_CHANGED = "contact.changed.v1"
NOTIFICATION_OCCURRED = "notification.occurred.v1"

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

Int32 = Annotated[int, Meta(ge=INT32_MIN, le=INT32_MAX)]
Int64 = Annotated[int, Meta(ge=INT64_MIN, le=INT64_MAX)]
Instant = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class Segments(Struct, gc=False, forbid_unknown_fields=True):
    """Deltas, not a snapshot: the segments that the contact joins and leaves."""

    join: list[Int32] | None = None
    leave: list[Int32] | None = None


class Consent(Struct, gc=False, forbid_unknown_fields=True):
    """What the contact consents to, on one channel and topic."""

    channel: str
    topic: str
    status: Literal["opt-in", "opt-out"]


class ContactChanged(Struct, gc=False, forbid_unknown_fields=True):
    """A contact was created, updated or deleted.

    ``attributes``, ``identifiers``, ``consents`` and ``tags`` are snapshots of the contact's current state.
    """

    contact_id: Annotated[str, Meta(min_length=1, max_length=255)]
    change: Literal["created", "updated", "deleted"]
    identifiers: dict[str, str] | None = None
    attributes: dict[str, str | Int64 | float | bool | None] | None = None
    segments: Segments | None = None
    consents: list[Consent] | None = None
    tags: list[str] | None = None
    version: Annotated[int, Meta(ge=0, le=INT64_MAX)] | None = None


class NotificationOccurred(Struct, gc=False, forbid_unknown_fields=True):
    """Something happened to a notification that was shown to a target (NP6's ids)."""

    notification_key: Int32
    target: str
    action: Literal["impression", "activation", "redirection", "dismiss"]
    occurred_at: Instant
    label: str | None = None
    contact_id: str | None = None
    context: dict[str, Any] | None = None


class Event(Struct, gc=False):
    """One CloudEvent that was read and holds to its contract.

    ``time`` is the text of the envelope, readable or not; where it is not readable the record's timestamp counts,
    which whoever has the record writes into ``record_ms``.
    """

    id: str
    source: str
    type: str
    data: ContactChanged | NotificationOccurred
    subject: str | None = None
    tenant: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    time: str | None = None
    record_ms: int | None = None

    @property
    def time_ms(self) -> int | None:
        """Milliseconds since 1970 (UTC). Read only when asked for: most lanes never do."""
        time_ms = None if self.time is None else parse_rfc3339_ms(self.time)
        return self.record_ms if time_ms is None else time_ms


class Envelope(Struct, gc=False):
    """What a result tells of an event, without the event's data: that is most of what an event takes of memory, and
    whoever holds 50,000 of them for minutes can decode it again. ``time_ms`` is None unless it was asked for."""

    id: str
    source: str
    type: str
    tenant: str | None
    traceparent: str | None
    time_ms: int | None
