"""What a lane remembers of one partition's records, so that an event published twice is delivered once.

The rule: an event repeats an earlier record of its partition that had its source and id, if the two records'
timestamps lie at most the window apart. Timestamps may run backwards; "earlier" is the offset's. The answer depends on
the log alone, so that whoever owns the partition comes to the same one, however often a record is read again.

Rejected: one queue in the order read, cut where it is older than the window. A single record from a wrong clock in
the future would empty it. Here records lie in buckets of half a window by their timestamps, and a bucket is forgotten
once the partition has not come near its time for a good while.
"""

from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from os import urandom
from typing import Any

# An entry: where the record lies and how far into its bucket its timestamp is; or several of these, by offset.
_Entry = int | tuple[int, ...]

# What is kept of a key that comes again and again within one bucket: more cannot change an answer but for a record
# that is read again, whose timestamp runs back behind many others of its key.
_MOST_ENTRIES = 16
# Records that may pass without coming near a bucket before it is forgotten, and which share of all remembered.
_FORGOTTEN_AFTER = 10_000
_FORGOTTEN_SHARE = 4
# How finely it is known what the lowest timestamp behind an offset was, and for how many records back.
_BLOCK = 256
_BLOCKS = 4_096
# What an entry was measured to cost, with its key and its place in the dict.
ENTRY_BYTES = 160

# Nobody outside can make two events that look the same.
_SECRET = urandom(32)


@lru_cache(maxsize=256)
def _of_source(source: str) -> Any:
    text = source.encode("utf-8", "surrogatepass")
    return blake2b(len(text).to_bytes(4, "little") + text, digest_size=16, key=_SECRET)


def identity(source: str, event_id: str) -> int:
    """Source and id as 128 bits, which hold for this process alone."""
    state = _of_source(source).copy()
    state.update(event_id.encode("utf-8", "surrogatepass"))
    return int.from_bytes(state.digest(), "little")


class DedupeWindow:
    """One partition's records of about the last window and a half.

    Records are shown to it by ascending offset, also those that nobody delivers again; from the offset ``end`` on
    they are new to it. A record may be shown again: what lies behind it does not count as earlier.
    """

    __slots__ = (
        "_base",
        "_block_full",
        "_block_min",
        "_blocks",
        "_bucket",
        "_buckets",
        "_delta_bits",
        "_kept",
        "_last_bucket",
        "_near",
        "_reads",
        "_touched",
        "_width",
        "_window_ms",
        "complete_from_ms",
        "end",
    )

    def __init__(self, window_ms: int, *, begin: int, complete_from_ms: int = 0, disorder_ms: int = 0) -> None:
        """``begin``: the first offset that it is shown; nothing at or after ``complete_from_ms`` lies before it.

        ``disorder_ms``: by so much timestamps may run back whenever they like, and the answer is still exact.
        """
        self._window_ms = window_ms
        # Two buckets side by side span no more than the window, and three more than it.
        self._width = (window_ms + 1) // 2
        # Buckets so near to where the records come in are never forgotten by themselves.
        self._kept = 2 - -disorder_ms // self._width
        self._delta_bits = self._width.bit_length()
        self._base = begin
        self.end = begin
        self.complete_from_ms = complete_from_ms
        self._buckets: dict[int, dict[int, _Entry]] = {}
        self._near: tuple[dict[int, _Entry], ...] = ()
        self._last_bucket: int | None = None
        self._bucket: dict[int, _Entry] | None = None
        self._touched: dict[int, int] = {}
        self._reads = 0
        # (first offset, lowest timestamp) of stretches of records, to know how far back one has to look.
        self._blocks: deque[tuple[int, int]] = deque(maxlen=_BLOCKS)
        self._block_min = 0
        self._block_full = 0

    def __len__(self) -> int:
        """How many entries it remembers."""
        return sum(map(len, self._buckets.values()))

    def repeats(self, key: int, timestamp_ms: int, offset: int) -> bool:
        """Whether the record repeats an earlier one; from now on it is remembered itself.

        A record without a timestamp (-1) is neither: nobody knows how far it is from others.
        """
        if timestamp_ms < 0:
            self.end = max(self.end, offset + 1)
            return False
        number = timestamp_ms // self._width
        if number != self._last_bucket:
            self._enter(number)
            if offset >= self.end:
                self._forget_far(number)
        found = False
        for bucket in self._near:
            if key in bucket:
                found = self._earlier(key, timestamp_ms, offset, number)
                break
        if offset < self.end:
            return found
        self.end = offset + 1
        self._reads += 1
        if timestamp_ms < self._block_min or self._reads >= self._block_full:
            self._note(timestamp_ms, offset)
        own = self._bucket
        if own is None:
            own = self._bucket = self._buckets[number] = {}
            self._look_around()
        entry = (offset - self._base) << self._delta_bits | (timestamp_ms - number * self._width)
        # What lies in the bucket itself is near enough to have been found.
        if found and (known := own.get(key)) is not None:
            own[key] = self._joined(known, entry)
        else:
            own[key] = entry
        return found

    def lowest_ms_from(self, offset: int) -> int | None:
        """The lowest timestamp of the records from about ``offset`` on; None where that is not known any more."""
        if offset >= self.end or not self._blocks or self._blocks[0][0] > offset:
            return None
        lowest: int | None = None
        for begin, block_ms in reversed(self._blocks):
            lowest = block_ms if lowest is None else min(lowest, block_ms)
            if begin <= offset:
                return lowest
        return lowest

    def forget_oldest(self) -> None:
        """Give memory back: what is oldest by its timestamps, but for the bucket that records come into now."""
        numbers = [number for number in self._buckets if number != self._last_bucket]
        if numbers:
            self._forget(min(numbers))

    # -- within

    def _enter(self, number: int) -> None:
        """The records come to another bucket; those near it are in use."""
        if self._last_bucket in self._buckets:  # what is read again does not bring a bucket back
            self._touched[self._last_bucket] = self._reads
        self._last_bucket, self._bucket = number, self._buckets.get(number)
        for near in range(number - 2, number + 3):
            if near in self._buckets:
                self._touched[near] = self._reads
        self._look_around()

    def _forget_far(self, number: int) -> None:
        """Only where reading goes on: what is read again is not remembered anew."""
        limit = max(_FORGOTTEN_AFTER, len(self) // _FORGOTTEN_SHARE)
        for other in [other for other, read in self._touched.items() if self._reads - read > limit]:
            if abs(other - number) > self._kept:
                self._forget(other)

    def _look_around(self) -> None:
        number = self._last_bucket
        assert number is not None
        buckets = (self._buckets.get(near) for near in (number, number - 1, number - 2, number + 1, number + 2))
        self._near = tuple(bucket for bucket in buckets if bucket is not None)

    def _forget(self, number: int) -> None:
        del self._buckets[number]
        del self._touched[number]
        self.complete_from_ms = max(self.complete_from_ms, (number + 1) * self._width)
        self._look_around()

    def _earlier(self, key: int, timestamp_ms: int, offset: int, number: int) -> bool:
        bits, mask = self._delta_bits, (1 << self._delta_bits) - 1
        for near in range(number - 2, number + 3):
            bucket = self._buckets.get(near)
            for entry in _each(bucket.get(key) if bucket else None):
                apart_ms = abs(timestamp_ms - near * self._width - (entry & mask))
                if (entry >> bits) + self._base < offset and apart_ms <= self._window_ms:
                    return True
        return False

    def _joined(self, known: _Entry, entry: int) -> _Entry:
        """A key's entries in one bucket: the first, and those that reach further to one of the sides."""
        mask = (1 << self._delta_bits) - 1
        entries = list(_each(known))
        deltas = [one & mask for one in entries]
        if min(deltas) <= entry & mask <= max(deltas):
            return known
        if len(entries) >= _MOST_ENTRIES:
            del entries[len(entries) // 2]
        return (*entries, entry)

    def _note(self, timestamp_ms: int, offset: int) -> None:
        """A new stretch of records, or one whose lowest timestamp is lower than it was."""
        self._block_min = timestamp_ms
        if self._reads >= self._block_full:
            self._block_full = self._reads + _BLOCK
            self._blocks.append((offset, timestamp_ms))
        else:
            self._blocks[-1] = (self._blocks[-1][0], timestamp_ms)


def _each(entry: _Entry | None) -> Iterator[int]:
    if entry is None:
        return iter(())
    return iter((entry,)) if isinstance(entry, int) else iter(entry)
