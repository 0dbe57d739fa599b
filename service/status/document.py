"""The document that ``/status`` answers. Field names are an interface; instants are RFC 3339 text, UTC.

No key, target or header of an event is in it: an event is named by its offset.
"""

import msgspec


class PartitionStatus(msgspec.Struct, gc=False):
    """One assigned partition. What is not known is null, never 0.

    ``lag`` counts from ``position``, the next offset to be read, to ``end``, behind the last record that a
    ``read_committed`` reader may see: commit markers occupy offsets, so that ``end`` − ``committed`` need not
    reach 0. ``unfinished`` are records that were read and are not settled; ``waits_for`` says in words what
    the oldest of them waits for, or what reading waits for if there is none.
    """

    topic: str
    partition: int
    position: int | None
    committed: int | None
    end: int | None
    lag: int | None
    unfinished: int
    oldest_unfinished_s: float | None
    waits_for: str | None


class BreakerStatus(msgspec.Struct, gc=False):
    """The account's breaker in this process. ``until`` is when one request may try; null if it is not open."""

    state: str
    until: str | None


class SlotStatus(msgspec.Struct, gc=False):
    """The import slots of the lane's account."""

    owned: int
    free: int


class ImportStatus(msgspec.Struct, gc=False):
    """An import that the lane has open on the platform."""

    id: str
    state: str
    rows: int
    age_s: float
    slot: int | None = None  # None: told by a process of an earlier version


class LaneStatus(msgspec.Struct):
    """One lane in one process.

    ``since`` is when the lane entered ``state``. ``slots`` is null for a lane that needs none.
    ``dead_letters`` counts those that this process wrote since its start. ``concurrency_limit`` is how many requests
    may be in flight on the account from this process now: fewer than configured while the platform throttles, null
    where there is no limit.
    """

    lane: str
    handler: str
    account: str
    state: str
    reason: str | None
    since: str
    config: str
    partitions: list[PartitionStatus]
    in_flight: int
    retrying: int
    breaker: BreakerStatus
    slots: SlotStatus | None
    open_imports: list[ImportStatus]
    journal_open: int
    dead_letters: int
    concurrency_limit: int | None = None


class Waiting(msgspec.Struct, gc=False):
    """One unfinished event and what it waits for. ``attempt`` is the call that is under way or comes next, null before
    there is one; ``next_at`` is when it is tried again, where that is known."""

    topic: str
    partition: int
    offset: int
    waits_for: str
    attempt: int | None
    next_at: str | None


class LaneReport(LaneStatus, kw_only=True):
    """One lane in one process, as the status topic holds it: when it was so, and what its events wait for.

    ``waiting`` are at most 200: the oldest of each partition, those that are tried again, those that are under way.
    ``interval_s`` is how often the process tells.
    """

    instance: str
    version: str
    time: str
    interval_s: float
    waiting: list[Waiting]


class StatusDocument(msgspec.Struct):
    """All lanes of one process."""

    instance: str
    version: str
    lanes: list[LaneStatus]


_decoder = msgspec.json.Decoder(StatusDocument)
_report_decoder = msgspec.json.Decoder(LaneReport)


def encode_status(document: StatusDocument) -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(document)


def decode_status(content: bytes) -> StatusDocument:
    """The document in ``content``. Raises msgspec.MsgspecError."""
    return _decoder.decode(content)


def report_key(lane: str, instance: str) -> bytes:
    """The key of a lane's report in the status topic."""
    return f"{lane}/{instance}".encode()


def encode_report(report: LaneReport) -> bytes:
    """The report as JSON."""
    return msgspec.json.encode(report)


def decode_report(content: bytes) -> LaneReport:
    """The report in ``content``. Raises msgspec.MsgspecError."""
    return _report_decoder.decode(content)
