"""Contact events whose calls can be told apart: the n-th event of a contact joins segment n.

So a call that a sandbox recorded names its event by itself: the target is the contact, the segment its number.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.support.kafka import Message

# What must appear nowhere but in source topics and dead letters: a test looks for these.
EMAIL_DOMAIN = "private.example"
CITY = "Quimperlé-sur-Secret"


@dataclass(frozen=True)
class ContactEvent:
    """One event, and the one call that it asks for. A null ``key`` has no order."""

    id: str
    key: bytes | None
    target: str
    segment: int
    message: Message


def contact_event(
    event_id: str, contact: str, *, target: str, join: Sequence[int] = (), leave: Sequence[int] = (), **data: Any
) -> bytes:
    """A ``contact.changed.v1`` in structured mode with personal data; ``data`` replaces fields."""
    body = {
        "contact_id": contact,
        "change": "updated",
        "identifiers": {"np6": target, "email": f"{contact}@{EMAIL_DOMAIN}", "phone": "+33612345678"},
        "attributes": {"first_name": f"Name-{contact}", "city": CITY},
        "segments": {"join": list(join), "leave": list(leave)},
    }
    return json.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": "crm",
            "type": "contact.changed.v1",
            "time": "2026-01-01T00:00:00Z",
            "data": body | data,
        }
    ).encode()


class Feed:
    """Events of ``contacts`` contacts in an order that ``seed`` decides; each contact's segments count from 1.

    ``name`` keeps the contacts of several feeds apart. One event in ``null_every`` has no key: it is a contact
    of its own.
    """

    def __init__(self, contacts: int, *, seed: int = 0, name: str = "c", null_every: int | None = None) -> None:
        self._contacts = contacts
        self._random = Random(seed)
        self._name = name
        self._null_every = null_every
        self._segments: dict[int, int] = {}
        self._count = 0
        self.events: list[ContactEvent] = []

    def take(self, count: int) -> list[ContactEvent]:
        """The next ``count`` events."""
        taken = [self._next() for _ in range(count)]
        self.events.extend(taken)
        return taken

    def of(self, contact: int) -> ContactEvent:
        """The next event of one contact."""
        event = self._event(contact)
        self.events.append(event)
        return event

    def target(self, contact: int) -> str:
        """The target id of a contact."""
        return f"{self._name}-{contact:05d}"

    def _next(self) -> ContactEvent:
        if self._null_every and not (self._count + 1) % self._null_every:
            return self._event(1_000_000 + self._count, keyless=True)
        return self._event(self._random.randrange(self._contacts))

    def _event(self, contact: int, *, keyless: bool = False) -> ContactEvent:
        self._count += 1
        segment = self._segments[contact] = self._segments.get(contact, 0) + 1
        target = self.target(contact)
        event_id = f"{self._name}-{self._count}"
        key = None if keyless else target.encode()
        value = contact_event(event_id, target, target=target, join=[segment])
        return ContactEvent(event_id, key, target, segment, Message(value, key=key))


def messages(events: Sequence[ContactEvent]) -> list[Message]:
    """What is to be produced."""
    return [event.message for event in events]
