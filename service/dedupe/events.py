"""Which records have a source and an id that a window remembers."""

from contracts.envelope import Undecodable, UndecodableKind
from contracts.events import Event
from service.dedupe.window import DedupeWindow, identity

# No tombstone and nothing malformed: these are no events, whatever their headers say.
_EVENTS = frozenset({UndecodableKind.CONTRACT, UndecodableKind.OTHER_TYPE})


def repeats(window: DedupeWindow, event: Event | Undecodable, timestamp_ms: int, offset: int) -> bool:
    """Whether a record repeats an earlier one; from now on it is remembered itself."""
    source, event_id = event.source, event.id
    if isinstance(event, Undecodable) and event.kind not in _EVENTS:
        return False
    if source is None or event_id is None:
        return False
    return window.repeats(identity(source, event_id), timestamp_ms, offset)
