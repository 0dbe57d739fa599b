"""The gauges that are worked out when somebody scrapes."""

from collections.abc import Mapping, Sequence

from service.app import Application
from service.delivery.breaker import BreakerState
from service.imports.way import ImportWay
from service.lane import Lane
from service.lifecycle import LaneState
from service.status.reading import Reading
from service.status.snapshot import age_s
from service.telemetry import metrics as m
from service.transport.account import Account

# In these no further replica moves anything: what is waited for is not to be had more of.
_WAITING = frozenset({LaneState.HOLDING, LaneState.PAUSED, LaneState.STOPPED})


def set_gauges(app: Application, readings: Mapping[str, Sequence[Reading]]) -> None:
    """Set lag, age, requests in flight and the accounts' gauges. What is not known is left out, for it is not 0."""
    metrics, now_ms = app.telemetry.metrics, app.clock.wall_ms()
    for name, lane in app.lanes.items():
        of_lane = readings.get(name, ())
        ages = [age_s(reading.oldest, now_ms) for reading in of_lane if reading.oldest is not None]
        # Without an assignment it is not known whose the partitions are, nor how far behind: that is no 0.
        known = lane.assignment is not None and lane.assignment.active
        slowed = is_waiting(lane)
        metrics[m.LAG_RECORDS].gauge(name).set(_sum(of_lane) if known else None)
        metrics[m.USEFUL_LAG_RECORDS].gauge(name).set(useful_lag(of_lane, slowed=slowed) if known or slowed else None)
        metrics[m.OLDEST_UNFINISHED_SECONDS].gauge(name).set(max(ages, default=0.0))
        metrics[m.IN_FLIGHT].gauge(name).set(lane.dispatcher.in_flight)
        if isinstance(lane.bulks, ImportWay):
            metrics[m.OPEN_IMPORTS].gauge(name, lane.account.name).set(lane.bulks.led_imports())
    for name, account in app.accounts.items():
        limiter = account.limiter
        metrics[m.BREAKER_OPEN].gauge("", name).set(float(account.breaker.state is not BreakerState.CLOSED))
        metrics[m.RATE_LIMIT_REMAINING].gauge("", name).set(limiter.remaining)
        metrics[m.CONCURRENCY_LIMIT].gauge("", name).set(limiter.concurrency_limit)


def useful_lag(readings: Sequence[Reading], *, slowed: bool) -> int | None:
    """The lag that one more replica could reduce. None: unknown, and no reason to scale.

    None of it where the lane waits or its account sets the pace, for a further replica would share that, nor where
    this process has but one group *n* of partitions, for groups are not divided. What was read already (in flight, in a
    retry) is behind the position and no lag.
    """
    if slowed or len({reading.tp.partition for reading in readings}) < 2:
        return 0
    return _sum(readings)


def is_waiting(lane: Lane) -> bool:
    """Whether the lane stands still, or goes as fast as its account lets all processes together go."""
    if lane.board.state in _WAITING or lane.dispatcher.paused is not None:
        return True
    return not lane.setup.dry_run and is_slowed(lane.account)


def is_slowed(account: Account) -> bool:
    """Whether the account sets the pace: it fails, refuses us, asked us to wait, or its limits are used up.

    Rate and requests in flight are shared among the processes: a further one would get a part of what this one has.
    """
    limiter = account.limiter
    return account.holding() is not None or account.is_waited_for or limiter.in_flight >= limiter.concurrency_limit


def _sum(readings: Sequence[Reading]) -> int | None:
    total = 0
    for reading in readings:
        if reading.lag is None:
            return None
        total += reading.lag
    return total
