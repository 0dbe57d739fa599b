"""The sandbox's notifications: what happened to what targets were shown, as the platform lists it.

Unless an account has rows of its own, every known target has a few, made of its name: the same however often they are
asked for. Their times lie in the first half of 2026; one row in four lacks the zone, as the platform's may.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import msgspec

ACTIONS = ("dismiss", "activation", "redirection", "impression")
SORTS = ("asc", "desc")

_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_MINUTES = 180 * 24 * 60
# What later happenings follow the impression by.
_LATER = {"activation": timedelta(seconds=4.25), "redirection": timedelta(seconds=5.5), "dismiss": timedelta(minutes=3)}


class BadQuery(ValueError):
    """The platform does not understand the query."""


class Row(msgspec.Struct, omit_defaults=False):
    """One notification that a target was shown, as the vendor's example has it; date-times as text or null."""

    notification_key: Any = 0
    target: Any = None
    libelle: Any = None
    dismiss: Any = None
    activation: Any = None
    redirection: Any = None
    impression: Any = None


def made_rows(target: str, count: int) -> Iterator[Row]:
    """``count`` rows of a target that nobody has prepared."""
    for number in range(count):
        drawn = zlib.crc32(f"{target}/{number}".encode())
        shown = _FIRST + timedelta(minutes=drawn % _MINUTES)
        row = Row(100 + number, target, f"Campaign {drawn % 7}", impression=_text(shown, zoned=number % 4 != 3))
        for action, later in _LATER.items():
            if zlib.crc32(f"{target}/{number}/{action}".encode()) % 3:
                setattr(row, action, _text(shown + later, zoned=number % 4 != 3))
        yield row


def listed(rows: Sequence[Row], query: str) -> bytes:
    """The answer: rows with a happening in the window, sorted by their first one in it where that was asked for.

    Raises BadQuery.
    """
    asked = parse_qs(query, keep_blank_values=True)
    start, end = _bound(asked, "start"), _bound(asked, "end")
    sort = asked.get("sort", [None])[-1]
    if sort is not None and sort not in SORTS:
        raise BadQuery("sort must be asc or desc")
    found = [(first, row) for row in rows if (first := _first_within(row, start, end)) is not None]
    if sort is None:
        found = found[1::2] + found[::2]  # unordered
    else:
        found.sort(key=lambda pair: pair[0], reverse=sort == "desc")
    return msgspec.json.encode([row for _, row in found])


def _first_within(row: Row, start: datetime | None, end: datetime | None) -> datetime | None:
    happened = [_instant(text) for action in ACTIONS if isinstance(text := getattr(row, action), str)]
    within = [at for at in happened if (start is None or at >= start) and (end is None or at < end)]
    return min(within, default=None)


def _bound(asked: Mapping[str, Sequence[str]], name: str) -> datetime | None:
    """A bound of the window: ISO 8601 or seconds since 1970."""
    if name not in asked:
        return None
    text = asked[name][-1]
    try:
        return datetime.fromtimestamp(int(text), UTC) if text.isdecimal() else _instant(text)
    except (ValueError, OverflowError):
        raise BadQuery(f"{name} must be a date-time") from None


def _instant(text: str) -> datetime:
    read = datetime.fromisoformat(text)
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)


def _text(at: datetime, *, zoned: bool) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S") + (f".{at.microsecond // 1000:03d}" if at.microsecond else "") + "Z" * zoned
