"""The headers of a dead letter, which say why the record was given up and where it first lay.

Value and key are those of the original record, byte for byte, and so are its headers but for ``fanline-*``:
these are a fixed set, written anew at each hop and never repeated. On a record of a source topic they are not
believed. On a record of the lane's replay topic, which only the replay command writes, the origin, the count of
replays and the id of the run are.
"""

from collections.abc import Sequence

from msgspec import Struct

from .outcomes import Outcome, Reason
from .results import Origin, Replay
from .timestamps import instant_text, parse_rfc3339_ms

Headers = Sequence[tuple[str, bytes | None]]

PREFIX = "fanline-"
LANE = "fanline-lane"
OUTCOME = "fanline-outcome"
REASON = "fanline-reason"
DETAIL = "fanline-detail"
RESULT_ID = "fanline-result-id"
ORIGIN_TOPIC = "fanline-origin-topic"
ORIGIN_PARTITION = "fanline-origin-partition"
ORIGIN_OFFSET = "fanline-origin-offset"
ORIGIN_TIMESTAMP = "fanline-origin-timestamp"
ATTEMPTS = "fanline-attempts"
FAILED_AT = "fanline-failed-at"
STATUS = "fanline-status"
REPLAYS = "fanline-replays"
# Written by the replay command on records of the replay topic only: the id of the run.
REPLAY_ID = "fanline-replay-id"

DEAD_LETTER_HEADERS: tuple[str, ...] = (
    LANE,
    OUTCOME,
    REASON,
    DETAIL,
    RESULT_ID,
    ORIGIN_TOPIC,
    ORIGIN_PARTITION,
    ORIGIN_OFFSET,
    ORIGIN_TIMESTAMP,
    ATTEMPTS,
    FAILED_AT,
    STATUS,
    REPLAYS,
)


class Position(Struct, frozen=True, gc=False):
    """A record's place in Kafka. ``timestamp_ms`` is None where the record has none."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None = None

    def origin(self) -> Origin:
        """As results write it."""
        return Origin(self.topic, self.partition, self.offset, instant_text(self.timestamp_ms))


class ReplayRecord(Struct, frozen=True, gc=False):
    """What the headers of a record of the replay topic tell. ``replays`` counts this replay too."""

    origin: Position | None
    replays: int
    replay_id: str | None

    def result_replay(self) -> Replay:
        """As results write it."""
        return Replay(self.replay_id, None if self.origin is None else self.origin.origin())


class DeadLetter(Struct, frozen=True, gc=False):
    """What the headers of a dead letter tell. Instants are milliseconds since 1970."""

    lane: str
    outcome: Outcome
    reason: Reason | None
    detail: str | None
    result_id: str
    origin: Position
    attempts: int
    failed_at_ms: int | None
    status: int | None
    replays: int


def dead_letter_headers(
    original: Headers,
    *,
    lane: str,
    outcome: Outcome,
    reason: Reason | None,
    detail: str | None,
    result_id: str,
    read: Position,
    attempts: int,
    failed_at_ms: int,
    status: int | None = None,
    is_replay: bool = False,
) -> list[tuple[str, bytes | None]]:
    """The headers of the dead letter of a record.

    ``read`` is the record that was read. With ``is_replay`` it lies in the replay topic, and the origin and the
    count that its headers carry go on; where they cannot be read, ``read`` itself is the origin. ``detail`` is
    masked already. What is unknown is left out.
    """
    replay = read_replay(original) if is_replay else None
    origin = read if replay is None or replay.origin is None else replay.origin
    ours: list[tuple[str, str | int | None]] = [
        (LANE, lane),
        (OUTCOME, outcome.value),
        (REASON, None if reason is None else reason.value),
        (DETAIL, detail),
        (RESULT_ID, result_id),
        (ORIGIN_TOPIC, origin.topic),
        (ORIGIN_PARTITION, origin.partition),
        (ORIGIN_OFFSET, origin.offset),
        (ORIGIN_TIMESTAMP, instant_text(origin.timestamp_ms)),
        (ATTEMPTS, attempts),
        (FAILED_AT, instant_text(failed_at_ms)),
        (STATUS, status),
        (REPLAYS, 0 if replay is None else replay.replays),
    ]
    kept = [header for header in original if not header[0].startswith(PREFIX)]
    return kept + [(name, str(value).encode("utf-8", "replace")) for name, value in ours if value is not None]


def read_replay(headers: Headers) -> ReplayRecord | None:
    """What the headers of a record of the replay topic tell; None if they hold nothing of ours."""
    ours = _ours(headers)
    if not ours:
        return None
    return ReplayRecord(_position(ours), _number(ours, REPLAYS) or 0, ours.get(REPLAY_ID))


def read_dead_letter(headers: Headers) -> DeadLetter | None:
    """What the headers of a dead letter tell; None if what each of them has is missing or unreadable."""
    ours = _ours(headers)
    origin = _position(ours)
    lane, result_id = ours.get(LANE), ours.get(RESULT_ID)
    if origin is None or not lane or not result_id:
        return None
    try:
        outcome = Outcome(ours.get(OUTCOME, ""))
        reason = Reason(ours[REASON]) if REASON in ours else None
    except ValueError:
        return None
    return DeadLetter(
        lane=lane,
        outcome=outcome,
        reason=reason,
        detail=ours.get(DETAIL),
        result_id=result_id,
        origin=origin,
        attempts=_number(ours, ATTEMPTS) or 0,
        failed_at_ms=_instant(ours, FAILED_AT),
        status=_number(ours, STATUS),
        replays=_number(ours, REPLAYS) or 0,
    )


def _ours(headers: Headers) -> dict[str, str]:
    """Our headers as text; of a repeated one the last counts, and what is no UTF-8 is left out."""
    texts: dict[str, str] = {}
    for name, value in headers:
        if name.startswith(PREFIX) and value is not None:
            try:
                texts[name] = value.decode()
            except UnicodeDecodeError:
                texts.pop(name, None)
    return texts


def _position(texts: dict[str, str]) -> Position | None:
    topic = texts.get(ORIGIN_TOPIC)
    partition, offset = _number(texts, ORIGIN_PARTITION), _number(texts, ORIGIN_OFFSET)
    if not topic or partition is None or offset is None:
        return None
    return Position(topic, partition, offset, _instant(texts, ORIGIN_TIMESTAMP))


def _number(texts: dict[str, str], name: str) -> int | None:
    text = texts.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 19 else None


def _instant(texts: dict[str, str], name: str) -> int | None:
    text = texts.get(name)
    return None if text is None else parse_rfc3339_ms(text)
