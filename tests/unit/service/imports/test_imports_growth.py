"""When an open batch can grow no more, at the edges of each share."""

import pytest

from service.batching.batcher import Cause
from service.imports.growth import Reading, Waiting, stands_still


@pytest.mark.parametrize(
    ("batch_bytes", "all_bytes", "slots", "stands"),
    [
        (250, 250, 1, True),
        (249, 249, 1, False),
        (125, 125, 2, True),
        (124, 124, 2, False),
        (1, 500, 2, True),
        (1, 499, 2, False),
        (250, 250, 0, True),
        (249, 249, 0, False),
    ],
)
def test_with_a_full_buffer_a_quarter_of_the_slots_part_or_half_of_all_is_enough(
    batch_bytes: int, all_bytes: int, slots: int, stands: bool
) -> None:
    """Of 1,000 bytes, which the slots share; a process that has no slot is asked as if it had one."""
    found = stands_still(Waiting(batch_bytes, all_bytes, 9), Reading(1_000, None, slots))
    assert found is (Cause.BYTES if stands else None)


@pytest.mark.parametrize(("slot_events", "unfinished", "stands"), [(5, 10, True), (4, 10, False), (5, 9, True)])
def test_without_room_in_a_commit_half_of_what_is_unfinished_is_enough(
    slot_events: int, unfinished: int, stands: bool
) -> None:
    """Also where the buffer is full of others' records, beside which the batch is small."""
    for full_bytes in (None, 1_000):
        found = stands_still(Waiting(1, 1, slot_events), Reading(full_bytes, unfinished, 1))
        assert found is (Cause.SIZE if stands else None)


def test_what_is_read_on_grows() -> None:
    """However much waits."""
    assert stands_still(Waiting(1_000_000, 1_000_000, 1_000_000), Reading(None, None, 1)) is None
