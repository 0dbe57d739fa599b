"""What a lane has read and not settled: how many bytes, and the batches that are open."""

from collections.abc import Callable

from service.batching.batcher import Batcher, BatchPolicy, Cause, OpenBatch

# Intake begins again once the buffer has this much room, so that it does not stop and start with each record.
_REFILL = 0.8


class Buffer:
    """``full``: intake waited for room when it was last looked at; ``stopped``: no partition is being read, for that
    or for an operator's pause."""

    def __init__(self, max_bytes: int, policy: BatchPolicy, dispatch: Callable[[OpenBatch, Cause], None]) -> None:
        self.max_bytes = max_bytes
        self._policy = policy
        self._dispatch = dispatch
        self._new_batcher: Callable[[BatchPolicy, Callable[[OpenBatch, Cause], None]], Batcher] = Batcher
        self.reset()

    def batch_by(self, batcher: Callable[[BatchPolicy, Callable[[OpenBatch, Cause], None]], Batcher]) -> None:
        """Batches are made by this from now on, one for each assignment."""
        self._new_batcher = batcher
        self.reset()

    def reset(self) -> None:
        """Nothing of an earlier assignment goes on."""
        self.batcher = self._new_batcher(self._policy, self._dispatch)
        self.held_bytes = 0
        self.full = False
        self.stopped = False

    def is_full(self) -> bool:
        """Whether intake has to wait for room now."""
        return self.held_bytes >= self.max_bytes or (self.full and self.held_bytes >= self.max_bytes * _REFILL)

    def full_bytes(self) -> int | None:
        """How much it holds at most while intake waits for room; None while there is some."""
        return self.max_bytes if self.full else None
