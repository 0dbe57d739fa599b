"""Whether the group's coordinator may take this process for gone: it has answered no heartbeat for too long.

Such a process still runs, and may still reach the platforms. What it has read may be another's to deliver by now, so
that it starts no call; what has ended meanwhile is settled as soon as the brokers answer, if it is still a member.
The rejected way: to give everything up at once. A broker that restarts would have calls made again whose answers we
have.
"""

# Of the session timeout, which the coordinator counts from the last heartbeat that it got.
_LEASE = 0.8
SILENCE = "the brokers answer no heartbeat"


class Silence:
    """Times are monotonic, in seconds."""

    def __init__(self, session_timeout_s: float, now: float) -> None:
        self._lease_s = session_timeout_s * _LEASE
        self._heard_at = now

    def heard(self, sent_at: float) -> None:
        """What was sent then proved the membership."""
        self._heard_at = max(self._heard_at, sent_at)

    def reason(self, now: float) -> str | None:
        """Why no call may start; None while the membership is proved."""
        return SILENCE if now - self._heard_at >= self._lease_s else None
