"""Results as nearly all are: of one operation, which ended without a word of the platform's.

They differ in a few texts, numbers and instants, which are written into a template: that takes half as long as to
encode each as a whole. :class:`contracts.results.ResultEncoder` writes the templates, and whatever is not usual; the
bytes are the same whichever way was taken.
"""

from typing import Any

import msgspec
from msgspec import UNSET, Raw

from .events import Event
from .outcomes import DEAD, Outcome, Reason
from .results import TARGET_MAX, Operation, Origin, ResultEncoder, ResultEvent
from .timestamps import instant_text, rfc3339_ms

_MOST_TEMPLATES = 256
# Where a template is filled in. JSON writes no control character as it is: there is no other such in a result.
_GAP = "\0"
_NUMBER: Any = Raw(b"\0")
_TEXT: Any = Raw(b'"\0"')
_NULL: Any = Raw(b"null\0")  # filled in with nothing
_BEFORE_TRACEPARENT: Any = Raw(b'"application/json"\0')
_encode = msgspec.json.Encoder().encode


class UsualResults:
    """Writes the usual results of one lane."""

    def __init__(self, encoder: ResultEncoder) -> None:
        self._encoder = encoder
        self._templates: dict[tuple[Any, ...], list[str]] = {}
        self._completed_at_ms = self._received_at_ms = 0
        self._completed_at = self._received_at = rfc3339_ms(0)

    def encode(
        self,
        result_id: str,
        event: Event,
        operation: Operation,
        batch_id: str | None,
        topic: str,
        partition: int,
        offset: int,
        timestamp_ms: int,
        received_at_ms: int,
        completed_at_ms: int,
    ) -> bytes | None:
        """The value of the result of an event of a source topic whose end is that of this one operation; None if it is
        not usual. Hand the arguments over by position.
        """
        event_id, source, tenant, trace = event.id, event.source, event.tenant, event.traceparent
        target, entity, reference = operation.target, operation.entity, operation.reference
        timestamp = instant_text(timestamp_ms)
        if operation.detail is not None or target is None or entity is None or batch_id is None or timestamp is None:
            return None
        texts = f"{event_id}{source}{tenant}{trace}{target}{entity}{reference}"
        # Nothing of it may be cut, and JSON has to write each of its characters as it is.
        if len(texts) > TARGET_MAX or not _is_plain(texts):
            return None
        if completed_at_ms != self._completed_at_ms:
            self._completed_at_ms, self._completed_at = completed_at_ms, rfc3339_ms(completed_at_ms)
        if received_at_ms != self._received_at_ms:
            self._received_at_ms, self._received_at = received_at_ms, rfc3339_ms(received_at_ms)
        look = (
            operation.kind,
            operation.outcome,
            operation.reason,
            operation.status,
            operation.attempts,
            topic,
            event.type,
            tenant is None,
            reference is None,
        )
        filled = self._templates.get(look) or self._template(*look)
        filled[1::2] = (
            result_id,
            event_id,
            self._completed_at,
            "" if trace is None else f',"traceparent":"{trace}"',
            event_id,
            source,
            tenant or "",
            target,
            entity,
            reference or "",
            batch_id,
            str(partition),
            str(offset),
            timestamp,
            self._received_at,
            self._completed_at,
        )
        return "".join(filled).encode()

    def _template(
        self,
        kind: str,
        outcome: Outcome | None,
        reason: Reason | None,
        status: int | None,
        attempts: int,
        topic: str,
        type_: str,
        no_tenant: bool,
        no_reference: bool,
    ) -> list[str]:
        """What all such results have in common, and between these what is another text in each: it is filled in
        again and again."""
        assert outcome is not None
        reference = _NULL if no_reference else _TEXT
        result = self._encoder.written(
            _TEXT,
            _TEXT,
            ResultEvent(_TEXT, _TEXT, type_, _NULL if no_tenant else _TEXT),
            UNSET,
            outcome,
            reason,
            None,
            [Operation(kind, _TEXT, _TEXT, outcome, reason, None, status, reference, attempts)],
            attempts,
            _TEXT,
            None,
            Origin(topic, _NUMBER, _NUMBER, _TEXT),
            None,
            outcome in DEAD,
            _TEXT,
            _TEXT,
        )
        result.datacontenttype = _BEFORE_TRACEPARENT
        common = _encode(result).decode().split(_GAP)
        template = [text for part in common for text in (part, "")][:-1]
        if len(self._templates) >= _MOST_TEMPLATES:
            self._templates.clear()
        look = (kind, outcome, reason, status, attempts, topic, type_, no_tenant, no_reference)
        self._templates[look] = template
        return template


def _is_plain(text: str) -> bool:
    """Whether JSON has nothing but quotes around the text: the encoder itself is the quickest to tell."""
    try:
        return len(_encode(text)) == len(text) + 2
    except UnicodeEncodeError:  # half a surrogate pair
        return False
