"""Which records tell of one event: cheap tests first, for most records do not. Pure."""

import msgspec

from contracts.envelope import Headers, decode
from contracts.events import Event
from contracts.results import ATTRIBUTE_MAX


class EventMatcher:
    """Finds the records of the event with this CloudEvents id, in structured and in binary mode."""

    def __init__(self, event_id: str) -> None:
        self._id = event_id
        self._raw = event_id.encode("utf-8", "surrogatepass")
        # Our own results escape as little as JSON allows.
        self._in_results = msgspec.json.encode(event_id.encode("utf-8", "replace").decode()[:ATTRIBUTE_MAX])[1:-1]

    def is_of(self, value: bytes | None, headers: Headers) -> bool:
        """Whether the record is the event."""
        if not self._may_be_of(value, headers):
            return False
        found = decode(value, headers)
        return found.id == self._id

    def mentions(self, value: bytes | None, headers: Headers) -> bool:
        """Whether the record holds the id somewhere and cannot be read: it may be the event, broken."""
        if not value or self._raw not in value:
            return False
        found = decode(value, headers)
        return not isinstance(found, Event) and found.id is None

    def may_be_in_result(self, value: bytes | None) -> bool:
        """Whether a result may be about the event."""
        return value is not None and self._in_results in value

    def _may_be_of(self, value: bytes | None, headers: Headers) -> bool:
        # Whoever escapes a character of the id needs a backslash for it.
        if value is not None and (self._raw in value or b"\\" in value):
            return True
        return any(name == "ce_id" and content == self._raw for name, content in headers)
