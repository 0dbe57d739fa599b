"""PURE: one row for each key of a file, from the changes of it that are in a batch.

What an event tells of a contact are snapshots, part by part: a part that the newest change lacks comes from the newest
earlier one that has it. The change read last is the newest, but for one whose ``version`` is lower than that of another
change of the same contact in the batch: the platform must end with the contact's latest state, in whatever order its
changes were read.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from contracts.events import ContactChanged, Event

_PARTS = ("identifiers", "attributes", "consents", "tags")


def from_newest(changes: Sequence[Event]) -> list[int]:
    """The places of the changes of one key, which are in the order read, from the newest change to the oldest.

    Versions are compared only among changes of one contact that have one.
    """
    highest: dict[str, int] = {}
    for change in changes:
        data = change.data
        if type(data) is ContactChanged and data.version is not None:
            highest[data.contact_id] = max(data.version, highest.get(data.contact_id, 0))

    def age(place: int) -> tuple[int, int]:
        data = changes[place].data
        if type(data) is ContactChanged and data.version is not None:
            return highest[data.contact_id] - data.version, -place
        return 0, -place

    return sorted(range(len(changes)), key=age)


def merged(changes: Sequence[Event]) -> tuple[int, Event]:
    """The place of the newest change of one key, and that change with the parts that it lacks, from the newest other
    one that has them.

    ``changes`` are in the order read, at least one. The event is the change itself where nothing is added to it.
    """
    best, *others = from_newest(changes)
    event = changes[best]
    data = event.data
    if not others or type(data) is not ContactChanged:
        return best, event
    added = {}
    for part in _PARTS:
        if getattr(data, part) is not None:
            continue
        for place in others:
            other = changes[place].data
            if type(other) is ContactChanged and (found := getattr(other, part)) is not None:
                added[part] = found
                break
    return best, replace(event, data=replace(data, **added)) if added else event
