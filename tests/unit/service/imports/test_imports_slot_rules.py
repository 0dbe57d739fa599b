"""Slots: how lanes share what an account allows, who has which, and when one is free."""

from collections import Counter
from types import SimpleNamespace

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from hypothesis import given
from hypothesis import strategies as st

from service.imports.slots import SlotShare, SlotTable, is_crowded, owned_slots, shared_slots, slots_problem
from service.intake.assignor import LaneAssignor, assignor_for


@pytest.mark.parametrize(
    ("wanted", "most", "slots"),
    [
        ([None], 3, [3]),
        ([None, None], 3, [1, 1]),
        ([None, None, None, None], 3, [0, 0, 0, 0]),
        ([2, None], 3, [2, 1]),
        ([3, None], 3, [3, 0]),
        ([1], 3, [1]),
        ([1, 1], 3, [1, 1]),
    ],
)
def test_what_an_account_allows_is_shared(wanted: list[int | None], most: int, slots: list[int]) -> None:
    """Rounded down; who says a number gets it."""
    lanes = [SlotShare(f"lane-{n}", one) for n, one in enumerate(wanted)]
    assert list(shared_slots(lanes, most).values()) == slots


def test_what_does_not_fit_is_told() -> None:
    """The sum over the account, and a lane for which nothing is left."""
    assert slots_problem([SlotShare("a", None), SlotShare("b", None)], 3) is None
    assert "have 4 slots together; max_open_imports is 3" in (
        slots_problem([SlotShare("a", 2), SlotShare("b", 2)], 3) or ""
    )
    assert "none is left for b" in (slots_problem([SlotShare("a", 3), SlotShare("b", None)], 3) or "")


class Cluster(SimpleNamespace):
    """What the assignor asks of the cluster."""

    counts: dict[str, int]

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return set(range(self.counts[topic])) or None


_TOPICS = ("contacts", "notes", "replay")


@given(
    counts=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    members=st.lists(
        st.tuples(st.sampled_from((_TOPICS, _TOPICS[:1], _TOPICS[1:])), st.integers(1, 5)), min_size=1, max_size=7
    ),
)
def test_no_slot_has_two_owners(counts: list[int], members: list[tuple[tuple[str, ...], int]]) -> None:
    """Whatever members read, and however they differ in slots: the smallest number counts, and each slot of it that has
    partitions somebody reads is one member's at the most."""
    known = dict(zip(_TOPICS, counts, strict=True))
    told = {f"m{n}": assignor_for("l", None, slots).metadata(topics) for n, (topics, slots) in enumerate(members)}
    found = LaneAssignor.assign(Cluster(counts=known), told)  # type: ignore[arg-type] # the one method that it uses
    slots = min(slots for _, slots in members)
    read = {topic: known[topic] for topic in {topic for topics, _ in members for topic in topics}}
    owners: Counter[int] = Counter()
    dealt: Counter[tuple[str, int]] = Counter()
    for share in found.values():
        assert isinstance(share, ConsumerProtocolMemberAssignment)
        tps = {(topic, n) for topic, numbers in share.assignment for n in numbers}
        dealt.update(tps)
        LaneAssignor.on_assignment(share)
        assert LaneAssignor.view.slots == slots
        owners.update(owned_slots(tps, read, slots))
    assert set(dealt.values()) == {1}
    assert set(dealt) == {(topic, n) for topic, count in read.items() for n in range(count)}
    assert owners == dict.fromkeys(range(min(slots, max(read.values()))), 1)


def test_members_without_a_group_stand_by_and_take_over() -> None:
    """Three slots, five replicas of twelve partitions: two have nothing, until one of the others is gone."""
    told = {f"m{n}": assignor_for("l", None, 3).metadata(("a",)) for n in range(5)}
    cluster = Cluster(counts={"a": 12})
    found = LaneAssignor.assign(cluster, told)  # type: ignore[arg-type] # the one method that it uses
    assert [[n for _, numbers in found[name].assignment for n in numbers] for name in sorted(found)] == [
        [0, 3, 6, 9],
        [1, 4, 7, 10],
        [2, 5, 8, 11],
        [],
        [],
    ]
    del told["m1"]
    again = LaneAssignor.assign(cluster, told)  # type: ignore[arg-type] # the one method that it uses
    assert sum(bool(share.assignment) for share in again.values()) == 3


def test_a_slot_is_taken_until_all_that_is_open_in_it_has_ended() -> None:
    """One import of our own, one that somebody left; a slot of somebody else's is never free."""
    table = SlotTable()
    assert (table.free, table.is_free(0)) == (0, False)
    table.begin(3, frozenset({0, 2}))
    assert (table.free, table.is_free(1), table.of_partition(5)) == (2, False, 2)
    table.take(2, "left")
    table.take(2, "mine")
    table.give_back("mine")
    assert not table.is_free(2)
    assert (table.taken_by(2), table.taken_by(0)) == ({"left"}, frozenset())
    table.give_back("left")
    table.give_back("unknown")
    assert table.is_free(2)
    table.take(0, "x")
    table.begin(3, frozenset({0}))
    assert table.is_free(0)


@pytest.mark.parametrize(
    ("entries", "crowded"),
    [
        ([], False),
        ([(0, "a"), (3, "a"), (6, "a")], False),
        ([(0, "a"), (1, "b"), (5, "c")], False),
        ([(0, "a"), (3, "b")], True),
        ([(2, "a"), (2, "b")], True),
    ],
)
def test_a_slot_with_two_imports_is_crowded(entries: list[tuple[int, str]], crowded: bool) -> None:
    """One in all of a slot's partitions is one import; of three slots partitions 0 and 3 are of the first."""
    assert is_crowded(iter(entries), 3) is crowded
