"""Results in small: a million of them, each in some forty bytes, and looked up by where the source record lies."""

import uuid
from array import array
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

from tests.support.oracle import Place

_T = TypeVar("_T")


class Settled(NamedTuple):
    """A result. ``seen_s`` is monotonic; ``partition`` and ``offset`` are those of the results topic."""

    id: str
    outcome: str
    reason: str | None
    dead_letter: bool
    key: bytes | None
    seen_s: float
    partition: int
    offset: int


class _Page:
    """Of one source partition, by offset: each record's result, its verdict 0 while it has none."""

    def __init__(self) -> None:
        self.verdicts = array("H")
        self.ids = bytearray()
        self.keys = array("L")
        self.seen_s = array("d")
        self.partitions = array("H")
        self.offsets = array("q")

    def reach(self, offset: int) -> None:
        """Make room up to an offset."""
        missing = offset + 1 - len(self.verdicts)
        if missing <= 0:
            return
        missing += len(self.verdicts) // 8
        for column in (self.verdicts, self.keys, self.seen_s, self.partitions, self.offsets):
            column.frombytes(bytes(missing * column.itemsize))
        self.ids.extend(bytes(missing * 16))


class Book(Mapping[Place, Settled]):
    """The first result of each record of a lane. Keys and verdicts are few and kept once."""

    def __init__(self) -> None:
        self._pages: dict[tuple[str, int], _Page] = {}
        self._verdicts: list[tuple[str, str | None, bool]] = [("", None, False)]
        self._verdict_numbers: dict[tuple[str, str | None, bool], int] = {}
        self._keys: list[bytes | None] = []
        self._key_numbers: dict[bytes | None, int] = {}
        self._count = 0

    def add(self, place: Place, one: Settled) -> bool:
        """Enter a result; False: the record had one already, which stays."""
        page = self._pages.get(place[:2])
        if page is None:
            page = self._pages[place[:2]] = _Page()
        page.reach(place.offset)
        at = place.offset
        if page.verdicts[at]:
            return False
        verdict = (one.outcome, one.reason, one.dead_letter)
        page.verdicts[at] = self._number(self._verdict_numbers, self._verdicts, verdict)
        page.keys[at] = self._number(self._key_numbers, self._keys, one.key)
        try:
            page.ids[at * 16 : at * 16 + 16] = uuid.UUID(one.id).bytes
        except ValueError:
            page.ids[at * 16 : at * 16 + 16] = bytes(16)
        page.seen_s[at], page.partitions[at], page.offsets[at] = one.seen_s, one.partition, one.offset
        self._count += 1
        return True

    @staticmethod
    def _number(numbers: dict[_T, int], kept: list[_T], value: _T) -> int:
        number = numbers.get(value)
        if number is None:
            number = numbers[value] = len(kept)
            kept.append(value)
        return number

    def __getitem__(self, place: Place) -> Settled:
        page = self._pages.get(place[:2])
        at = place.offset
        if page is None or at >= len(page.verdicts) or not page.verdicts[at]:
            raise KeyError(place)
        outcome, reason, dead_letter = self._verdicts[page.verdicts[at]]
        return Settled(
            str(uuid.UUID(bytes=bytes(page.ids[at * 16 : at * 16 + 16]))),
            outcome,
            reason,
            dead_letter,
            self._keys[page.keys[at]],
            page.seen_s[at],
            page.partitions[at],
            page.offsets[at],
        )

    def __iter__(self) -> Iterator[Place]:
        for (topic, partition), page in self._pages.items():
            for offset, verdict in enumerate(page.verdicts):
                if verdict:
                    yield Place(topic, partition, offset)

    def __len__(self) -> int:
        return self._count
