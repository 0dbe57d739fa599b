"""Instants as the contracts write and read them: RFC 3339 text outside, milliseconds since 1970 (UTC) inside.

Both directions remember the last seconds that they saw, because the events of a backlog and the results of a
batch share theirs. What is remembered is bounded and changes no answer.
"""

import re
from datetime import UTC, datetime

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)([Tt ])(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH_ORDINAL = datetime(1970, 1, 1).toordinal()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END_MS = 253_402_300_800_000  # the year 10000
_REMEMBERED = 4096

_MILLIS = tuple(f".{ms:03d}Z" for ms in range(1000))
_TAILS = {"Z": 0} | {text: ms for ms, text in enumerate(_MILLIS)}
_MINUTES = frozenset(f"T{minute // 60:02d}:{minute % 60:02d}" for minute in range(24 * 60))
_SECONDS = frozenset(f":{second:02d}" for second in range(60))
_days: set[str] = set()  # "2026-11-22", each of them a day of the calendar
_strict: set[str] = set()  # "2026-11-22T02:03:04", each of them a second of a day
_read: dict[str, int] = {}  # "2026-11-22T02:03:04" in UTC -> its milliseconds
_written: dict[int, str] = {}  # seconds -> "2026-11-22T02:03:04"


def rfc3339_ms(ms: int) -> str:
    """Write an instant in UTC with milliseconds and ``Z``. Raises ValueError before 1970 and after 9999."""
    second = ms // 1000
    prefix = _written.get(second)
    if prefix is None:
        if not 0 <= ms < _END_MS:
            raise ValueError("not an instant between 1970 and 9999")
        if len(_written) >= _REMEMBERED:
            _written.clear()
        prefix = _written[second] = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return prefix + _MILLIS[ms % 1000]


def instant_text(ms: int | None) -> str | None:
    """Like :func:`rfc3339_ms`, and None for what is no instant: absent, -1 of Kafka, beyond the year 9999."""
    if ms is None:
        return None
    prefix = _written.get(ms // 1000)
    if prefix is not None:
        return prefix + _MILLIS[ms % 1000]
    return rfc3339_ms(ms) if 0 <= ms < _END_MS else None


def parse_rfc3339_ms(text: str) -> int | None:
    """Read an RFC 3339 instant; what is finer than a millisecond is cut off. None if the text is none.

    ``T`` may be ``t`` or a space. A leap second counts as the second after it.
    """
    second = _read.get(text[:19])
    if second is not None:
        ms = _TAILS.get(text[19:])
        if ms is not None:
            return second + ms
    usual = _parse_usual(text)
    if usual is None:
        return _parse_any(text)
    if len(_read) >= _REMEMBERED:
        _read.clear()
    _read[text[:19]] = usual - usual % 1000
    return usual


def is_strict_rfc3339(text: str) -> bool:
    """Whether the text is an RFC 3339 instant written with ``T``."""
    tail = text[19:]
    if text[:19] in _strict and tail in _TAILS:
        return True
    # Four looks into sets where the day was seen before: a tenth of what it takes to read the instant.
    if text[:10] in _days and text[10:16] in _MINUTES and text[16:19] in _SECONDS and tail in _TAILS:
        if len(_strict) >= _REMEMBERED:
            _strict.clear()
        _strict.add(text[:19])
        return True
    if text[10:11] != "T" or parse_rfc3339_ms(text) is None:
        return False
    if len(_days) >= _REMEMBERED:
        _days.clear()
    _days.add(text[:10])
    return True


def _parse_any(text: str) -> int | None:
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, _, hour, minute, second, fraction, sign, zone_hour, zone_minute = match.groups()
    minute_of_day = int(hour) * 60 + int(minute)
    if int(hour) > 23 or int(minute) > 59 or int(second) > 60:
        return None
    if sign is not None:
        if int(zone_hour) > 23 or int(zone_minute) > 59:
            return None
        shift = int(zone_hour) * 60 + int(zone_minute)
        minute_of_day += shift if sign == "-" else -shift
    if second == "60" and minute_of_day % 1440 != 1439:  # a leap second is the last one of a day in UTC
        return None
    try:
        days = datetime(int(year), int(month), int(day)).toordinal() - _EPOCH_ORDINAL
    except ValueError:
        return None
    seconds = days * 86_400 + minute_of_day * 60 + int(second)
    return seconds * 1000 + (int(fraction[:3].ljust(3, "0")) if fraction else 0)


def _parse_usual(text: str) -> int | None:
    """Read what most write, ``2026-11-22T02:03:04Z`` with or without three digits of a second, in a tenth of the time.

    None for everything else, which may be an instant all the same. The form is looked at here, because the standard
    library reads others too.
    """
    size = len(text)
    if (
        (size != 24 and size != 20)
        or text[-1] != "Z"
        or text[4] != "-"
        or text[7] != "-"
        or text[10] != "T"
        or text[13] != ":"
        or text[16] != ":"
        or (size == 24 and text[19] != ".")
        or not text.isascii()
        or text[11:13] == "24"
    ):
        return None
    try:
        since = datetime.fromisoformat(text) - _EPOCH
    except ValueError:
        return None
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000
