"""The demo's events: the same ones each time, mostly valid, with the flaws that are wanted."""

from collections import Counter

from contracts.envelope import Undecodable, decode
from contracts.events import ContactChanged, Event, NotificationOccurred
from service.demo.events import SampleContacts, SampleNotifications

COUNT = 4_000
HEADERS = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)


def contacts_of(events: list[Event]) -> list[ContactChanged]:
    return [event.data for event in events if isinstance(event.data, ContactChanged)]


def test_the_same_events_each_time() -> None:
    """A run can be compared with another one; another seed gives other events."""
    first, again = list(SampleContacts(200).events()), list(SampleContacts(200).events())
    assert first == again
    assert list(SampleContacts(200, seed=2).events()) != first


def test_most_are_valid_and_some_are_not() -> None:
    """Of every flaw there are some, and together so few that no guard of a lane is tripped."""
    decoded = [decode(event.value, HEADERS) for event in SampleContacts(COUNT).events()]
    faults = Counter(event.kind.value for event in decoded if isinstance(event, Undecodable))
    assert faults.keys() == {"malformed", "contract"}
    contacts = contacts_of([event for event in decoded if isinstance(event, Event)])
    no_target = sum("np6" not in (contact.identifiers or {}) for contact in contacts)
    deleted = sum(contact.change == "deleted" for contact in contacts)
    assert no_target > 0
    assert deleted > 0
    assert 0 < faults.total() + no_target < COUNT * 0.05


def test_valid_events_are_valid() -> None:
    """What is offered for `fanline publish` passes its check."""
    for event in SampleContacts(200, seed=2).valid_events():
        assert isinstance(decode(event.value, HEADERS), Event)


def test_keys_are_contacts_and_versions_grow() -> None:
    """An event's key is its contact, whose version grows with each of its events."""
    versions: dict[str, int] = {}
    for event in SampleContacts(COUNT).events():
        found = decode(event.value, HEADERS)
        if isinstance(found, Event) and isinstance(found.data, ContactChanged):
            contact = found.data
            assert event.key.decode() == contact.contact_id
            assert (contact.version or 0) > versions.get(contact.contact_id, 0)
            versions[contact.contact_id] = contact.version or 0


def test_few_contacts_are_hot() -> None:
    """Some keys come far more often than others: order per contact is put to the test."""
    keys = Counter(event.key for event in SampleContacts(COUNT).events())
    [(_, most), *_] = keys.most_common(1)
    assert most > 5 * COUNT / len(keys)


def test_some_targets_are_unknown_to_the_platform() -> None:
    """And they come up in events."""
    sample = SampleContacts(COUNT)
    forgotten = sample.forgotten_targets
    seen = Counter(target for event in sample.events() for target in forgotten if target.encode() in event.value)
    assert 0 < seen.total() < COUNT * 0.05


def test_notifications_are_published_twice_now_and_then() -> None:
    """The same ones each time; some are there twice, byte for byte, and most of them ask for a workflow."""
    events = list(SampleNotifications(COUNT).events())
    assert events == list(SampleNotifications(COUNT).events())
    assert len(events) == COUNT
    times = Counter(event.value for event in events)
    assert {1, 2} == set(times.values())
    found = [decode(event.value, HEADERS) for event in events]
    happened = [
        event.data for event in found if isinstance(event, Event) and isinstance(event.data, NotificationOccurred)
    ]
    assert sum(one.action == "activation" for one in happened) > COUNT / 2
    assert len(happened) == COUNT


def test_some_receivers_are_refused() -> None:
    """One by one, or with the request as a whole; they come up in events, and are few."""
    sample = SampleNotifications(COUNT)
    keys = Counter(event.key.decode() for event in sample.events())
    for receivers in (sample.bad_receivers, sample.refused_receivers):
        assert 0 < sum(keys[receiver] for receiver in receivers) < COUNT * 0.05
    assert not sample.bad_receivers & sample.refused_receivers
