"""Whether *others* succeed: the difference between one item's fault and an outage.

A 5xx or time-out of one operation counts an attempt only while other requests of the account succeed; a 403
is the item's fault only if another operation of the lane succeeded. Both look back 60 s, the first no further than to
the operation's failure before: what succeeded before an outage says nothing of the item that fails in it, and the
breaker needs a while to see an outage behind many successes. One memory per account, one per lane.
"""

from math import inf

LOOK_BACK_S = 60.0


class Successes:
    """Who succeeded last, and when somebody else did before: enough to know of each whether another one succeeded.

    Rejected: one time per operation (grows), one time in all (an operation's own earlier success, say of the
    request before its confirming GET, would make its failure count).
    """

    __slots__ = ("_before_s", "_last", "_last_s")

    def __init__(self) -> None:
        self._last: object = None
        self._last_s = self._before_s = -inf

    def record(self, operation: object, now: float) -> None:
        """A request of ``operation`` succeeded. Operations are told apart by identity."""
        if operation is not self._last:
            self._last, self._before_s = operation, self._last_s
        self._last_s = now

    def others_succeed(self, operation: object, now: float, since: float = -inf) -> bool:
        """Whether another operation than this one succeeded within the last 60 s, and after ``since``."""
        last_s = self._before_s if operation is self._last else self._last_s
        return now - last_s <= LOOK_BACK_S and last_s > since
