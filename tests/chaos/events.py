"""What is published: contacts and notifications whose calls can be told apart, some refused, some broken."""

import json
from collections.abc import Sequence
from random import Random
from zlib import crc32

from handlers.np6.sandbox import Np6Sandbox, Rules
from tests.chaos.verdict import Event
from tests.support.events import CITY, EMAIL_DOMAIN, contact_event
from tests.support.oracle import Source
from tests.support.workflows import notification

PARTITIONS = 6
LANES = {"segments": "contacts", "workflows": "notes"}
# The platform knows nothing of one contact in so many; one event in so many cannot be read.
_STRANGER_EVERY = 100
_BROKEN_EVERY = 400
_DELIVERED = frozenset[tuple[str, str | None]]({("delivered", None)})
_DOUBTFUL = _DELIVERED | {("in_doubt", "interrupted")}


class Events:
    """Events of ``contacts`` contacts per lane, the same for the same seed; three of four are contacts' changes."""

    def __init__(self, seed: int, contacts: int) -> None:
        self._random = Random(seed)
        self._contacts = contacts
        self._numbers: dict[tuple[str, int], int] = {}
        self.count = 0

    def next(self) -> tuple[str, bytes, bytes, int]:
        """Lane, key, value, partition of an event of any lane."""
        return self.of("workflows" if self._random.random() < 0.25 else "segments")

    def of(self, lane: str) -> tuple[str, bytes, bytes, int]:
        """The next event of a lane. The partition is none that Kafka's own partitioner would choose."""
        self.count += 1
        contact = self._random.randrange(self._contacts)
        number = self._numbers[lane, contact] = self._numbers.get((lane, contact), 0) + 1
        target = f"{'stranger' if contact % _STRANGER_EVERY == 7 else 'contact'}-{contact:06d}"
        event_id = f"{target}-{number:07d}"
        if lane == "segments":
            value = contact_event(event_id, target, target=target, join=[number])
        else:
            personal = {"email": f"{target}@{EMAIL_DOMAIN}", "city": CITY, "phone": "+33612345678"}
            message = notification(event_id, target, label=f"Name-{target}", context=personal)
            assert message.value is not None
            value = message.value
        if self._random.randrange(_BROKEN_EVERY) == 0:
            value = value[: len(value) // 2]
        return lane, target.encode(), value, crc32(target.encode()) % PARTITIONS


def event_of(source: Source) -> Event:
    """What a source record asks for."""
    target = (source.key or b"").decode()
    try:
        number = int(json.loads(source.value or b"")["id"].rpartition("-")[2])
    except ValueError:
        number = None
    return Event(source.key, source.timestamp_ms, target, number)


def allowed(lane: str, event: Event) -> frozenset[tuple[str, str | None]]:
    """Which outcomes an event may have."""
    if event.number is None:
        return frozenset({("invalid", "malformed")})
    if (event.target or "").startswith("stranger"):
        if lane == "segments":
            return frozenset({("rejected", "not_found")})
        return frozenset({("rejected", "refused"), ("in_doubt", "interrupted")})
    return _DELIVERED if lane == "segments" else _DOUBTFUL


def platform(accounts: Sequence[str], contacts: int) -> Np6Sandbox:
    """One that knows nothing of the strangers."""
    strangers = {f"stranger-{n:06d}" for n in range(contacts) if n % _STRANGER_EVERY == 7}
    return Np6Sandbox({account: Rules(unknown_targets=strangers, refused_receivers=strangers) for account in accounts})
