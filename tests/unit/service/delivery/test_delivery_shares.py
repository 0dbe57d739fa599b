"""A process's share of an account."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.delivery.limiter import LimiterPolicy
from service.delivery.shares import AccountShares, part_of
from tests.support.dispatching import account_for
from tests.support.fakes import FakePlatform, FakeTime


def test_weights_count_all_lanes_run_here_or_not() -> None:
    """Three partitions of twelve of a lane of weight 1, beside one of weight 3 that runs elsewhere: a sixteenth."""
    told: list[float] = []
    shares = AccountShares({"here": 1.0, "elsewhere": 3.0}, told.append)
    shares.take("here", part_of(3, 12))
    assert told == [pytest.approx(1 / 16)]


def test_a_part_is_never_more_than_the_whole() -> None:
    """Where partitions were added of which the lane's count is not told yet; a size that is not known is ours."""
    assert [part_of(14, 12), part_of(12, 12), part_of(3, 0), part_of(0, 0)] == [1.0, 1.0, 1.0, 0.0]


def test_it_is_told_at_each_assignment_and_not_otherwise() -> None:
    """Given back, dealt out anew; the same again is no news."""
    told: list[float] = []
    shares = AccountShares({"lane": 2.0}, told.append)
    for part in (0.0, 1.0, 1.0, 0.0, 0.5):
        shares.take("lane", part)
    assert told == [1.0, 0.0, 0.5]


@given(
    weights=st.lists(st.floats(0.01, 1000), min_size=1, max_size=5),
    owners=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=20), min_size=5, max_size=5),
)
def test_all_processes_together_have_the_whole(weights: list[float], owners: list[list[int]]) -> None:
    """However the partitions of each lane are dealt out over four processes, their shares are 1 in sum."""
    names = [f"lane{n}" for n in range(len(weights))]
    shares: list[float] = []
    for process in range(4):
        told = [0.0]
        account = AccountShares(dict(zip(names, weights, strict=True)), told.append)
        for name, dealt in zip(names, owners, strict=False):
            account.take(name, part_of(dealt.count(process), len(dealt)))
        shares.append(told[-1])
    assert sum(shares) == pytest.approx(1.0)


def test_a_lane_of_unknown_size_is_ours_alone() -> None:
    """Rather too fast, which the platform mends, than too slow for ever; with nothing it has nothing."""
    assert part_of(2, 0) == 1.0
    assert part_of(0, 0) == part_of(0, 12) == 0.0


def test_an_account_obeys_its_share() -> None:
    """Half of the partitions: half of the requests in flight; with none at least one."""
    time = FakeTime()
    limits = LimiterPolicy(max_in_flight=32, requests_per_second=50)
    account = account_for(time, FakePlatform(time), limits=limits, weights={"lane": 1.0})
    account.take_share("lane", 0.5)
    assert account.limiter.concurrency_limit == 16
    account.take_share("lane", 0.0)
    assert account.limiter.concurrency_limit == 1
