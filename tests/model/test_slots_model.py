"""Whose an open import is while members come, go and restart, topics grow, and a rollout tells some of other slots; and
that never one too many is opened."""

from types import SimpleNamespace
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.imports.slots import is_crowded, owned_slots
from service.intake.assignor import LaneAssignor, assignor_for
from tests.support.fuzzing import interleavings

TOPICS = ("contacts", "notes", "replay")
Shares = dict[str, set[tuple[str, int]]]


class Opened(NamedTuple):
    """An import: under how many slots it was opened, and of which partitions its records are."""

    slots: int
    tps: frozenset[tuple[str, int]]


def deal(members: dict[str, tuple[str | None, int]], counts: dict[str, int]) -> tuple[Shares, int]:
    """What each member gets, and by how many slots; ``members``: instance and slots of each."""
    cluster = SimpleNamespace(partitions_for_topic=lambda topic: set(range(counts[topic])))
    told = {
        member: assignor_for("vip", instance, slots).metadata(TOPICS) for member, (instance, slots) in members.items()
    }
    dealt = LaneAssignor.assign(cluster, told)  # type: ignore[arg-type] # all that it asks of a cluster
    shares = {
        member: {(topic, number) for topic, numbers in one.assignment for number in numbers}
        for member, one in dealt.items()
    }
    seen = set()
    for one in dealt.values():
        member_side = assignor_for("vip", None)
        member_side.on_assignment(one)
        seen.add(member_side.view.slots)
    (slots,) = seen
    assert slots is not None
    return shares, slots


class SlotsModel(RuleBasedStateMachine):
    """Members of one lane of imports; whoever has a slot opens imports of it."""

    @initialize(counts=st.lists(st.integers(1, 9), min_size=3, max_size=3))
    def begin(self, counts: list[int]) -> None:
        self.counts = dict(zip(TOPICS, counts, strict=True))
        self.members: dict[str, tuple[str | None, int]] = {}
        self.opened: list[Opened] = []
        self.numbers = 0

    @rule(is_static=st.booleans(), slots=st.sampled_from((3, 3, 3, 2, 4)), at=st.sampled_from("abz"))
    def a_member_joins(self, is_static: bool, slots: int, at: str) -> None:
        """Told of as many slots as most, or otherwise."""
        self.numbers += 1
        self.members[f"{at}-{self.numbers}"] = (f"pod-{at}{self.numbers}" if is_static else None, slots)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def a_member_leaves(self, data: st.DataObject) -> None:
        """Or dies: its imports stay open."""
        del self.members[data.draw(st.sampled_from(sorted(self.members)))]

    @rule(topic=st.sampled_from(TOPICS), more=st.integers(1, 4))
    def a_topic_grows(self, topic: str, more: int) -> None:
        """Its groups grow, and none is split."""
        self.counts[topic] += more

    @precondition(lambda self: self.members)
    @rule(slots=st.integers(2, 4))
    def slots_are_changed(self, slots: int) -> None:
        """All members are told at once, and nobody has paused the lane before."""
        self.members = {member: (instance, slots) for member, (instance, _) in self.members.items()}

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def imports_are_opened(self, data: st.DataObject) -> None:
        """Each of any partitions of one slot that a member has, wherever he may: by what stands in his own partitions
        of the journal, and by whether any slot has two. Never one too many is open then, by whatever slots the others
        were."""
        shares, slots = deal(self.members, self.counts)
        for share in shares.values():
            for slot in sorted({n % slots for _, n in share}):
                having = sorted(tp for tp in share if tp[1] % slots == slot)
                entries = {(n, str(place)) for place, one in enumerate(self.opened) for _, n in one.tps}
                taken = not {n for _, n in having}.isdisjoint(n for n, _ in entries)
                if taken or is_crowded(entries, slots) or data.draw(st.integers(0, 4)) == 0:
                    continue
                assert len(self.opened) < slots, "one too many is opened"
                chosen = data.draw(st.sets(st.sampled_from(having), min_size=1, max_size=2))
                self.opened.append(Opened(slots, frozenset(chosen)))

    @precondition(lambda self: self.opened)
    @rule(data=st.data())
    def an_import_ends(self, data: st.DataObject) -> None:
        """And its entries go."""
        self.opened.remove(data.draw(st.sampled_from(self.opened)))

    @invariant()
    def each_slot_is_of_one_member(self) -> None:
        """And with it all of its partitions; only where slots are counted otherwise is an import torn apart."""
        if not getattr(self, "members", None):
            return
        shares, slots = deal(self.members, self.counts)
        assert slots == min(told for _, told in self.members.values())
        for slot in range(min(slots, max(self.counts.values()))):
            owners = {member for member, share in shares.items() if any(n % slots == slot for _, n in share)}
            assert len(owners) == 1, "the partitions of a slot are of two members"
            (owner,) = owners
            assert slot in owned_slots(shares[owner], self.counts, slots)
        for opened in self.opened:
            owners = {member for member, share in shares.items() if share & opened.tps}
            assert len(owners) == 1 or opened.slots != slots, "an import is torn apart though no slots were changed"


TestSlotsModel = SlotsModel.TestCase
TestSlotsModel.settings = interleavings(100, steps=15)


def test_only_other_slots_tear_an_import_apart() -> None:
    """Three slots become two while an import is open: its partitions go to two members."""
    counts = dict.fromkeys(TOPICS, 6)
    before, _ = deal({"a": (None, 3), "b": (None, 3)}, counts)
    of_slot = {tp for tp in before["a"] if tp[1] % 3 == 0}
    assert {n for _, n in of_slot} == {0, 3}
    after, _ = deal({"a": (None, 3), "b": (None, 2)}, counts)
    assert after["a"] & of_slot
    assert after["b"] & of_slot
