"""The records of a lane's journal, a compacted topic that nobody subscribes to.

Keys: ``delivery/<id>`` (a delivery begun that must not be repeated blindly), ``contact/<key>`` (the open dead
letters of a contact), ``start/<topic>`` (where a lane began with a topic, and what it has lost), ``settled/<topic>``
(how far it has settled it), ``held-time`` (the intervals in which a deadline does not count). A null value takes an
entry out. Each value carries a version: whoever meets a newer one than its own holds the lane rather than guess.
"""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

VERSION = 1

# Partition, first offset, the offset after the last.
Range = tuple[int, int, int]
# What one delivery can name: batches have 100,000 events at most. Whoever reads an entry writes its records out.
MOST_RECORDS = 1_000_000


class JournalError(ValueError):
    """A journal record that cannot be read. The message names its kind, never its content."""


class StartKey(Struct, frozen=True, gc=False):
    """``start/<topic>``"""

    topic: str


class SettledKey(Struct, frozen=True, gc=False):
    """``settled/<topic>``"""

    topic: str


class DeliveryKey(Struct, frozen=True, gc=False):
    """``delivery/<id>``"""

    id: str


class ContactKey(Struct, frozen=True, gc=False):
    """``contact/<key>``: the bytes of the record key, as they are."""

    key: bytes


class HeldTimeKey(Struct, frozen=True, gc=False):
    """``held-time``"""


Key = StartKey | SettledKey | DeliveryKey | ContactKey | HeldTimeKey


class Newer(Struct, frozen=True, gc=False):
    """A record of a later version than this code knows: the lane holds."""

    version: int


class Lost(Struct, frozen=True, array_like=True, gc=False):
    """Offsets that were given up, written as ``[from, to, by, at]``: ``from`` to before ``to``, by whom, when."""

    from_offset: int
    to_offset: int
    by: str
    at_ms: int


class Start(Struct, frozen=True, gc=False):
    """Where a lane began with a partition of a topic. Written with the partition's first commit.

    ``policy`` is ``earliest``, ``latest`` or the configured time, as it was written in the configuration.
    ``partitions`` is the topic's partition count then: a partition added later starts at its beginning.
    """

    policy: str
    resolved_at_ms: int
    partitions: Annotated[int, Meta(ge=1)]
    first_offset: int | None = None  # of the partition that the record lies in
    lost: tuple[Lost, ...] = ()
    version: int = VERSION


class Settled(Struct, frozen=True, gc=False):
    """How far a lane has settled a partition of a topic: the offset that was committed last, with its metadata, in the
    transaction that committed it. What a group's coordinator tells can lie behind it, and is wrong then."""

    offset: Annotated[int, Meta(ge=0)]
    metadata: str = ""
    version: int = VERSION


class HeldTime(Struct, frozen=True, gc=False):
    """Intervals ``[from_ms, to_ms]`` in which a partition of the lane was held; ``to_ms`` null: still is."""

    intervals: tuple[tuple[int, int | None], ...] = ()
    version: int = VERSION


class DeliveryState(StrEnum):
    """How far a delivery had come when it was written. Begun -> sent -> removed, or begun -> removed; an import:
    intended -> created -> uploaded -> removed, and removed from each of them."""

    BEGUN = "begun"  # written before the call: it may have started
    SENT = "sent"  # the platform has it; its end is learnt by asking
    INTENDED = "intended"  # an import, before its create: one may be open, and nobody knows its id
    CREATED = "created"  # the platform has opened it: the file may have been sent
    UPLOADED = "uploaded"  # the platform has the file


class ImportEntry(Struct, frozen=True, gc=False):
    """What the entry of an import says beside its records: no payload, and nobody's data.

    ``rows`` and ``sha256`` (hexadecimal) are of its file. The upload's address is kept for its life, because no call
    tells it again: ``url``, the form's ``fields`` in order, and when it ends; null where the import has none.
    """

    slot: int
    rows: int = 0
    sha256: str | None = None
    url: str | None = None
    fields: tuple[tuple[str, str], ...] = ()
    expires_at_ms: int | None = None
    uploaded_at_ms: int | None = None


class Delivery(Struct, frozen=True, gc=False, rename={"opened": "import"}):
    """A delivery that must not be repeated blindly.

    ``ranges`` are ``{topic: [[partition, from, to], ...]}``: all of the delivery's records. It has an entry in
    each partition of its lane that it has records of, and each of these names all ranges.
    """

    kind: str
    state: DeliveryState
    ranges: dict[str, tuple[Range, ...]]
    begun_at_ms: int
    reference: str | None = None  # the platform's id of it
    opened: ImportEntry | UnsetType = UNSET  # of imports alone
    version: int = VERSION


class Open(Struct, frozen=True, array_like=True, gc=False):
    """The first source record of an open dead letter, written as ``[topic, partition, offset, timestamp_ms]``."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None


class Contact(Struct, frozen=True, gc=False):
    """The open dead letters of one record key."""

    open: tuple[Open, ...]
    version: int = VERSION


Entry = Start | Settled | HeldTime | Delivery | Contact


class _Versioned(Struct, gc=False):
    version: int


_START, _SETTLED, _DELIVERY, _CONTACT, _HELD_TIME = b"start/", b"settled/", b"delivery/", b"contact/", b"held-time"
_encode = msgspec.json.Encoder(order="deterministic").encode
_read_version = msgspec.json.Decoder(_Versioned).decode
_DECODERS: dict[type[Key], msgspec.json.Decoder[Entry]] = {
    StartKey: msgspec.json.Decoder(Start),
    SettledKey: msgspec.json.Decoder(Settled),
    DeliveryKey: msgspec.json.Decoder(Delivery),
    ContactKey: msgspec.json.Decoder(Contact),
    HeldTimeKey: msgspec.json.Decoder(HeldTime),
}


def encode_key(key: Key) -> bytes:
    """The record key of an entry."""
    match key:
        case StartKey(topic):
            return _START + topic.encode()
        case SettledKey(topic):
            return _SETTLED + topic.encode()
        case DeliveryKey(delivery_id):
            return _DELIVERY + delivery_id.encode()
        case ContactKey(contact):
            return _CONTACT + contact
        case HeldTimeKey():
            return _HELD_TIME


def decode_key(key: bytes | None) -> Key | None:
    """What kind of entry a record is; None if it is none that this version knows."""
    if key == _HELD_TIME:
        return HeldTimeKey()
    if key is None:
        return None
    if key.startswith(_CONTACT):
        return ContactKey(key[len(_CONTACT) :])
    try:
        if key.startswith(_START):
            return StartKey(key[len(_START) :].decode())
        if key.startswith(_SETTLED):
            return SettledKey(key[len(_SETTLED) :].decode())
        if key.startswith(_DELIVERY):
            return DeliveryKey(key[len(_DELIVERY) :].decode())
    except UnicodeDecodeError:
        return None
    return None


def encode_entry(entry: Entry) -> bytes:
    """The record value of an entry: the same bytes for the same entry."""
    return _encode(entry)


def decode_entry(key: Key, value: bytes) -> Entry | Newer:
    """Read the value of an entry. Raises JournalError if it is damaged."""
    try:
        version = _read_version(value).version
        entry = Newer(version) if version > VERSION else _DECODERS[type(key)].decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise JournalError(f"a journal record that cannot be read: {type(key).__name__}") from None
    if isinstance(entry, Delivery) and not _names_records(entry):
        raise JournalError("a delivery whose ranges are none")
    return entry


def _names_records(delivery: Delivery) -> bool:
    """Whether the ranges are such, and no more than a delivery can have."""
    ranges = [one for found in delivery.ranges.values() for one in found]
    if any(partition < 0 or not 0 <= first < end for partition, first, end in ranges):
        return False
    return sum(end - first for _, first, end in ranges) <= MOST_RECORDS
