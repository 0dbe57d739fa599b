"""The assignor while members come, go, restart and change what they read, and topics grow."""

from collections import Counter
from types import SimpleNamespace

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.intake.assignor import LaneAssignor, assignor_for
from tests.support.fuzzing import interleavings

TOPICS = ("contacts", "notes", "replay")
SUBSCRIPTIONS = st.sampled_from((TOPICS, TOPICS, TOPICS[:1], TOPICS[1:], ("notes",)))
Shares = dict[str, set[tuple[str, int]]]


class AssignorModel(RuleBasedStateMachine):
    """A group whose leader deals out anew after each change."""

    @initialize(counts=st.lists(st.integers(0, 7), min_size=3, max_size=3), random=st.randoms(use_true_random=False))
    def begin(self, counts: list[int], random: object) -> None:
        self.counts = dict(zip(TOPICS, counts, strict=True))
        self.members: dict[str, tuple[str | None, tuple[str, ...]]] = {}
        self.numbers = 0

    def _join(self, instance: str | None, topics: tuple[str, ...], at: str) -> None:
        """Member ids are the coordinator's: nothing about their order is known."""
        self.numbers += 1
        self.members[f"{at}-{self.numbers}"] = (instance, topics)

    @rule(is_static=st.sampled_from((True, True, True, True, False)), topics=SUBSCRIPTIONS, at=st.sampled_from("abz"))
    def a_member_joins(self, is_static: bool, topics: tuple[str, ...], at: str) -> None:
        """With an instance id of its own, or without."""
        self._join(f"pod-{at}{self.numbers}" if is_static else None, topics, at)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def a_member_leaves(self, data: st.DataObject) -> None:
        """For good."""
        del self.members[data.draw(st.sampled_from(sorted(self.members)))]

    @rule(topic=st.sampled_from(TOPICS), more=st.integers(1, 4))
    def a_topic_grows(self, topic: str, more: int) -> None:
        """Or is made."""
        self.counts[topic] += more

    @precondition(lambda self: self.counts["contacts"])
    @rule(topic=st.sampled_from(TOPICS))
    def a_topic_is_not_seen(self, topic: str) -> None:
        """Its metadata is missing for once."""
        count, self.counts[topic] = self.counts[topic], 0
        if self.members:
            self._check(self._deal())
        self.counts[topic] = count

    @precondition(lambda self: any(instance for instance, _ in self.members.values()))
    @rule(data=st.data(), at=st.sampled_from("abz"))
    def a_static_member_restarts(self, data: st.DataObject, at: str) -> None:
        """It comes back with another member id, and gets what it had: so does everybody else."""
        static = {member: (one[0], one[1]) for member, one in self.members.items() if one[0] is not None}
        before = self._deal()
        old = data.draw(st.sampled_from(sorted(static)))
        instance, topics = self.members.pop(old)
        self._join(instance, topics, at)
        after = self._deal()
        (new,) = after.keys() - before.keys()
        if all(one[0] is not None for one in self.members.values()):
            assert after == {new if member == old else member: share for member, share in before.items()}

    def _deal(self) -> Shares:
        cluster = SimpleNamespace(
            partitions_for_topic=lambda topic: set(range(self.counts[topic])) if self.counts.get(topic) else None
        )
        told = {
            member: assignor_for("vip", instance).metadata(topics)
            for member, (instance, topics) in self.members.items()
        }
        # The order in which the coordinator lists them says nothing.
        orders = [sorted(told), sorted(told, reverse=True)]
        found = [self._assign(cluster, {member: told[member] for member in order}) for order in orders]
        assert found[0] == found[1]
        return found[0]

    @staticmethod
    def _assign(cluster: object, members: dict[str, ConsumerProtocolMemberMetadata]) -> Shares:
        shares: Shares = {}
        for member, dealt in LaneAssignor.assign(cluster, members).items():  # type: ignore[arg-type]
            wire = ConsumerProtocolMemberAssignment.decode(dealt.encode())
            found = [(topic, number) for topic, numbers in wire.assignment for number in numbers]
            assert len(set(found)) == len(found)
            shares[member] = set(found)
        return shares

    @invariant()
    def the_deal_is_right(self) -> None:
        if hasattr(self, "members") and self.members:
            self._check(self._deal())

    def _check(self, shares: Shares) -> None:
        assert shares.keys() == self.members.keys(), "a member without an entry"
        wanted = {topic for _, topics in self.members.values() for topic in topics}
        everything = {(topic, n) for topic in wanted for n in range(self.counts[topic])}
        if any(not self.counts[topic] for topic in wanted):
            assert not any(shares.values()), "dealt while a topic is not seen"
            return
        dealt = Counter(tp for share in shares.values() for tp in share)
        assert dealt == Counter(everything), "left to nobody, or to two"
        for member, share in shares.items():
            assert {topic for topic, _ in share} <= set(self.members[member][1])
        for n in {number for _, number in everything}:
            group = {tp for tp in everything if tp[1] == n}
            able = [m for m, (_, topics) in self.members.items() if {topic for topic, _ in group} <= set(topics)]
            owners = {member for member, share in shares.items() if share & group}
            assert not able or len(owners) == 1, "a group is torn apart though somebody reads all of it"
        if len({topics for _, topics in self.members.values()}) == 1:
            sizes = [len({n for _, n in share}) for share in shares.values()]
            assert max(sizes) - min(sizes) <= 1


TestAssignorModel = AssignorModel.TestCase
TestAssignorModel.settings = interleavings(40, steps=15)
