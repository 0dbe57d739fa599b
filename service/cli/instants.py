"""Instants as options write them: a time, or how long ago."""

import time

import typer

from contracts.timestamps import parse_rfc3339_ms
from service.config.quantities import duration_s


def since_ms(text: str, option: str = "--since") -> int:
    """Milliseconds since 1970 of ``2h`` (so long ago) or of an RFC 3339 time. Raises typer.BadParameter."""
    at_ms = parse_rfc3339_ms(text)
    if at_ms is not None:
        return at_ms
    try:
        return max(0, int((time.time() - duration_s(text)) * 1000))
    except ValueError:
        problem = "expected how long ago, such as 90s, 2h or 7d, or a time such as 2026-11-22T08:00:00Z"
        raise typer.BadParameter(problem, param_hint=option) from None
