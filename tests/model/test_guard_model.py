"""The guard against the whole list of ends since the last resume, and whole numbers instead of fractions."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from contracts.outcomes import Reason
from service.delivery.guard import Guard, GuardPolicy
from tests.support.fuzzing import interleavings

BAD = ("not_found", "refused", "unconfirmed")
REASONS = st.sampled_from([None, None, *Reason])


class GuardModel(RuleBasedStateMachine):
    """Operations end in any way; now and then somebody resumes the lane."""

    @initialize(
        percent=st.sampled_from((0, 1, 5, 20, 29, 50, 100)), of_last=st.sampled_from((1, 10, 40, 50, 51, 100, 130))
    )
    def begin(self, percent: int, of_last: int) -> None:
        self.percent, self.of_last = percent, of_last
        self.guard = Guard(GuardPolicy(percent / 100, of_last))
        self.ends: list[bool] = []
        self.holds = False

    @rule(reason=REASONS, count=st.integers(1, 40))
    def operations_end(self, reason: Reason | None, count: int) -> None:
        """So many, one after the other, with the same end."""
        for _ in range(count):
            told = self.guard.record(reason)
            self.ends.append(reason is not None and reason.value in BAD)
            last = self.ends[-self.of_last :]
            if len(self.ends) >= 50 and 100 * sum(last) > self.percent * len(last):
                self.holds = True
            assert told == self.guard.tripped == self.holds
        self.guard.describe().index(f"{sum(self.ends[-self.of_last :])} of the last")

    @rule(reasons=st.lists(REASONS, min_size=20, max_size=60))
    def all_sorts_end(self, reasons: list[Reason | None]) -> None:
        """Ends of all sorts."""
        for reason in reasons:
            self.operations_end(reason, 1)

    @rule()
    def resume(self) -> None:
        """The window is empty, and 50 have to end again."""
        self.guard.resume()
        self.ends, self.holds = [], False
        assert not self.guard.tripped


TestGuardModel = GuardModel.TestCase
TestGuardModel.settings = interleavings(40, steps=15)
