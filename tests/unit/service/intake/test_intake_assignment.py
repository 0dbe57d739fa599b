"""One generation's worth of work: when calls may begin, and how it ends."""

from aiokafka.structs import TopicPartition

from service.intake.assignment import Assignment
from service.kafka.private import Membership
from tests.support.fakes import Source

MEMBER = Membership("group", 1, "m", None)


def test_calls_may_begin_while_it_is_active_awake_and_not_draining() -> None:
    """Each of the three alone forbids them."""
    awake = [True]
    assignment = Assignment(MEMBER, frozenset(), awake=lambda: awake[0])
    assert assignment.may_start()
    assignment.draining = True
    assert not assignment.may_start()
    assignment.draining = False
    awake[0] = False
    assert not assignment.may_start()
    awake[0] = True
    assignment.end()
    assert not assignment.may_start()


def test_its_end_drops_the_unfinished_items_of_all_partitions() -> None:
    """They are somebody else's work; ending twice is no harm."""
    tps = TopicPartition("contacts", 0), TopicPartition("contacts", 1)
    source = Source(*tps)
    for tp in tps:
        source.item(tp=tp)
    source.assignment.end()
    source.assignment.end()
    assert not source.assignment.active
    assert all(state.items == {} for state in source.assignment.partitions.values())
    assert [item.partition.tp for item in source.assignment.left] == list(tps), "kept until they are freed in turns"
