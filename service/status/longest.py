"""Which events of a lane are told of one by one, where there are too many for all."""

import itertools
from collections.abc import Iterable, Iterator

from contracts.timestamps import instant_text
from service.intake.item import Item
from service.lane import Lane
from service.status.document import Waiting
from service.status.waiting import Wait, Waits, next_of

MOST = 200


def longest_waiting(lane: Lane, now: float, now_ms: int, most: int = MOST) -> list[Waiting]:
    """At most ``most`` unfinished events: the oldest of each partition, those that are tried again, those that are
    under way, then the next oldest. ``now`` is monotonic seconds, ``now_ms`` wall milliseconds."""
    assignment = lane.assignment
    if assignment is None or not assignment.active:
        return []
    queues = [list(itertools.islice(state.items.values(), most)) for state in assignment.partitions.values()]
    chosen: dict[int, Item] = {}
    for item in itertools.chain(_first(queues), _in_delivery(lane), _in_turn(queues)):
        if len(chosen) >= most:
            break
        chosen.setdefault(id(item), item)
    waits = Waits(lane, now)
    return [_waiting(item, waits.of(item), now, now_ms) for item in chosen.values()]


def _first(queues: Iterable[list[Item]]) -> Iterator[Item]:
    return (queue[0] for queue in queues if queue)


def _in_delivery(lane: Lane) -> Iterator[Item]:
    """What is tried again, then what is under way."""
    dispatcher = lane.dispatcher
    for load in itertools.chain((load for _, load in dispatcher.parked_loads()), dispatcher.carried_loads()):
        yield from (item for item in next_of(load) if item.outcome is None)


def _in_turn(queues: Iterable[list[Item]]) -> Iterator[Item]:
    """The oldest of each partition, then the second oldest of each, and so on."""
    for row in itertools.zip_longest(*queues):
        yield from (item for item in row if item is not None)


def _waiting(item: Item, wait: Wait, now: float, now_ms: int) -> Waiting:
    tp = item.partition.tp
    next_at = None if wait.due is None else instant_text(now_ms + round(max(0.0, wait.due - now) * 1000))
    return Waiting(tp.topic, tp.partition, item.offset, wait.words, wait.attempt, next_at)
