"""PURE: whether an open batch can still grow. One that cannot does not wait out its linger: it would do so with reading
stopped.

A batch stands still where the lane's buffer is full, or where no partition of its slot is read because its commit could
not name more unfinished records. What is on its way elsewhere ends, and makes room: for a batch that is small beside
that the linger is waited for, or a slot would be taken by a handful of rows.
"""

import msgspec

from service.batching.batcher import Cause

# Of what a slot may have of the buffer: a batch of so much is no handful, whatever is on its way.
_SHARE = 1 / 4
# Of everything unread: so much of it waiting in open batches, and little is on its way.
_WAITING = 1 / 2


class Reading(msgspec.Struct, frozen=True):
    """What stops a slot's partitions from being read. ``full_bytes``: the lane's buffer, where that is full, else None.
    ``unfinished``: the records of the slot's partitions that have been read and are not settled, where none of these
    has room for more, else None. ``slots`` are those of this process."""

    full_bytes: int | None
    unfinished: int | None
    slots: int


class Waiting(msgspec.Struct, frozen=True):
    """What waits in open batches: ``batch_bytes`` the largest of the slot holds in memory, ``all_bytes`` those of all
    slots; ``slot_events`` wait in the slot's."""

    batch_bytes: int
    all_bytes: int
    slot_events: int


def stands_still(waiting: Waiting, reading: Reading) -> Cause | None:
    """Why the largest batch of a slot is closed before its linger has ended; None: it may still grow."""
    full = reading.full_bytes
    if full is not None:
        share = full / max(1, reading.slots) * _SHARE
        if waiting.batch_bytes >= share or waiting.all_bytes >= full * _WAITING:
            return Cause.BYTES
    if reading.unfinished is not None and waiting.slot_events >= reading.unfinished * _WAITING:
        return Cause.SIZE
    return None
