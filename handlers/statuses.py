"""What a status says of who is at fault, whichever platform answers. Pure."""

from enum import Enum, StrEnum

from handlers.base import Answer, FailureKind, Reply

_REFERENCE_CHARACTERS = 200


class Row(StrEnum):
    """A row of the table: what a status says of who is at fault."""

    DONE = "done"  # any 2xx
    THROTTLED = "throttled"  # 429, 503: nothing took effect
    BROKEN = "broken"  # 408 and every other 5xx: nobody knows whether it took effect
    CREDENTIALS = "credentials"  # 401
    FORBIDDEN = "forbidden"  # 403
    NOT_FOUND = "not_found"  # 404
    GONE = "gone"  # 410
    CONFLICT = "conflict"  # 409
    TOO_LARGE = "too_large"  # 413
    REFUSED = "refused"  # 400, 422 and every other 4xx
    MISDIRECTED = "misdirected"  # 405, 411, 415, any 3xx: our request or the address is wrong


_ROWS = {
    401: Row.CREDENTIALS,
    403: Row.FORBIDDEN,
    404: Row.NOT_FOUND,
    405: Row.MISDIRECTED,
    408: Row.BROKEN,
    409: Row.CONFLICT,
    410: Row.GONE,
    411: Row.MISDIRECTED,
    413: Row.TOO_LARGE,
    415: Row.MISDIRECTED,
    429: Row.THROTTLED,
    503: Row.THROTTLED,
}


def row_of(status: int) -> Row:
    """The row of any status. What is no final HTTP status (1xx, 600 and more) is no platform answering."""
    if 200 <= status < 300:
        return Row.DONE
    row = _ROWS.get(status)
    if row is not None:
        return row
    if 400 <= status < 500:
        return Row.REFUSED
    if 500 <= status < 600:
        return Row.BROKEN
    return Row.MISDIRECTED


def misdirected(status: int) -> str:
    """Why a status says that our request or the address is wrong, for a person."""
    if 300 <= status < 400:
        return f"the platform redirects ({status}), which is never followed: base_url is wrong"
    if 400 <= status < 500:
        return f"the platform does not take our request ({status}): base_url or the request is wrong"
    return f"no answer that HTTP knows ({status}): base_url is wrong"


def request_id(answer: Answer) -> str | None:
    """What the platform's support asks for after a failure; None if it was not sent as plain text."""
    value = answer.headers.get("x-request-id")
    if not value or not value.isascii() or not value.isprintable():
        return None
    return value[:_REFERENCE_CHARACTERS]


class End(Enum):
    """What became of a call that must not be repeated blindly."""

    DONE = "done"
    REFUSED = "refused"  # nothing took effect
    IN_DOUBT = "in doubt"  # it may have taken effect


def end_of_call(reply: Reply) -> End:
    """What became of a call whose body needs no reading. Only an answer that says so proves that nothing happened."""
    if not isinstance(reply, Answer):
        sent = reply.kind in (FailureKind.TIMED_OUT, FailureKind.RESET)
        return End.IN_DOUBT if sent else End.REFUSED
    match row_of(reply.status):
        case Row.DONE:
            return End.DONE
        case Row.BROKEN:
            return End.IN_DOUBT
        case _:
            return End.REFUSED
