"""What an event waits for, in words: "why is it stuck" has an answer at any moment.

An event is named by its offset alone. Nothing here is called while events are processed, only when somebody
asks.
"""

import itertools

import msgspec

from service.delivery.breaker import BreakerState
from service.delivery.bulk import Bulk, Part
from service.delivery.chain import Chain, Stage, Unit
from service.imports.runs import ImportRun
from service.imports.way import ImportWay
from service.intake.item import Item
from service.lane import Lane
from service.transport.account import Account

Load = Chain | Bulk


class Wait(msgspec.Struct, frozen=True, gc=False):
    """What one event waits for. ``attempt`` is the call that is under way or comes next; None before there is one.
    ``due`` is when it is tried again (monotonic seconds), where that is known."""

    words: str
    attempt: int | None = None
    due: float | None = None


class Waits:
    """Answers for many items of a lane at one moment: what is under way is looked through once."""

    def __init__(self, lane: Lane, now: float) -> None:
        self._lane = lane
        self._now = now
        dispatcher = lane.dispatcher
        self._carried: dict[int, Load] = {
            id(item): load for load in dispatcher.carried_loads() for item in under_way(load)
        }
        self._parked: dict[int, tuple[float, Load]] = {}
        for due, load in dispatcher.parked_loads():
            self._parked.update((id(item), (due, load)) for item in under_way(load))
        self._by_key: dict[bytes, Item] | None = None

    def of(self, item: Item) -> Wait:
        """What the item waits for; it is unfinished, and of this lane."""
        if item.outcome is not None:
            trouble = self._lane.kafka_trouble
            return Wait("to be settled" if trouble is None else f"to be settled; kafka: {trouble}")
        if item.batch_id is None:
            return Wait(self._in_batcher(item))
        return self._in_delivery(item)

    def _in_batcher(self, item: Item) -> str:
        """It was planned, and is in no batch that has been closed."""
        closes_in_s = self._lane.batcher.closes_in_s(item, self._now)
        if closes_in_s == 0.0 and isinstance(bulks := self._lane.bulks, ImportWay):
            if (why := bulks.slot_waits_for(item.partition.tp.partition)) is not None:
                return f"in a batch that waits for a slot: {why}"
            return f"in a batch that is due; {gate_of(self._lane, None, self._now) or 'its turn comes'}"
        if closes_in_s is not None:
            return f"in a batch that closes in {_seconds(closes_in_s)}"
        earlier = self._next_of_key(item.record.key)
        return "behind an earlier event of its key" if earlier is None else _behind(item, earlier)

    def _next_of_key(self, key: bytes | None) -> Item | None:
        if key is None:
            return None
        if self._by_key is None:
            dispatcher = self._lane.dispatcher
            parked = (load for _, load in dispatcher.parked_loads())
            self._by_key = {}
            for load in itertools.chain(dispatcher.ready_loads(), parked, dispatcher.carried_loads()):
                self._by_key.update(_heads(load))
        return self._by_key.get(key)

    def _in_delivery(self, item: Item) -> Wait:
        """Its batch was closed: a worker carries it, it waits for a retry, or for a worker."""
        lane, now = self._lane, self._now
        load = self._carried.get(id(item))
        if load is not None:
            work = load.current
            if not is_of(item, work):
                return Wait(_behind_work(item, work))
            if work.called_at is not None:
                return Wait(_in_flight(work, now), work.attempts)
            words = gate_of(lane, work, now) or _its_turn(lane, load)
            return Wait(words, work.attempts + 1)
        found = self._parked.get(id(item))
        if found is not None:
            due, parked = found
            work = parked.current
            if isinstance(parked, ImportRun):
                return Wait(_until_told(parked, due, now), work.attempts or None, due)
            if is_of(item, work):
                return Wait(_retrying(lane, work, due, now), work.attempts + 1, due)
            return Wait(_behind_work(item, work))
        concurrency = lane.setup.delivery.concurrency
        return Wait(gate_of(lane, None, now) or f"one of the lane's {concurrency} workers, all are busy")


def _its_turn(lane: Lane, load: Load) -> str:
    if isinstance(load, ImportRun) and load.is_acting and load.file is None:
        return "for its file to be made"
    return f"its turn on account {lane.account.name}"


def _until_told(run: ImportRun, due: float, now: float) -> str:
    """What an import waits for between its steps."""
    again = f"next look in {_seconds(due - now)}"
    if run.is_lapsing:
        return f"until an import that may be open counts as ended; {again}"
    name = None if run.delivery is None else run.delivery.record.reference
    if run.waits_since is not None:
        return f"import {name}: until {run.unread} more of its records have been read again; {again}"
    if name is None:
        why = f" ({run.current.last})" if run.current.last else ""
        return f"for its import to be created{why}; {again}"
    return f"import {name} ({run.how_far}); {again}"


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
    used_up_until = limiter.used_up_until(now)
    if used_up_until is not None:
        return f"{name}: rate limit, nothing is left for {_seconds(used_up_until - now)}"
    if limiter.in_flight >= limiter.concurrency_limit:
        return f"{name}: all {int(limiter.concurrency_limit)} requests that may be in flight are"
    return None


def _in_flight(work: Unit | Part, now: float) -> str:
    confirming = "" if _is_acting(work) else ", asking the platform for the state"
    return f"in flight for {_seconds(now - (work.called_at or now))}, attempt {work.attempts}{confirming}"


def _retrying(lane: Lane, work: Unit | Part, due: float, now: float) -> str:
    why = f" ({work.last})" if work.last else ""
    text = f"retrying{why}, attempt {work.attempts + 1} in {_seconds(due - now)}"
    gate = gate_of(lane, work, now)
    return text if gate is None else f"{text}; {gate}"


def gate_of(lane: Lane, work: Unit | Part | None, now: float) -> str | None:
    """What keeps the lane from sending: an operator's pause, its own hold, else its account."""
    if lane.dispatcher.paused is not None and (work is None or _is_acting(work)):
        return lane.dispatcher.paused
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


def _behind_work(item: Item, work: Unit | Part) -> str:
    if isinstance(work, Unit):
        return _behind(item, work.members[0][0])
    count = len(work.items)
    return f"behind another part of its batch, with {count} event" + ("" if count == 1 else "s")


def under_way(load: Load) -> list[Item]:
    """The items of a load that has not ended."""
    if isinstance(load, Bulk):
        return [item for part in load.parts for item in part.items]
    return load.items if load.position < len(load.units) else []


def next_of(load: Load) -> list[Item]:
    """The items of the call that a load makes next, or makes now."""
    if isinstance(load, Bulk):
        return load.current.items if load.parts else []
    return [item for item, _ in load.current.members] if load.position < len(load.units) else []


def _heads(load: Load) -> dict[bytes, Item]:
    """Of each key in a load the event that is next."""
    if isinstance(load, Bulk):
        return {item.record.key: item for item in reversed(under_way(load)) if item.record.key is not None}
    return {load.key: load.current.members[0][0]} if load.key is not None and under_way(load) else {}


def _is_acting(work: Unit | Part) -> bool:
    return isinstance(work, Part) or work.stage is Stage.ACT


def is_of(item: Item, work: Unit | Part) -> bool:
    if isinstance(work, Part):
        return any(one is item for one in work.items)
    return any(one is item for one, _ in work.members)


def _seconds(value: float) -> str:
    return f"{max(0.0, value):.1f} s"
