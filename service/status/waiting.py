"""What an event waits for, in words: "why is it stuck" has an answer at any moment.

An event is named by its offset alone. Nothing here is called while events are processed, only when somebody
asks.
"""

from collections.abc import Iterable

from service.delivery.breaker import BreakerState
from service.delivery.chain import Chain, Stage, Unit
from service.intake.item import Item
from service.lane import Lane
from service.transport.account import Account


def waits_for(lane: Lane, item: Item, now: float) -> str:
    """What an unfinished item of the lane waits for. ``now`` is monotonic, in seconds."""
    if item.outcome is not None:
        trouble = lane.kafka_trouble
        return "to be settled" if trouble is None else f"to be settled; kafka: {trouble}"
    if item.batch_id is None:
        return _in_batcher(lane, item, now)
    return _in_delivery(lane, item, now)


def account_waits_for(account: Account, now: float) -> str | None:
    """Why nobody may send on the account at this moment; None if somebody may."""
    name = f"account {account.name}"
    if account.refused is not None:
        return f"{name}: {account.refused.reason}"
    breaker, limiter = account.breaker, account.limiter
    if breaker.state is BreakerState.PROBING:
        return f"{name}: breaker open, one request is finding out"
    if breaker.state is BreakerState.OPEN:
        return f"{name}: breaker open, next try in {_seconds((breaker.until or now) - now)}"
    blocked_until = limiter.blocked_until(now)
    if blocked_until is not None:
        return f"{name}: asked us to wait, {_seconds(blocked_until - now)} left"
    if limiter.in_flight >= limiter.concurrency_limit:
        return f"{name}: all {int(limiter.concurrency_limit)} requests that may be in flight are"
    return None


def _in_batcher(lane: Lane, item: Item, now: float) -> str:
    """It was planned, and is in no batch that has been closed."""
    closes_in_s = lane.batcher.closes_in_s(item, now)
    if closes_in_s is not None:
        return f"in a batch that closes in {_seconds(closes_in_s)}"
    dispatcher = lane.dispatcher
    parked = (chain for _, chain in dispatcher.parked_loads())
    for chains in (dispatcher.carried_loads(), parked, dispatcher.ready_loads()):
        for chain in chains:
            if chain.key == item.record.key and chain.position < len(chain.units):
                return _behind(item, chain.current.members[0][0])
    return "behind an earlier event of its key"


def _in_delivery(lane: Lane, item: Item, now: float) -> str:
    """Its batch was closed: a worker carries it, it waits for a retry, or for a worker."""
    dispatcher = lane.dispatcher
    chain = _chain_of(item, dispatcher.carried_loads())
    if chain is not None:
        unit = chain.current
        if not _is_of(item, unit):
            return _behind(item, unit.members[0][0])
        if unit.called_at is not None:
            return _in_flight(unit, now)
        return _gate(lane, now) or f"its turn on account {lane.account.name}"
    for due, parked in dispatcher.parked_loads():
        if _holds(parked, item):
            unit = parked.current
            return _retrying(lane, unit, due, now) if _is_of(item, unit) else _behind(item, unit.members[0][0])
    return _gate(lane, now) or f"one of the lane's {lane.setup.delivery.concurrency} workers, all are busy"


def _in_flight(unit: Unit, now: float) -> str:
    confirming = ", asking the platform for the state" if unit.stage is Stage.CONFIRM else ""
    return f"in flight for {_seconds(now - (unit.called_at or now))}, attempt {unit.attempts}{confirming}"


def _retrying(lane: Lane, unit: Unit, due: float, now: float) -> str:
    why = f" ({unit.last})" if unit.last else ""
    text = f"retrying{why}, attempt {unit.attempts + 1} in {_seconds(due - now)}"
    gate = _gate(lane, now)
    return text if gate is None else f"{text}; {gate}"


def _gate(lane: Lane, now: float) -> str | None:
    """What keeps the lane from sending: its own hold, else its account."""
    hold = lane.dispatcher.hold
    if hold is None:
        return account_waits_for(lane.account, now)
    if hold.trying:
        return f"{hold.reason}; one request is finding out"
    if hold.tries_at is None:
        return f"{hold.reason}; until it is resumed"
    return f"{hold.reason}; next try in {_seconds(hold.tries_at - now)}"


def _behind(item: Item, earlier: Item) -> str:
    tp = earlier.partition.tp
    where = "" if tp == item.partition.tp else f"{tp.topic}-{tp.partition} "
    return f"behind an earlier event of its key at {where}offset {earlier.offset}"


def _chain_of(item: Item, chains: Iterable[Chain]) -> Chain | None:
    return next((chain for chain in chains if _holds(chain, item)), None)


def _holds(chain: Chain, item: Item) -> bool:
    """Whether the chain is under way and has the item."""
    return chain.position < len(chain.units) and any(one is item for one in chain.items)


def _is_of(item: Item, unit: Unit) -> bool:
    return any(one is item for one, _ in unit.members)


def _seconds(value: float) -> str:
    return f"{max(0.0, value):.1f} s"
