"""The lane's partition assignor: partition *n* of every topic of the lane goes to one member.

That member also reads and writes partition *n* of the journal, so that what belongs together meets in one process.
A lane with S slots has its groups dealt out *n mod S*: all groups of a slot to one member, which so has the slot.
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
    """What a member tells the leader. ``revision`` is raised to make the coordinator rebalance; ``slots`` are the
    lane's, of imports alone: where members differ the smallest number counts."""

    version: int = 1
    instance: str | None = None
    revision: int = 0
    slots: int | None = None


class View(msgspec.Struct):
    """The leader's view on which an assignment stands; each member compares it with its own."""

    version: int = 1
    topics: dict[str, int] = {}
    missing: list[str] = []
    slots: int | None = None


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
        told = {member_id: _told_by(metadata) for member_id, metadata in members.items()}
        slots = min((data.slots for data in told.values() if data.slots), default=None)
        view = View(topics=counts, missing=[topic for topic, count in counts.items() if not count], slots=slots)
        # Without one topic's metadata the groups n would be torn apart: nobody gets anything until it is known.
        width = 0 if view.missing else max(counts.values(), default=0)
        # Static members keep their place through a restart, for their member id changes and their instance does not.
        order = sorted(members, key=lambda member_id: (told[member_id].instance or "", member_id))
        shares: dict[str, dict[str, list[int]]] = {member_id: {} for member_id in order}
        subscribers = {topic: [one for one in order if topic in members[one].subscription] for topic in topics}
        for n in range(width):
            place = n if slots is None else n % slots
            group = [topic for topic in topics if place < counts[topic]]
            for member_id, topic in _owners(place, group, order, subscribers):
                if n < counts[topic]:
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
    """Who gets which topic of group n, or of the groups of slot n. While a rollout changes a lane's topics, members
    differ in them: the group goes to one that reads all of it, though others have less to do meanwhile. Where nobody
    does, it is torn apart rather than left to nobody."""
    whole = [member_id for member_id in order if all(member_id in subscribers[topic] for topic in group)]
    for topic in group:
        able = whole or subscribers[topic]
        yield able[n % len(able)], topic


def _told_by(metadata: ConsumerProtocolMemberMetadata) -> MemberData:
    try:
        return _member_decoder.decode(metadata.user_data or b"")
    except msgspec.MsgspecError:
        return MemberData()


def assignor_for(lane: str, instance: str | None, slots: int | None = None) -> type[LaneAssignor]:
    """A subclass of its own for one lane in this process."""
    data = MemberData(instance=instance, slots=slots)
    return type(f"LaneAssignor_{lane}", (LaneAssignor,), {"data": data, "view": View()})
