"""NDJSON: one CloudEvent in structured mode a line. What is wrong is told without a value of the file."""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from contracts.envelope import decode
from contracts.events import Event

STRUCTURED = ("content-type", b"application/cloudevents+json; charset=UTF-8")
_HEADERS = (STRUCTURED,)


class Fault(Struct, frozen=True):
    """A line that is no event. ``line`` counts from 1."""

    line: int
    problem: str  # e.g. "data.contact_id: missing"


class Line(Struct, frozen=True):
    """A line that is an event: its bytes without the line's end."""

    line: int
    value: bytes
    event: Event


def read_lines(stream: Iterable[bytes]) -> Iterator[Line | Fault | None]:
    """Every line of ``stream``, in order; None for an empty one, which is no event and no fault."""
    for number, raw in enumerate(stream, start=1):
        value = raw.rstrip(b"\r\n")
        yield _read(number, value) if value.strip() else None


def _read(number: int, value: bytes) -> Line | Fault:
    event = decode(value, _HEADERS)
    if isinstance(event, Event):
        return Line(number, value, event)
    return Fault(number, event.detail)
