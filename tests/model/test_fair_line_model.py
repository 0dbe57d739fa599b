"""The fair line against what it promises: turns by weight, order within a flow, a bound on what may be caught up."""

from collections import Counter
from itertools import chain

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.transport.fair_line import CREDIT_REQUESTS, FairLine, Flow


class FairLineModel(RuleBasedStateMachine):
    """Flows come and go; between two that wait all the time neither gets more than its share and what it may catch
    up."""

    @initialize(weights=st.lists(st.sampled_from((0.5, 1.0, 2.0, 10.0)), min_size=2, max_size=4))
    def begin(self, weights: list[float]) -> None:
        self.line: FairLine[int] = FairLine()
        self.flows = [Flow[int](weight) for weight in weights]
        self.waiting: list[list[int]] = [[] for _ in weights]
        self.numbers = 0
        # For each ordered pair: what the first was served, by weight, since both wait.
        self.since_both: dict[tuple[int, int], float] = {}

    @rule(data=st.data(), count=st.integers(1, 300))
    def add(self, data: st.DataObject, count: int) -> None:
        """Some of one flow come."""
        index = data.draw(st.integers(0, len(self.flows) - 1))
        for _ in range(count):
            self.numbers += 1
            self.line.add(self.numbers, self.flows[index])
            self.waiting[index].append(self.numbers)

    @rule(count=st.integers(1, 400))
    def serve(self, count: int) -> None:
        """Whoever is first gets what it waited for."""
        for _ in range(count):
            found = self.line.first()
            if found is None:
                assert not any(self.waiting)
                return
            number, flow = found
            index = self.flows.index(flow)
            assert number == self.waiting[index].pop(0), "overtaken within its flow"
            self.line.serve(number, flow)
            for pair in self.since_both:
                if pair[0] == index:
                    self.since_both[pair] += flow.cost
            self._note_pairs()

    @precondition(lambda self: any(self.waiting))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """One goes away without having been served."""
        index = data.draw(st.sampled_from([index for index, waiting in enumerate(self.waiting) if waiting]))
        number = data.draw(st.sampled_from(self.waiting[index]))
        self.waiting[index].remove(number)
        self.line.remove(number, self.flows[index])
        self._note_pairs()

    def _note_pairs(self) -> None:
        both = {
            (a, b)
            for a, _ in enumerate(self.flows)
            for b, _ in enumerate(self.flows)
            if a != b and self.waiting[a] and self.waiting[b]
        }
        self.since_both = {pair: self.since_both.get(pair, 0.0) for pair in both}

    @invariant()
    def nobody_gets_more_than_its_share(self) -> None:
        if not hasattr(self, "flows"):
            return
        self._note_pairs()
        for (a, b), served in self.since_both.items():
            slack = CREDIT_REQUESTS + self.flows[a].cost + self.flows[b].cost + 1e-6
            assert served <= self.since_both[b, a] + slack

    @invariant()
    def all_who_wait_are_in_line(self) -> None:
        if hasattr(self, "flows"):
            assert Counter(number for number, _ in self.line) == Counter(chain.from_iterable(self.waiting))


TestFairLineModel = FairLineModel.TestCase
TestFairLineModel.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
