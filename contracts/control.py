"""The records of the control topic, a compacted topic of one partition: an operator's orders to all processes.

Keys: ``lane/<lane>`` and ``account/<account>`` (paused, or resumed), ``guard/<lane>`` (holds of the lane's own are
ended), ``loss/<lane>/<topic>-<partition>`` (records that retention removed are given up). A null value takes an order
back. Each value says who gave the order, why and when, and carries a version: what cannot be read is never taken for
leave to go on.
"""

from enum import StrEnum

import msgspec
from msgspec import Struct

VERSION = 1


class ControlError(ValueError):
    """A control record that cannot be read. The message names its kind, never its content."""


class LaneKey(Struct, frozen=True, gc=False):
    """``lane/<lane>``"""

    lane: str


class AccountKey(Struct, frozen=True, gc=False):
    """``account/<account>``"""

    account: str


class GuardKey(Struct, frozen=True, gc=False):
    """``guard/<lane>``"""

    lane: str


class LossKey(Struct, frozen=True, gc=False):
    """``loss/<lane>/<topic>-<partition>``"""

    lane: str
    topic: str
    partition: int


Key = LaneKey | AccountKey | GuardKey | LossKey


class Newer(Struct, frozen=True, gc=False):
    """A record of a later version than this code knows."""

    version: int


class Action(StrEnum):
    """What is to be done with the calls of a lane, or of an account's lanes."""

    PAUSE = "pause"
    RESUME = "resume"


class Switch(Struct, frozen=True, gc=False):
    """The order for a lane or an account."""

    action: Action
    by: str  # user@host
    why: str
    at_ms: int
    version: int = VERSION


class Release(Struct, frozen=True, gc=False):
    """What the lane holds for by itself has been mended: its guard begins anew, refused requests are tried at once."""

    by: str
    why: str
    at_ms: int
    version: int = VERSION


class Loss(Struct, frozen=True, gc=False):
    """The offsets ``from_offset`` to before ``to_offset`` of one partition are given up.

    ``offsets_lost``: not records are missing but the group's committed offset. The lane goes on at ``to_offset``, and
    what has a result already between there and the end is delivered again.
    """

    from_offset: int
    to_offset: int
    by: str
    why: str
    at_ms: int
    offsets_lost: bool = False
    version: int = VERSION


Order = Switch | Release | Loss


class _Versioned(Struct, gc=False):
    version: int


_LANE, _ACCOUNT, _GUARD, _LOSS = "lane/", "account/", "guard/", "loss/"
_encode = msgspec.json.Encoder(order="deterministic").encode
_read_version = msgspec.json.Decoder(_Versioned).decode
_DECODERS: dict[type[Key], msgspec.json.Decoder[Order]] = {
    LaneKey: msgspec.json.Decoder(Switch),
    AccountKey: msgspec.json.Decoder(Switch),
    GuardKey: msgspec.json.Decoder(Release),
    LossKey: msgspec.json.Decoder(Loss),
}


def encode_key(key: Key) -> bytes:
    """The record key of an order."""
    match key:
        case LaneKey(lane):
            return (_LANE + lane).encode()
        case AccountKey(account):
            return (_ACCOUNT + account).encode()
        case GuardKey(lane):
            return (_GUARD + lane).encode()
        case LossKey(lane, topic, partition):
            return f"{_LOSS}{lane}/{topic}-{partition}".encode()


def decode_key(key: bytes | None) -> Key | None:
    """Whom an order is for; None if it is none that this version knows."""
    try:
        text = (key or b"").decode()
    except UnicodeDecodeError:
        return None
    kind, _, rest = text.partition("/")
    if not rest:
        return None
    match kind + "/":
        case "lane/":
            return LaneKey(rest)
        case "account/":
            return AccountKey(rest)
        case "guard/":
            return GuardKey(rest)
        case "loss/":
            lane, _, place = rest.partition("/")
            topic, _, number = place.rpartition("-")
            return LossKey(lane, topic, int(number)) if lane and topic and _is_partition(number) else None
    return None


def _is_partition(text: str) -> bool:
    """An int32; longer ones Python might refuse to convert."""
    return text.isascii() and text.isdecimal() and len(text) <= 10


def encode_order(order: Order) -> bytes:
    """The record value of an order: the same bytes for the same order."""
    return _encode(order)


def decode_order(key: Key, value: bytes) -> Order | Newer:
    """Read the value of an order. Raises ControlError if it is damaged."""
    try:
        version = _read_version(value).version
        return Newer(version) if version > VERSION else _DECODERS[type(key)].decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ControlError(f"a control record that cannot be read: {type(key).__name__}") from None
