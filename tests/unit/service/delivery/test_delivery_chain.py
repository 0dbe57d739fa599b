"""What has to be delivered one after the other, what is one call, and what an event's outcome is."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.outcomes import PAIRS, WORST_FIRST, Outcome, Reason
from contracts.results import Operation
from handlers.base import Settle
from service.delivery.chain import Chain, Stage, Unit, chains_of, close
from service.intake.item import Item
from tests.support.dispatching import segments_handler
from tests.support.fakes import Source, join, leave

HANDLER = segments_handler()


def calls(chain: Chain) -> list[tuple[str, str | None, str | None, int]]:
    """Kind, target, segment and number of members of each call."""
    return [
        (unit.operation.kind[8:], unit.operation.target, unit.operation.entity, len(unit.members))
        for unit in chain.units
    ]


def one_key(*operations: Operation) -> Chain:
    """The chain of one key, an event per operation."""
    source = Source()
    (chain,) = chains_of([source.item(b"k", operation) for operation in operations], HANDLER)
    return chain


def test_neighbouring_equal_assignments_of_one_target_are_one_call() -> None:
    """Three events, one call, in which all three are members."""
    assert calls(one_key(join("T"), join("T"), join("T"))) == [("join", "T", "1", 3)]


def test_join_leave_join_stays_three_calls() -> None:
    """What lies between two equal ones must not be passed over."""
    expected = [("join", "T", "1", 1), ("leave", "T", "1", 1), ("join", "T", "1", 1)]
    assert calls(one_key(join("T"), leave("T"), join("T"))) == expected


def test_neighbours_are_those_of_the_target() -> None:
    """Another target between them does not part them; another segment does."""
    assert calls(one_key(join("T"), join("U"), join("T"))) == [("join", "T", "1", 2), ("join", "U", "1", 1)]
    assert len(calls(one_key(join("T", 1), join("T", 2), join("T", 1)))) == 3
    assert len(calls(one_key(join("T", 1), leave("T", 1)))) == 2


def test_operations_of_one_event_are_all_carried_out() -> None:
    """Its plan has no duplicates; what it has is not merged. Each knows whose it is."""
    item = Source().item(b"k", join("T"), join("T"))
    (chain,) = chains_of([item], HANDLER)
    assert [unit.members for unit in chain.units] == [[(item, operation)] for operation in item.operations]


def test_each_key_is_a_chain_in_the_order_in_which_keys_came() -> None:
    """A null key is a chain of its own each time: it waits for nobody."""
    source = Source()
    items = [source.item(key, join("T")) for key in (b"b", None, b"a", b"b", None)]
    chains = chains_of(items, HANDLER)
    assert [chain.key for chain in chains] == [b"b", None, b"a", None]
    assert [[item.offset for item in chain.items] for chain in chains] == [[0, 3], [1], [2], [4]]


def test_the_empty_key_is_a_key() -> None:
    """It is not the null key: order holds for it."""
    source = Source()
    assert len(chains_of([source.item(b"", join("T")), source.item(b"", join("U"))], HANDLER)) == 1


def test_each_event_of_a_merged_call_gets_its_own_result() -> None:
    """Outcome, status, attempts and reference in each one's own operation; items of which nothing remains are told."""
    source = Source()
    first, second = source.item(b"k", join("T")), source.item(b"k", join("T"), join("T", 2))
    (chain,) = chains_of([first, second], HANDLER)
    unit = chain.current
    unit.attempts = 3
    end = Settle(Outcome.REJECTED, Reason.REFUSED, "raw", "r-1")
    assert unit.settle(end, 400, "masked") == [first]
    for operation in (first.operations[0], second.operations[0]):
        told = (operation.outcome, operation.reason, operation.detail, operation.status, operation.attempts)
        assert told == (Outcome.REJECTED, Reason.REFUSED, "masked", 400, 3)
        assert operation.reference == "r-1"
    assert second.operations[1].outcome is None
    chain.position = 1
    assert chain.current.settle(Settle(Outcome.DELIVERED), 204, None) == [second]


def test_a_unit_begins_with_the_acting_call() -> None:
    """Nothing tried, nothing counted."""
    unit = one_key(join("T")).current
    assert (unit.stage, unit.attempts, unit.counted, unit.last) == (Stage.ACT, 0, 0, None)


# -- an event's outcome

ENDS = [(outcome, reason) for outcome in WORST_FIRST for reason in sorted(PAIRS[outcome], key=str)]


def ended(*ends: tuple[Outcome, Reason | None]) -> Item:
    item = Source().item(b"k", *(join("T", n) for n in range(len(ends))))
    for number, (operation, (outcome, reason)) in enumerate(zip(item.operations, ends, strict=True)):
        operation.outcome, operation.reason, operation.detail = outcome, reason, f"detail {number}"
    close(item)
    return item


@pytest.mark.parametrize(("first", "second"), list(product(ENDS, ENDS)), ids=lambda end: f"{end[0]}-{end[1]}")
def test_the_worst_operation_decides_and_of_equals_the_first(
    first: tuple[Outcome, Reason | None], second: tuple[Outcome, Reason | None]
) -> None:
    """In the given order of outcomes; reason and detail are that operation's."""
    order = ["in_doubt", "unattributed", "rejected", "expired", "delivered", "superseded"]
    expected = 1 if order.index(second[0]) < order.index(first[0]) else 0
    item = ended(first, second)
    assert (item.outcome, item.reason) == (first, second)[expected]
    assert item.detail == f"detail {expected}"


@given(st.lists(st.sampled_from(ENDS), min_size=1, max_size=8))
def test_an_outcome_is_a_pair_of_the_table_whatever_the_operations(ends: list[tuple[Outcome, Reason | None]]) -> None:
    """Nothing succeeds by omission."""
    item = ended(*ends)
    assert item.outcome is not None
    assert item.reason in PAIRS[item.outcome]
    assert (item.outcome is Outcome.DELIVERED) == (
        Outcome.DELIVERED in {outcome for outcome, _ in ends}
        and all(outcome in (Outcome.DELIVERED, Outcome.SUPERSEDED) for outcome, _ in ends)
    )


OPERATIONS = st.builds(
    lambda kind, target, segment: kind(target, segment),
    st.sampled_from([join, leave]),
    st.sampled_from(["T", "U"]),
    st.integers(1, 2),
)


@given(
    st.lists(st.tuples(st.sampled_from([None, b"a", b"b"]), st.lists(OPERATIONS, min_size=1, max_size=3)), max_size=12)
)
def test_merging_changes_nothing_for_the_platform(events: list[tuple[bytes | None, list[Operation]]]) -> None:
    """Per key and target: the calls are those of all events in order, less the repetitions of neighbours."""
    source = Source()
    items = [source.item(key, *map(_fresh, operations)) for key, operations in events]
    chains = chains_of(items, HANDLER)
    members = [member for chain in chains for unit in chain.units for member in unit.members]
    assert len(members) == sum(len(item.operations) for item in items)
    assert {id(operation) for _, operation in members} == {id(one) for item in items for one in item.operations}
    for chain in chains:
        for target in ("T", "U"):
            planned = [_what(one) for item in chain.items for one in item.operations if one.target == target]
            called = [_what(unit.operation) for unit in chain.units if unit.operation.target == target]
            assert _without_repetitions(called) == _without_repetitions(planned)
            if len(chain.items) > 1:
                assert called == _without_repetitions(called)


def _fresh(operation: Operation) -> Operation:
    return Operation(operation.kind, operation.target, operation.entity)


def _what(operation: Operation) -> tuple[str, str | None]:
    return operation.kind, operation.entity


def _without_repetitions(values: list[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
    return [value for place, value in enumerate(values) if not place or values[place - 1] != value]


def test_members_keep_their_items() -> None:
    """A unit knows whose operation is whose."""
    source = Source()
    items = [source.item(b"k", join("T")) for _ in range(2)]
    (chain,) = chains_of(items, HANDLER)
    assert [item for item, _ in chain.current.members] == items
    assert isinstance(chain.current, Unit)
