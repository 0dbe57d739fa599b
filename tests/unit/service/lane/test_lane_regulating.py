"""How far a lane reads ahead."""

import pytest

from service.lane.regulating import MAX_RECORDS, pause_s

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("held_bytes", "pauses"), [(0, False), (16 * MIB - 1, False), (16 * MIB, True), (1 << 40, True)]
)
def test_reading_pauses_where_much_is_held_and_never_for_long(held_bytes: int, pauses: bool) -> None:
    """Others have their turn first then; yet what a slow platform needs in flight is read within a second."""
    pause = pause_s(held_bytes)
    assert (pause > 0) is pauses
    assert not pause or MAX_RECORDS / pause >= 50_000
