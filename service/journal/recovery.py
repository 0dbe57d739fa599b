"""What an earlier owner began and did not see to its end: the open entries of the journal, against the offsets."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from operator import itemgetter

import msgspec
from aiokafka.structs import TopicPartition

from contracts.journal import Delivery
from service.errors import JournalUnreadableError
from service.intake.starts import Begin
from service.journal.deliveries import OpenEntry
from service.offsets.metadata import decode


class Recovered(msgspec.Struct):
    """``interrupted``: the unfinished offsets of each partition that were begun, with the entries that name them.
    ``stale``: entries all of whose records are finished, or gone: only their removal is missing."""

    interrupted: dict[TopicPartition, dict[int, OpenEntry]] = {}
    stale: list[OpenEntry] = []

    @property
    def entries(self) -> set[OpenEntry]:
        """The entries that have unfinished records."""
        return {entry for offsets in self.interrupted.values() for entry in offsets.values()}

    @property
    def stale_partitions(self) -> set[int]:
        """Where the removals are missing."""
        return {entry.partition for entry in self.stale}


def recover(
    deliveries: Mapping[tuple[int, str], Delivery], begins: Mapping[TopicPartition, Begin], kind: str
) -> Recovered:
    """Raises JournalUnreadableError for deliveries of another kind than this lane makes.

    Each entry speaks here for the records of its own partition alone: the others' owners read theirs. Where it names
    a topic that the lane has no more it is left as it is, for the records may be read again one day.

    Where keys are deferred, what the commit says of offsets beyond the first of their records holds for other keys
    alone: whose a record is is known when it is read, and until then it counts as unfinished.
    """
    found = Recovered()
    entries: list[OpenEntry] = []
    finished = {tp: decode(begin.offset, begin.metadata)[0] for tp, begin in begins.items()}
    for (partition, delivery_id), delivery in deliveries.items():
        if delivery.kind != kind:
            raise JournalUnreadableError(
                f"journal: delivery/{delivery_id[:100]} was begun by {delivery.kind[:100]}, this lane is {kind}: "
                "let it end there"
            )
        entry = OpenEntry(delivery_id, partition)
        for topic, ranges in delivery.ranges.items():
            tp = TopicPartition(topic, partition)
            for number, first, end in ranges:
                if number != partition:
                    continue
                if tp not in begins:
                    entry.left += end - first
                    continue
                offsets = _unfinished(first, end, begins[tp].offset, finished[tp])
                entry.left += len(offsets)
                _take(found.interrupted.setdefault(tp, {}), offsets, entry)
        entries.append(entry)
    found.stale.extend(entry for entry in entries if not entry.left)
    return found


def _take(interrupted: dict[int, OpenEntry], offsets: Sequence[int], entry: OpenEntry) -> None:
    """A record belongs to one entry, and leaves it once: of two that name it, because it was sent again, the later."""
    for offset in offsets:
        former = interrupted.get(offset)
        if former is not None:
            former.left -= 1
        interrupted[offset] = entry


def _unfinished(first: int, end: int, committed: int, finished: Sequence[tuple[int, int]]) -> list[int]:
    """Of ``first`` to before ``end``; ``finished`` are ascending and apart, and there can be thousands."""
    offsets: list[int] = []
    at = max(first, committed)
    for start, stop in finished[bisect_right(finished, at, key=itemgetter(1)) :]:
        if start >= end:
            break
        offsets.extend(range(at, start))
        at = max(at, stop)
    offsets.extend(range(at, end))
    return offsets
