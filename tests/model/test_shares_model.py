"""An account's limits over processes: their parts together are never more than the whole."""

from fractions import Fraction

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from service.delivery.limiter import AccountLimiter, LimiterPolicy
from service.delivery.shares import AccountShares, part_of
from tests.support.fuzzing import interleavings

NOW = 1_000.0


class Process:
    """One process: what it has of the account, and how much of its limits it uses at once."""

    def __init__(self, weights: dict[str, float], max_in_flight: int) -> None:
        self.limiter = AccountLimiter(LimiterPolicy(max_in_flight=max_in_flight))
        self.share = 0.0
        self.shares = AccountShares(weights, self._changed)

    def _changed(self, share: float) -> None:
        self.share = share
        self.limiter.set_share(share)

    def at_once(self) -> int:
        """So many requests it would start together."""
        count = 0
        while not self.limiter.admit(NOW):
            count += 1
        for _ in range(count):
            self.limiter.release()
        return count


class SharesModel(RuleBasedStateMachine):
    """Kafka deals the partitions of an account's lanes out to processes, each partition to one at most."""

    @initialize(
        weights=st.lists(st.sampled_from((0.5, 1.0, 3.0)), min_size=1, max_size=3),
        sizes=st.lists(st.integers(1, 6), min_size=3, max_size=3),
        processes=st.integers(1, 4),
        max_in_flight=st.integers(1, 40),
    )
    def begin(self, weights: list[float], sizes: list[int], processes: int, max_in_flight: int) -> None:
        self.weights = {f"lane{n}": weight for n, weight in enumerate(weights)}
        self.max_in_flight = max_in_flight
        self.processes = [Process(self.weights, max_in_flight) for _ in range(processes)]
        self.owners: dict[str, list[int | None]] = {
            lane: [None] * size for lane, size in zip(self.weights, sizes, strict=False)
        }

    @rule(data=st.data())
    def a_rebalance(self, data: st.DataObject) -> None:
        """A lane's partitions go to others; some to nobody for the moment."""
        lane = data.draw(st.sampled_from(sorted(self.owners)))
        size = len(self.owners[lane])
        who = st.one_of(st.none(), st.integers(0, len(self.processes) - 1))
        self.owners[lane] = data.draw(st.lists(who, min_size=size, max_size=size))
        for number, process in enumerate(self.processes):
            process.shares.take(lane, part_of(self.owners[lane].count(number), size))

    @rule()
    def asked_again(self) -> None:
        """A lane tells its part each time its state is looked at."""
        for lane, owners in self.owners.items():
            for number, process in enumerate(self.processes):
                process.shares.take(lane, part_of(owners.count(number), len(owners)))

    @invariant()
    def together_they_are_at_most_the_whole(self) -> None:
        if not hasattr(self, "processes"):
            return
        total = sum(Fraction(weight) for weight in self.weights.values())
        for number, process in enumerate(self.processes):
            mine = sum(
                Fraction(self.weights[lane]) * Fraction(owners.count(number), len(owners))
                for lane, owners in self.owners.items()
            )
            assert abs(process.share - float(mine / total)) < 1e-9
            if process.share:
                # One at least: a process that could send nothing would never finish what it has.
                assert process.at_once() == max(1, int(self.max_in_flight * mine / total + Fraction(1, 10**9)))
        assert sum(process.share for process in self.processes) <= 1 + 1e-9
        if all(owner is not None for owners in self.owners.values() for owner in owners):
            assert sum(process.share for process in self.processes) > 1 - 1e-9, "part of the limits is nobody's"


TestSharesModel = SharesModel.TestCase
TestSharesModel.settings = interleavings(30, steps=15)


def test_a_share_that_is_a_whole_number_of_requests_is_not_rounded_down() -> None:
    """Three fifths of a third are a fifth, also summed up in floats: of ten requests two."""
    process = Process({"lane0": 0.5, "lane1": 0.5, "lane2": 0.5}, 10)
    process.shares.take("lane1", part_of(3, 5))
    assert process.at_once() == 2
