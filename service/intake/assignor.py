"""The lane's partition assignor: partition *n* of every topic of the lane goes to one member.

That member also reads and writes partition *n* of the journal, so that what belongs together meets in one process.
aiokafka's assignors are classes with class methods, so each lane in a process gets a subclass of its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import msgspec
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

# The name is part of the group protocol: members with another name cannot join. It never changes.
NAME = "fanline"
PROTOCOL_VERSION = 0


class MemberData(msgspec.Struct, omit_defaults=True):
    """What a member tells the leader. ``revision`` is raised to make the coordinator rebalance."""

    version: int = 1
    instance: str | None = None
    revision: int = 0


class View(msgspec.Struct):
    """The leader's view on which an assignment stands; each member compares it with its own."""

    version: int = 1
    topics: dict[str, int] = {}
    missing: list[str] = []


_encode = msgspec.json.Encoder().encode
_member_decoder = msgspec.json.Decoder(MemberData)
_view_decoder = msgspec.json.Decoder(View)


class LaneAssignor(AbstractPartitionAssignor):
    """Whole groups *n* to members in the order of their instance or member ids."""

    name = NAME
    data: ClassVar[MemberData] = MemberData()
    view: ClassVar[View] = View()

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        return ConsumerProtocolMemberMetadata(PROTOCOL_VERSION, sorted(topics), _encode(cls.data))

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        topics = sorted({topic for member in members.values() for topic in member.subscription})
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        view = View(topics=counts, missing=[topic for topic, count in counts.items() if not count])
        # Without one topic's metadata the groups n would be torn apart: nobody gets anything until it is known.
        width = 0 if view.missing else max(counts.values(), default=0)
        order = sorted(members, key=lambda member_id: _order(member_id, members[member_id]))
        shares: dict[str, dict[str, list[int]]] = {member_id: {} for member_id in order}
        subscribers = {topic: [one for one in order if topic in members[one].subscription] for topic in topics}
        for n in range(width):
            for member_id, topic in _owners(n, [topic for topic in topics if n < counts[topic]], order, subscribers):
                shares[member_id].setdefault(topic, []).append(n)
        user_data = _encode(view)
        # Every member needs an entry, an empty one too: without it its coordination task dies.
        return {
            member_id: ConsumerProtocolMemberAssignment(PROTOCOL_VERSION, sorted(share.items()), user_data)
            for member_id, share in shares.items()
        }

    @classmethod
    def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
        try:
            cls.view = _view_decoder.decode(assignment.user_data or b"")
        except msgspec.MsgspecError:
            cls.view = View()


def _owners(
    n: int, group: Sequence[str], order: Sequence[str], subscribers: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str]]:
    """Who gets which topic of group n. While a rollout changes a lane's topics, members differ in them: the group goes
    to one that reads all of it, though others have less to do meanwhile. Where nobody does, it is torn apart rather
    than left to nobody."""
    whole = [member_id for member_id in order if all(member_id in subscribers[topic] for topic in group)]
    for topic in group:
        able = whole or subscribers[topic]
        yield able[n % len(able)], topic


def _order(member_id: str, metadata: ConsumerProtocolMemberMetadata) -> tuple[str, str]:
    try:
        data = _member_decoder.decode(metadata.user_data or b"")
    except msgspec.MsgspecError:
        data = MemberData()
    # Static members keep their place through a restart, for their member id changes and their instance does not.
    return (data.instance or "", member_id)


def assignor_for(lane: str, instance: str | None) -> type[LaneAssignor]:
    """A subclass of its own for one lane in this process."""
    return type(f"LaneAssignor_{lane}", (LaneAssignor,), {"data": MemberData(instance=instance), "view": View()})
