"""The ledger with deferred keys against a naive model: what is said to be finished is exactly what was settled."""

from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.offsets.deferred import key_digest
from service.offsets.ledger import PartitionLedger, SettlePlan
from service.offsets.metadata import MAX_BYTES, decode_all

KEYS = [b"hot", b"warm", b"cold"]
_BEYOND = 2**62


class DeferringModel(RuleBasedStateMachine):
    """Records of three keys; any of them may be deferred, recalled in parts, settled in any order, and crash."""

    @initialize(start=st.integers(0, 2**40))
    def begin(self, start: int) -> None:
        self.log: dict[int, bytes] = {}
        self.start = self.end = self.position = start
        self.held: set[int] = set()  # in memory, unfinished
        self.finished: set[int] = set()
        self.committed, self.metadata = start, ""
        self.ledger = PartitionLedger(start)
        self.plan: SettlePlan | None = None

    def _first(self, key: bytes) -> int:
        return self.ledger.deferred.get(key_digest(key), _BEYOND)

    @rule(records=st.lists(st.sampled_from([*KEYS, None]), min_size=1, max_size=20))
    def publish(self, records: list[bytes | None]) -> None:
        """Records of some keys, and holes."""
        for key in records:
            if key is not None:
                self.log[self.end] = key
            self.end += 1

    @rule(most=st.integers(1, 30))
    def read(self, most: int) -> None:
        """Those of deferred keys leave memory at once."""
        passed = []
        for offset in sorted(offset for offset in self.log if offset >= self.position)[:most]:
            self.position = offset + 1
            is_deferred = offset >= self._first(self.log[offset])
            if self.ledger.read(offset):
                assert offset not in self.finished
                if is_deferred:
                    passed.append(offset)
                else:
                    self.held.add(offset)
            else:
                assert offset in self.finished or is_deferred
        self.ledger.defer(passed, {})

    @precondition(lambda self: self.plan is None and len(self.held) > 1)
    @rule(key=st.sampled_from(KEYS), keep=st.integers(0, 5))
    def defer(self, key: bytes, keep: int) -> None:
        """All but the first few of a key leave memory."""
        if self._first(key) < _BEYOND:
            return
        # Nothing of the key has ended behind the first that leaves: the lane sees to that.
        ended = max((offset for offset in self.finished if self.log[offset] == key), default=-1)
        dropped = sorted(offset for offset in self.held if self.log[offset] == key)[keep:]
        dropped = [offset for offset in dropped if offset > ended]
        if dropped:
            self.held.difference_update(dropped)
            self.ledger.defer(dropped, {key_digest(key): dropped[0]})

    @precondition(lambda self: self.ledger.deferred)
    @rule(which=st.integers(0, 2), most=st.integers(1, 8))
    def recall(self, which: int, most: int) -> None:
        """The next few come back; if it was all, the key is free."""
        keys = [key for key in KEYS if self._first(key) <= self.position]
        if not keys:
            return
        key = keys[which % len(keys)]
        first = self._first(key)
        there = sorted(o for o, k in self.log.items() if k == key and first <= o < self.position)
        there = [offset for offset in there if offset not in self.finished]
        back, rest = there[:most], there[most:]
        self.ledger.recall(back, {key_digest(key): rest[0] if rest else None})
        self.held.update(back)

    @precondition(lambda self: self.plan is None)
    @rule(data=st.data(), share=st.sampled_from((0.2, 0.6, 1.0)))
    def prepare(self, data: st.DataObject, share: float) -> None:
        """A settling transaction of some of what is in memory."""
        self._prepare(data.draw(st.randoms(use_true_random=False)), share)

    def _prepare(self, chance: Random, share: float) -> None:
        chosen = [offset for offset in sorted(self.held) if chance.random() < share]
        self.plan = self.ledger.prepare(chosen)
        assert self.plan.settled == chosen

    @precondition(lambda self: self.plan is not None)
    @rule(commits=st.booleans())
    def end_transaction(self, commits: bool) -> None:
        """It succeeds or is aborted."""
        assert self.plan is not None
        if commits:
            self.ledger.apply(self.plan)
            self._commit(self.plan)
        self.plan = None

    @rule()
    def restart(self) -> None:
        """A new process knows no more than the commit."""
        ranges, deferred, fault = decode_all(self.committed, self.metadata)
        assert fault is None
        self.ledger = PartitionLedger(self.committed, ranges, deferred)
        self.position, self.held, self.plan = self.committed, set(), None

    def _commit(self, plan: SettlePlan) -> None:
        self.finished.update(plan.settled)
        self.held.difference_update(plan.settled)
        self.committed, self.metadata = plan.commit_offset, plan.metadata
        assert len(plan.metadata) <= MAX_BYTES
        ranges, deferred, fault = decode_all(plan.commit_offset, plan.metadata)
        assert fault is None
        for offset, key in self.log.items():
            said = offset < self.committed or any(start <= offset < end for start, end in ranges)
            said = said and offset < deferred.get(key_digest(key), _BEYOND)
            assert said == (offset in self.finished), f"offset {offset}"

    @invariant()
    def the_commit_never_passes_an_unfinished_record(self) -> None:
        unfinished = [o for o in self.log if self.committed <= o < self.position and o not in self.finished]
        assert self.ledger.unfinished == len(self.held)
        if self.held:
            assert self.ledger.low <= min(self.held)
        if unfinished:
            assert self.ledger.low <= min(unfinished)


TestDeferringModel = DeferringModel.TestCase
TestDeferringModel.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("seed", range(20))
def test_a_long_walk(seed: int) -> None:
    """The same steps in an order that goes deep: keys are deferred and recalled many times between two deaths."""
    chance, model = Random(seed), DeferringModel()
    model.begin(start=chance.randrange(1000))
    for _ in range(400):
        match chance.randrange(9):
            case 0:
                model.publish(records=[chance.choice([*KEYS, None]) for _ in range(chance.randrange(1, 20))])
            case 1:
                model.read(most=chance.randrange(1, 30))
            case 2 | 3 if model.plan is None:
                model.defer(key=chance.choice(KEYS), keep=chance.randrange(4))
            case 4 | 5:
                model.recall(which=chance.randrange(3), most=chance.randrange(1, 8))
            case 6 if model.plan is None:
                model._prepare(chance, chance.choice((0.2, 0.6, 1.0)))
            case 7 if model.plan is not None:
                model.end_transaction(commits=chance.random() < 0.8)
            case 8 if chance.random() < 0.2:
                model.restart()
        model.the_commit_never_passes_an_unfinished_record()
    assert model.finished
