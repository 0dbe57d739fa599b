"""The ledger against a naive model: a set of offsets, and a log with holes."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.offsets.ledger import PartitionLedger, SettlePlan
from service.offsets.metadata import MAX_BYTES, decode


class LedgerModel(RuleBasedStateMachine):
    """Reads, settles in any order, aborts, crashes; the log has holes and is compacted meanwhile."""

    @initialize(start=st.integers(0, 2**40))
    def begin(self, start: int) -> None:
        self.start = start
        self.log: set[int] = set()  # offsets that hold a record
        self.end = start
        self.position = start
        self.unfinished: set[int] = set()
        self.finished: set[int] = set()  # committed as finished, by offset or by metadata
        self.committed, self.metadata = start, ""
        self.ledger = PartitionLedger(start)
        self.restored = 0
        self.plan: SettlePlan | None = None

    @rule(records=st.lists(st.booleans(), min_size=1, max_size=30))
    def publish(self, records: list[bool]) -> None:
        """Records and holes are appended to the log."""
        for record in records:
            if record:
                self.log.add(self.end)
            self.end += 1

    @rule(most=st.integers(1, 40), to_the_end=st.booleans())
    def read(self, most: int, to_the_end: bool) -> None:
        """The consumer returns some records, at once or one by one; the position may pass the holes behind them."""
        offsets = sorted(offset for offset in self.log if offset >= self.position)[:most]
        in_a_row = bool(offsets) and offsets[-1] - offsets[0] == len(offsets) - 1
        if in_a_row and self.ledger.read_run(offsets[0], len(offsets)):
            assert self.finished.isdisjoint(offsets)
            self.unfinished.update(offsets)
            self.position, offsets = offsets[-1] + 1, []
        for offset in offsets:
            assert self.ledger.read(offset) == (offset not in self.finished)
            if offset not in self.finished:
                self.unfinished.add(offset)
            self.position = offset + 1
        if to_the_end:
            while self.position < self.end and self.position not in self.log:
                self.position += 1
            self.ledger.advance(self.position)

    @precondition(lambda self: self.plan is None)
    @rule(data=st.data(), share=st.sampled_from((0.1, 0.5, 1.0)))
    def prepare(self, data: st.DataObject, share: float) -> None:
        """A settling transaction is built of some of the unfinished records."""
        chance = data.draw(st.randoms(use_true_random=False))
        chosen = [offset for offset in sorted(self.unfinished) if chance.random() < share]
        chance.shuffle(chosen)
        cut = len(chosen) // 2
        self.plan = self.ledger.prepare(chosen[:cut], chosen[cut:])
        assert self.plan.settled == sorted(chosen)
        assert self.plan.kept_back == []

    @precondition(lambda self: self.plan is not None)
    @rule()
    def commit(self) -> None:
        """The transaction succeeds."""
        assert self.plan is not None
        self.ledger.apply(self.plan)
        self._commit(self.plan)
        self.plan = None

    @precondition(lambda self: self.plan is not None)
    @rule()
    def abort(self) -> None:
        """The transaction is aborted; its records are still unfinished."""
        self.plan = None

    @rule(answer_lost=st.booleans())
    def restart(self, answer_lost: bool) -> None:
        """A new process knows no more than the commit; an open transaction may have been committed."""
        if self.plan is not None and answer_lost:
            self._commit(self.plan)
        self.plan = None
        ranges, fault = decode(self.committed, self.metadata)
        assert fault is None
        self.ledger = PartitionLedger(self.committed, ranges)
        self.restored = len(ranges)
        self.position = self.committed
        self.unfinished = set()

    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        """Records disappear from the part of the log that is to be read (again)."""
        ahead = sorted(offset for offset in self.log if offset >= self.position)
        if ahead:
            self.log -= set(data.draw(st.lists(st.sampled_from(ahead), max_size=10)))

    def _commit(self, plan: SettlePlan) -> None:
        assert len(plan.metadata) <= MAX_BYTES
        ranges, fault = decode(plan.commit_offset, plan.metadata)
        assert fault is None
        self.finished.update(plan.settled)
        self.unfinished.difference_update(plan.settled)
        self.committed, self.metadata = plan.commit_offset, plan.metadata
        said = {
            offset
            for offset in range(self.start, self.end)
            if offset < self.committed or any(start <= offset < end for start, end in ranges)
        }
        # Exactly what was settled is said to be finished: no record too many, none forgotten.
        assert said & self.log == self.finished & self.log

    @invariant()
    def the_commit_never_passes_an_unfinished_record(self) -> None:
        assert self.ledger.unfinished == len(self.unfinished)
        assert self.ledger.position == self.position
        if self.unfinished:
            assert self.ledger.low == self.ledger.oldest_unfinished == min(self.unfinished)
        else:
            assert self.ledger.oldest_unfinished is None
            assert self.ledger.low >= self.position
            assert not any(
                offset not in self.finished for offset in self.log if self.position <= offset < self.ledger.low
            )

    @invariant()
    def runs_are_ascending_apart_and_above_the_commit(self) -> None:
        before = self.ledger.low
        for start, end in self.ledger.runs:
            assert before < start < end
            before = end
        assert len(self.ledger.runs) <= len(self.unfinished) + self.restored


TestLedgerModel = LedgerModel.TestCase
TestLedgerModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
