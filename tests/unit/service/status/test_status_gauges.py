"""Lag that is unknown is not zero, and lag that no replica can reduce is no reason for one."""

from aiokafka.structs import TopicPartition

from service.delivery.limiter import LimiterPolicy
from service.status.gauges import is_slowed, useful_lag
from service.status.reading import Reading
from tests.support.dispatching import account_for
from tests.support.fakes import FakePlatform, FakeTime, run


def reading(partition: int, position: int | None, end: int | None, topic: str = "contacts") -> Reading:
    return Reading(TopicPartition(topic, partition), position=position, end=end)


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
    """Who waits because enough is in flight in this process is not: a further replica may send too."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time), limits=LimiterPolicy(max_in_flight=2, requests_per_second=1))
        assert not is_slowed(account)
        await account.enter(lambda: True)
        account._waiting = 1  # somebody stands in line
        assert is_slowed(account)
        await account.enter(lambda: True)
        assert account.limiter.in_flight == 2
        assert not is_slowed(account)

    run(main)


def test_an_account_that_holds_is_slowed() -> None:
    """Breaker, credentials, a wait that the platform asked for."""

    async def main(time: FakeTime) -> None:
        account = account_for(time, FakePlatform(time))
        account.refuse("credentials refused")
        assert is_slowed(account)

    run(main)
