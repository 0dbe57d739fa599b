"""How much longer than its bound a wait may take: the bounds in the tests are those of an idle machine."""

import os

PATIENCE = float(os.environ.get("FANLINE_TEST_PATIENCE", "4"))
"""A wait polls, so patience costs nothing where the condition comes; a machine with other work needs it."""


def patiently(within_s: float) -> float:
    """The bound of a wait, in seconds, on a machine that may be busy. Never for what itself is under test."""
    return within_s * PATIENCE
