"""A batch that goes out in one request, and the parts that it falls into where it cannot.

Parts are delivered one after the other, in order, so that events of one key keep theirs across halves. Events leave a
bulk one by one as they reach their ends; it ends with the last.
"""

from collections import deque
from collections.abc import Collection

from service.intake.assignment import Assignment
from service.intake.item import Item


class Part:
    """Records that go into one request. ``counted`` are the attempts that may exhaust it."""

    __slots__ = (
        "attempts",
        "called_at",
        "counted",
        "expires_from_ms",
        "failed_at",
        "is_probe",
        "items",
        "last",
    )

    def __init__(self, items: list[Item]) -> None:
        self.items = items
        self.attempts = 0
        self.counted = 0
        self.failed_at = float("-inf")  # on the dispatcher's clock
        self.last: str | None = None  # why it was tried again, for a person
        # No record's deadline passes before; -inf: not looked at yet.
        self.expires_from_ms = float("-inf")
        self.is_probe = False  # split off to find out whether the account works again
        self.called_at: float | None = None  # monotonic; None while no call is under way

    def of(self, items: list[Item]) -> "Part":
        """Some of the records, that have come as far as all."""
        part = Part(items)
        part.attempts, part.counted = self.attempts, self.counted
        part.failed_at, part.last, part.expires_from_ms = self.failed_at, self.last, self.expires_from_ms
        return part


class Bulk:
    """One batch on its way; the first of ``parts`` is the next to be done."""

    __slots__ = ("assignment", "id", "parts")

    def __init__(self, batch_id: str, items: list[Item]) -> None:
        self.id = batch_id
        self.assignment: Assignment = items[0].partition.assignment
        self.parts = deque([Part(items)])

    @property
    def current(self) -> Part:
        """The part that is next."""
        return self.parts[0]

    @property
    def unfinished(self) -> int:
        """Records that have not reached their ends."""
        return sum(len(part.items) for part in self.parts)

    def halve(self) -> None:
        """Two parts instead of the first one."""
        whole = self.parts.popleft()
        middle = (len(whole.items) + 1) // 2
        self.parts.extendleft([whole.of(whole.items[middle:]), whole.of(whole.items[:middle])])

    def split_probe(self) -> Part:
        """The first record of the first part becomes a part of its own, if it is not one already."""
        whole = self.parts[0]
        if len(whole.items) > 1:
            self.parts.popleft()
            probe = whole.of(whole.items[:1])
            probe.is_probe = True
            self.parts.extendleft([whole.of(whole.items[1:]), probe])
        return self.parts[0]

    def rejoin_probe(self) -> None:
        """The probe found nothing out: it goes with the others again."""
        if self.parts[0].is_probe and len(self.parts) > 1:
            probe = self.parts.popleft()
            rest = self.parts[0]
            rest.items = [*probe.items, *rest.items]
            rest.attempts, rest.failed_at, rest.last = probe.attempts, probe.failed_at, probe.last

    def let_others_pass(self) -> None:
        """The first part, a single record, failed: the others are tried first, unless one of them has its key."""
        first = self.parts[0]
        if len(self.parts) > 1 and len(first.items) == 1:
            key = first.items[0].record.key
            if key is None or key not in self.keys(list(self.parts)[1:]):
                self.parts.rotate(-1)

    def keep(self, items: list[Item]) -> None:
        """Of the first part only these are left; it ends with none. Who remembers that its request succeeded need not
        remember its records."""
        self.parts[0].items = items
        if not items:
            self.parts.popleft()

    def keys(self, parts: Collection[Part] | None = None) -> set[bytes | None]:
        """The keys of the records that have not reached their ends."""
        return {item.record.key for part in (self.parts if parts is None else parts) for item in part.items}
