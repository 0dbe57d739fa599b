"""Lag that is unknown is not zero, and lag that no replica can reduce is no reason for one."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from service.delivery.limiter import LimiterPolicy
from service.lifecycle import LaneState
from service.status.gauges import is_slowed, is_waiting, set_gauges, useful_lag
from service.status.reading import Reading
from service.telemetry import Telemetry
from service.telemetry import metrics as m
from service.transport.account import Account
from tests.support.dispatching import account_for
from tests.support.fakes import FakePlatform, FakeTime, run


def reading(partition: int, position: int | None, end: int | None, topic: str = "contacts") -> Reading:
    return Reading(TopicPartition(topic, partition), position=position, end=end)


def lane_of(account: Account, state: LaneState, *, assignment: Any = None, dry_run: bool = False) -> Any:
    """A lane as the gauges see it."""
    return SimpleNamespace(
        account=account,
        bulks=None,
        assignment=assignment,
        board=SimpleNamespace(state=state),
        dispatcher=SimpleNamespace(paused=None, in_flight=0),
        setup=SimpleNamespace(dry_run=dry_run),
    )


def test_lag_counts_from_the_position() -> None:
    """And is unknown where either is; never below 0, for the end may be older than the position."""
    assert reading(0, 5, 12).lag == 7
    assert reading(0, 12, 5).lag == 0
    assert reading(0, None, 12).lag is None
    assert reading(0, 5, None).lag is None


def test_lag_is_useful_where_partitions_can_be_shared() -> None:
    """Over all topics; a group n of partitions goes to one member, so one of them alone cannot be shared."""
    both = [reading(0, 0, 10), reading(1, 0, 5), reading(1, 0, 2, topic="more")]
    assert useful_lag(both, slowed=False) == 17
    assert useful_lag(both[1:], slowed=False) == 0
    assert useful_lag([], slowed=False) == 0


def test_lag_is_not_useful_while_the_account_sets_the_pace() -> None:
    """A further replica would share the same pace."""
    assert useful_lag([reading(0, 0, 10), reading(1, 0, 5)], slowed=True) == 0


def test_unknown_lag_is_not_zero() -> None:
    """It is left out."""
    assert useful_lag([reading(0, 0, 10), reading(1, 0, None)], slowed=False) is None


def test_who_waits_for_the_rate_is_slowed() -> None:
    """A further replica would get a part of the same rate."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time), limits=LimiterPolicy(max_in_flight=2, requests_per_second=1))
        assert not is_slowed(account)
        await account.enter(lambda: True)
        assert not is_slowed(account)
        account._waiting = 1  # somebody stands in line
        assert is_slowed(account)

    run(main)


def test_who_has_all_requests_in_flight_is_slowed() -> None:
    """They are counted over all processes: a further replica would get a part of them."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time), limits=LimiterPolicy(max_in_flight=2))
        await account.enter(lambda: True)
        assert not is_slowed(account)
        await account.enter(lambda: True)
        assert is_slowed(account)

    run(main)


def test_an_account_that_holds_is_slowed() -> None:
    """Breaker, credentials, a wait that the platform asked for."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time))
        account.refuse("credentials refused")
        assert is_slowed(account)

    run(main)


@pytest.mark.parametrize("state", LaneState)
def test_a_lane_that_waits_asks_for_no_replica(state: LaneState) -> None:
    """Held (breaker, credentials, guard, lost records, Kafka), paused or stopped; a full buffer, and one that drains,
    would be served by another replica too."""

    async def main(time: FakeTime) -> None:
        lane = lane_of(account_for(time, FakePlatform(time)), state)
        assert is_waiting(lane) is (state in (LaneState.HOLDING, LaneState.PAUSED, LaneState.STOPPED))

    run(main)


def test_a_dry_run_waits_for_no_account() -> None:
    """It calls nothing, whatever the account is like."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time))
        account.refuse("credentials refused")
        assert is_waiting(lane_of(account, LaneState.RUNNING))
        assert not is_waiting(lane_of(account, LaneState.RUNNING, dry_run=True))

    run(main)


def test_between_two_generations_lag_is_unknown() -> None:
    """Nobody has the partitions for a moment: a scaler that read 0 then would take replicas away. A lane that is paused
    needs none all the same."""

    async def main(time: FakeTime) -> None:
        telemetry, account = Telemetry(), account_for(time, FakePlatform(time))
        for assignment, state, lag, useful in [
            (SimpleNamespace(active=True), LaneState.RUNNING, 15.0, 15.0),
            (SimpleNamespace(active=True), LaneState.HOLDING, 15.0, 0.0),
            (SimpleNamespace(active=False), LaneState.STANDBY, None, None),
            (None, LaneState.STANDBY, None, None),
            (None, LaneState.PAUSED, None, 0.0),
        ]:
            lane = lane_of(account, state, assignment=assignment)
            app: Any = SimpleNamespace(telemetry=telemetry, clock=time, lanes={"vip": lane}, accounts={})
            held = assignment is not None and assignment.active
            set_gauges(app, {"vip": [reading(0, 0, 10), reading(1, 0, 5)] if held else []})
            assert telemetry.metrics[m.LAG_RECORDS].gauge("vip").value == lag
            assert telemetry.metrics[m.USEFUL_LAG_RECORDS].gauge("vip").value == useful

    run(main)
