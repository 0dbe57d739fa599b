"""What retention may have taken of results and dead letters: who lacks one of these is unknown, not missing. Pure."""

from collections.abc import Mapping

import msgspec


class Left(msgspec.Struct, frozen=True):
    """What is left of a topic of ``partitions`` partitions. ``firsts``: of each partition from which something was
    deleted, the timestamp (ms) of its first record that is left; None where none is."""

    partitions: int
    firsts: Mapping[int, int | None]

    @property
    def whole(self) -> bool:
        """Whether nothing was deleted."""
        return not self.firsts

    def may_lack(self, partition: int, timestamp_ms: int) -> bool:
        """Whether what a record of this time has led to, in this partition, may have been deleted: it was written
        later than its record, so that it is there if the record is younger than the first one that is left."""
        if partition not in self.firsts:
            return False
        first = self.firsts[partition]
        return first is None or timestamp_ms < first
