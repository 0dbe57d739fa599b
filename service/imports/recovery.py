"""PURE: what becomes of the imports that an earlier owner left open.

===========  ==========================================================================================
intended     One may be open, and nobody knows its id: its slot counts as taken for ``orphan_life``. Its
             events are delivered anew; where the create carries them and must not be repeated, they are
             in doubt. One whose id was known before it was begun is asked about.
created      The status is asked for. ``waiting_for_file``: the file is built again of the same offsets,
             and uploaded if its hash is the same; else it lapses, and its events are delivered anew.
             Any other: polled on. Where its partitions are several members', ``torn`` says whose it is.
uploaded     Polled on.
===========  ==========================================================================================
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec
from aiokafka.structs import TopicPartition

from contracts.journal import Delivery, DeliveryState, ImportEntry
from service.errors import JournalUnreadableError
from service.imports.policy import ImportPolicy
from service.imports.torn import WHOLE, Share, furthest, share_of
from service.intake.starts import Begin
from service.journal.deliveries import OpenEntry
from service.journal.recovery import Recovered, recover


class Found(StrEnum):
    """What an open entry asks for."""

    LAPSES = "lapses"  # its events are free
    DOUBTED = "doubted"  # it lapses, and its events are in doubt
    ASKED = "asked"  # its status is


class LeftOpen(msgspec.Struct):
    """An import that was left open: its entries in our partitions, how many of its records are to be read, and what of
    it is not ours."""

    delivery_id: str
    record: Delivery
    entries: dict[int, OpenEntry]
    found: Found
    unread: int = 0
    share: Share = WHOLE

    def slots(self, count: int) -> set[int]:
        """The slots that it takes."""
        return {partition % count for partition in self.entries}

    def lapses_at_ms(self, policy: ImportPolicy) -> int:
        """When nothing of it can be open any more, if nobody can ask."""
        opened = self.record.opened
        if isinstance(opened, ImportEntry) and opened.expires_at_ms is not None:
            return opened.expires_at_ms
        return policy.lapses_at_ms(self.record.begun_at_ms)


class RecoveredImports(Recovered):
    """``stale`` stays empty: whether an import is open still is the platform's to say, whatever is finished here."""

    imports: list[LeftOpen] = msgspec.field(default_factory=list)

    @property
    def entries(self) -> set[OpenEntry]:
        """All: those without records too close with their import."""
        return {entry for one in self.imports for entry in one.entries.values()}


def found_as(record: Delivery, *, carries_rows: bool, repeatable: bool) -> Found:
    """What an entry asks for."""
    if record.state is not DeliveryState.INTENDED:
        return Found.ASKED
    if record.reference is not None:
        return Found.ASKED
    return Found.DOUBTED if carries_rows and not repeatable else Found.LAPSES


def recover_imports(
    deliveries: Mapping[tuple[int, str], Delivery],
    begins: Mapping[TopicPartition, Begin],
    kind: str,
    *,
    carries_rows: bool,
    repeatable: bool,
) -> RecoveredImports:
    """Raises JournalUnreadableError for what is no import of this kind.

    Each entry speaks for the records of its own partition: the others' owners poll and settle theirs.
    """
    result = RecoveredImports()
    by_id: dict[str, LeftOpen] = {}
    naming: dict[tuple[int, str], Delivery] = {}
    for (partition, delivery_id), record in deliveries.items():
        if not isinstance(record.opened, ImportEntry) and record.kind == kind:
            raise JournalUnreadableError(f"journal: delivery/{delivery_id[:100]} is no import")
        found = found_as(record, carries_rows=carries_rows, repeatable=repeatable)
        if found is Found.LAPSES and record.kind == kind:
            entry = OpenEntry(delivery_id, partition)
            _of(by_id, delivery_id, record, found).entries[partition] = entry
        else:
            naming[partition, delivery_id] = record
    recovered = recover(naming, begins, kind)
    result.interrupted = recovered.interrupted
    for entry in [*recovered.stale, *recovered.entries]:
        record = naming[entry.partition, entry.delivery_id]
        found = found_as(record, carries_rows=carries_rows, repeatable=repeatable)
        one = _of(by_id, entry.delivery_id, record, found)
        one.entries[entry.partition] = entry
    for (partition, delivery_id), record in naming.items():
        # All that it names here is of a topic that the lane has no more: it takes its slot all the same.
        found = found_as(record, carries_rows=carries_rows, repeatable=repeatable)
        entries = _of(by_id, delivery_id, record, found).entries
        entries.setdefault(partition, OpenEntry(delivery_id, partition))
    for offsets in recovered.interrupted.values():
        for entry in offsets.values():
            by_id[entry.delivery_id].unread += 1
    for one in by_id.values():
        if one.found is Found.ASKED:
            one.share = share_of(one.record, begins.keys(), one.entries.keys())
    result.imports = list(by_id.values())
    return result


def _of(by_id: dict[str, LeftOpen], delivery_id: str, record: Delivery, found: Found) -> LeftOpen:
    one = by_id.get(delivery_id)
    if one is None:
        one = by_id[delivery_id] = LeftOpen(delivery_id, record, {}, found)
    elif (further := furthest(one.record, record)) is not one.record:
        one.record, one.found = further, found
    return one
