"""The bar of long commands: on a terminal one sees how far it is, elsewhere nothing of it."""

import sys
from io import StringIO

import pytest

from service.cli import output
from service.cli.audit import Progressing


class Terminal(StringIO):
    """Takes what is drawn. ``is_one``: or is it a file after all."""

    def __init__(self, is_one: bool) -> None:
        super().__init__()
        self._is_one = is_one

    def isatty(self) -> bool:
        return self._is_one


@pytest.mark.parametrize("is_terminal", [True, False])
def test_an_audit_shows_what_it_reads_and_how_far_it_is(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thing after the other; a file has none of it, nor has standard output."""
    shown, told = Terminal(is_terminal), Terminal(is_terminal)
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(sys, "stdout", told)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(output, "_DRAW_EVERY_S", 0.0)
    with Progressing() as progressing:
        for title, total, done in (("reading results", 200, 100), ("reading the sources", 50, 10)):
            progressing.progress.begin(title, total)
            for _ in range(done):
                progressing.progress.advance(1)
    text = shown.getvalue()
    assert [word in text for word in ("reading results", "50%", "reading the sources", "20%")] == [is_terminal] * 4
    assert told.getvalue() == ""
