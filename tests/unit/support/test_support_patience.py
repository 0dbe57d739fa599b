"""A bound that moves on while something comes."""

import pytest

from tests.support import patience
from tests.support.patience import PATIENCE, Patience


def test_what_goes_on_is_waited_for_and_what_stands_still_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the bound whatever happens; behind it for as long as the count changes, and a little longer."""
    now = 0.0
    monkeypatch.setattr(patience.time, "monotonic", lambda: now)
    bound = Patience(10.0)
    assert not bound.is_over(1)
    now = 10.0 * PATIENCE
    assert not bound.is_over(1)
    for count in range(2, 20):
        now += 4.0 * PATIENCE
        assert not bound.is_over(count)
    now += 4.0 * PATIENCE
    assert not bound.is_over(19)
    now += 2.0 * PATIENCE
    assert bound.is_over(19)
