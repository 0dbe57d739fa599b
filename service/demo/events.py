"""Contact events and notifications as upstream systems would publish them, the same ones for the same seed.

Most are in order. A few are not, as in life: broken JSON, a field that is missing, contacts without a target or
with one that the platform has forgotten, a segment to be joined and left at once, notifications of people whom the
platform cannot write to, and some that are published twice.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

SEGMENTS = range(501, 509)
FIRST_EVENT_ID = "crm-0000001"

_FIRST_NAMES = (
    *("Camille", "Louis", "Inès", "Hugo", "Léa", "Jules", "Chloé", "Adam", "Zoé", "Noé", "Élise", "Malik"),
    *("Freja", "Oskar", "Saga", "Nils", "Anneke", "Bram", "Sanne", "Daan", "Giulia", "Matteo", "Aoife", "Tomasz"),
)
_LAST_NAMES = (
    *("Martin", "Lefèvre", "Moreau", "Garnier", "Dubois", "Roux", "Fontaine", "Benali", "Lindqvist", "Åkesson"),
    *("de Vries", "Jansen", "Bakker", "Rossi", "Conti", "O'Brien", "Kowalski", "Novák", "Schäfer", "Keller"),
)
_CITIES = (
    *("Lyon", "Nantes", "Lille", "Bordeaux", "Rennes", "Malmö", "Uppsala", "Utrecht", "Groningen", "Gent"),
    *("Torino", "Bologna", "Cork", "Kraków", "Brno", "Freiburg", "Leipzig", "Basel"),
)
# One event in so many comes from one of these few contacts.
_HOT_CONTACTS, _HOT_EVERY = 5, 12
_EVENTS_PER_CONTACT = 4
# What is wrong with an event, and how often, in events of a thousand.
_FLAWS = {"broken": 6, "no_id": 5, "no_target": 15, "contradiction": 4}
_FORGOTTEN_EVERY = 70  # contacts
_BEGAN = datetime(2026, 3, 2, 8, tzinfo=UTC)
_FEWEST_TARGETS = 20
# One notification in so many is published again, so many later; and one in so many has no target.
_TWICE_EVERY, _TWICE_AFTER, _NO_TARGET_EVERY = 60, 5, 200


class SampleEvent(NamedTuple):
    """A record to be published."""

    key: bytes
    value: bytes


class SampleContacts:
    """``count`` events of a quarter as many contacts."""

    def __init__(self, count: int, seed: int = 1) -> None:
        self._random = Random(seed)
        self._count = count
        self._contacts = [
            _Contact(number, self._random) for number in range(max(_HOT_CONTACTS * 2, count // _EVENTS_PER_CONTACT))
        ]

    @property
    def forgotten_targets(self) -> set[str]:
        """Targets that the platform is not to know."""
        return {contact.target for contact in self._contacts if not contact.number % _FORGOTTEN_EVERY}

    def events(self) -> Iterator[SampleEvent]:
        """All events, each contact's in the order in which they happened. Once."""
        random, flaws = self._random, list(_FLAWS)
        weights = [*_FLAWS.values(), 1000 - sum(_FLAWS.values())]
        for number in range(self._count):
            hot = random.randrange(_HOT_EVERY) == 0
            contact = self._contacts[random.randrange(_HOT_CONTACTS if hot else len(self._contacts))]
            flaw = random.choices([*flaws, None], weights)[0]
            yield contact.event(number, random, flaw)

    def valid_events(self) -> Iterator[SampleEvent]:
        """All events, none of them with a flaw. Once."""
        for number in range(self._count):
            yield self._random.choice(self._contacts).event(number, self._random, None)


class SampleNotifications:
    """``count`` events about a quarter as many people: what they did with a message that was sent to them."""

    def __init__(self, count: int, seed: int = 1) -> None:
        self._random = Random(seed)
        self._count = count
        self._targets = [f"N{number:05d}" for number in range(max(_FEWEST_TARGETS, count // _EVENTS_PER_CONTACT))]

    @property
    def bad_receivers(self) -> set[str]:
        """Targets for whom the platform refuses a whole request."""
        return {self._targets[7]}

    @property
    def refused_receivers(self) -> set[str]:
        """Targets whom the platform refuses one by one."""
        return set(self._targets[3::_FORGOTTEN_EVERY])

    def events(self) -> Iterator[SampleEvent]:
        """All events, some of them once more shortly afterwards. Once."""
        again: SampleEvent | None = None
        for number in range(self._count):
            if again is not None and number % _TWICE_EVERY == _TWICE_AFTER:
                yield again
                continue
            event = self._event(number)
            if number % _TWICE_EVERY == 0:
                again = event
            yield event

    def _event(self, number: int) -> SampleEvent:
        random, target = self._random, self._random.choice(self._targets)
        happened = _instant(number)
        data: dict[str, Any] = {
            "notification_key": 1 + random.randrange(5),
            "target": target,
            "action": random.choices(("activation", "impression", "redirection", "dismiss"), (6, 2, 1, 1))[0],
            "occurred_at": happened,
            "label": random.choice(("welcome", "back in stock", "your order")),
        }
        if random.randrange(_NO_TARGET_EVERY) == 0:
            data["target"] = ""
        event = {
            "specversion": "1.0",
            "id": f"push-{number + 1:07d}",
            "source": "np6/notifications",
            "type": "notification.occurred.v1",
            "time": happened,
            "datacontenttype": "application/json",
            "data": data,
        }
        return SampleEvent(target.encode(), json.dumps(event).encode())


class _Contact:
    """One contact's present state."""

    def __init__(self, number: int, random: Random) -> None:
        self.number = number
        self.id = f"C-{100_000 + number}"
        self.target = f"{number:05d}{random.choice('ABCDEFGHJK')}{random.randrange(36**2):03d}"
        self._version = 0
        self._segments: set[int] = set()
        self._subscribed = False
        self._first, self._last = random.choice(_FIRST_NAMES), random.choice(_LAST_NAMES)
        self._city = random.choice(_CITIES)

    def event(self, number: int, random: Random, flaw: str | None) -> SampleEvent:
        """The next change of the contact, ``number`` among all events, with a flaw or without."""
        data = self._data(random)
        match flaw:
            case "no_id":
                del data["contact_id"]
            case "no_target":
                del data["identifiers"]["np6"]
            case "contradiction":
                data["segments"] = {"join": [SEGMENTS[0]], "leave": [SEGMENTS[0]]}
        event = {
            "specversion": "1.0",
            "id": f"crm-{number + 1:07d}",
            "source": "crm/contacts",
            "type": "contact.changed.v1",
            "time": _instant(number),
            "datacontenttype": "application/json",
            "data": data,
        }
        value = json.dumps(event, ensure_ascii=False).encode()
        if flaw == "broken":
            value = value[: random.randrange(1, len(value) - 1)]
        return SampleEvent(self.id.encode(), value)

    def _data(self, random: Random) -> dict[str, Any]:
        self._version += 1
        mail = f"{self._first}.{self._last}".lower().replace(" ", "").replace("'", "")
        if random.randrange(10) == 0:
            self._city = random.choice(_CITIES)
        data: dict[str, Any] = {
            "contact_id": self.id,
            "change": self._change(random),
            "identifiers": {"np6": self.target, "email": f"{mail}.{self.number}@example.org"},
            "attributes": {
                "first_name": self._first,
                "last_name": self._last,
                "city": self._city,
                "orders": random.randrange(40),
                "newsletter_language": random.choice(("fr", "sv", "nl", "it", "de", "en")),
            },
            "segments": self._moves(random),
            "tags": random.sample(("vip", "app", "store", "trial", "b2b"), random.randrange(3)),
            "version": self._version,
        }
        if random.randrange(5) < 2:
            data["consents"] = [self._consent(random)]
        return data

    def _change(self, random: Random) -> str:
        if self._version == 1:
            return "created"
        return "deleted" if random.randrange(40) == 0 else "updated"

    def _moves(self, random: Random) -> dict[str, list[int]]:
        """Mostly what changes something; now and then a segment that the contact is in already."""
        others = [segment for segment in SEGMENTS if segment not in self._segments]
        leave = random.sample(sorted(self._segments), min(len(self._segments), random.choice((0, 0, 1))))
        join = random.sample(others, min(len(others), random.choice((0, 1, 1, 1, 2))))
        if self._segments.difference(leave) and random.randrange(12) == 0:
            join.append(min(self._segments.difference(leave)))
        self._segments = self._segments.difference(leave).union(join)
        return {"join": join, "leave": leave}

    def _consent(self, random: Random) -> dict[str, str]:
        self._subscribed = not self._subscribed
        return {"channel": "email", "topic": "newsletter", "status": "opt-in" if self._subscribed else "opt-out"}


def _instant(number: int) -> str:
    """When the n-th event happened."""
    happened = _BEGAN + timedelta(milliseconds=40 * number)
    return happened.isoformat(timespec="milliseconds").replace("+00:00", "Z")
