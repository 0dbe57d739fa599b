"""``sync.result.v1``: what became of one event in one lane."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from .envelope import Undecodable
from .events import Envelope, Event
from .outcomes import Outcome, Reason
from .timestamps import instant_text, rfc3339_ms

SYNC_RESULT = "sync.result.v1"

# The headers of each record on the results topic.
RESULT_HEADERS: tuple[tuple[str, bytes], ...] = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)

# What others wrote is cut to these many characters in a result, so that a result stays small.
ATTRIBUTE_MAX = 1024  # id, source, type and tenant of the event
TARGET_MAX = 255  # also entity and reference
DETAIL_MAX = 500

_Instant = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


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


class ResultEvent(msgspec.Struct, gc=False):
    """The envelope of the event that the result is about."""

    id: str
    source: str
    type: str
    tenant: str | None


class Origin(msgspec.Struct, gc=False):
    """A record's place in Kafka. ``timestamp`` is null where the record has none."""

    topic: str
    partition: int
    offset: int
    timestamp: _Instant | None


class Replay(msgspec.Struct, gc=False):
    """The result is of a replay: the id of the run, and the first source record. Null where the record's
    headers do not tell."""

    id: str | None
    origin: Origin | None


class ResultData(msgspec.Struct, gc=False):
    """``data`` of a result. ``event`` is null where the envelope could not be read; ``origin`` is the record that
    was read (of a replay: in the replay topic)."""

    event: ResultEvent | None
    lane: str
    handler: str
    platform: str
    account: str
    config: str
    outcome: Outcome
    reason: Reason | None
    detail: str | None
    operations: list[Operation]
    attempts: int
    batch_id: str | None
    coalesced_into: str | None
    origin: Origin
    replay: Replay | None
    dead_letter: bool
    dry_run: bool
    received_at: _Instant
    completed_at: _Instant


class SyncResult(msgspec.Struct, gc=False, kw_only=True):
    """The CloudEvent on the results topic, in structured mode. ``subject`` is the input event's id."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    subject: str | UnsetType = UNSET
    type: Literal["sync.result.v1"] = "sync.result.v1"
    time: _Instant
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: str | UnsetType = UNSET
    data: ResultData


class WrittenResult(msgspec.Struct, gc=False):
    """A :class:`SyncResult` on its way out: made by position, which is quicker."""

    specversion: str
    id: str
    source: str
    subject: str | UnsetType
    type: str
    time: str
    datacontenttype: str
    traceparent: str | UnsetType
    data: ResultData


class ResultError(ValueError):
    """The bytes are no ``sync.result.v1``."""


_decoder = msgspec.json.Decoder(SyncResult)
_encode = msgspec.json.Encoder().encode


def decode_result(value: bytes) -> SyncResult:
    """Read a record of the results topic. Unknown fields are ignored. Raises ResultError."""
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ResultError(f"no {SYNC_RESULT}: {type(error).__name__}") from error


class ResultEncoder:
    """Builds the results of one lane. What is the same in all of them is bound here."""

    def __init__(
        self, *, lane: str, handler: str, platform: str, account: str, config: str, dry_run: bool = False
    ) -> None:
        self._source = f"fanline/{lane}"
        self._lane = lane
        self._handler = handler
        self._platform = platform
        self._account = account
        self._config = config
        self._dry_run = dry_run
        self._completed_at_ms = self._received_at_ms = 0
        self._completed_at = self._received_at = rfc3339_ms(0)

    def encode(
        self,
        result_id: str,
        event: Event | Envelope | Undecodable | None,
        outcome: Outcome,
        reason: Reason | None,
        detail: str | None,
        operations: list[Operation],
        attempts: int,
        batch_id: str | None,
        coalesced_into: str | None,
        topic: str,
        partition: int,
        offset: int,
        timestamp_ms: int,
        replay: Replay | None,
        dead_letter: bool,
        received_at_ms: int,
        completed_at_ms: int,
    ) -> bytes:
        """The value of one result record. Hand the arguments over by position: by keyword costs 1 µs more.

        ``event`` is what was decoded of the record; None where not even that was possible. ``detail`` and the
        operations' details are masked already (:mod:`contracts.masking`). Texts longer than the bounds of this
        module are cut; the operations given are not changed.
        """
        if type(event) is Event and len(event.id) + len(event.source) + len(event.type) <= ATTRIBUTE_MAX:
            subject: str | UnsetType = event.id
            envelope: ResultEvent | None = ResultEvent(event.id, event.source, event.type, event.tenant)
            traceparent: str | UnsetType = UNSET if event.traceparent is None else event.traceparent
        else:
            subject, envelope, traceparent = _described(event)
        if completed_at_ms != self._completed_at_ms:  # a batch is completed at once: most results share it
            self._completed_at_ms, self._completed_at = completed_at_ms, rfc3339_ms(completed_at_ms)
        if received_at_ms != self._received_at_ms:
            self._received_at_ms, self._received_at = received_at_ms, rfc3339_ms(received_at_ms)
        result = self.written(
            result_id,
            subject,
            envelope,
            traceparent,
            outcome,
            reason,
            None if detail is None else detail[:DETAIL_MAX],
            _bounded(operations),
            attempts,
            batch_id,
            coalesced_into,
            Origin(topic, partition, offset, instant_text(timestamp_ms)),
            replay,
            dead_letter,
            self._received_at,
            self._completed_at,
        )
        try:
            return _encode(result)
        except UnicodeEncodeError:  # half a surrogate pair, in a text that is not of the event
            return _encode(_without_surrogates(result))

    def written(
        self,
        result_id: str,
        subject: str | UnsetType,
        envelope: ResultEvent | None,
        traceparent: str | UnsetType,
        outcome: Outcome,
        reason: Reason | None,
        detail: str | None,
        operations: list[Operation],
        attempts: int,
        batch_id: str | None,
        coalesced_into: str | None,
        origin: Origin,
        replay: Replay | None,
        dead_letter: bool,
        received_at: str,
        completed_at: str,
    ) -> WrittenResult:
        """The result of which these are the texts and the numbers, as they stand."""
        return WrittenResult(
            "1.0",
            result_id,
            self._source,
            subject,
            SYNC_RESULT,
            completed_at,
            "application/json",
            traceparent,
            ResultData(
                envelope,
                self._lane,
                self._handler,
                self._platform,
                self._account,
                self._config,
                outcome,
                reason,
                detail,
                operations,
                attempts,
                batch_id,
                coalesced_into,
                origin,
                replay,
                dead_letter,
                self._dry_run,
                received_at,
                completed_at,
            ),
        )


def _described(
    event: Event | Envelope | Undecodable | None,
) -> tuple[str | UnsetType, ResultEvent | None, str | UnsetType]:
    """Subject, envelope and traceparent of a result: cut, and absent where they could not be read."""
    if event is None:
        return UNSET, None, UNSET
    event_id, source, kind = event.id, event.source, event.type
    traceparent = event.traceparent
    trace = UNSET if traceparent is None else traceparent
    if event_id is None or source is None or kind is None:
        return UNSET if event_id is None else event_id[:ATTRIBUTE_MAX], None, trace
    if len(event_id) + len(source) + len(kind) > ATTRIBUTE_MAX:
        event_id, source, kind = event_id[:ATTRIBUTE_MAX], source[:ATTRIBUTE_MAX], kind[:ATTRIBUTE_MAX]
    return event_id, ResultEvent(event_id, source, kind, event.tenant), trace


def _bounded(operations: list[Operation]) -> list[Operation]:
    for operation in operations:
        texts = len(operation.target or "") + len(operation.entity or "") + len(operation.reference or "")
        if texts > TARGET_MAX or operation.detail is not None:
            return [_cut(one) for one in operations]
    return operations


def _cut(operation: Operation) -> Operation:
    def cut(text: str | None, length: int) -> str | None:
        return None if text is None else text[:length]

    return msgspec.structs.replace(
        operation,
        target=cut(operation.target, TARGET_MAX),
        entity=cut(operation.entity, TARGET_MAX),
        reference=cut(operation.reference, TARGET_MAX),
        detail=cut(operation.detail, DETAIL_MAX),
    )


def _without_surrogates(result: WrittenResult) -> SyncResult:
    """The same result with each lone surrogate replaced by a question mark."""

    def clean(value: object) -> object:
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode()
        if isinstance(value, list):
            return [clean(item) for item in value]
        if isinstance(value, dict):
            return {clean(key): clean(item) for key, item in value.items()}
        return value

    return msgspec.convert(clean(msgspec.to_builtins(result)), SyncResult)
