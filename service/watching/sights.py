"""What of a lane's partitions moves, and what may stand still.

Of each partition the first unfinished event counts whose wait has no excuse; where nothing is unfinished, its reading.
An excuse is a wait that ends by itself or by a person: a retry's pause, a poll's, the account (breaker, credentials,
rate, slot), the lane's own hold, an operator's pause, a drain, a full buffer, an earlier event of its key. A call that
is under way is none: it has its time-out. What waits in a line moves for as long as the line does.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from aiokafka.structs import TopicPartition

from service.delivery.bulk import Bulk
from service.imports.way import ImportWay
from service.intake.assignment import PartitionState
from service.intake.item import Item
from service.lane import Lane
from service.status.reading import Reading
from service.status.waiting import Load, account_waits_for, gate_of, is_of, under_way
from service.watching.stalls import Sight

# So many of a partition's first unfinished events are looked at.
_LOOKED_AT = 50
# A retry that is due for longer is not one that sleeps.
_LATE_S = 5.0
_FREE = Sight((), has_work=False, excused=True)


class Seen(msgspec.Struct, frozen=True):
    """One partition: what the rule is handed, and the event that it stands for; None where it stands for reading."""

    sight: Sight
    item: Item | None = None


def look_at(lane: Lane, readings: Sequence[Reading], now: float) -> Mapping[TopicPartition, Seen]:
    """Every assigned partition. ``now`` is monotonic, in seconds."""
    assignment = lane.assignment
    if assignment is None or lane.stands_for(now) is not None:
        return {reading.tp: Seen(_FREE) for reading in readings}
    looking = _Looking(lane, now)
    seen: dict[TopicPartition, Seen] = {}
    for reading in readings:
        state = assignment.partitions.get(reading.tp)
        seen[reading.tp] = Seen(_FREE) if state is None else looking.partition(state, reading)
    return seen


class _Looking:
    """One look at a lane: what is under way is gone through once."""

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
        loads = itertools.chain(self._carried.values(), (load for _, load in self._parked.values()))
        self._keys = {key for load in {id(load): load for load in loads}.values() for key in _keys_of(load)}
        self._open = {id(item): until for until, items in lane.batcher.open_until() for item in items}
        self._kept_back = {id(item) for item in lane.settler.kept_back}
        self._generation = id(lane.assignment)

    def partition(self, state: PartitionState, reading: Reading) -> Seen:
        keys: set[bytes] = set()
        first: Item | None = None
        for item in itertools.islice(_from_the_lowest(state), _LOOKED_AT):
            key = item.record.key
            moved = None if key in keys and item.outcome is None else self._moved(item)
            if moved is not None:
                sight = Sight((self._generation, item.offset, *moved), has_work=True, excused=False)
                return Seen(sight, item)
            first = first or item
            if key is not None:
                keys.add(key)
        if first is not None:
            return Seen(Sight((first.offset,), has_work=True, excused=True))
        return self._reading(state, reading)

    def _reading(self, state: PartitionState, reading: Reading) -> Seen:
        lag = reading.lag
        # Events of hot keys that wait to be read again are in nobody's memory: how soon they are is not known.
        waits = state.reading_back or bool(state.ledger.deferred) or not state.ledger.room(1)
        if isinstance(bulks := self._lane.bulks, ImportWay):
            # The next import is full, or what is open comes first: both wait for a platform, for hours if it must.
            waits = waits or self._lane.batcher.crowded(reading.tp.partition) or bulks.reads_later(state)
        excused = lag is None or waits or self._lane.is_full
        moved = (self._generation, reading.position or 0, state.ledger.low)
        return Seen(Sight(moved, has_work=bool(lag), excused=excused))

    def _moved(self, item: Item) -> tuple[int, ...] | None:
        """What changes when the item goes on, or what it waits behind does; None: its wait has an excuse."""
        lane, account = self._lane, self._lane.account
        if item.outcome is not None:
            return None if id(item) in self._kept_back else (1, lane.settler.commits)
        if item.batch_id is None:
            return self._moved_in_batcher(item)
        if (load := self._carried.get(id(item))) is not None:
            return self._moved_in(load, item)
        if (parked := self._parked.get(id(item))) is not None:
            due, load = parked
            late = is_of(item, load.current) and self._now - due > _LATE_S
            return (3, load.current.attempts) if late else None
        waits = gate_of(lane, None, self._now) is not None
        return None if waits else (4, lane.dispatcher.progress, account.ended)

    def _moved_in_batcher(self, item: Item) -> tuple[int, ...] | None:
        """Of an item whose batch has not been closed."""
        until = self._open.get(id(item))
        if until is not None:
            return None if until > self._now else (2,)
        if isinstance(self._lane.bulks, ImportWay):
            # Behind an event with a row of the same key, which is looked at itself.
            return None
        # Behind an earlier event of its key, which may be of another topic.
        waits = item.record.key in self._keys or gate_of(self._lane, None, self._now) is not None
        return None if waits else (2, self._lane.dispatcher.progress)

    def _moved_in(self, load: Load, item: Item) -> tuple[int, ...] | None:
        """Of an item that a worker carries."""
        lane, account, work = self._lane, self._lane.account, load.current
        if not is_of(item, work):
            return None
        if work.called_at is not None:
            return (6, work.attempts)
        if account.has_in_line(work):
            return None if account_waits_for(account, self._now) is not None else (7, account.ended)
        # Behind the gate, or, in front of a call, in the journal; or its worker has ended, and nobody goes on with it.
        held = lane.dispatcher.paused is not None or lane.dispatcher.hold is not None
        return None if held else (8, work.attempts)


def _keys_of(load: Load) -> Iterable[bytes | None]:
    return load.keys() if isinstance(load, Bulk) else [load.key]


def _from_the_lowest(state: PartitionState) -> itertools.chain[Item]:
    """The unfinished items in the order read, but first the one that the commit waits for."""
    lowest = state.items.get(state.ledger.low)
    return itertools.chain([] if lowest is None else [lowest], state.items.values())
