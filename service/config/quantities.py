"""Durations, sizes and fractions as the file writes them: a whole number and a unit. A bare number is refused."""

import re

DURATION_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
SIZE_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "kB": 1000, "MB": 1000**2}

DURATION = "a duration: a whole number and ms, s, m, h or d, such as 200ms"
SIZE = "a size: a whole number and B, KiB, MiB, kB or MB, such as 1MiB"
FRACTION = "a share in percent, such as 20%"

DURATION_PATTERN = r"^[0-9]{1,12}(ms|s|m|h|d)$"
SIZE_PATTERN = r"^[0-9]{1,16}(B|KiB|MiB|kB|MB)$"
FRACTION_PATTERN = r"^[0-9]{1,3}(\.[0-9]{1,6})?%$"

_DURATION = re.compile(DURATION_PATTERN, re.ASCII)
_SIZE = re.compile(SIZE_PATTERN, re.ASCII)
_FRACTION = re.compile(FRACTION_PATTERN, re.ASCII)
# Longer ones do not fit the milliseconds of a 64-bit timestamp, and none is meant.
_MAX_DURATION_MS = 3_650 * 86_400_000
_MAX_SIZE = 2**53


def duration_s(text: str) -> float:
    """Seconds of a duration such as ``200ms``. Raises ValueError with what is allowed."""
    if not (match := _DURATION.fullmatch(text)):
        raise ValueError(f"expected {DURATION}")
    unit = match[1]
    milliseconds = int(text[: -len(unit)]) * DURATION_UNITS_MS[unit]
    if milliseconds > _MAX_DURATION_MS:
        raise ValueError("expected a duration of at most 3650d")
    return milliseconds / 1000


def size_bytes(text: str) -> int:
    """Bytes of a size such as ``1MiB``. Raises ValueError with what is allowed."""
    if not (match := _SIZE.fullmatch(text)):
        raise ValueError(f"expected {SIZE}")
    unit = match[1]
    size = int(text[: -len(unit)]) * SIZE_UNITS[unit]
    if size > _MAX_SIZE:
        raise ValueError(f"expected a size of at most {_MAX_SIZE}B")
    return size


def fraction(text: str) -> float:
    """The share that a percentage such as ``20%`` stands for: 0.2. Raises ValueError with what is allowed."""
    if not _FRACTION.fullmatch(text):
        raise ValueError(f"expected {FRACTION}")
    share = float(text[:-1]) / 100
    if share > 1:
        raise ValueError("expected at most 100%")
    return share


def duration_text(seconds: float) -> str:
    """The shortest writing of a duration, e.g. ``60m`` as ``1h``; ``0s`` for none."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    for unit in ("d", "h", "m", "s", "ms"):
        if milliseconds % DURATION_UNITS_MS[unit] == 0:
            return f"{milliseconds // DURATION_UNITS_MS[unit]}{unit}"
    raise AssertionError("every whole number of milliseconds has a unit")


def size_text(size: int) -> str:
    """The shortest writing of a size, e.g. ``1048576B`` as ``1MiB``."""
    writings = [f"{size // factor}{unit}" for unit, factor in SIZE_UNITS.items() if size % factor == 0]
    return min(writings, key=len)


def fraction_text(share: float) -> str:
    """A share as the file writes it, e.g. ``20%``."""
    return f"{round(share * 100, 6):g}%"
