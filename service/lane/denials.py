"""What the brokers refuse the lane's consumer for good, as the lane's reason: a right on a topic or group, or the way
in which it joins its group."""

from collections.abc import Collection

from aiokafka.errors import (
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

# The brokers are asked several times a second: behind so long a silence the right is there again.
_LASTS_S = 10.0
_MORE = "`fanline check --online` says which"


def denial_of(error: BaseException) -> str | None:
    """What is refused, of an error that says so; None of any other."""
    match error:
        case TopicAuthorizationFailedError():
            return denied(f"topic {_named(error)}")
        case GroupAuthorizationFailedError():
            return denied(f"group {_named(error)}")
        case TransactionalIdAuthorizationFailed():
            return denied("the transactional ids of the lane")
        case InvalidSessionTimeoutError():
            return (
                "the brokers do not allow our session timeout; change kafka.session_timeout, or their "
                "group.min.session.timeout.ms and group.max.session.timeout.ms"
            )
        case InconsistentGroupProtocolError():
            return "another program is in the lane's consumer group; the group belongs to the lane alone"
        case _:
            return None


def denied(what: str) -> str:
    """The reason of a lane that waits for a right."""
    return f"our user of Kafka lacks a right on {what}; {_MORE}"


def unseen(topic: str, unauthorized: Collection[str], otherwise: str) -> str:
    """Why a topic has no partitions for us: we may not see it, or ``otherwise``."""
    return denied(f"topic {topic}") if topic in unauthorized else otherwise


def _named(error: BaseException) -> str:
    """aiokafka gives a name, a set of names, or nothing."""
    given = error.args[0] if error.args else None
    if isinstance(given, str):
        return given
    return ", ".join(sorted(map(str, given))) if isinstance(given, set | frozenset | list | tuple) else "of the lane"


class Denials:
    """The last refusal that the consumer met; it is no reason any more when none has come for a while."""

    def __init__(self) -> None:
        self._last: tuple[str, float] | None = None

    def note(self, error: BaseException, now: float) -> None:
        """The consumer failed with ``error``."""
        if (told := denial_of(error)) is not None:
            self._last = told, now

    def reason(self, now: float) -> str | None:
        """What is refused at this moment."""
        if self._last is None or now - self._last[1] > _LASTS_S:
            return None
        return self._last[0]
