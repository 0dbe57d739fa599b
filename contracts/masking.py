"""Nothing personal in ``detail``: what a platform says about a refused item may quote the item."""

import re
from collections.abc import Iterable

from .events import ContactChanged, Event, NotificationOccurred
from .results import DETAIL_MAX

MASK = "•••"
MIN_SECRET = 4  # characters; shorter strings hide nothing and would riddle the text

_DIGITS = re.compile(r"\d{7,}")
_NO_ADDRESS = re.compile(r"[\s<>\"'`,;:()\[\]{}|\\]")


def personal_strings(event: Event) -> set[str]:
    """The texts of 4 and more characters in the event's identifiers and attributes (of a notification: in its
    context), numbers as they are written."""
    texts: set[str] = set()
    data = event.data
    if isinstance(data, ContactChanged):
        _collect(data.identifiers, texts)
        _collect(data.attributes, texts)
    elif isinstance(data, NotificationOccurred):
        _collect(data.context, texts)
    return texts


def mask_detail(text: str, secrets: Iterable[str]) -> str:
    """The platform's text, at most 500 characters, with ``•••`` for each e-mail address, each run of 7 and more
    digits, and each of ``secrets`` that has 4 and more characters, in any case.

    All are found in the original text, so that hiding one never hides another from the search, and masked before
    the text is cut, so that no half of one is left.
    """
    spans = [match.span() for match in _DIGITS.finditer(text)]
    spans += _addresses(text)
    for secret in secrets:
        if len(secret) >= MIN_SECRET:
            spans += _occurrences(text, secret)
    return _masked(text, spans)[:DETAIL_MAX]


def standing_in(text: str, secrets: Iterable[str]) -> list[str]:
    """Those of ``secrets`` that :func:`mask_detail` would find: what many events have can be looked at bit by bit."""
    haystack = _folded(text)
    return [secret for secret in secrets if len(secret) >= MIN_SECRET and _folded(secret) in haystack]


def _collect(value: object, texts: set[str]) -> None:
    if isinstance(value, str):
        if len(value) >= MIN_SECRET:
            texts.add(value)
    elif isinstance(value, dict):
        for item in value.values():
            _collect(item, texts)
    elif isinstance(value, list):
        for item in value:
            _collect(item, texts)
    elif isinstance(value, int | float) and not isinstance(value, bool) and len(str(value)) >= MIN_SECRET:
        texts.add(str(value))


def _addresses(text: str) -> list[tuple[int, int]]:
    """Around each ``@`` (also ``%40``) whatever can belong to an address."""
    spans = []
    edge = end = 0  # nothing is looked at twice: linear on any text
    for match in re.finditer(r"@|%40", text):
        start = match.start()
        while start > edge and not _NO_ADDRESS.match(text[start - 1]):
            start -= 1
        edge = match.end()
        end = max(end, edge)
        while end < len(text) and not _NO_ADDRESS.match(text[end]):
            end += 1
        if start < match.start() or end > edge:
            spans.append((start, end))
    return spans


def _occurrences(text: str, secret: str) -> list[tuple[int, int]]:
    """Where the secret stands, overlapping places too."""
    haystack, needle = _folded(text), _folded(secret)
    spans = []
    at = haystack.find(needle)
    while at >= 0:
        spans.append((at, at + len(needle)))
        at = haystack.find(needle, at + 1)
    return spans


def _folded(text: str) -> str:
    """In small letters, each letter at its place: a few grow with their case and stay as they are."""
    small = text.lower()
    if len(small) == len(text):
        return small
    return "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)


def _masked(text: str, spans: list[tuple[int, int]]) -> str:
    parts: list[str] = []
    position = 0
    for start, end in sorted(spans):
        if start >= position:
            parts += (text[position:start], MASK)
        position = max(position, end)
    return "".join([*parts, text[position:]])
