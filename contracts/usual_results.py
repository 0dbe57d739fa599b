"""Results as nearly all are: of one operation, which ended without a word of the platform's.

They differ in a few texts, numbers and instants, which are written into a template: that takes half as long as to
encode each as a whole. :class:`contracts.results.ResultEncoder` writes the templates, and whatever is not usual; the
bytes are the same whichever way was taken.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from .events import Envelope, Event
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

# Of a result of an event of a source topic, whose end is that of its one operation: the result's id, the event, the
# operation, the batch's id, the record's topic, partition, offset and timestamp in ms, and when it was received in ms.
UsualResult = tuple[str, Event | Envelope, Operation, str | None, str, int, int, int, int]
# What results of one batch that were read together mostly have in common.
_Common = tuple[
    str,
    Outcome | None,
    Reason | None,
    int | None,
    int,
    str,
    str,
    bool,
    str,
    str | None,
    str | None,
    str | None,
    int,
    int,
]


class UsualResults:
    """Writes the usual results of one lane."""

    def __init__(self, encoder: ResultEncoder) -> None:
        self._encoder = encoder
        self._templates: dict[tuple[Any, ...], list[str]] = {}
        # By what the results of neighbours have in common, which is written once; None: they are not usual.
        self._runs: dict[_Common, list[str] | None] = {}
        self._completed_at_ms = -1  # of the runs

    def encode_all(self, results: Sequence[UsualResult | None], completed_at_ms: int) -> list[bytes | None]:
        """The value of each result; None for one that is not usual, or for None."""
        runs = self._runs
        if completed_at_ms != self._completed_at_ms or len(runs) >= _MOST_TEMPLATES:
            runs.clear()
            self._completed_at_ms = completed_at_ms
        last, template = None, None
        last_ms, timestamp = None, None
        values: list[bytes | None] = []
        texts: list[str] = []
        for result in results:
            if result is None:
                values.append(None)
                texts.append("")
                continue
            result_id, event, done, batch_id, topic, partition, offset, timestamp_ms, received_at_ms = result
            event_id, trace, target, reference = event.id, event.traceparent, done.target, done.reference
            common = (
                done.kind,
                done.outcome,
                done.reason,
                done.status,
                done.attempts,
                topic,
                event.type,
                reference is None,
                event.source,
                event.tenant,
                done.entity,
                batch_id,
                partition,
                received_at_ms,
            )
            if common != last:
                last = common
                if common not in runs:
                    runs[common] = self._run(common, rfc3339_ms(completed_at_ms))
                template = runs[common]
            if timestamp_ms != last_ms:  # the records of a backlog share theirs
                last_ms, timestamp = timestamp_ms, instant_text(timestamp_ms)
            text = f"{event_id}{trace or ''}{target}{reference or ''}"
            if (
                template is None
                or len(text) > TARGET_MAX  # nothing of it may be cut
                or done.detail is not None
                or target is None
                or timestamp is None
            ):
                values.append(None)
                texts.append("")
                continue
            texts.append(text)
            template[1::2] = (
                result_id,
                event_id,
                "" if trace is None else f',"traceparent":"{trace}"',
                event_id,
                target,
                reference or "",
                str(offset),
                timestamp,
            )
            values.append("".join(template).encode(errors="surrogatepass"))
        # JSON has to write each of their characters as it is: what is true of all together is true of each.
        if _is_plain("".join(texts)):
            return values
        return [value if _is_plain(text) else None for value, text in zip(values, texts, strict=True)]

    def _run(self, common: "_Common", completed_at: str) -> list[str] | None:
        """The template with what these results have in common; None where they are not usual."""
        kind, outcome, reason, status, attempts, topic, type_, no_reference, source, tenant, *_ = common
        entity, batch_id, partition, received_at_ms = common[10:]
        text = f"{source}{tenant}{entity}"
        if entity is None or batch_id is None or len(text) > TARGET_MAX or not _is_plain(text):
            return None
        look = (kind, outcome, reason, status, attempts, topic, type_, no_reference, tenant is None)
        template = self._templates.get(look) or self._template(*look)
        template[1::2] = (
            _GAP,
            _GAP,
            completed_at,
            _GAP,
            _GAP,
            source,
            tenant or "",
            _GAP,
            entity,
            _GAP,
            batch_id,
            str(partition),
            _GAP,
            _GAP,
            rfc3339_ms(received_at_ms),
            completed_at,
        )
        return _parted("".join(template))

    def _template(
        self,
        kind: str,
        outcome: Outcome | None,
        reason: Reason | None,
        status: int | None,
        attempts: int,
        topic: str,
        type_: str,
        no_reference: bool,
        no_tenant: bool,
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
        template = _parted(_encode(result).decode())
        if len(self._templates) >= _MOST_TEMPLATES:
            self._templates.clear()
        look = (kind, outcome, reason, status, attempts, topic, type_, no_reference, no_tenant)
        self._templates[look] = template
        return template


def _parted(text: str) -> list[str]:
    """A template: the parts of a text, and between them what is filled in."""
    return [part for fixed in text.split(_GAP) for part in (fixed, "")][:-1]


def _is_plain(text: str) -> bool:
    """Whether JSON has nothing but quotes around the text: the encoder itself is the quickest to tell."""
    try:
        return len(_encode(text)) == len(text) + 2
    except UnicodeEncodeError:  # half a surrogate pair
        return False
