"""One row from several changes of one key."""

from typing import Any

from contracts.events import CONTACT_CHANGED, ContactChanged, Event, NotificationOccurred
from handlers.imports.coalescing import from_newest, merged


def change(contact: str = "c", **parts: Any) -> Event:
    return Event("e", "s", CONTACT_CHANGED, ContactChanged(contact, "updated", **parts))


def data_of(event: Event) -> ContactChanged:
    assert isinstance(event.data, ContactChanged)
    return event.data


def test_the_change_read_last_is_the_newest() -> None:
    """Where no version says otherwise."""
    assert from_newest([change(), change(), change()]) == [2, 1, 0]


def test_a_lower_version_is_not_newer() -> None:
    """Also with changes that have none between them."""
    assert from_newest([change(version=5), change(version=3)]) == [0, 1]
    assert from_newest([change(version=5), change(), change(version=3)]) == [1, 0, 2]
    assert from_newest([change(version=3), change(version=3)]) == [1, 0]


def test_versions_of_different_contacts_are_not_compared() -> None:
    """Two contacts with one key: the one read last wins."""
    assert from_newest([change("a", version=9), change("b", version=1)]) == [1, 0]


def test_a_part_that_the_newest_lacks_comes_from_the_newest_earlier_one() -> None:
    """Each part by itself, whole: they are snapshots."""
    place, event = merged(
        [
            change(attributes={"a": "1", "b": "2"}, tags=["old"]),
            change(attributes={"a": "3"}, identifiers={"email": "x@example.com"}),
            change(tags=[]),
        ]
    )
    data = data_of(event)
    assert place == 2
    assert data.attributes == {"a": "3"}
    assert data.identifiers == {"email": "x@example.com"}
    assert data.tags == []
    assert data.consents is None


def test_an_older_version_gives_only_what_is_missing() -> None:
    """Though it was read last."""
    place, event = merged([change(version=2, attributes={"a": "new"}), change(version=1, attributes={"a": "old"})])
    assert place == 0
    assert data_of(event).attributes == {"a": "new"}


def test_nothing_is_copied_where_nothing_is_missing() -> None:
    """The event itself is given back, and never changed."""
    first, last = change(attributes={"a": "1"}), change()
    assert merged([first]) == (0, first)
    _, event = merged([first, last])
    assert event is not last
    assert data_of(last).attributes is None


def test_a_notification_is_taken_as_it_is() -> None:
    """It has no parts."""
    told = Event("n", "s", "notification.occurred.v1", NotificationOccurred(1, "T", "dismiss", "2026-01-01T00:00:00Z"))
    assert merged([change(), told]) == (1, told)


def test_a_first_version_of_nought_is_a_version_like_any_other() -> None:
    """The contract begins at 0: a change that has it is not older than one without any."""
    assert from_newest([change(), change(version=0)]) == [1, 0]


def test_parts_behind_one_that_is_there_are_filled_too() -> None:
    """Each is looked at; and with nothing lacking the change itself is given back, whatever was read before it."""
    older = change(identifiers={"a": "1"}, attributes={"a": "1"}, consents=[], tags=["x"])
    for had in ("identifiers", "attributes", "consents", "tags"):
        newest = change(**{had: getattr(older.data, had)})
        assert data_of(merged([older, newest])[1]) == older.data
    assert merged([older, older])[1] is older
