"""The fair line against what it promises: turns by weight, order within a flow, a bound on what may be caught up."""

from collections import Counter
from itertools import chain

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.transport.fair_line import CREDIT_REQUESTS, FairLine, Flow


class FairLineModel(RuleBasedStateMachine):
    """Flows come and go; while one waits, no other gets more than its share and what it may catch up, though it may
    come and go meanwhile."""

    @initialize(weights=st.lists(st.sampled_from((0.5, 1.0, 2.0, 10.0)), min_size=2, max_size=4))
    def begin(self, weights: list[float]) -> None:
        self.line: FairLine[int] = FairLine()
        self.flows = [Flow[int](weight) for weight in weights]
        self.waiting: list[list[int]] = [[] for _ in weights]
        self.numbers = 0
        # For each that waits: what every one was served, by weight, since then.
        self.since: dict[int, list[float]] = {}

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
            for served in self.since.values():
                served[index] += flow.cost
            self._note_waiting()

    @precondition(lambda self: any(self.waiting))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """One goes away without having been served."""
        index = data.draw(st.sampled_from([index for index, waiting in enumerate(self.waiting) if waiting]))
        number = data.draw(st.sampled_from(self.waiting[index]))
        self.waiting[index].remove(number)
        self.line.remove(number, self.flows[index])
        self._note_waiting()

    def _note_waiting(self) -> None:
        nothing = [0.0] * len(self.flows)
        self.since = {one: self.since.get(one, [*nothing]) for one, waiting in enumerate(self.waiting) if waiting}

    @invariant()
    def nobody_gets_more_than_its_share(self) -> None:
        if not hasattr(self, "flows"):
            return
        self._note_waiting()
        for one, served in self.since.items():
            for other, flow in enumerate(self.flows):
                slack = CREDIT_REQUESTS + flow.cost + self.flows[one].cost + 1e-6
                assert served[other] <= served[one] + slack

    @invariant()
    def all_who_wait_are_in_line(self) -> None:
        if hasattr(self, "flows"):
            assert Counter(number for number, _ in self.line) == Counter(chain.from_iterable(self.waiting))


TestFairLineModel = FairLineModel.TestCase
TestFairLineModel.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
