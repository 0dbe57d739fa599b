"""What is known of each offset of a partition: two bytes, in pages, so that millions of events take megabytes."""

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from operator import itemgetter

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.outcomes import Outcome

_PAGE = 1 << 14
_OFFSETS_BITS = 14

OUTCOMES: tuple[Outcome, ...] = tuple(Outcome)
CODE_MASK = 0x0F
CODES = {outcome: code for code, outcome in enumerate(OUTCOMES, start=1)}
EXISTS = 0x10
REPEATED = 0x20  # a second result with the same outcome
TWO_OUTCOMES = 0x40
DEAD_LETTER = 0x80
DEAD_LETTERS = 0x100  # more than one
OLD = 0x200  # its result may have been deleted
OLD_DEAD = 0x400  # its dead letter may have been deleted

Page = NDArray[np.uint16]
Flags = NDArray[np.bool_]


class Marks:
    """Bits by offset, sparse in pages of 16,384 offsets (32 KiB each)."""

    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}

    def add(self, offset: int, bits: int) -> int:
        """Set bits of an offset; what stood there before."""
        page = self._pages.get(offset >> _OFFSETS_BITS)
        if page is None:
            page = self._pages[offset >> _OFFSETS_BITS] = array("H", bytes(2 * _PAGE))
        index = offset & (_PAGE - 1)
        before = page[index]
        page[index] = before | bits
        return before

    def result(self, offset: int, outcome: Outcome) -> None:
        """A result of the offset. The first one's outcome is kept."""
        code = CODES[outcome]
        before = self.add(offset, 0)
        if not before & CODE_MASK:
            self.add(offset, code)
        else:
            self.add(offset, REPEATED if before & CODE_MASK == code else TWO_OUTCOMES)

    def dead_letter(self, offset: int) -> None:
        """A dead letter whose origin is the offset."""
        if self.add(offset, DEAD_LETTER) & DEAD_LETTER:
            self.add(offset, DEAD_LETTERS)

    def pages(self) -> Iterator[tuple[int, Page]]:
        """The first offset of each page, and its marks."""
        for number, page in sorted(self._pages.items()):
            yield number << _OFFSETS_BITS, np.frombuffer(page, dtype=np.uint16)


class Ranges(msgspec.Struct, frozen=True):
    """Half-open ranges of offsets, ascending and apart."""

    spans: tuple[tuple[int, int], ...] = ()

    def over(self, first: int, count: int) -> Flags:
        """Which of ``count`` offsets from ``first`` on lie in a range."""
        inside = np.zeros(count, dtype=np.bool_)
        for begin, end in self.spans:
            inside[max(0, begin - first) : max(0, end - first)] = True
        return inside

    def holds(self, offset: int) -> bool:
        """Whether an offset lies in a range."""
        index = bisect_right(self.spans, offset, key=itemgetter(0))
        return index > 0 and offset < self.spans[index - 1][1]

    def count(self, first: int, end: int) -> int:
        """How many offsets from ``first`` to before ``end`` lie in a range."""
        return sum(max(0, min(end, stop) - max(first, begin)) for begin, stop in self.spans)
